//! Plug-in backends for [graphpool]'s wasi-nn engine: any shared library with WAMR's backend interface.
#![cfg(unix)]

mod abi;
mod backend;
mod context;
mod graph;
mod instance;
mod library;
mod output;
mod session;
mod settings;
mod turn;

pub use backend::DylibBackend;
pub use settings::{DylibSettings, Mapping, Serialized};
