//! Hostile arguments: each meets its errno, changes nothing, and leaves the host and its other guests as they were.

use std::collections::HashMap;

use graphpool_wasmtime::WasiNnCtx;

use crate::backend::Words;
use crate::layout::*;
use crate::puppet::{CALLS, END, Mode, Puppet, SHARED, UNSHARED};

/// The errnos.
const OK: u32 = 0;
const ARGUMENT: u32 = 1;
const ENCODING: u32 = 2;
const MEMORY: u32 = 3;
const RUNTIME: u32 = 5;
const UNSUPPORTED: u32 = 6;
const LARGE: u32 = 7;
const NOT_FOUND: u32 = 8;

/// Handles that are known when a case runs only: numbers past the range of an argument.
const GRAPH: u64 = 1 << 32;
const CONTEXT: u64 = 2 << 32;
/// A context without a compute, and without an input.
const FRESH: u64 = 3 << 32;
/// Handles that were given back.
const GONE_GRAPH: u64 = 4 << 32;
const GONE_CONTEXT: u64 = 5 << 32;
/// Handles of another guest.
const OTHERS_GRAPH: u64 = 6 << 32;
const OTHERS_CONTEXT: u64 = 7 << 32;

const MAX: u64 = u32::MAX as u64;
const END_: u64 = END as u64;

/// A call, what the memory holds besides, and the errno.
#[derive(Clone)]
struct Case {
    call: &'static str,
    arguments: Vec<u64>,
    words: Vec<(u32, Vec<u32>)>,
    errno: u32,
}

impl Case {
    /// With these words at an address.
    fn with(mut self, at: u32, words: &[u32]) -> Self {
        self.words.push((at, words.to_vec()));
        self
    }
}

fn case(call: &'static str, arguments: impl IntoIterator<Item = u64>, errno: u32) -> Case {
    Case { call, arguments: arguments.into_iter().collect(), words: Vec::new(), errno }
}

/// Places that are not wholly in the memory, of a range of this length.
fn outside(length: u64) -> [u64; 5] {
    [END_ - length + 1, END_, MAX - length + 1, MAX - 1, MAX]
}

const PARTS_: u64 = PARTS as u64;
const OUT_: u64 = OUT as u64;

fn load() -> Vec<Case> {
    let load = |parts: u64, count: u64, errno| case("load", [parts, count, 1, 0, OUT_], errno);
    let one = |at: u32, length: u32, errno| load(PARTS_, 1, errno).with(PARTS, &[at, length]);
    let numbers = |encoding: u64, target: u64, errno| case("load", [PARTS_, 1, encoding, target, OUT_], errno);
    let to = |out: u64, errno| case("load", [PARTS_, 1, 1, 0, out], errno);
    let mut cases = vec![
        load(PARTS_, 1, OK),
        // The number of parts.
        load(PARTS_, 0, ARGUMENT),
        load(MAX, 0, MEMORY),
        load(PARTS_, 65, LARGE),
        load(PARTS_, 1 << 29, LARGE),
        load(PARTS_, 1 << 30, LARGE),
        load(PARTS_, 1 << 31, LARGE),
        load(PARTS_, MAX, LARGE),
        load(END_ - 8 * 8 + 1, 8, MEMORY),
        // A part.
        one(MODEL, 0, ENCODING),
        one(END, 0, ENCODING),
        one(END + 1, 0, MEMORY),
        one(END - 1, 2, MEMORY),
        one(u32::MAX, 1, MEMORY),
        one(u32::MAX, u32::MAX, LARGE),
        one(0, u32::MAX, LARGE),
        one(0, END + 1, MEMORY),
        one(0, END, ENCODING),
        one(0, 1 << 30, MEMORY),
        one(0, (1 << 30) + 1, LARGE),
        one(DATA, 8, ENCODING),
        load(PARTS_, 2, LARGE).with(PARTS, &[MODEL, 4, 0, 1 << 30]),
        load(PARTS_, 2, LARGE).with(PARTS, &[0, u32::MAX, 0, u32::MAX]),
        load(PARTS_, 2, MEMORY).with(PARTS, &[MODEL, 4, u32::MAX, 4]),
        load(PARTS_, 2, OK).with(PARTS, &[MODEL, 2, MODEL + 2, 2]),
        load(PARTS_, 8, OK).with(PARTS, &[MODEL, 4, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]),
        // The numbers of the encoding and the target.
        numbers(0, 0, UNSUPPORTED),
        numbers(5, 0, UNSUPPORTED),
        numbers(6, 0, ENCODING),
        numbers(255, 0, ENCODING),
        numbers(256 + 1, 0, ENCODING),
        numbers((1 << 16) + 1, 0, ENCODING),
        numbers(MAX, 0, ENCODING),
        numbers(1, 1, UNSUPPORTED),
        numbers(1, 2, UNSUPPORTED),
        numbers(1, 3, ARGUMENT),
        numbers(1, 256, ARGUMENT),
        numbers(1, MAX, ARGUMENT),
        // The place of the result.
        to(END_ - 4, OK),
        to(OUT_ + 1, OK),
        to(PARTS_, OK),
        to(0, OK),
        // Parts that are nowhere aligned.
        load(PARTS_ + 13, 1, OK).with(PARTS + 13, &[MODEL, 4]),
    ];
    cases.extend(outside(8).map(|parts| load(parts, 1, MEMORY)));
    cases.extend(outside(4).map(|out| to(out, MEMORY)));
    cases
}

