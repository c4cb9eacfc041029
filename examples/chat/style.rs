//! How conversations are written for the model that is loaded: by the template of its file, or in one of the formats.

use graphpool::nn::Error;
use graphpool_candle::{ChatMessage, ChatTemplate};

use crate::format::{Format, Turns};

/// A way to write conversations for a model.
pub enum Style {
    /// By the template of the model's file.
    Template(Box<ChatTemplate>),
    /// In a format of this program's.
    Format(Format),
}

impl Style {
    /// The prompt for the next answer. `system` is what the model is told first.
    ///
    /// Some templates have no place for that; it is then said with the first question.
    pub fn prompt(&self, system: &str, turns: &Turns) -> Result<String, Error> {
        let template = match self {
            Self::Format(format) => return Ok(format.prompt(system, turns)),
            Self::Template(template) => template,
        };
        let mut messages = Vec::new();
        for (question, answer) in turns {
            messages.push(ChatMessage::new("user", question));
            messages.extend(answer.as_ref().map(|answer| ChatMessage::new("assistant", answer)));
        }
        if system.is_empty() {
            return template.render(&messages, true);
        }
        messages.insert(0, ChatMessage::new("system", system));
        template.render(&messages, true).or_else(|error| {
            messages.remove(0);
            let Some(first) = messages.first_mut() else { return Err(error) };
            first.content = format!("{system}\n\n{}", first.content);
            template.render(&messages, true)
        })
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Template(_) => "its own template",
            Self::Format(format) => format.name(),
        }
    }

    /// Strings that end an answer, besides the model's own end.
    pub const fn stop(&self) -> &'static [&'static str] {
        match self {
            Self::Template(_) => &[],
            Self::Format(format) => format.stop(),
        }
    }

    /// Whether the model only continues what it is given.
    pub fn continues(&self) -> bool {
        matches!(self, Self::Format(Format::Text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(source: &str) -> Style {
        Style::Template(Box::new(ChatTemplate::from_source(source).unwrap()))
    }

    #[test]
    fn a_prompt_begins_as_the_one_before_with_its_answer() {
        let style = style(
            "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}\
             {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        );
        let mut turns = vec![("One?".to_owned(), None)];
        let first = style.prompt("Count.", &turns).unwrap();
        assert_eq!(first, Format::ChatMl.prompt("Count.", &turns));
        turns[0].1 = Some(" 1.\n".to_owned());
        turns.push(("Two?".to_owned(), None));
        let second = style.prompt("Count.", &turns).unwrap();
        assert_eq!(second, Format::ChatMl.prompt("Count.", &turns));
        assert!(second.starts_with(&format!("{first} 1.\n<|im_end|>\n")), "{second}");
    }

    #[test]
    fn a_template_without_a_place_for_the_system_has_it_with_the_first_question() {
        let style = style(
            "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
             [{{ m.role }}:{{ m.content }}]{% endfor %}",
        );
        let turns = [("a".to_owned(), Some("b".to_owned())), ("c".to_owned(), None)];
        assert_eq!(style.prompt("s", &turns).unwrap(), "[user:s\n\na][assistant:b][user:c]");
        assert_eq!(style.prompt("", &turns).unwrap(), "[user:a][assistant:b][user:c]");
        assert!(self::style("{{ nothing.at.all }}").prompt("s", &turns).is_err());
    }
}
