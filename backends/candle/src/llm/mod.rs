//! Language models in GGUF files.
//!
//! ```text
//!  graph      a loaded model, as the engine sees it
//!  configure  graphs of one model with other options
//!  embedding  the state of a prompt as an output
//!  session    one sequence: its prompt, its cache, its sampler, its outputs
//!  options    what a guest says in JSON
//!  batch      passes that sessions share
//!  queue, sync               how their threads find each other
//!  forward    one pass of tokens of any sessions through the layers
//!  attention, norm, rope     its parts
//!  prefix     pages of prompts that sessions share
//!  cache      keys and values of a sequence, in pages
//!  weights    the matrices of a model, which all sessions share
//!  shapes     the tensors that a model must have
//!  hyper      its hyperparameters
//!  vocabulary its tokens
//! ```
//!
//! A file, a prompt and options come from a guest. The shape of each tensor is compared with what the hyperparameters
//! need before anything is allocated for it. What a session allocates follows from the tokens that it has, and is
//! charged before; deadline and cancel token are checked between layers and within long products.

mod attention;
pub(crate) mod batch;
pub(crate) mod cache;
mod configure;
mod embedding;
pub(crate) mod forward;
pub(crate) mod graph;
pub(crate) mod hyper;
mod norm;
pub(crate) mod options;
pub(crate) mod prefix;
pub(crate) mod queue;
mod rope;
pub(crate) mod session;
pub(crate) mod shapes;
mod sync;
pub(crate) mod vocabulary;
pub(crate) mod weights;

use graphpool::backend::{Encoding, LoadRequest};

/// Whether a request is for a language model. Only a backend `on_host` recognizes one by its bytes.
pub(crate) fn is_for(request: &LoadRequest<'_>, on_host: bool) -> bool {
    match request.encoding {
        Encoding::Ggml => true,
        Encoding::Autodetect => on_host && request.parts.first().is_some_and(|part| part.starts_with(b"GGUF")),
        _ => false,
    }
}