const NAME_: u64 = NAME as u64;

fn names() -> Vec<Case> {
    const NAMED: u32 = 0x4000;
    let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
    let mut cases = Vec::new();
    for call in ["load_by_name", "load_by_name_with_config"] {
        let named = |at: u64, length: u64, out: u64, errno| match call {
            "load_by_name" => case(call, [at, length, out], errno),
            _ => case(call, [at, length, 0, 0, out], errno),
        };
        let text = |text: &[u8; 4], errno| named(NAMED.into(), 4, OUT_, errno).with(NAMED, &[word(text)]);
        cases.extend([
            named(NAME_, 4, OUT_, OK),
            named(NAME_, 3, OUT_, NOT_FOUND),
            named(NAME_, 0, OUT_, NOT_FOUND),
            named(END_, 0, OUT_, NOT_FOUND),
            named(END_ + 1, 0, OUT_, MEMORY),
            named(0x5000, 256, OUT_, NOT_FOUND),
            named(0x5000, 257, OUT_, LARGE),
            named(NAME_, MAX, OUT_, LARGE),
            named(MAX, MAX, OUT_, LARGE),
            named(NAME_, 4, END_ - 4, OK),
            text(b"none", NOT_FOUND),
            text(b"co\0y", NOT_FOUND),
            text(b"co\xffy", ARGUMENT),
            text(b"cop\xc3", ARGUMENT),
            named(NAMED.into(), 3, OUT_, ENCODING).with(NAMED, &[word(b"bad_")]),
            // The name of a model that is registered, but for other guests.
            named(NAMED.into(), 6, OUT_, NOT_FOUND).with(NAMED, &[word(b"thei"), word(b"rs__")]),
        ]);
        cases.extend(outside(4).map(|name| named(name, 4, OUT_, MEMORY)));
        cases.extend(outside(4).map(|out| named(NAME_, 4, out, MEMORY)));
    }
    let config = |at: u64, length: u64, errno| {
        let arguments = [NAMED.into(), 4, at, length, OUT_];
        case("load_by_name_with_config", arguments, errno).with(NAMED, &[word(b"mine")])
    };
    cases.extend([
        config(CONFIG.into(), 2, OK),
        config(CONFIG.into(), 0, OK),
        config(CONFIG.into(), 65_536, ARGUMENT).with(CONFIG, &[u32::MAX]),
        config(CONFIG.into(), 65_537, LARGE),
        config(CONFIG.into(), MAX, LARGE),
        config(MAX, MAX, LARGE),
        config(MAX, 1, MEMORY),
        config(END_ - 1, 2, MEMORY),
        config(CONFIG.into(), 2, ARGUMENT).with(CONFIG, &[0xfffe]),
        // The host does not allow a configuration for this name.
        case("load_by_name_with_config", [NAME_, 4, CONFIG.into(), 2, OUT_], RUNTIME),
    ]);
    cases
}

/// Numbers that are no graph of the guest, and numbers that are no context of it.
const NO_GRAPHS: [u64; 7] = [0, 1, MAX, CONTEXT, GONE_GRAPH, OTHERS_GRAPH, OTHERS_CONTEXT];
const NO_CONTEXTS: [u64; 7] = [0, 1, MAX, GRAPH, GONE_CONTEXT, OTHERS_CONTEXT, OTHERS_GRAPH];

