//! The host of this repository beside `wasmtime-wasi-nn` 48 with onnxruntime: the same guests, in one process.
//!
//! ```sh
//! scripts/build_guests.sh --c-only
//! python3 -m venv venv && venv/bin/pip install onnxruntime
//! ORT_DYLIB_PATH=$(echo venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*) \
//!     cargo run --release --manifest-path benches/hosts/Cargo.toml
//! ```
//!
//! That crate leaves it to the embedder how stores get models. `preload` makes a registry that belongs to one store; an
//! embedder may write a registry of its own whose stores share graphs. Both are measured. Times are medians of rounds
//! in which the hosts take turns; each figure of memory is that of a process of its own. Prints tables in Markdown.

mod badargs;
mod child;
mod memory;
mod model;
mod programs;
mod puppet;
mod timing;
mod way;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use wasmtime::Result;
use wasmtime::error::Context as _;

use crate::model::Models;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hosts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    env::var_os("ORT_DYLIB_PATH")
        .context("ORT_DYLIB_PATH is to name onnxruntime's library, that of the Python wheel")?;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let models = Models::make(&root)?;
    let args = env::args().skip(1).collect::<Vec<_>>();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {
            programs::compare(&models)?;
            timing::compare(&models)?;
            memory::compare()?;
            badargs::compare(&models)
        }
        // What the process runs of itself.
        ["memory", way, stores] => memory::measure(&models, way, stores.parse()?),
        ["case", way, case] => badargs::run(&models, way, case),
        _ => Err(wasmtime::format_err!("there are no arguments")),
    }
}
