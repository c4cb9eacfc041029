//! Grammars of the host's, which the texts of language models follow.
//!
//! * `text`: a grammar as the host writes it.
//! * `registered`: the grammars of a backend by their names, and those of a graph.
//! * `vocabulary`: the tokens of a graph as a tree of their bytes.
//! * `matcher`: where a session is in its grammar.
//! * `guard`: calls into `llguidance`.
//!
//! A grammar's text is the host's, for a compile of it can take long and can't be interrupted. The vocabulary and the
//! tokens that a session takes are a guest's: their lengths and numbers are bounded before `llguidance` sees them, each
//! step is bounded in its work, and what a session's state grows to is counted as its memory.
//!
//! Without the feature `grammar` there are none: `absent` has the same names.

#[cfg(not(feature = "grammar"))]
mod absent;
#[cfg(feature = "grammar")]
mod guard;
#[cfg(feature = "grammar")]
mod matcher;
#[cfg(feature = "grammar")]
mod registered;
#[cfg(feature = "grammar")]
mod text;
#[cfg(feature = "grammar")]
mod vocabulary;

#[cfg(not(feature = "grammar"))]
pub(crate) use absent::{Grammars, GraphGrammars, Matcher};
#[cfg(feature = "grammar")]
pub(crate) use matcher::Matcher;
#[cfg(feature = "grammar")]
pub(crate) use registered::{Grammars, GraphGrammars};
#[cfg(feature = "grammar")]
pub use text::Grammar;

/// What a grammar allows next.
pub(crate) struct Allowed {
    /// A bit for each token, in words of 32.
    pub(crate) tokens: Vec<u32>,
    /// Whether the text may end here.
    pub(crate) may_end: bool,
}
