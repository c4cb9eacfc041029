//! The graphs of one model with different options: what they share, and what each has of its own.
//!
//! A graph is loaded once, and the others are made from it. They take a few kilobytes, and no time. The graph that they
//! are made from counts what is shared, and outlives them.

use super::batch::{Batches, passes};
use super::forward::Model;
use super::hyper::{Hyperparameters, RopeParameters};
use super::options::Options;
use super::prefix::PrefixPages;
use super::session::Shared;
use super::weights::Weights;
use crate::grammar::GraphGrammars;
use crate::tensor::budget::allocation;
use crate::text::tokenizer::Tokenizer;
use graphpool::backend::Error;
use std::sync::Arc;

/// The options that a graph is loaded with.
#[derive(Debug)]
pub(super) struct LoadOptions {
    /// Those that came with the model.
    pub(super) of_parts: Options,
    /// The same with those of the configuration.
    pub(super) all: Options,
}

impl LoadOptions {
    /// Reads the options that came with the model, and those of a configuration.
    ///
    /// # Errors
    ///
    /// Those of [`Options::with`].
    pub(super) fn read(parts: &[u8], config: &[u8]) -> Result<Self, Error> {
        let of_parts = Options::default().with(parts)?;
        Ok(Self { all: of_parts.with(config)?, of_parts })
    }
}

/// Bytes of the structs that a graph shares with its sessions, beside what they own.
pub(super) const SHARED_BYTES: usize = allocation(size_of::<Shared>())
    + allocation(size_of::<Model>())
    + allocation(size_of::<Weights>())
    + allocation(size_of::<Tokenizer>())
    + allocation(size_of::<Batches>())
    + allocation(size_of::<PrefixPages>())
    + allocation(size_of::<GraphGrammars>());

/// Refuses a graph of more bytes than the limit.
pub(super) fn check_limit(memory: usize, limit: usize) -> Result<(), Error> {
    if memory <= limit {
        return Ok(());
    }
    Err(Error::too_large(format!("the graph needs {memory} bytes, and the limit is {limit}")).by_limit())
}

/// The rotation of a file, with what the options say of it.
pub(super) fn rotation(of_file: RopeParameters, options: &Options) -> RopeParameters {
    let base = options.rope_base.unwrap_or(of_file.base);
    RopeParameters { base, scale: options.rope_scale.unwrap_or(of_file.scale), ..of_file }
}

/// What the graph of the same model with other options shares with its sessions, and the bytes that it takes beside
/// `base`, that of the graph that was loaded. `rope` is the rotation of the file.
///
/// * Weights, tokenizer and grammars are those of `base`, whatever the options are.
/// * Passes are, too, unless the options of the rotation differ. Then the new graph has passes of its own, because all
///   tokens of a pass have one rotation.
/// * Pages of prompts are, too, unless the rotation differs or `changes_pages`, for other bytes of pages. Then the new
///   graph has pages of its own. They take at most as many bytes as those of `base`, so that the host's bound holds for
///   guests' configurations.
///
/// # Errors
///
/// `TooLarge` past the limit, and `UnsupportedOperation` for a name that no grammar has.
pub(super) fn configured(
    base: &Shared,
    options: Options,
    changes_pages: bool,
    rope: RopeParameters,
    memory_limit: usize,
) -> Result<(Shared, usize), Error> {
    let Shared { model, tokenizer, batches, prefixes, grammars, .. } = base;
    if let Some(name) = &options.grammar {
        grammars.check(name)?;
    }
    let rope = rotation(rope, &options);
    let same = rope == model.hyper.rope;
    let mut memory = SHARED_BYTES;
    let (model, batches) = if same {
        (Arc::clone(model), Arc::clone(batches))
    } else {
        let other = Model::new(Hyperparameters { rope, ..model.hyper.clone() }, Arc::clone(&model.weights));
        memory += other.own_bytes();
        (Arc::new(other), Arc::new(Batches::new(passes())))
    };
    check_limit(memory, memory_limit)?;
    let prefixes = if same && !changes_pages {
        Arc::clone(prefixes)
    } else {
        let pages = options.prefix_bytes.unwrap_or(usize::MAX).min(prefixes.limit()).min(memory_limit - memory);
        memory += pages;
        Arc::new(PrefixPages::new(pages))
    };
    let (tokenizer, grammars) = (Arc::clone(tokenizer), Arc::clone(grammars));
    Ok((Shared { model, tokenizer, options, batches, prefixes, grammars }, memory))
}
