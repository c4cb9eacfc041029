//! A language model's text, word by word, as guests of `WasmEdge` and WAMR read it.

use graphpool::backend::wire::Dialect;
use graphpool::nn::{Encoding, Engine, ModelSource, Target};
use graphpool_wasmtime::WasiNnCtx;

use crate::layout::{BUFFER, CONFIG, DATA, DIMENSIONS, NAME, OUT, TENSOR};
use crate::puppet::{END, Mode, Puppet, SHARED, UNSHARED};
use crate::speaker::{Speaker, model};

const U8: u32 = 3;

const END_OF_SEQUENCE: u32 = 100;
const CONTEXT_FULL: u32 = 101;
const PROMPT_TOO_LONG: u32 = 102;

const ROOM: usize = 6;

fn engine(speaker: &Speaker, chain: &[&str]) -> Engine {
    let engine = Engine::new(speaker.clone());
    let source = ModelSource::bytes(model(ROOM, chain)).with_guest_configs(2);
    engine.register_model("chat", source, Encoding::Ggml, Target::Cpu).unwrap();
    engine
}

impl Puppet {
    /// A guest with a context of the engine's language model.
    fn of_chat(engine: &Engine, dialect: Dialect, memory: &str, mode: Mode) -> (Self, u32) {
        let mut puppet = Self::new(WasiNnCtx::new(engine.guest()).with_dialect(dialect), memory, mode);
        puppet.write(NAME, b"chat");
        puppet.write(CONFIG, b"{}");
        let graph = puppet.made("load_by_name_with_config", &[NAME, 4, CONFIG, 2, OUT]);
        let context = puppet.made("init_execution_context", &[graph, OUT]);
        (puppet, context)
    }

    fn set_prompt(&mut self, context: u32, prompt: &str, dimension: u32) -> u32 {
        self.write_words(TENSOR, &[DIMENSIONS, 1, U8, DATA, prompt.len() as u32]);
        self.write_words(DIMENSIONS, &[dimension]);
        self.write(DATA, prompt.as_bytes());
        self.call("set_input", &[context, 0, TENSOR])
    }

    fn text(&mut self, call: &str, context: u32, index: u32) -> String {
        let length = self.made(call, &[context, index, BUFFER, 64, OUT]);
        String::from_utf8(self.read(BUFFER, length)).unwrap()
    }

    /// Steps to the end, its errno, and the pieces.
    fn stream(&mut self, context: u32) -> (u32, Vec<String>) {
        let mut pieces = Vec::new();
        loop {
            match self.call("compute_single", &[context]) {
                0 => pieces.push(self.text("get_output_single", context, 0)),
                end => return (end, pieces),
            }
        }
    }
}

#[test]
fn a_streaming_guest_reads_each_word_the_counts_and_how_the_text_has_ended() {
    let speaker = Speaker::default();
    let engine = engine(&speaker, &["one", "two", "three"]);
    for mode in [Mode::Blocking, Mode::Async] {
        for (dialect, memory) in [(Dialect::WasmEdge, UNSHARED), (Dialect::Wamr, SHARED)] {
            let (mut puppet, context) = Puppet::of_chat(&engine, dialect, memory, mode);
            for dimension in [1, 7] {
                assert_eq!(puppet.set_prompt(context, "say one", dimension), 0);
                assert_eq!(puppet.text("get_output", context, 1), "2 0");
                // A second run begins from the same prompt.
                for _ in 0..2 {
                    assert_eq!(puppet.stream(context), (END_OF_SEQUENCE, vec![" two".into(), " three".into()]));
                    assert_eq!(puppet.text("get_output", context, 1), "2 2");
                    assert_eq!(puppet.text("get_output", context, 0), " two three");
                    assert_eq!(puppet.text("get_output_single", context, 0), "");
                }
                assert_eq!(puppet.call("fini_single", &[context]), 0);
                assert_eq!(puppet.call("compute", &[context]), 0);
                assert_eq!(puppet.text("get_output", context, 0), " two three");
            }
            assert_eq!(puppet.set_prompt(context, "say one", 6), 1);
        }
    }
    let stats = engine.stats();
    assert_eq!((speaker.runs(), stats.guests, stats.contexts, stats.panics), (0, 0, 0, 0));
    // Ends are no errors.
    assert_eq!((stats.errors, stats.failed_computes), (4, 0));
}