fn handles() -> Vec<Case> {
    let mut cases = vec![
        case("init_execution_context", [GRAPH, OUT_], OK),
        case("init_execution_context", [GRAPH, END_ - 4], OK),
        case("init_execution_context", [GRAPH, OUT_ + 3], OK),
        case("init_execution_context", [0, MAX], MEMORY),
        case("compute", [CONTEXT], OK),
        // Without an input.
        case("compute", [FRESH], ARGUMENT),
        case("compute_single", [CONTEXT], OK),
        case("compute_single", [FRESH], ARGUMENT),
        case("fini_single", [CONTEXT], OK),
        case("fini_single", [FRESH], OK),
        case("unload", [GRAPH], OK),
        case("finalize_execution_context", [CONTEXT], OK),
    ];
    cases.extend(outside(4).map(|out| case("init_execution_context", [GRAPH, out], MEMORY)));
    for graph in NO_GRAPHS {
        cases.push(case("init_execution_context", [graph, OUT_], ARGUMENT));
        cases.push(case("unload", [graph], ARGUMENT));
    }
    for context in NO_CONTEXTS {
        cases.push(case("set_input", [context, 0, TENSOR.into()], ARGUMENT));
        cases.push(case("compute", [context], ARGUMENT));
        cases.push(case("get_output", [context, 0, BUFFER.into(), 8, OUT_], ARGUMENT));
        cases.push(case("compute_single", [context], ARGUMENT));
        cases.push(case("get_output_single", [context, 0, BUFFER.into(), 8, OUT_], ARGUMENT));
        cases.push(case("fini_single", [context], ARGUMENT));
        cases.push(case("finalize_execution_context", [context], ARGUMENT));
    }
    cases
}

