//! Grammars in a build without them: a backend has none, so that no session has one.

use super::Allowed;
use crate::text::tokenizer::Tokenizer;
use graphpool::backend::Error;

/// None.
#[derive(Debug, Clone)]
pub(crate) struct Grammars;

#[allow(clippy::unused_self, reason = "the build with grammars uses it")]
impl Grammars {
    pub(crate) const fn new() -> Self {
        Self
    }

    /// Refuses a guest's name for a grammar.
    pub(crate) fn check(&self, _name: &str) -> Result<(), Error> {
        Err(Error::unsupported("the option 'grammar' is not supported"))
    }

    pub(crate) const fn memory(&self, _tokenizer: &Tokenizer, _tokens: usize) -> usize {
        0
    }

    pub(crate) const fn of_graph(&self) -> GraphGrammars {
        GraphGrammars(Self)
    }
}

/// None.
#[derive(Debug)]
pub(crate) struct GraphGrammars(Grammars);

impl GraphGrammars {
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        self.0.check(name)
    }

    pub(crate) fn matcher(
        &self,
        name: &str,
        _tokenizer: &Tokenizer,
        _tokens: usize,
        _room: impl FnOnce(usize) -> Result<(), Error>,
    ) -> Result<Matcher, Error> {
        match self.check(name) {
            Err(error) => Err(error),
            Ok(()) => Err(Error::unsupported("there are no grammars")),
        }
    }
}

/// A state that no session has.
#[derive(Debug)]
pub(crate) enum Matcher {}

impl Matcher {
    pub(crate) fn allowed(&mut self) -> Result<Allowed, Error> {
        match *self {}
    }

    pub(crate) fn none_fits(&self) -> Error {
        match *self {}
    }

    pub(crate) fn take(&mut self, _token: u32) -> Result<bool, Error> {
        match *self {}
    }

    pub(crate) const fn memory(&self) -> usize {
        match *self {}
    }
}
