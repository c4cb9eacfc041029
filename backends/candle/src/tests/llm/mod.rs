//! Language models: small ones with weights of chance, whose text has no sense and whose arithmetic is checked.
//!
//! * `recorded`: logits beside those of llama.cpp.
//! * `passes`: the same logits whatever the chunks of a prompt are, and whatever is passed beside it.
//! * `prefixes`: sessions that share pages of their prompts.
//! * `sessions`: runs, their ends, options, limits.
//! * `shared`: sessions that share passes.
//! * `grammars`: texts that follow grammars.
//! * `beside`: models whose text has a sense, beside llama.cpp.
//! * `loading`: files that are no models.

mod beside;
#[cfg(feature = "grammar")]
mod grammars;
mod loading;
mod passes;
mod prefixes;
mod recorded;
mod sessions;
mod shared;

#[cfg(feature = "grammar")]
use super::gguf::writer::Chance;
use super::gguf::writer::{TINY, Writer, model};
use crate::llm::cache::{Cache, CacheType};
use crate::llm::forward::{Buffers, Model, Results, Run};
use crate::llm::graph::LanguageGraph;
use graphpool::backend::{ComputeControl, Error};

/// Every architecture.
const ARCHITECTURES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma3", "phi3"];

/// A loaded model.
fn load(writer: &Writer) -> Result<LanguageGraph, Error> {
    let mut graph = LanguageGraph::load(&writer.finish(), b"", b"", 1 << 24)?;
    // Whatever the processors are, so that tests know which pass a session is in.
    graph.set_passes(1);
    Ok(graph)
}

/// The logits of all rows of a sequence that is passed in chunks, and its cache.
fn pass(model: &Model, tokens: &[u32], chunk: usize, ty: CacheType) -> (Vec<f32>, Cache) {
    let (mut cache, mut buffers, mut logits) = (Cache::new(&model.hyper, ty), Buffers::default(), Vec::new());
    cache.reserve(tokens.len()).unwrap();
    for tokens in tokens.chunks(chunk) {
        let run = Run { cache: &mut cache, tokens, wanted: usize::MAX };
        model.step(&mut [run], Results::Logits, &mut buffers, &ComputeControl::default()).unwrap();
        logits.extend_from_slice(buffers.results());
    }
    (logits, cache)
}

/// A sequence of 100 tokens of the small models.
fn tokens() -> Vec<u32> {
    (0..100).map(|index| (index * 37 + 11) % 261).collect()
}

/// The logits after further tokens of a sequence.
fn pass_on(model: &Model, cache: &mut Cache, tokens: &[u32], buffers: &mut Buffers) -> Vec<f32> {
    cache.reserve(cache.len() + tokens.len()).unwrap();
    let run = Run { cache, tokens, wanted: 1 };
    model.step(&mut [run], Results::Logits, buffers, &ComputeControl::default()).unwrap();
    buffers.results().to_vec()
}
