//! A guest's session with a model: options, a prompt, steps, and the same text as a whole.

use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use graphpool::backend::{
    Backend as _, BackendContext, BackendGraph, ComputeControl, Encoding, Error, LoadRequest, Step, Target, TensorType,
    TensorView,
};
use graphpool::nn::MESSAGE_BYTES;
use graphpool_candle::CandleBackend;

use crate::{Attempt, GRAPH, SESSION};

/// A number below `bound`; 0 where the input has ended.
pub(crate) fn number(input: &mut Unstructured<'_>, bound: u64) -> u64 {
    input.arbitrary::<u16>().map_or(0, u64::from) % bound
}

/// One of some things; the first where the input has ended.
pub(crate) fn one_of<T: Copy>(input: &mut Unstructured<'_>, things: &[T]) -> T {
    things[number(input, things.len() as u64) as usize]
}

/// Keys of options whose values matter to a session.
const KEYS: [&str; 26] = [
    "n-predict",
    "ctx-size",
    "temp",
    "top-k",
    "top-p",
    "min-p",
    "typ-p",
    "repeat-penalty",
    "presence-penalty",
    "frequency-penalty",
    "repeat-last-n",
    "mirostat",
    "mirostat-ent",
    "mirostat-lr",
    "mirostat-eta",
    "ignore-eos",
    "embedding",
    "embd-normalize",
    "pooling",
    "cache-ram",
    "ubatch-size",
    "cache-type-k",
    "cache-type-v",
    "reverse-prompt",
    "mmproj",
    "n-gpu-layers",
];

const VALUES: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "5",
    "64",
    "100000",
    "2147483647",
    "-2147483648",
    "4294967295",
    "18446744073709551615",
    "-9223372036854775808",
    "0.5",
    "0.999999",
    "1e-40",
    "1e30",
    "-1e30",
    "null",
    "true",
    "false",
    r#""f32""#,
    r#"["the", "", "e", "tth"]"#,
    r#""<|end|>""#,
];

/// Options in JSON. Their seed is set, so that two sessions with them make the same text.
pub(crate) fn options(input: &mut Unstructured<'_>) -> String {
    let mut options = r#"{"seed": 7, "temp": 0"#.to_owned();
    for _ in 0..number(input, 6) {
        let (key, value) = (one_of(input, &KEYS), one_of(input, &VALUES));
        options.push_str(&format!(r#", "{key}": {value}"#));
    }
    options + "}"
}

/// A prompt of words, names of control tokens and bytes of the input.
pub(crate) fn prompt(input: &mut Unstructured<'_>) -> Vec<u8> {
    let mut prompt = Vec::new();
    for _ in 0..=number(input, 8) {
        match number(input, 8) {
            0 => prompt.extend_from_slice(b"the cat in the hat"),
            1 => prompt.extend_from_slice(b"<|turn|>"),
            2 => prompt.extend_from_slice("\u{2581}\u{e9}\u{1f600} \u{300}".as_bytes()),
            3 => prompt.resize(prompt.len() + number(input, 2048) as usize, b' '),
            4 => prompt.resize(prompt.len() + number(input, 2048) as usize, b'a'),
            5 => prompt.extend_from_slice(b"12345's\r\n\n\t'LL<0x41></s>"),
            _ => prompt.extend(input.bytes(2).unwrap_or_default()),
        }
    }
    prompt
}

/// Loads and runs a model; whatever is wrong with it must come back as an error with a short message.
///
/// # Panics
///
/// Where it takes more memory than it may, or gives one text in steps and another as a whole.
pub fn attack(attempt: &Attempt) {
    let parts = [attempt.file.as_slice()];
    let request = LoadRequest::new(&parts, Encoding::Ggml, Target::Cpu).with_memory_limit(GRAPH);
    let Some(graph) = checked(CandleBackend::new().load(&request)) else { return };
    assert!(graph.memory() <= GRAPH, "the graph takes {} bytes", graph.memory());
    let Some((text, is_whole)) = steps(&*graph, attempt) else { return };
    // In a session of its own, whose text is that of the steps, whatever pages it shares with the first.
    let Some(mut context) = opened(&*graph, attempt) else { return };
    let computed = context.compute(&control());
    assert!(context.memory() <= SESSION, "a session takes {} bytes", context.memory());
    if let Ok(whole) = context.output(0)
        && computed.is_ok()
        && is_whole
    {
        assert_eq!(text, whole.data(), "the text in steps and as a whole");
    }
    checked(computed);
    // What the cache has is the beginning of this prompt.
    let longer = [&attempt.prompt, &b" and the cat"[..]].concat();
    if checked(set(&mut *context, 0, &longer)).is_some() {
        checked(context.compute(&control()));
        assert!(context.memory() <= SESSION, "a session takes {} bytes", context.memory());
    }
}

/// The text of a run of steps, and whether it came to its end; `None` if the session can't run.
fn steps(graph: &dyn BackendGraph, attempt: &Attempt) -> Option<(Vec<u8>, bool)> {
    let mut context = opened(graph, attempt)?;
    let (mut text, mut is_whole) = (Vec::new(), false);
    for _ in 0..attempt.steps {
        let Some(step) = checked(context.step(&control())) else { break };
        assert!(context.memory() <= SESSION, "a session takes {} bytes", context.memory());
        text.extend_from_slice(checked(context.step_output(0))?.data());
        assert!(context.output(1).is_ok());
        is_whole = step == Step::EndOfSequence;
        if step.is_end() {
            break;
        }
    }
    context.end_steps();
    Some((text, is_whole))
}

fn opened(graph: &dyn BackendGraph, attempt: &Attempt) -> Option<Box<dyn BackendContext>> {
    let mut context = checked(graph.init_context())?;
    checked(set(&mut *context, 1, attempt.options.as_bytes()))?;
    checked(set(&mut *context, 0, &attempt.prompt))?;
    Some(context)
}

fn set(context: &mut dyn BackendContext, index: usize, bytes: &[u8]) -> Result<(), Error> {
    let length = [bytes.len() as u32];
    context.set_input(index, TensorView::new(&length, TensorType::U8, bytes)?)
}

fn control() -> ComputeControl {
    ComputeControl::default()
        .with_memory_limit(SESSION)
        .with_context_memory_limit(SESSION)
        .with_deadline(Instant::now() + Duration::from_millis(500))
}

/// The value of a result whose error has a short message.
fn checked<T>(result: Result<T, Error>) -> Option<T> {
    result.inspect_err(|error| assert!(error.message().len() <= MESSAGE_BYTES)).ok()
}
