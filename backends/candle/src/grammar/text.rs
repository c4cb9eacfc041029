//! A grammar as the host writes it.

use llguidance::api::TopLevelGrammar;
use std::sync::Arc;

/// A grammar, to be given a name by [`CandleBackend::with_grammar`](crate::CandleBackend::with_grammar).
///
/// It is only a text until then. The text must be the host's own, and never come from a guest: there are short ones
/// whose compile takes longer than anyone waits, and nothing can interrupt it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grammar {
    form: Form,
    text: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lark,
    Regex,
    JsonSchema,
}

impl Grammar {
    /// A context-free grammar in [llguidance's variant of Lark][syntax], which begins at the rule `start`. It is close
    /// to llama.cpp's GBNF, and not the same:
    ///
    /// ```text
    /// start: "I am " mood "."
    /// mood: "glad" | "sorry"
    /// ```
    ///
    /// A rule such as `<|im_end|>` stands for the control token of that name.
    ///
    /// [syntax]: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
    #[must_use]
    pub fn lark(text: impl Into<Arc<str>>) -> Self {
        Self { form: Form::Lark, text: text.into() }
    }

    /// A regular expression, in the syntax of the crate `regex`, which the whole text matches.
    #[must_use]
    pub fn regex(text: impl Into<Arc<str>>) -> Self {
        Self { form: Form::Regex, text: text.into() }
    }

    /// A JSON schema, which the text, a JSON value, is valid under. Keywords that llguidance does not support are
    /// refused.
    ///
    /// White space between the tokens of JSON is allowed, and small models may go on with it to the end of `n-predict`.
    /// The schema's key `"x-guidance": {"whitespace_flexible": false}` forbids it.
    #[must_use]
    pub fn json_schema(text: impl Into<Arc<str>>) -> Self {
        Self { form: Form::JsonSchema, text: text.into() }
    }

    /// The grammar as llguidance takes it.
    ///
    /// # Errors
    ///
    /// For a schema that is not JSON, why.
    pub(super) fn parse(&self) -> Result<TopLevelGrammar, String> {
        match self.form {
            Form::Lark => Ok(TopLevelGrammar::from_lark(self.text.to_string())),
            Form::Regex => Ok(TopLevelGrammar::from_regex(&self.text)),
            Form::JsonSchema => {
                let schema = serde_json::from_str(&self.text).map_err(|error| format!("it is not JSON: {error}"))?;
                Ok(TopLevelGrammar::from_json_schema(schema))
            }
        }
    }

    /// Bytes of the text.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}
