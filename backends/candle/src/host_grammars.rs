//! What a host says about grammars, which texts of language models follow.

use crate::CandleBackend;
use crate::grammar::Grammar;
use graphpool::backend::Error;

impl CandleBackend {
    /// Compiles a grammar and gives it a name, which the option `grammar` of guests, and of a model's configuration,
    /// may have.
    ///
    /// ```
    /// use graphpool_candle::{CandleBackend, Grammar};
    ///
    /// let person = r#"{
    ///     "type": "object",
    ///     "properties": { "name": { "type": "string", "maxLength": 20 }, "age": { "type": "integer" } },
    ///     "required": ["name", "age"],
    ///     "additionalProperties": false
    /// }"#;
    /// let backend = CandleBackend::new()
    ///     .with_grammar("person", &Grammar::json_schema(person))?
    ///     .with_grammar("answer", &Grammar::regex("yes|no"))?;
    /// # let _ = backend;
    /// # Ok::<(), graphpool::backend::Error>(())
    /// ```
    ///
    /// Each token of a session with the grammar is one that the grammar allows, by the bytes that it stands for. The
    /// text ends where the grammar is complete and nothing may follow, and where it is complete and the model ends it.
    /// `n-predict`, `reverse-prompt` and the context's end cut it as they cut any text, so that it may then be a
    /// beginning of what the grammar describes. The prompt is no part of it. Sessions without a grammar pay nothing.
    ///
    /// A graph builds a tree of its vocabulary for its first session with a grammar, and compiles each grammar for the
    /// first session that names it. Other sessions with grammars wait meanwhile, and neither a deadline nor a cancel
    /// token ends it. The README has the times. The bytes of both count as memory of the graph from its load on. A
    /// session has a state of its own, which counts as its memory and grows with its text.
    ///
    /// llguidance sets a panic hook for the process, which passes on all panics but those within itself.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) for a grammar with a mistake, for an empty
    /// name, and for a name that another grammar has. A grammar with names of control tokens is compiled as a whole
    /// only when a model's vocabulary is there, so some of its mistakes are errors of the session.
    pub fn with_grammar(mut self, name: &str, grammar: &Grammar) -> Result<Self, Error> {
        self.grammars.add(name, grammar)?;
        Ok(self)
    }
}
