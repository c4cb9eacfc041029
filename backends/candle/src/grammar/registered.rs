//! The grammars of a backend by their names, and those of a graph.

use super::guard::guarded;
use super::matcher::Matcher;
use super::text::Grammar;
use super::vocabulary::{self, factory, factory_of_bytes, limits};
use crate::quote::quote;
use crate::text::tokenizer::Tokenizer;
use graphpool::backend::Error;
use llguidance::api::GrammarInit;
use llguidance::{ParserFactory, TokenParser};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Grammars by their names.
#[derive(Debug, Clone)]
pub(crate) struct Grammars(BTreeMap<Arc<str>, Arc<Registered>>);

/// A grammar that was compiled as far as that is possible without a vocabulary.
struct Registered {
    init: GrammarInit,
    /// About the bytes of a parser.
    memory: usize,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl Grammars {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Compiles a grammar, and adds it.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an empty name, for one that there is, and for a grammar with a mistake.
    pub(crate) fn add(&mut self, name: &str, grammar: &Grammar) -> Result<(), Error> {
        if name.is_empty() {
            return Err(Error::invalid_argument("a grammar's name is empty, which stands for no grammar"));
        }
        if self.0.contains_key(name) {
            return Err(Error::invalid_argument(format!("there are two grammars of the name {}", quote(name))));
        }
        let registered = Registered::new(grammar)
            .map_err(|why| Error::invalid_argument(format!("the grammar {} has a mistake: {why}", quote(name))))?;
        self.0.insert(name.into(), Arc::new(registered));
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    /// Refuses a name that no grammar has.
    ///
    /// # Errors
    ///
    /// `UnsupportedOperation`, as for other options that a host does not have.
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        self.find(name).map(|_| ())
    }

    fn find(&self, name: &str) -> Result<(&Arc<str>, &Arc<Registered>), Error> {
        self.0.get_key_value(name).ok_or_else(|| {
            let why = format!("the host has no grammar of the name {}; guests can't bring their own", quote(name));
            Error::unsupported(why)
        })
    }

    /// About the bytes that grammars take in a graph with this vocabulary, of which its model has the first `tokens`:
    /// none without a grammar.
    pub(crate) fn memory(&self, tokenizer: &Tokenizer, tokens: usize) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        self.0.values().map(|grammar| grammar.memory).fold(vocabulary::memory(tokenizer, tokens), usize::saturating_add)
    }

    /// The grammars for a graph, none of which is compiled for its vocabulary yet.
    pub(crate) fn of_graph(&self) -> GraphGrammars {
        let compiled = self.0.keys().map(|name| (Arc::clone(name), Mutex::new(None))).collect();
        GraphGrammars { grammars: self.clone(), factory: OnceLock::new(), compiled }
    }
}

impl Registered {
    fn new(grammar: &Grammar) -> Result<Self, String> {
        let whole = grammar.parse()?;
        let init = GrammarInit::Serialized(whole.clone());
        let (parsed, lexer) = guarded(|| init.to_internal(None, limits()))?;
        if lexer.special_token_rx.is_some() {
            // Names of tokens, which only a vocabulary has numbers for.
            return Ok(Self { init: GrammarInit::Serialized(whole), memory: grammar.len().saturating_mul(64) });
        }
        let init = GrammarInit::Internal(parsed, lexer);
        // The rest of the mistakes shows here.
        let memory = parser(&factory_of_bytes()?, &init)?.parser.lexer_stats().num_bytes;
        Ok(Self { init, memory: memory.saturating_add(grammar.len().saturating_mul(64)) })
    }
}

/// A parser at the beginning of a text.
fn parser(factory: &ParserFactory, init: &GrammarInit) -> Result<TokenParser, String> {
    let mut parser = guarded(|| factory.create_parser_from_init_default(init.clone()))?;
    parser.start_without_prompt();
    Ok(parser)
}

/// The grammars of a graph. The tree of its vocabulary is built at the first session with a grammar, and a grammar is
/// compiled for it at the first session with that one. Sessions that come meanwhile wait.
pub(crate) struct GraphGrammars {
    grammars: Grammars,
    factory: OnceLock<Result<ParserFactory, Error>>,
    compiled: BTreeMap<Arc<str>, Mutex<Option<TokenParser>>>,
}

impl fmt::Debug for GraphGrammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphGrammars").field("grammars", &self.grammars).finish_non_exhaustive()
    }
}

impl GraphGrammars {
    /// As [`Grammars::check`].
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        self.grammars.check(name)
    }

    /// The beginning of a grammar, for one text of a session. `room` hears how many bytes it takes, and may refuse.
    ///
    /// # Errors
    ///
    /// That of `room`, and `UnsupportedOperation` for a name that no grammar has, and for a grammar that the vocabulary
    /// lacks a token for, or is too large for.
    pub(crate) fn matcher(
        &self,
        name: &str,
        tokenizer: &Tokenizer,
        tokens: usize,
        room: impl FnOnce(usize) -> Result<(), Error>,
    ) -> Result<Matcher, Error> {
        let (name, registered) = self.grammars.find(name)?;
        let factory = self.factory.get_or_init(|| factory(tokenizer, tokens)).as_ref().map_err(Error::clone)?;
        let Some(compiled) = self.compiled.get(name) else {
            return Err(Error::runtime_error(format!("the grammar {} is not of this graph", quote(name))));
        };
        let refused = |why| Error::unsupported(format!("the grammar {} can't be used here: {why}", quote(name)));
        let mut compiled = compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let first = match &mut *compiled {
            Some(parser) => parser,
            none => none.insert(parser(factory, &registered.init).map_err(refused)?),
        };
        Matcher::from_first(Arc::clone(name), first, tokens, room)
    }
}