fn inputs() -> Vec<Case> {
    const LAST: u32 = END - 20;
    let set = |index: u64, tensor: u64, errno| case("set_input", [CONTEXT, index, tensor], errno);
    let tensor = |record: [u32; 5], errno| set(0, TENSOR.into(), errno).with(TENSOR, &record);
    let mut cases = vec![
        set(0, TENSOR.into(), OK),
        set(1, TENSOR.into(), ARGUMENT),
        set(MAX, TENSOR.into(), ARGUMENT),
        set(0, LAST.into(), OK).with(LAST, &[DIMENSIONS, 1, F32, DATA, 8]),
        // The dimensions.
        tensor([DIMENSIONS, 0, F32, DATA, 4], ARGUMENT),
        tensor([u32::MAX, 0, F32, DATA, 4], MEMORY),
        tensor([0, 0, F32, DATA, 8], ARGUMENT),
        tensor([DIMENSIONS, 2, F32, DATA, 8], ARGUMENT).with(DIMENSIONS, &[1, 2]),
        tensor([DIMENSIONS, 16, F32, DATA, 8], ARGUMENT).with(DIMENSIONS, &[1; 16]),
        tensor([DIMENSIONS, 17, F32, DATA, 8], LARGE),
        tensor([DIMENSIONS, 0x4000_0000, F32, DATA, 8], LARGE),
        tensor([DIMENSIONS, 0x7fff_ffff, F32, DATA, 8], LARGE),
        tensor([DIMENSIONS, u32::MAX, F32, DATA, 8], LARGE),
        tensor([u32::MAX, u32::MAX, F32, u32::MAX, u32::MAX], LARGE),
        tensor([END - 3, 1, F32, DATA, 8], MEMORY),
        tensor([END, 1, F32, DATA, 8], MEMORY),
        tensor([u32::MAX - 3, 1, F32, DATA, 8], MEMORY),
        tensor([u32::MAX, 1, F32, DATA, 8], MEMORY),
        tensor([DIMENSIONS, 1, F32, DATA, 8], ARGUMENT).with(DIMENSIONS, &[3]),
        tensor([DIMENSIONS, 1, F32, DATA, 8], ARGUMENT).with(DIMENSIONS, &[u32::MAX]),
        tensor([DIMENSIONS, 1, F32, DATA, 0], ARGUMENT).with(DIMENSIONS, &[1 << 30]),
        tensor([DIMENSIONS, 4, F32, DATA, 0], ARGUMENT).with(DIMENSIONS, &[1 << 16; 4]),
        tensor([DIMENSIONS, 4, F32, DATA, 8], ARGUMENT).with(DIMENSIONS, &[u32::MAX; 4]),
        tensor([DIMENSIONS, 1, F32, DATA, 0], OK).with(DIMENSIONS, &[0]),
        // Sizes that overflow, and a zero.
        tensor([DIMENSIONS, 4, F32, DATA, 0], ARGUMENT).with(DIMENSIONS, &[u32::MAX, u32::MAX, u32::MAX, 0]),
        // The type, one byte, and its padding.
        tensor([DIMENSIONS, 1, 0xffff_ff00 | F32, DATA, 8], OK),
        tensor([DIMENSIONS, 1, 6, DATA, 8], ARGUMENT),
        tensor([DIMENSIONS, 1, 255, DATA, 8], ARGUMENT),
        tensor([DIMENSIONS, 1, u32::MAX, DATA, 8], ARGUMENT),
        tensor([DIMENSIONS, 1, 0, DATA, 8], ARGUMENT),
        tensor([DIMENSIONS, 1, 0, DATA, 4], ARGUMENT),
        tensor([DIMENSIONS, 1, 3, DATA, 2], ARGUMENT),
        tensor([DIMENSIONS, 1, 4, DATA, 8], ARGUMENT),
        tensor([DIMENSIONS, 1, 5, DATA, 16], ARGUMENT),
        // The data.
        tensor([DIMENSIONS, 1, F32, DATA, 7], ARGUMENT),
        tensor([DIMENSIONS, 1, F32, DATA, 9], ARGUMENT),
        tensor([DIMENSIONS, 1, F32, DATA, 0], ARGUMENT),
        tensor([DIMENSIONS, 1, F32, DATA, 256 << 20], MEMORY),
        tensor([DIMENSIONS, 1, F32, DATA, (256 << 20) + 1], LARGE),
        tensor([DIMENSIONS, 1, F32, DATA, u32::MAX], LARGE),
        tensor([DIMENSIONS, 1, F32, END - 8, 8], OK),
        tensor([DIMENSIONS, 1, F32, END - 7, 8], MEMORY),
        tensor([DIMENSIONS, 1, F32, END, 8], MEMORY),
        tensor([DIMENSIONS, 1, F32, u32::MAX - 7, 8], MEMORY),
        tensor([DIMENSIONS, 1, F32, u32::MAX, 8], MEMORY),
        tensor([DIMENSIONS, 1, F32, END, 0], OK).with(DIMENSIONS, &[0]),
        tensor([DIMENSIONS, 1, F32, u32::MAX, 0], MEMORY).with(DIMENSIONS, &[0]),
        // Nothing of it is aligned.
        set(0, u64::from(TENSOR) + 1, OK)
            .with(TENSOR + 1, &[DIMENSIONS + 3, 1, F32, DATA + 1, 8])
            .with(DIMENSIONS + 3, &[2]),
        // The record, its dimensions and its data are the same bytes.
        set(0, DATA.into(), OK).with(DATA, &[DATA + 4, 1, F32, DATA, 4]),
    ];
    cases.extend(outside(20).map(|tensor| set(0, tensor, MEMORY)));
    cases
}

fn outputs(call: &'static str) -> Vec<Case> {
    const BUFFER_: u64 = BUFFER as u64;
    let get =
        |index: u64, buffer: u64, room: u64, size: u64, errno| case(call, [CONTEXT, index, buffer, room, size], errno);
    let mut cases = vec![
        get(0, BUFFER_, 8, OUT_, OK),
        get(0, BUFFER_ + 1, 8, OUT_ + 1, OK),
        get(0, END_ - 8, 8, OUT_, OK),
        get(0, BUFFER_, 8, END_ - 4, OK),
        // The size is written over the output.
        get(0, BUFFER_, 8, BUFFER_, OK),
        get(0, 0, END_, OUT_, OK),
        get(0, 0, END_ + 1, OUT_, MEMORY),
        get(0, BUFFER_, MAX, OUT_, MEMORY),
        get(0, MAX, MAX, OUT_, MEMORY),
        get(0, BUFFER_, 7, OUT_, LARGE),
        get(0, BUFFER_, 0, OUT_, LARGE),
        get(0, END_, 0, OUT_, LARGE),
        get(0, END_ + 1, 0, OUT_, MEMORY),
        get(1, BUFFER_, 8, OUT_, ARGUMENT),
        get(MAX, BUFFER_, 8, OUT_, ARGUMENT),
        case(call, [FRESH, 0, BUFFER_, 8, OUT_], ARGUMENT),
    ];
    cases.extend(outside(8).map(|buffer| get(0, buffer, 8, OUT_, MEMORY)));
    cases.extend(outside(4).map(|size| get(0, BUFFER_, 8, size, MEMORY)));
    cases
}