#[test]
fn a_full_context_and_a_long_prompt_have_their_numbers_where_the_dialect_has_them() {
    let speaker = Speaker::default();
    let engine = engine(&speaker, &["a", "b", "a"]);
    for mode in [Mode::Blocking, Mode::Async] {
        for (dialect, [end, full, long]) in [
            (Dialect::WasmEdge, [END_OF_SEQUENCE, CONTEXT_FULL, PROMPT_TOO_LONG]),
            (Dialect::Wamr, [END_OF_SEQUENCE, CONTEXT_FULL, PROMPT_TOO_LONG]),
            // The specification has none.
            (Dialect::Witx, [5, 7, 7]),
        ] {
            let (mut puppet, context) = Puppet::of_chat(&engine, dialect, UNSHARED, mode);
            assert_eq!(puppet.set_prompt(context, "a b a b", 7), 0);
            assert_eq!(puppet.stream(context), (full, vec![" a".into(), " b".into()]), "{dialect:?}");
            // The text until then can be read, after a compute, too.
            assert_eq!(puppet.call("compute", &[context]), full);
            assert_eq!(puppet.text("get_output", context, 0), " a b");
            assert_eq!(puppet.set_prompt(context, "1 2 3 4 5 6 7", 1), 0);
            assert_eq!(puppet.call("compute_single", &[context]), long);
            assert_eq!(puppet.call("compute", &[context]), long);
            assert_eq!(puppet.set_prompt(context, "last", 1), 0);
            assert_eq!(puppet.stream(context), (end, vec![]));
        }
    }
}

#[test]
fn calls_in_any_order_get_an_errno_and_leave_the_run_as_it_was() {
    let speaker = Speaker::default();
    let engine = engine(&speaker, &["one", "two", "three"]);
    for mode in [Mode::Blocking, Mode::Async] {
        let (mut puppet, context) = Puppet::of_chat(&engine, Dialect::WasmEdge, UNSHARED, mode);
        // Without a prompt, and without a step.
        assert_eq!(puppet.call("compute_single", &[context]), 1);
        assert_eq!(puppet.call("get_output_single", &[context, 0, BUFFER, 64, OUT]), 1);
        assert_eq!(puppet.call("fini_single", &[context]), 0);
        assert_eq!(puppet.set_prompt(context, "one", 1), 0);
        assert_eq!(puppet.call("compute_single", &[context]), 0);
        assert_eq!(puppet.call("compute", &[context]), 1);
        // The needed size comes with too_large, as for get_output.
        assert_eq!(puppet.call("get_output_single", &[context, 0, BUFFER, 3, OUT]), 7);
        assert_eq!(puppet.word(OUT), 4);
        for (arguments, errno) in [
            ([context, 2, BUFFER, 64, OUT], 1),
            ([context, u32::MAX, BUFFER, 64, OUT], 1),
            ([context, 0, END - 63, 64, OUT], 3),
            ([context, 0, u32::MAX, u32::MAX, OUT], 3),
            ([context, 0, BUFFER, 64, END - 3], 3),
        ] {
            assert_eq!(puppet.call("get_output_single", &arguments), errno, "{arguments:x?}");
        }
        assert_eq!(puppet.stream(context), (END_OF_SEQUENCE, vec![" three".into()]));
        // A new prompt ends a run.
        assert_eq!(puppet.call("compute_single", &[context]), 0);
        assert_eq!(puppet.set_prompt(context, "two", 1), 0);
        assert_eq!(puppet.call("get_output_single", &[context, 0, BUFFER, 64, OUT]), 1);
        assert_eq!(puppet.stream(context), (END_OF_SEQUENCE, vec![" three".into()]));
        assert_eq!(puppet.call("finalize_execution_context", &[context]), 0);
        for call in ["compute_single", "fini_single"] {
            assert_eq!(puppet.call(call, &[context]), 1);
        }
    }
    assert_eq!((speaker.runs(), engine.stats().panics), (0, 0));
}
