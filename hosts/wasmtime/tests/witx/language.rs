//! Guests that share a language model of the candle backend.

use std::thread;

use graphpool::backend::wire::Dialect;
use graphpool::nn::{Encoding, Engine, Guest, ModelSource, Target};
use graphpool_candle::CandleBackend;
use graphpool_wasmtime::WasiNnCtx;

use crate::layout::{BUFFER, DATA, DIMENSIONS, NAME, OUT, TENSOR};
use crate::puppet::{Mode, Puppet, UNSHARED};

#[path = "../../../../backends/candle/src/tests/gguf/writer.rs"]
#[allow(dead_code, reason = "tests of the backend use the rest")]
mod writer;

const U8: u32 = 3;
const GREEDY: &str = r#"{"temp": 0, "repeat-penalty": 1, "n-predict": 24}"#;
const ENDLESS: &str = r#"{"temp": 0, "n-predict": -1, "ignore-eos": true}"#;
const ROUNDS: usize = 4;

impl Puppet {
    /// A guest with a context that has these inputs.
    fn with_prompt(guest: Guest, options: &str, prompt: &str) -> (Self, u32) {
        let mut puppet = Self::new(WasiNnCtx::new(guest).with_dialect(Dialect::WasmEdge), UNSHARED, Mode::Blocking);
        puppet.write(NAME, b"story");
        let graph = puppet.made("load_by_name", &[NAME, 5, OUT]);
        let context = puppet.made("init_execution_context", &[graph, OUT]);
        for (index, text) in [(1, options), (0, prompt)] {
            puppet.write_words(TENSOR, &[DIMENSIONS, 1, U8, DATA, text.len() as u32]);
            puppet.write_words(DIMENSIONS, &[text.len() as u32]);
            puppet.write(DATA, text.as_bytes());
            assert_eq!(puppet.call("set_input", &[context, index, TENSOR]), 0);
        }
        (puppet, context)
    }

    /// The bytes of a text, piece by piece.
    fn pieces(&mut self, context: u32) -> Vec<u8> {
        let mut text = Vec::new();
        while self.call("compute_single", &[context]) == 0 {
            let length = self.made("get_output_single", &[context, 0, BUFFER, 64, OUT]);
            text.extend(self.read(BUFFER, length));
        }
        text
    }
}

#[test]
fn streams_have_their_texts_beside_a_guest_that_is_cancelled_and_one_that_is_dropped() {
    let engine = Engine::new(CandleBackend::new());
    let model = ModelSource::bytes(writer::model("llama", writer::TINY, 8, 3).finish());
    engine.register_model("story", model, Encoding::Ggml, Target::Cpu).unwrap();
    let stream = |prompt: &str| {
        let (mut puppet, context) = Puppet::with_prompt(engine.guest(), GREEDY, prompt);
        puppet.pieces(context)
    };
    let prompts = ["the cat", "in the hat"];
    let alone = prompts.map(stream);
    assert!(alone.iter().all(|text| !text.is_empty()) && alone[0] != alone[1]);
    thread::scope(|scope| {
        for (prompt, alone) in prompts.into_iter().zip(&alone) {
            scope.spawn(move || (0..ROUNDS).for_each(|_| assert_eq!(stream(prompt), *alone)));
        }
        let cancelled = engine.guest();
        // A prompt that is being set would be cancelled, too.
        let (mut puppet, context) = Puppet::with_prompt(cancelled.clone(), ENDLESS, "and");
        let third = scope.spawn(move || {
            loop {
                match puppet.call("compute", &[context]) {
                    // A full context.
                    101 => {}
                    code => break code,
                }
            }
        });
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                let (mut puppet, context) = Puppet::with_prompt(engine.guest(), ENDLESS, "on");
                // Dropped within its run.
                (0..3).for_each(|_| assert_eq!(puppet.call("compute_single", &[context]), 0));
            }
        });
        // Until a compute ends by it: one that has made its last token ends as if not cancelled.
        while !third.is_finished() {
            cancelled.cancel_all();
            thread::yield_now();
        }
        assert_eq!(third.join().unwrap(), 5);
    });
    let stats = engine.stats();
    assert_eq!((stats.computing, stats.suspended, stats.panics), (0, 0, 0));
}