fn cases() -> Vec<Case> {
    let outputs = ["get_output", "get_output_single"].map(outputs).concat();
    [load(), names(), handles(), inputs(), outputs].into_iter().flatten().collect()
}

fn run(memory: &str, mode: Mode) {
    let words = Words::default();
    let engine = engine(&words);
    // Numbers repeat from guest to guest, so the other one has more handles than a case has.
    let mut other = Puppet::furnished(WasiNnCtx::new(guest(&engine)), UNSHARED, Mode::Blocking);
    let mut others = (0, 0);
    for _ in 0..9 {
        let graph = other.load();
        others = (graph, other.context(graph));
    }
    let before = engine.stats();
    for (place, case) in cases().into_iter().enumerate() {
        let mut puppet = Puppet::furnished(WasiNnCtx::new(guest(&engine)), memory, mode);
        let graph = puppet.load();
        let context = puppet.context(graph);
        assert_eq!(puppet.call("compute", &[context]), OK);
        if case.call == "get_output_single" {
            assert_eq!(puppet.call("compute_single", &[context]), OK);
        }
        let fresh = puppet.made("init_execution_context", &[graph, OUT]);
        let gone_graph = puppet.load();
        assert_eq!(puppet.call("unload", &[gone_graph]), OK);
        let gone_context = puppet.context(graph);
        assert_eq!(puppet.call("finalize_execution_context", &[gone_context]), OK);
        let handles = HashMap::from([
            (GRAPH, graph),
            (CONTEXT, context),
            (FRESH, fresh),
            (GONE_GRAPH, gone_graph),
            (GONE_CONTEXT, gone_context),
            (OTHERS_GRAPH, others.0),
            (OTHERS_CONTEXT, others.1),
        ]);
        for (at, words) in &case.words {
            puppet.write_words(*at, words);
        }
        let number =
            |argument: &u64| handles.get(argument).copied().unwrap_or_else(|| u32::try_from(*argument).unwrap());
        let arguments: Vec<u32> = case.arguments.iter().map(number).collect();
        let (memory, stats) = (puppet.read(0, END), engine.stats());
        let what = format!("case {place}: {} {:x?} with {:x?}", case.call, case.arguments, case.words);
        assert_eq!(puppet.call(case.call, &arguments), case.errno, "{what}");
        let after = engine.stats();
        // Each refusal is reported, and once: by the engine or by the host.
        assert_eq!(after.errors - stats.errors, u64::from(case.errno != OK), "{what}");
        if case.errno != OK {
            assert!(puppet.read(0, END) == memory, "{what} has written to the memory");
            assert_eq!((after.graph_handles, after.contexts), (stats.graph_handles, stats.contexts), "{what}");
        }
        assert_eq!((after.panics, after.busy_contexts), (0, 0), "{what}");
        // The guest itself goes on, as its models are another's, too.
        puppet.furnish("copy");
        puppet.works();
        drop(puppet);
        let after = engine.stats();
        let held =
            |stats: &graphpool::nn::Stats| (stats.guests, stats.graph_handles, stats.contexts, stats.context_bytes);
        assert_eq!(held(&after), held(&before), "{what}");
    }
    drop(other);
    let stats = engine.stats();
    assert_eq!((stats.guests, stats.graph_handles, stats.contexts, stats.context_bytes), (0, 0, 0, 0));
}

#[test]
fn every_hostile_argument_meets_its_errno() {
    assert!(cases().iter().filter(|case| case.errno != OK).count() >= 90);
    assert!(CALLS.iter().all(|(call, _)| cases().iter().any(|case| case.call == *call)));
    run(UNSHARED, Mode::Blocking);
}

#[test]
fn every_hostile_argument_meets_its_errno_in_a_shared_memory() {
    run(SHARED, Mode::Blocking);
}

#[test]
fn every_hostile_argument_meets_its_errno_in_an_asynchronous_host() {
    run(UNSHARED, Mode::Async);
    run(SHARED, Mode::Async);
}
