//! Texts that follow grammars of the host's: what they are, how they end, and what is refused.

use super::{TINY, model};
use crate::grammar::Grammars;
use crate::text::strings::StringList;
use crate::text::tokenizer::Tokenizer;
use crate::text::vocabulary::Vocabulary;
use crate::{CandleBackend, Grammar};
use graphpool::backend::{
    Backend as _, BackendContext, BackendGraph, CancelToken, ComputeControl, Encoding, Error, ErrorKind, LoadRequest,
    Step, Target, TensorType, TensorView,
};
use serde_json::Value;
use std::thread;
use std::time::Instant;

const PERSON: &str = r#"{
    "x-guidance": { "whitespace_flexible": false },
    "type": "object",
    "properties": {
        "name": { "type": "string", "maxLength": 6 },
        "age": { "type": "integer", "minimum": 0, "maximum": 120 },
        "moods": { "type": "array", "items": { "enum": ["glad", "sorry"] }, "maxItems": 2 }
    },
    "required": ["name", "age", "moods"],
    "additionalProperties": false
}"#;

const TURN: &str = "start: \"said \" who <|turn|>\nwho: \"Emma\" | \"Anne\" | \"Elizabeth\"";

/// With all grammars of the tests.
fn backend() -> CandleBackend {
    let wide: String = (0..2500).flat_map(|n| [" | \"".to_owned(), n.to_string(), "!\"".to_owned()]).collect();
    let grammars = [
        ("person", Grammar::json_schema(PERSON)),
        ("code", Grammar::regex("[a-f]{2,4}(-[0-9]{1,2})?;")),
        ("word", Grammar::regex("[a-z]+")),
        ("who", Grammar::lark("start: \"said \" who \".\"\nwho: \"Emma\" | \"Anne\" | \"Elizabeth\"")),
        ("turn", Grammar::lark(TURN)),
        ("nothing", Grammar::lark("start: \"\"")),
        ("wide", Grammar::lark(format!("start: \"x\" many\nmany: \"y\"{wide}"))),
    ];
    let mut backend = CandleBackend::new();
    for (name, grammar) in grammars {
        backend = backend.with_grammar(name, &grammar).unwrap();
    }
    backend
}

fn load_with(backend: &CandleBackend, file: &[u8], config: &str, limit: usize) -> Result<Box<dyn BackendGraph>, Error> {
    let parts: [&[u8]; 1] = [file];
    let request = LoadRequest::new(&parts, Encoding::Ggml, Target::Cpu).with_memory_limit(limit);
    backend.load(&request.with_config((!config.is_empty()).then_some(config)))
}

fn load(file: &[u8]) -> Box<dyn BackendGraph> {
    load_with(&backend(), file, "", usize::MAX).unwrap()
}

fn tiny() -> Vec<u8> {
    model("llama", TINY, 8, 2).finish()
}

fn austen() -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/austen/austen.gguf");
    std::fs::read(path).unwrap()
}

fn set(context: &mut dyn BackendContext, index: usize, text: &str) -> Result<(), Error> {
    let length = [u32::try_from(text.len()).unwrap()];
    context.set_input(index, TensorView::new(&length, TensorType::U8, text.as_bytes()).unwrap())
}

fn context(graph: &dyn BackendGraph, options: &str) -> Box<dyn BackendContext> {
    let mut context = graph.init_context().unwrap();
    set(&mut *context, 1, options).unwrap();
    set(&mut *context, 0, "It was a fine day").unwrap();
    context
}

/// The text of a context, or the error of its compute.
fn run(context: &mut dyn BackendContext) -> Result<String, Error> {
    context.compute(&ComputeControl::default())?;
    Ok(String::from_utf8(context.output(0).unwrap().data().to_vec()).expect("UTF-8"))
}

fn text(graph: &dyn BackendGraph, options: &str) -> String {
    run(&mut *context(graph, options)).unwrap()
}

