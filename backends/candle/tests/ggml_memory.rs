//! Measures the memory of language models with a counting allocator.
//!
//! A graph reports the memory that it takes, a load never takes more than its limit at any time, whatever its file is,
//! and a session never more than the limits of its computes. The file has one test, so that nothing else allocates in
//! its process.

#![allow(missing_docs, reason = "a test")]

mod counting;
#[path = "../src/tests/gguf/writer.rs"]
#[allow(dead_code, reason = "unit tests use the rest")]
mod writer;

use counting::{live, peak_of};
use graphpool::backend::{
    Backend as _, BackendGraph, ComputeControl, Encoding, Error, LoadRequest, ModelFile, Target, TensorType, TensorView,
};
use graphpool_candle::CandleBackend;
use writer::{Chance, Sizes, TINY, array, model, string};

/// The tolerance: messages, names, and tables of fixed size.
const TOLERANCE: usize = 64 << 10;

fn load(file: &[u8], limit: usize) -> Result<Box<dyn BackendGraph>, Error> {
    let parts = [file];
    CandleBackend::new().load(&LoadRequest::new(&parts, Encoding::Ggml, Target::Cpu).with_memory_limit(limit))
}

/// Files whose memory is mostly of one kind, with the name of the kind.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let sizes = Sizes { layers: 3, width: 128, heads: 4, kv_heads: 2, head_dim: 32, hidden: 512, context: 4096 };
    let mut tokens = model("llama", TINY, 8, 1);
    let many: Vec<Vec<u8>> = (0..20_000).map(|index| string(format!("{index:06}").as_bytes())).collect();
    tokens.set("tokenizer.ggml.tokens", 9, array(8, &many));
    tokens.set("tokenizer.ggml.token_type", 9, array(5, &vec![vec![1, 0, 0, 0]; 20_000]));
    let embedding = tokens.find("token_embd.weight");
    embedding.1 = vec![32, 20_000];
    embedding.3 = vec![0; 20_000 * 34];
    let mut keys = model("llama", TINY, 8, 1);
    for index in 0..20_000 {
        keys.u32(&format!("k{index}"), index);
    }
    vec![
        ("weights of 8 bits", model("llama", sizes, 8, 1).finish()),
        ("weights of 16 bits", model("gemma3", sizes, 1, 1).finish()),
        ("weights of 32 bits", model("phi3", sizes, 0, 1).finish()),
        ("tokens", tokens.finish()),
        ("keys", keys.finish()),
    ]
}

#[test]
fn loads_and_sessions_stay_within_their_limits() {
    // The first load creates tables that live as long as the process.
    load(&model("llama", TINY, 8, 1).finish(), usize::MAX).unwrap();
    for (name, file) in files() {
        let before = live();
        let graph = load(&file, usize::MAX).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (allocated, reported) = (live() - before, graph.memory());
        // A tokenizer counts what it needs while it is made, too.
        let right = allocated - allocated / 5 <= reported + TOLERANCE && reported <= allocated / 2 * 3 + 8 * TOLERANCE;
        assert!(right, "{name}: {allocated} allocated, {reported} reported");
        println!("{name}: a file of {} bytes, {allocated} bytes allocated, {reported} reported", file.len());
        // The prompt has no tokens in the other vocabularies.
        if name.starts_with("weights") {
            sessions(name, &*graph);
        }
        drop(graph);
        from_a_file(name, &file);
        assert!(live() <= before + 1024, "{name} leaks memory");

        let (mut limit, mut loaded) = (reported / 4, false);
        while !loaded {
            let (result, peak) = peak_of(|| load(&file, limit).map(drop));
            assert!(peak <= limit + TOLERANCE, "{name}: {peak} bytes at a limit of {limit}");
            loaded = result.is_ok();
            limit += limit / 4 + 1;
        }
    }
    let (file, limit) = (model("llama", TINY, 8, 1).finish(), 1 << 19);
    let mut chance = Chance(5);
    for _ in 0..400 {
        let mut changed = file.clone();
        for _ in 0..=chance.below(3) {
            // In the metadata and the table, where numbers matter.
            let at = chance.below(changed.len() as u64 / 4) as usize;
            changed[at] = if chance.below(2) == 0 { 0xff } else { chance.next() as u8 };
        }
        let (_, peak) = peak_of(|| load(&changed, limit).map(drop));
        assert!(peak <= limit + TOLERANCE, "{peak} bytes at a limit of {limit}");
    }
}

/// A file is not in memory as a whole while it is loaded.
fn from_a_file(name: &str, file: &[u8]) {
    let path = std::env::temp_dir().join(format!("graphpool-ggml-memory-{}", std::process::id()));
    std::fs::write(&path, file).unwrap();
    {
        let file = ModelFile::open(&path).unwrap();
        let config = r#"{"cache-ram": 0}"#;
        let request = LoadRequest::new(&[], Encoding::Ggml, Target::Cpu).with_file(&file).with_config(config);
        let (graph, peak) = peak_of(|| CandleBackend::new().load(&request));
        let bytes = graph.unwrap_or_else(|error| panic!("{name}: {error}")).memory();
        // The header, which is read up to where the tensors begin, and a piece of the tensors.
        let header = if name.starts_with("weights") { 1 << 20 } else { 2 << 20 };
        let most = bytes + header + (1 << 20) + TOLERANCE;
        println!("{name}: {peak} bytes at the peak of a load from a file, {bytes} of the graph");
        assert!(peak <= most, "{name}: {peak} bytes at the peak, {bytes} of the graph");
    }
    std::fs::remove_file(path).unwrap();
}

/// A session reports what it takes, and its computes take no more than their limit.
fn sessions(name: &str, graph: &dyn BackendGraph) {
    let before = live();
    let mut context = graph.init_context().unwrap();
    let set = |context: &mut dyn graphpool::backend::BackendContext, index, text: &[u8]| {
        let length = [u32::try_from(text.len()).unwrap()];
        context.set_input(index, TensorView::new(&length, TensorType::U8, text).unwrap()).unwrap();
    };
    let prompt = "0123456789".repeat(10);
    set(&mut *context, 1, br#"{"temp": 0, "n-predict": 8, "ctx-size": 1024}"#);
    set(&mut *context, 0, prompt.as_bytes());
    let (mut limit, mut computed) = (1 << 14, false);
    while !computed {
        let held = live() - before;
        let control = ComputeControl::default().with_memory_limit(limit);
        let (result, peak) = peak_of(|| context.compute(&control));
        computed = result.is_ok();
        assert!(held + peak <= limit + TOLERANCE, "{name}: {held} and {peak} bytes at a limit of {limit}");
        let (allocated, reported) = (live() - before, context.memory());
        let difference = reported.abs_diff(allocated);
        assert!(difference <= allocated / 5 + 4096, "{name}: {allocated} allocated, {reported} reported");
        limit += limit / 4;
    }
    println!("{name}: a session takes {} bytes", context.memory());
}
