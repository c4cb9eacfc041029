//! Runs graphpool's engine with language models of the candle backend. The models are small and have weights of chance.

#![allow(missing_docs, reason = "a test")]

#[path = "../src/tests/gguf/writer.rs"]
#[allow(dead_code, reason = "unit tests use the rest")]
mod writer;

use graphpool::GuestHandle;
use graphpool::nn::conformance::Sample;
use graphpool::nn::{
    Encoding, Engine, ErrorKind, Guest, Limits, ModelSource, Step, Target, Tensor, TensorType, TensorView,
};
use graphpool_candle::CandleBackend;
use std::time::Duration;
use writer::{TINY, model};

/// Greedy, and short.
const OPTIONS: &str = r#"{"temp": 0, "repeat-penalty": 1, "n-predict": 10, "ctx-size": 64}"#;

fn file() -> Vec<u8> {
    model("llama", TINY, 8, 3).finish()
}

fn set(guest: &Guest, context: GuestHandle, index: u32, text: &[u8]) {
    let length = [u32::try_from(text.len()).unwrap()];
    guest.set_input(context, index, TensorView::new(&length, TensorType::U8, text).unwrap()).unwrap();
}

fn read(guest: &Guest, context: GuestHandle, index: u32) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let length = guest.get_output(context, index, &mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// The text after a prompt, in a context of its own.
fn text(guest: &Guest, graph: GuestHandle, prompt: &str) -> Vec<u8> {
    text_with(guest, graph, OPTIONS, prompt)
}

fn text_with(guest: &Guest, graph: GuestHandle, options: &str, prompt: &str) -> Vec<u8> {
    let context = guest.init_execution_context(graph).unwrap();
    set(guest, context, 1, options.as_bytes());
    set(guest, context, 0, prompt.as_bytes());
    guest.compute(context).unwrap();
    let text = read(guest, context, 0);
    guest.drop_context(context).unwrap();
    text
}

#[test]
fn an_engine_with_the_backend_runs_language_models() {
    let engine = Engine::new(CandleBackend::new());
    engine.register_model("story", ModelSource::bytes(file()), Encoding::Ggml, Target::Cpu).unwrap();
    let guest = engine.guest();
    let mut texts = Vec::new();
    for graph in [
        guest.load(&[&file()], Encoding::Ggml, Target::Cpu),
        guest.load(&[&file()], Encoding::Autodetect, Target::Cpu),
        guest.load_by_name("story"),
        guest.load(&[&file(), OPTIONS.as_bytes()], Encoding::Ggml, Target::Cpu),
    ] {
        let graph = graph.unwrap();
        let names: Vec<String> = guest.outputs(graph).unwrap().iter().map(|output| output.name.clone()).collect();
        assert_eq!(names, ["text", "counts"]);
        let context = guest.init_execution_context(graph).unwrap();
        assert_eq!(guest.compute(context).unwrap_err().kind(), ErrorKind::InvalidArgument);
        set(&guest, context, 1, OPTIONS.as_bytes());
        set(&guest, context, 0, b"the cat");
        // Before a compute, as programs that trim a chat read it.
        let counts: serde_json::Value = serde_json::from_slice(&read(&guest, context, 1)).unwrap();
        assert_eq!((counts["input_tokens"].as_u64(), counts["output_tokens"].as_u64()), (Some(5), Some(0)));
        guest.compute(context).unwrap();
        let counts: serde_json::Value = serde_json::from_slice(&read(&guest, context, 1)).unwrap();
        assert_eq!(counts["output_tokens"].as_u64(), Some(10));
        texts.push(read(&guest, context, 0));
    }
    assert!(texts.iter().all(|text| !text.is_empty() && *text == texts[0]));
    // Bytes that are no model of the encoding that was named.
    assert_eq!(guest.load(&[&file()], Encoding::Onnx, Target::Cpu).unwrap_err().kind(), ErrorKind::InvalidEncoding);
}

#[test]
fn a_named_model_is_read_from_its_file_and_is_the_same_as_from_its_bytes() {
    let path = std::env::temp_dir().join(format!("graphpool-ggml-{}.gguf", std::process::id()));
    // Its header is longer than what is read of it first.
    let mut writer = model("llama", TINY, 8, 3);
    for index in 0..60_000 {
        writer.u32(&format!("key.{index}"), index);
    }
    let file = writer.finish();
    assert!(file.len() > 1_500_000);
    std::fs::write(&path, &file).unwrap();
    let engine = Engine::new(CandleBackend::new());
    engine.register_model("story", ModelSource::path(&path), Encoding::Ggml, Target::Cpu).unwrap();
    let guest = engine.guest();
    let named = guest.load_by_name("story").unwrap();
    let bytes = engine.stats().graph_bytes;
    assert!(bytes < 600_000, "{bytes}");
    // One graph, whoever brings the bytes.
    let given = guest.load(&[&file], Encoding::Ggml, Target::Cpu).unwrap();
    assert_eq!((engine.stats().graphs, engine.stats().graph_bytes), (1, bytes));
    let own = guest.load(&[&self::file()], Encoding::Ggml, Target::Cpu).unwrap();
    assert_eq!(text(&guest, named, "the cat"), text(&guest, own, "the cat"));
    assert_eq!(text(&guest, given, "the cat"), text(&guest, own, "the cat"));
    // Files that are shorter than their tables say, and a file that is no model.
    let long = file.len();
    for (length, kind) in [
        (long - 1, ErrorKind::InvalidEncoding),
        (long / 2, ErrorKind::InvalidEncoding),
        (3, ErrorKind::InvalidEncoding),
        (0, ErrorKind::InvalidEncoding),
    ] {
        std::fs::write(&path, &file[..length]).unwrap();
        let engine = Engine::new(CandleBackend::new());
        engine.register_model("story", ModelSource::path(&path), Encoding::Ggml, Target::Cpu).unwrap();
        assert_eq!(engine.guest().load_by_name("story").unwrap_err().kind(), kind, "{length} bytes");
        assert_eq!(engine.stats().graph_bytes, 0);
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_prompt_is_taken_apart_within_the_limits_of_its_guest() {
    let long = vec![b'a'; 1 << 20];
    let limits = Limits::default();
    for (limits, kind) in [
        (limits, None),
        (limits.with_max_compute_bytes(8 << 20), Some(ErrorKind::TooLarge)),
        (limits.with_max_context_bytes(8 << 20), Some(ErrorKind::TooLarge)),
        (limits.with_max_compute_time(Duration::ZERO), Some(ErrorKind::Timeout)),
    ] {
        let guest = Engine::builder(CandleBackend::new()).with_limits(limits).build().guest();
        let graph = guest.load(&[&file()], Encoding::Ggml, Target::Cpu).unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        let options = br#"{"ctx-size": 4000000}"#;
        let set = |index, text: &[u8]| {
            let length = [u32::try_from(text.len()).unwrap()];
            guest.set_input(context, index, TensorView::new(&length, TensorType::U8, text).unwrap())
        };
        if kind != Some(ErrorKind::Timeout) {
            set(1, options).unwrap();
        }
        match (set(0, if kind == Some(ErrorKind::Timeout) { b"a" } else { &long }), kind) {
            (Ok(()), None) => {
                let counts = String::from_utf8(read(&guest, context, 1)).unwrap();
                assert!(counts.contains(r#""input_tokens":1048576"#), "{counts}");
            }
            (Err(error), Some(kind)) => {
                assert_eq!(error.kind(), kind, "{error}");
                assert!(error.message().starts_with("set_input: "), "{error}");
                // The context is as good as before.
                assert_eq!(guest.get_output(context, 1, &mut [0; 99]).unwrap_err().kind(), ErrorKind::InvalidArgument);
                if kind == ErrorKind::TooLarge {
                    set(0, b"the cat").unwrap();
                    assert!(!read(&guest, context, 1).is_empty());
                }
            }
            (result, kind) => panic!("{result:?}, and not {kind:?}"),
        }
    }
}

#[test]
fn a_text_comes_in_pieces() {
    let engine = Engine::new(CandleBackend::new());
    let guest = engine.guest();
    let graph = guest.load(&[&file()], Encoding::Ggml, Target::Cpu).unwrap();
    let whole = text(&guest, graph, "the hat");
    let context = guest.init_execution_context(graph).unwrap();
    set(&guest, context, 1, OPTIONS.as_bytes());
    set(&guest, context, 0, b"the hat");
    let (mut pieces, mut buffer) = (Vec::new(), [0; 64]);
    loop {
        let step = guest.compute_single(context).unwrap();
        if step != Step::More {
            assert_eq!(step, Step::EndOfSequence);
            break;
        }
        let length = guest.get_output_single(context, 0, &mut buffer).unwrap();
        pieces.extend_from_slice(&buffer[..length]);
    }
    guest.fini_single(context).unwrap();
    assert_eq!(pieces, whole);
}

#[test]
fn guests_of_one_model_share_its_weights_and_not_their_text() {
    let engine = Engine::new(CandleBackend::new());
    engine.register_model("story", ModelSource::bytes(file()), Encoding::Ggml, Target::Cpu).unwrap();
    let alone: Vec<Vec<u8>> = {
        let guest = engine.guest();
        let graph = guest.load_by_name("story").unwrap();
        ["a", "the cat", "in the hat", "and"].map(|prompt| text(&guest, graph, prompt)).into()
    };
    let bytes = engine.stats().graph_bytes;
    let together: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = ["a", "the cat", "in the hat", "and"]
            .map(|prompt| {
                let guest = engine.guest();
                scope.spawn(move || {
                    let graph = guest.load_by_name("story").unwrap();
                    (0..5).map(|_| text(&guest, graph, prompt)).collect::<Vec<_>>()
                })
            })
            .into();
        let texts = threads.into_iter().map(|thread| thread.join().unwrap());
        texts
            .map(|texts| {
                assert!(texts.iter().all(|text| *text == texts[0]));
                texts[0].clone()
            })
            .collect()
    });
    assert_eq!(together, alone);
    assert_eq!(engine.stats().graph_bytes, bytes);
}

#[test]
fn the_candle_backend_passes_the_checks_for_backends_with_a_language_model() {
    let bytes = |text: &str| {
        Tensor::new(vec![u32::try_from(text.len()).unwrap()], TensorType::U8, text.as_bytes().to_vec()).unwrap()
    };
    let sample = Sample::new(file(), Encoding::Ggml, Target::Cpu, vec![bytes("the cat"), bytes(OPTIONS)]);
    // The options are an input, too, and without them each text has a seed of its own.
    sample.with_config(OPTIONS).with_steps().run(&CandleBackend::new()).assert();
}

#[test]
fn a_file_that_is_no_model_is_refused() {
    let guest = Engine::new(CandleBackend::new()).guest();
    let load = |parts: &[&[u8]]| guest.load(parts, Encoding::Ggml, Target::Cpu).unwrap_err().kind();
    assert_eq!(load(&[b"junk"]), ErrorKind::InvalidEncoding);
    assert_eq!(load(&[&file()[..1000]]), ErrorKind::InvalidEncoding);
    assert_eq!(load(&[&file(), b"{", b"}"]), ErrorKind::InvalidEncoding);
    assert_eq!(load(&[&file(), b"{"]), ErrorKind::InvalidEncoding);
    assert_eq!(load(&[&file(), br#"{"mmproj": "/etc/passwd"}"#]), ErrorKind::UnsupportedOperation);
    assert_eq!(
        guest.load(&[&file()], Encoding::Ggml, Target::Gpu).unwrap_err().kind(),
        ErrorKind::UnsupportedOperation
    );
}

/// Bytes of the process, from Linux.
#[cfg(target_os = "linux")]
fn resident(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// The resident memory of `SmolLM2` 135M, if `scripts/fetch_models.sh --all` has fetched it: with one guest, and with 16
/// whose prompts begin in the same way.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "measures its process, so it runs alone, and optimized"]
fn measure_smollm2_memory() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/models/smollm2/model.gguf");
    let Ok(length) = std::fs::metadata(path).map(|file| file.len() as usize) else {
        return println!("skipped: scripts/fetch_models.sh --all has not fetched smollm2");
    };
    // Without the pages of the program's own file, of which more are in memory the more of it has run.
    let before = resident("RssAnon");
    let limits = Limits::default().with_max_compute_time(Duration::from_mins(10));
    let engine = Engine::builder(CandleBackend::new()).with_limits(limits).build();
    engine.register_model("smollm2", ModelSource::path(path), Encoding::Ggml, Target::Cpu).unwrap();
    let graph = |guest: &Guest| guest.load_by_name("smollm2").unwrap();
    let share = |bytes: usize| bytes as f64 / length as f64;
    let first = engine.guest();
    let loaded = graph(&first);
    println!(
        "a file of {length} bytes; peak of the load {:.3}, resident {:.3}, counted {:.3} of that",
        share(resident("VmHWM") - resident("RssFile") - before),
        share(resident("RssAnon") - before),
        share(engine.stats().graph_bytes)
    );
    let system =
        "You are a helpful assistant who answers in one word, and who never says what was not asked for. ".repeat(2);
    let answer = |guest: &Guest, graph, index: usize| {
        let context = guest.init_execution_context(graph).unwrap();
        set(guest, context, 1, br#"{"temp": 0, "n-predict": 1}"#);
        set(guest, context, 0, format!("{system}{index}").as_bytes());
        guest.compute(context).unwrap();
    };
    answer(&first, loaded, 0);
    let one = (resident("RssAnon") - before, engine.stats().context_bytes);
    println!("with one guest {:.3}, {} bytes counted for its context", share(one.0), one.1);
    let guests: Vec<Guest> = (1..16)
        .map(|index| {
            let guest = engine.guest();
            let loaded = graph(&guest);
            answer(&guest, loaded, index);
            guest
        })
        .collect();
    println!(
        "with {} guests {:.3}, {} bytes counted for their contexts",
        guests.len() + 1,
        share(resident("RssAnon") - before),
        engine.stats().context_bytes
    );
}

/// Keeps asking until something that another thread does is done.
fn eventually(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

#[test]
fn graphs_with_configurations_of_guests_share_the_weights() {
    let engine = Engine::new(CandleBackend::new());
    let source = ModelSource::bytes(file()).with_config(r#"{"ctx-size": 100}"#).with_guest_configs(8);
    engine.register_model("story", source, Encoding::Ggml, Target::Cpu).unwrap();
    let (one, two) = (engine.guest(), engine.guest());
    // The first load is one with a configuration.
    let short = one.load_by_name_with_config("story", r#"{"ctx-size": 64}"#).unwrap();
    let bytes = engine.stats().graph_bytes;
    // Less than the smallest matrix of the weights for each further graph.
    let of_graph = 4096;
    let warm = two.load_by_name_with_config("story", r#"{"temp": 0.2, "ctx-size": 32}"#).unwrap();
    let turned = two.load_by_name_with_config("story", r#"{"rope-freq-scale": 0.25, "cache-ram": 0}"#).unwrap();
    let own = two.load_by_name("story").unwrap();
    let stats = engine.stats();
    assert_eq!(stats.graphs, 4);
    assert!(stats.graph_bytes <= bytes + 2 * of_graph, "{} and {bytes} bytes", stats.graph_bytes);
    let listed = engine.list_models()[0].graph.as_ref().unwrap().bytes;
    assert!(bytes > listed && bytes <= listed + of_graph, "{bytes} bytes, {listed} of them the model's own");
    // The configuration of the host is the model's own graph.
    let same = one.load_by_name_with_config("story", r#"{"ctx-size": 100}"#).unwrap();
    assert_eq!(engine.stats().graphs, 4);
    // What a load from bytes gives with the same options.
    let alone = Engine::new(CandleBackend::new()).guest();
    let loaded = |config: &str| alone.load(&[&file(), config.as_bytes()], Encoding::Ggml, Target::Cpu).unwrap();
    let (plain, scaled) = (loaded("{}"), loaded(r#"{"rope-freq-scale": 0.25}"#));
    let prompt = "the cat in the hat";
    let expected = text(&alone, plain, prompt);
    for (guest, graph) in [(&one, short), (&two, warm), (&two, own), (&one, same)] {
        assert_eq!(text(guest, graph, prompt), expected);
    }
    let options = OPTIONS.replace('}', r#", "rope-freq-scale": 0.25}"#);
    let turned_text = text_with(&two, turned, &options, prompt);
    assert_eq!(turned_text, text_with(&alone, scaled, &options, prompt));
    assert_ne!(turned_text, expected);
    // Its options hold, too: a context of 32 tokens.
    let context = two.init_execution_context(warm).unwrap();
    set(&two, context, 0, &[b'a'; 40]);
    assert_eq!(two.compute(context).unwrap_err().kind(), ErrorKind::PromptTooLong);
    // The weights stay while any of the graphs does.
    drop(two);
    engine.remove_model("story").unwrap();
    eventually(|| (engine.stats().graphs, engine.stats().graph_bytes) == (2, bytes));
    assert_eq!(text(&one, short, prompt), expected);
    drop(one);
    eventually(|| (engine.stats().graphs, engine.stats().graph_bytes) == (0, 0));
}

#[test]
fn a_configuration_of_a_guest_takes_no_more_for_pages_than_the_model() {
    let load = |host: &str, config: &str| {
        let engine = Engine::new(CandleBackend::new());
        let source = ModelSource::bytes(file()).with_config(host).with_guest_configs(8);
        engine.register_model("story", source, Encoding::Ggml, Target::Cpu).unwrap();
        let guest = engine.guest();
        guest.load_by_name("story").unwrap();
        let before = engine.stats().graph_bytes;
        guest.load_by_name_with_config("story", config).unwrap();
        engine.stats().graph_bytes - before
    };
    // A mebibyte, none, and what guests make of it.
    assert!(load(r#"{"cache-ram": 1}"#, r#"{"cache-ram": 1000000}"#) < (1 << 20) + 4096);
    assert!(load(r#"{"cache-ram": 0}"#, r#"{"cache-ram": 1000000}"#) < 4096);
    assert!(load(r#"{"cache-ram": 1}"#, r#"{"temp": 0}"#) < 4096);
}
