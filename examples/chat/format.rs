//! How a conversation is written for a model: each was trained with marks of its own around what is said.
//!
//! A model's marks are single tokens of its vocabulary. A guest sees by the counts of output 1 whether a text is one.

use graphpool::nn::Error;

/// What was said, in turns: the user's questions and the model's answers. The last question has no answer yet.
pub type Turns = [(String, Option<String>)];

/// A way to write conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `<|im_start|>user`: `ChatML`, of Qwen, `SmolLM` and many more.
    ChatMl,
    /// `<|start_header_id|>user<|end_header_id|>`: Llama 3.
    Llama3,
    /// `<start_of_turn>user`: Gemma.
    Gemma,
    /// `<|user|>` and `<|end|>`: Phi-3.
    Phi3,
    /// `[INST]`: Mistral.
    Mistral,
    /// Lines that begin with `User:` and `Assistant:`.
    Lines,
    /// The text itself, for models without marks, which have learnt to continue texts.
    Text,
}

impl Format {
    const ALL: [Self; 7] =
        [Self::ChatMl, Self::Llama3, Self::Gemma, Self::Phi3, Self::Mistral, Self::Lines, Self::Text];

    /// The format that the command line names.
    pub fn named(name: &str) -> Result<Self, &'static str> {
        let plain = |name: &str| name.to_lowercase().replace([' ', '-'], "");
        let found = Self::ALL.into_iter().find(|format| plain(format.name()) == name);
        found.ok_or("there are chatml, llama3, gemma, phi3, mistral, lines and text")
    }

    /// The format whose marks are tokens. `count` has the number of tokens of a text.
    pub fn of(mut count: impl FnMut(&str) -> Result<usize, Error>) -> Result<Self, Error> {
        for (format, marks) in [
            (Self::ChatMl, ["<|im_start|>", "<|im_end|>"]),
            (Self::Llama3, ["<|start_header_id|>", "<|eot_id|>"]),
            (Self::Gemma, ["<start_of_turn>", "<end_of_turn>"]),
            (Self::Phi3, ["<|user|>", "<|end|>"]),
            (Self::Mistral, ["[INST]", "[/INST]"]),
        ] {
            let mut are_tokens = true;
            for mark in marks {
                // The difference, for a token may be in front of every text.
                are_tokens &= count(&mark.repeat(2))? == count(mark)? + 1;
            }
            if are_tokens {
                return Ok(format);
            }
        }
        Ok(Self::Text)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatMl => "ChatML",
            Self::Llama3 => "Llama 3",
            Self::Gemma => "Gemma",
            Self::Phi3 => "Phi-3",
            Self::Mistral => "Mistral",
            Self::Lines => "lines",
            Self::Text => "text",
        }
    }

    /// Strings that end an answer, besides the model's own end.
    pub const fn stop(self) -> &'static [&'static str] {
        match self {
            Self::Lines => &["\nUser:"],
            _ => &[],
        }
    }

    /// The prompt for the next answer. `system` is what the model is told first.
    pub fn prompt(self, system: &str, turns: &Turns) -> String {
        let mut prompt = String::new();
        if self == Self::Text {
            let said = turns.iter().map(|(text, more)| format!("{text}{}", more.as_deref().unwrap_or_default()));
            return said.collect::<Vec<_>>().join("\n");
        }
        let has_place_for_system = !matches!(self, Self::Gemma | Self::Mistral);
        if has_place_for_system && !system.is_empty() {
            self.say(&mut prompt, "system", system);
        }
        for (index, (question, answer)) in turns.iter().enumerate() {
            if index == 0 && !has_place_for_system && !system.is_empty() {
                self.say(&mut prompt, "user", &format!("{system}\n\n{question}"));
            } else {
                self.say(&mut prompt, "user", question);
            }
            if let Some(answer) = answer {
                self.say(&mut prompt, "assistant", answer);
            }
        }
        prompt.push_str(match self {
            Self::ChatMl => "<|im_start|>assistant\n",
            Self::Llama3 => "<|start_header_id|>assistant<|end_header_id|>\n\n",
            Self::Gemma => "<start_of_turn>model\n",
            Self::Phi3 => "<|assistant|>\n",
            Self::Mistral | Self::Text => "",
            Self::Lines => "Assistant:",
        });
        prompt
    }

    fn say(self, prompt: &mut String, role: &str, text: &str) {
        let written = match (self, role) {
            (Self::ChatMl, _) => format!("<|im_start|>{role}\n{text}<|im_end|>\n"),
            (Self::Llama3, _) => format!("<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"),
            (Self::Gemma, "assistant") => format!("<start_of_turn>model\n{text}<end_of_turn>\n"),
            (Self::Gemma, _) => format!("<start_of_turn>{role}\n{text}<end_of_turn>\n"),
            (Self::Phi3, _) => format!("<|{role}|>\n{text}<|end|>\n"),
            (Self::Mistral, "assistant") => format!("{text}</s>"),
            (Self::Mistral, _) => format!("[INST] {text}[/INST]"),
            (Self::Lines, "system") => format!("{text}\n\n"),
            (Self::Lines, "assistant") => format!("Assistant: {}\n", text.trim()),
            (Self::Lines, _) => format!("User: {text}\n"),
            (Self::Text, _) => text.to_owned(),
        };
        prompt.push_str(&written);
    }
}
