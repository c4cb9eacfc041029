//! What the fuzz target does with the bytes of a language model.
//!
//! ```sh
//! ci/fuzz.sh 1800 ggml_load
//! ```
//!
//! Loads a file under a limit of 4 MiB and, where that works, opens a session, sets options and a prompt, makes some
//! steps, and computes the same text as a whole in another session, each under a limit of 16 MiB and a deadline of half
//! a second. A panic, an abort, a hang of five seconds, 2 GiB of memory, a graph or a session over its limit, and two
//! texts that differ are findings.

mod base;
mod changes;
mod session;
#[path = "../../../backends/candle/src/tests/gguf/writer.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod writer;

pub use session::attack;

use arbitrary::Unstructured;

/// Bytes that a load and its graph may take.
pub const GRAPH: usize = 1 << 22;

/// Bytes that a session and its computes may take.
pub const SESSION: usize = 1 << 24;

/// A file, and what a guest does with it.
#[derive(Debug)]
pub struct Attempt {
    /// The bytes of the file.
    pub file: Vec<u8>,
    /// Options in JSON.
    pub options: String,
    /// The bytes of the prompt.
    pub prompt: Vec<u8>,
    /// Steps before the guest gives up.
    pub steps: usize,
}

/// What an input of the fuzzer means. Bytes that begin with `GGUF` are a file, and others say how one is made.
#[must_use]
pub fn attempt(bytes: &[u8]) -> Attempt {
    if bytes.starts_with(b"GGUF") {
        return Attempt {
            file: bytes.to_vec(),
            options: r#"{"seed": 1, "n-predict": 4, "ctx-size": 64}"#.into(),
            prompt: b"<|turn|>the cat in the hat".to_vec(),
            steps: 8,
        };
    }
    let input = &mut Unstructured::new(bytes);
    // An input that ends early gives zeros, and no error.
    let (steps, options) = (session::number(input, 12) as usize, session::options(input));
    let prompt = session::prompt(input);
    let mut writer = base::model(input);
    Attempt { file: changes::file(&mut writer, input), options, prompt, steps }
}

/// Writes a model to the file that the variable `MODEL_OUT` names, where there is one: what the target made of an input
/// is kept in that way, to be run again without the fuzzer.
///
/// # Panics
///
/// Where the file can't be written.
pub fn keep(model: &[u8]) {
    if let Some(path) = std::env::var_os("MODEL_OUT") {
        std::fs::write(path, model).expect("the file that MODEL_OUT names can be written");
    }
}