/// Options with a grammar, for several seeds and temperatures, and further keys.
fn options(grammar: &str) -> Vec<String> {
    let mut all = Vec::new();
    for more in ["", r#", "mirostat": 2"#, r#", "top-k": 0, "typ-p": 0.5"#, r#", "ignore-eos": true"#] {
        for (temperature, seed) in [(0.0, 1), (0.7, 2), (2.0, 3), (1e9, 4)] {
            all.push(format!(r#"{{"grammar": "{grammar}", "temp": {temperature}, "seed": {seed}{more}}}"#));
        }
    }
    all
}

fn assert_person(text: &str) {
    let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let object = json.as_object().unwrap();
    assert!(object.keys().all(|key| ["name", "age", "moods"].contains(&key.as_str())), "{text}");
    assert!(object["name"].as_str().unwrap().chars().count() <= 6, "{text}");
    assert!(object["age"].as_u64().unwrap() <= 120, "{text}");
    let moods = object["moods"].as_array().unwrap();
    assert!(moods.len() <= 2 && moods.iter().all(|mood| mood == "glad" || mood == "sorry"), "{text}");
}

/// Whether a text matches `[a-f]{2,4}(-[0-9]{1,2})?;`.
fn is_code(text: &str) -> bool {
    let Some(text) = text.strip_suffix(';') else { return false };
    let (letters, digits) = text.split_once('-').map_or((text, None), |(letters, digits)| (letters, Some(digits)));
    let digits_match = |digits: &str| (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    (2..=4).contains(&letters.len())
        && letters.bytes().all(|b| (b'a'..=b'f').contains(&b))
        && digits.is_none_or(digits_match)
}

#[test]
fn texts_follow_their_grammar_whatever_the_model_and_the_sampler_are() {
    for file in [tiny(), model("gemma3", TINY, 8, 5).finish(), austen()] {
        let graph = load(&file);
        let mut texts = Vec::new();
        for options in options("person") {
            let text = text(&*graph, &options);
            assert_person(&text);
            texts.push(text);
        }
        for options in options("code") {
            let text = text(&*graph, &options);
            assert!(is_code(&text), "{text:?}");
            texts.push(text);
        }
        for options in options("who") {
            let text = text(&*graph, &options);
            assert!(["said Emma.", "said Anne.", "said Elizabeth."].contains(&&*text), "{text:?}");
        }
        texts.sort_unstable();
        texts.dedup();
        assert!(texts.len() > 8, "the model and the sampler choose among what is allowed: {texts:?}");
    }
}

#[test]
fn a_text_is_the_same_for_a_seed_and_ends_where_nothing_may_follow() {
    let graph = load(&austen());
    let options = r#"{"grammar": "who", "seed": 5, "temp": 1.5}"#;
    assert_eq!(text(&*graph, options), text(&*graph, options));
    // The end comes with the last token, and without a pass for a further one.
    let mut context = context(&*graph, options);
    let (mut pieces, mut steps) = (Vec::new(), 0);
    while context.step(&ComputeControl::default()).unwrap() == Step::More {
        pieces.extend_from_slice(context.step_output(0).unwrap().data());
        steps += 1;
    }
    assert_eq!(String::from_utf8(pieces).unwrap(), text(&*graph, options));
    let counts: Value = serde_json::from_slice(context.output(1).unwrap().data()).unwrap();
    assert_eq!(counts["output_tokens"].as_u64(), Some(steps));
    // Complete before the first token.
    assert_eq!(text(&*graph, r#"{"grammar": "nothing"}"#), "");
    assert_eq!(text(&*graph, r#"{"grammar": "nothing", "ignore-eos": true}"#), "");
}

#[test]
fn a_text_is_cut_by_what_cuts_any_text() {
    let graph = load(&austen());
    let whole = text(&*graph, r#"{"grammar": "person", "temp": 0}"#);
    let cut = text(&*graph, r#"{"grammar": "person", "temp": 0, "n-predict": 4}"#);
    assert!(whole.starts_with(&cut) && cut.len() < whole.len(), "{cut} of {whole}");
    let stopped = text(&*graph, r#"{"grammar": "person", "temp": 0, "reverse-prompt": "\"age\""}"#);
    assert_eq!(whole.split_once("\"age\"").unwrap().0, stopped);
    // What is held back for a stop string belongs to the text that is complete.
    let held = text(&*graph, r#"{"grammar": "person", "temp": 0, "reverse-prompt": "}and more"}"#);
    assert_eq!(held, whole);
    // `[a-z]+` never ends by itself, and the model's end is none of what `ignore-eos` lets it choose.
    let word = text(&*graph, r#"{"grammar": "word", "temp": 0.9, "seed": 4, "n-predict": 30, "ignore-eos": true}"#);
    assert!(word.len() >= 30 && word.bytes().all(|b| b.is_ascii_lowercase()), "{word:?}");
    let mut context = context(&*graph, r#"{"grammar": "word", "temp": 0.9, "ctx-size": 16, "ignore-eos": true}"#);
    assert_eq!(run(&mut *context).unwrap_err().kind(), ErrorKind::ContextFull);
}

#[test]
fn a_cancelled_step_is_made_again() {
    let graph = load(&austen());
    let whole = text(&*graph, r#"{"grammar": "person", "temp": 0.9, "seed": 8}"#);
    let mut context = context(&*graph, r#"{"grammar": "person", "temp": 0.9, "seed": 8}"#);
    let cancel = CancelToken::default();
    cancel.cancel();
    let cancelled = ComputeControl::default().with_cancel(cancel);
    let mut pieces = Vec::new();
    loop {
        assert_eq!(context.step(&cancelled).err().map(|error| error.kind()), {
            // The end needs no pass, and can't be cancelled.
            (pieces.len() < whole.len()).then_some(ErrorKind::RuntimeError)
        });
        if context.step(&ComputeControl::default()).unwrap() != Step::More {
            break;
        }
        pieces.extend_from_slice(context.step_output(0).unwrap().data());
    }
    assert_eq!(String::from_utf8(pieces).unwrap(), whole);
}

#[test]
fn a_context_takes_another_prompt_and_another_grammar() {
    let graph = load(&austen());
    let mut context = context(&*graph, r#"{"grammar": "person", "temp": 0}"#);
    let free = r#"{"temp": 0, "n-predict": 12}"#;
    let first = run(&mut *context).unwrap();
    assert_person(&first);
    set(&mut *context, 0, "Anne was sorry, and so").unwrap();
    assert_person(&run(&mut *context).unwrap());
    set(&mut *context, 1, r#"{"grammar": "code", "temp": 0}"#).unwrap();
    assert!(is_code(&run(&mut *context).unwrap()));
    set(&mut *context, 0, "It was a fine day").unwrap();
    set(&mut *context, 1, free).unwrap();
    assert_eq!(
        run(&mut *context).unwrap(),
        text(&*load_with(&CandleBackend::new(), &austen(), "", usize::MAX).unwrap(), free)
    );
    set(&mut *context, 1, r#"{"grammar": "person", "temp": 0}"#).unwrap();
    assert_eq!(run(&mut *context).unwrap(), first);
    // Refused options leave those of before.
    set(&mut *context, 1, r#"{"grammar": "persons", "temp": 0}"#).unwrap_err();
    assert_eq!(run(&mut *context).unwrap(), first);
    context.clear_inputs();
    set(&mut *context, 0, "It was a fine day").unwrap();
    set(&mut *context, 1, free).unwrap();
    run(&mut *context).unwrap();
}

#[test]
fn sessions_side_by_side_have_the_texts_that_they_have_alone() {
    let graph = load(&austen());
    let mut all = Vec::new();
    for seed in 0..3 {
        for grammar in ["person", "code", "", "who"] {
            all.push(format!(r#"{{"grammar": "{grammar}", "temp": 0.9, "seed": {seed}, "n-predict": 24}}"#));
        }
    }
    let alone: Vec<String> = all.iter().map(|options| text(&*graph, options)).collect();
    // The grammars are compiled anew, by whoever comes first.
    let graph = load(&austen());
    let beside: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|options| scope.spawn(|| text(&*graph, options))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(beside, alone);
}

#[test]
fn guests_name_grammars_of_the_host_and_bring_none() {
    let graph = load(&tiny());
    let mut context = context(&*graph, "{}");
    let mut error = |options: &str| set(&mut *context, 1, options).unwrap_err();
    let unknown = error(r#"{"grammar": "root ::= \"x\""}"#);
    assert_eq!(unknown.kind(), ErrorKind::UnsupportedOperation);
    assert!(unknown.message().starts_with("the host has no grammar of the name 'root ::= \"x\"'"), "{unknown}");
    let schema = error(r#"{"json-schema": "{}"}"#);
    assert_eq!(schema.kind(), ErrorKind::UnsupportedOperation);
    assert!(schema.message().contains("'grammar' names a grammar of the host's"), "{schema}");
    assert_eq!(error(r#"{"grammar": ["person"]}"#).kind(), ErrorKind::InvalidArgument);
    for none in [r#"{"grammar": ""}"#, r#"{"grammar": null}"#, r#"{"grammar": false, "json-schema": ""}"#] {
        set(&mut *context, 1, none).unwrap();
    }
    // In the configuration of a model, where an input's empty name lifts it.
    let error = load_with(&backend(), &tiny(), r#"{"grammar": "persons"}"#, usize::MAX).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    let graph = load_with(&backend(), &austen(), r#"{"grammar": "code", "n-predict": 12}"#, usize::MAX).unwrap();
    assert!(is_code(&text(&*graph, "{}")));
    assert!(!is_code(&text(&*graph, r#"{"grammar": ""}"#)));
}

#[test]
fn mistakes_are_found_when_a_grammar_is_registered() {
    for (grammar, why) in [
        (Grammar::lark("start: \"a"), ""),
        (Grammar::lark("start: other"), "other"),
        (Grammar::lark("begin: \"a\""), "start"),
        (Grammar::lark(""), ""),
        (Grammar::regex("[a-"), ""),
        (Grammar::regex("a(?=b)"), ""),
        (Grammar::json_schema("{"), "not JSON"),
        (Grammar::json_schema(r#"{"type": "strings"}"#), "strings"),
        (Grammar::json_schema(r#"{"type": "object", "dependentSchemas": {}}"#), "dependentSchemas"),
    ] {
        let Err(error) = CandleBackend::new().with_grammar("mine", &grammar) else { panic!("{grammar:?}") };
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let message = error.message();
        assert!(message.starts_with("the grammar 'mine' has a mistake: ") && message.contains(why), "{message}");
        assert!(!message.contains(['\n', '\r']), "{message}");
    }
    let error = CandleBackend::new().with_grammar("", &Grammar::regex("a")).unwrap_err();
    assert!(error.message().contains("name is empty"), "{error}");
    let error = backend().with_grammar("who", &Grammar::regex("a")).unwrap_err();
    assert!(error.message().contains("two grammars of the name 'who'"), "{error}");
}

#[test]
fn names_of_control_tokens_stand_for_them() {
    // The small models have the token, austen does not.
    let text = text(&*load(&tiny()), r#"{"grammar": "turn", "temp": 0}"#);
    assert!(text.starts_with("said ") && text.ends_with("<|turn|>"), "{text:?}");
    let error = run(&mut *context(&*load(&austen()), r#"{"grammar": "turn"}"#)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(error.message().starts_with("the grammar 'turn' can't be used here: "), "{error}");
    // As bytes, no text has it.
    let backend = CandleBackend::new().with_grammar("bytes", &Grammar::lark("start: \"<|turn|>\"")).unwrap();
    let graph = load_with(&backend, &tiny(), r#"{"grammar": "bytes"}"#, usize::MAX).unwrap();
    let mut context = context(&*graph, "{}");
    assert_eq!(run(&mut *context).unwrap(), "<|turn|>");
    let counts: Value = serde_json::from_slice(context.output(1).unwrap().data()).unwrap();
    assert_eq!(counts["output_tokens"].as_u64(), Some(8));
}

#[test]
fn a_grammar_that_needs_too_many_steps_is_an_error_of_its_session() {
    let graph = load(&tiny());
    let mut wide = context(&*graph, r#"{"grammar": "wide"}"#);
    for _ in 0..2 {
        let error = run(&mut *wide).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.message().starts_with("the grammar 'wide' needs too many steps"), "{error}");
    }
    set(&mut *wide, 1, r#"{"grammar": "code"}"#).unwrap();
    assert!(is_code(&run(&mut *wide).unwrap()));
}

#[test]
fn grammars_count_as_memory_of_graphs_and_of_sessions() {
    let memory = |backend: &CandleBackend, limit| load_with(backend, &tiny(), "", limit).map(|graph| graph.memory());
    let backend = backend().with_shared_prompts(false);
    let without = memory(&CandleBackend::new().with_shared_prompts(false), usize::MAX).unwrap();
    let with = memory(&backend, usize::MAX).unwrap();
    assert!(with > without + (1 << 18), "{with} {without}");
    assert_eq!(memory(&backend, with), Ok(with));
    assert_eq!(memory(&backend, with - 1).unwrap_err().kind(), ErrorKind::TooLarge);
    // The first room that is enough for a session is more than that of one without.
    let graph = load_with(&backend, &tiny(), "", usize::MAX).unwrap();
    let room = |options: &str| {
        (12..40).map(|power| 1 << power).find(|&room| {
            let control = ComputeControl::default().with_context_memory_limit(room);
            match context(&*graph, options).compute(&control) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
                    false
                }
            }
        })
    };
    assert!(room(r#"{"grammar": "person", "temp": 0}"#) > room(r#"{"temp": 0, "n-predict": 30}"#));
    let mut context = context(&*graph, r#"{"grammar": "person", "temp": 0}"#);
    let mut sizes = Vec::new();
    while context.step(&ComputeControl::default()).unwrap() == Step::More {
        sizes.push(context.memory());
    }
    assert!(sizes.windows(2).filter(|two| two[1] > two[0]).count() * 2 > sizes.len(), "{sizes:?}");
}

/// A tokenizer of these tokens, the last of which ends an answer.
fn tokenizer(tokens: &[Vec<u8>]) -> Tokenizer {
    let texts: StringList = tokens.iter().map(Vec::as_slice).collect();
    let merges: StringList = [&b"a b"[..]].into_iter().collect();
    let eos = Some(tokens.len() as u32 - 1);
    let model = "gpt2".to_owned();
    Tokenizer::new(Vocabulary { model, tokens: texts, merges, eos, ..Vocabulary::default() }).unwrap()
}

fn allowed(matcher: &mut crate::grammar::Matcher) -> (Vec<u32>, bool) {
    let allowed = matcher.allowed().unwrap();
    let has = |token: &u32| allowed.tokens.get(*token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
    ((0..allowed.tokens.len() as u32 * 32).filter(has).collect(), allowed.may_end)
}

fn grammars(grammar: &Grammar) -> Grammars {
    let mut grammars = Grammars::new();
    grammars.add("it", grammar).unwrap();
    grammars
}

#[test]
fn a_vocabulary_without_the_tokens_of_a_grammar_is_an_error() {
    let tokens: Vec<Vec<u8>> = ["a", "b", "ab", "!"].iter().map(|text| text.as_bytes().to_vec()).collect();
    let tokenizer = tokenizer(&tokens);
    let of_graph = grammars(&Grammar::regex("ab+(z|a)")).of_graph();
    let mut matcher = of_graph.matcher("it", &tokenizer, 4, |_| Ok(())).unwrap();
    assert_eq!(allowed(&mut matcher), (vec![0, 2], false));
    assert_eq!(matcher.take(2), Ok(false));
    assert_eq!(allowed(&mut matcher), (vec![0, 1], false));
    assert_eq!(matcher.take(0), Ok(true));
    // The last token is the end, not text.
    let of_graph = grammars(&Grammar::regex("ab(!|z)")).of_graph();
    let mut matcher = of_graph.matcher("it", &tokenizer, 4, |_| Ok(())).unwrap();
    assert_eq!(matcher.take(2), Ok(false));
    for _ in 0..2 {
        let error = matcher.allowed().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::RuntimeError);
        assert_eq!(error.message(), "no token of the model fits the grammar 'it' after 2 bytes");
    }
    // The end is allowed where the text may end, and tokens that the model has no logits for never are.
    let of_graph = grammars(&Grammar::regex("a(ba)*")).of_graph();
    let mut matcher = of_graph.matcher("it", &tokenizer, 4, |_| Ok(())).unwrap();
    assert_eq!(matcher.take(0), Ok(false));
    assert_eq!(allowed(&mut matcher), (vec![1, 3], true));
    let of_graph = grammars(&Grammar::regex("(ab)+")).of_graph();
    let mut matcher = of_graph.matcher("it", &tokenizer, 2, |_| Ok(())).unwrap();
    assert_eq!(allowed(&mut matcher), (vec![0], false));
    // The room is asked for, and a refusal passed on.
    let error = of_graph.matcher("it", &tokenizer, 2, |bytes| Err(Error::too_large(bytes.to_string()))).unwrap_err();
    assert!(error.message().parse::<usize>().unwrap() > 1000, "{error}");
}

#[test]
fn hostile_vocabularies_are_used_as_far_as_they_go_or_refused() {
    // Long tokens, equal ones, and such with bytes that are in no text.
    let mut tokens = vec![b"a".to_vec(), vec![b'a'; 256], vec![b'a'; 257], vec![b'a'; 1 << 14], Vec::new()];
    tokens.extend([vec![0xff], vec![b'a', 0xff], vec![b'a', 0xfe], vec![0xff, b'[', b'0', b']']]);
    tokens.extend(std::iter::repeat_n(b"aa".to_vec(), 50_000));
    tokens.push(b"a".to_vec());
    let tokenizer = tokenizer(&tokens);
    let of_graph = grammars(&Grammar::regex("a+")).of_graph();
    let mut matcher = of_graph.matcher("it", &tokenizer, tokens.len(), |_| Ok(())).unwrap();
    assert_eq!(allowed(&mut matcher), (vec![0, 1, 9], false));
    assert_eq!(matcher.take(1), Ok(false));
    // More text than a tree has nodes for.
    let tokens: Vec<Vec<u8>> = (0..20_000).map(|n| format!("{n:0256}").into_bytes()).collect();
    let tokenizer = self::tokenizer(&tokens);
    let of_graph = grammars(&Grammar::regex("a+")).of_graph();
    let error = of_graph.matcher("it", &tokenizer, tokens.len(), |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(error.message().contains("too many for a grammar"), "{error}");
}

/// Bytes of the process that are in memory, where Linux says so.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).map_or(0, |pages| pages * 4096)
}

/// With the vocabulary of `SmolLM2`: 49,152 tokens. Tokens are drawn from those that are allowed, with the same chance.
#[test]
#[ignore = "it measures"]
fn grammars_are_timed() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/models/smollm2/model.gguf");
    let Ok(file) = std::fs::read(path) else {
        return println!("scripts/fetch_models.sh --all has not fetched smollm2");
    };
    let graph = super::LanguageGraph::load(&file, b"", b"", usize::MAX).unwrap();
    let (tokenizer, tokens) = (&graph.shared().tokenizer, graph.shared().model.hyper.vocabulary);
    let free = r#"{"type": "object", "properties": {"name": {"type": "string"}, "text": {"type": "string"}},
        "required": ["name", "text"], "additionalProperties": false}"#;
    let mut of_all = Grammars::new();
    for (name, grammar) in [
        ("a schema with bounds", Grammar::json_schema(PERSON)),
        ("a schema of free strings", Grammar::json_schema(free)),
        ("any JSON", Grammar::json_schema("{}")),
        ("a regular expression", Grammar::regex("[a-z]{3,9}( [a-z]{3,9}){20}")),
        ("words and brackets", Grammar::lark("start: item+\nitem: /[a-z ]+/ | \"(\" item+ \")\" | \"[\" item+ \"]\"")),
    ] {
        let start = Instant::now();
        of_all.add(name, &grammar).unwrap();
        println!("{name}: registered in {:?}", start.elapsed());
    }
    println!("counted for the graph: {} bytes", of_all.memory(tokenizer, tokens));
    let of_graph = of_all.of_graph();
    let (before, start) = (resident(), Instant::now());
    of_graph.matcher("any JSON", tokenizer, tokens, |_| Ok(())).unwrap();
    println!("tree: {:?}, about {} bytes", start.elapsed(), resident() - before);
    for name in of_all.names() {
        let start = Instant::now();
        let mut matcher = of_graph.matcher(name, tokenizer, tokens, |_| Ok(())).unwrap();
        let first = start.elapsed();
        let start = Instant::now();
        drop(of_graph.matcher(name, tokenizer, tokens, |_| Ok(())).unwrap());
        let again = start.elapsed();
        let (mut masks, mut takes, mut chance) = (Vec::new(), Vec::new(), super::Chance(7));
        for _ in 0..2000 {
            let start = Instant::now();
            let (tokens, may_end) = match matcher.allowed() {
                Ok(next) => (next.tokens, next.may_end),
                Err(error) => {
                    println!("{error}");
                    break;
                }
            };
            masks.push(start.elapsed());
            let allowed: Vec<u32> = (0..tokens.len() as u32 * 32)
                .filter(|token| tokens[*token as usize / 32] >> (token % 32) & 1 == 1 && !tokenizer.is_end(*token))
                .collect();
            if allowed.is_empty() {
                assert!(may_end);
                break;
            }
            let token = allowed[chance.below(allowed.len() as u64) as usize];
            let start = Instant::now();
            let complete = matcher.take(token).unwrap();
            takes.push(start.elapsed());
            if complete {
                break;
            }
        }
        masks.sort_unstable();
        takes.sort_unstable();
        let middle = masks[masks.len() / 2];
        let (count, longest, take) = (masks.len(), masks[masks.len() - 1], takes[takes.len() / 2]);
        println!(
            "{name}: first session {first:?}, another {again:?}; {count} masks, {middle:?} in the middle, {longest:?} at \
             most, a token taken in {take:?}; a state of {} bytes",
            matcher.memory()
        );
    }
}
