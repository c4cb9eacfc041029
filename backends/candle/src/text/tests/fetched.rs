//! The tokens of llama.cpp: for its own texts, in each vocabulary for which it has some, and for random texts where
//! `scripts/record_tokens.py` has recorded them.

use super::gguf::vocabulary;
use crate::text::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

/// Vocabularies of models that are not served: BERT, which reads a text and writes none.
const UNSUPPORTED: [&str; 1] = ["bert-bge"];

const MARK: &str = "\n__ggml_vocab_test__\n";

/// The folder of `scripts/fetch_vocabularies.sh`, or `None` with a message that the test is skipped.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/vocabularies");
    if folder.join("LICENSE").exists() {
        return Some(folder);
    }
    eprintln!("skipped: no vocabularies in .cache/vocabularies, where scripts/fetch_vocabularies.sh puts them");
    None
}

/// The vocabularies that have texts, by name.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            Some(name.strip_prefix("ggml-vocab-")?.strip_suffix(".gguf.inp")?.to_owned())
        })
        .collect();
    names.retain(|name| !UNSUPPORTED.contains(&name.as_str()));
    names.sort();
    assert_eq!(names.len(), 14);
    names
}

fn tokenizer(folder: &Path, name: &str) -> Tokenizer {
    let file = std::fs::read(folder.join(format!("ggml-vocab-{name}.gguf"))).unwrap();
    Tokenizer::new(vocabulary(&file)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn a_vocabulary_of_bert_is_refused_by_name() {
    let Some(folder) = folder() else { return };
    for name in UNSUPPORTED {
        let file = std::fs::read(folder.join(format!("ggml-vocab-{name}.gguf"))).unwrap();
        let error = Tokenizer::new(vocabulary(&file)).unwrap_err();
        assert_eq!(error.message(), "the tokenizer 'bert' is not supported");
    }
}

fn texts(folder: &Path, name: &str) -> Vec<String> {
    let texts = std::fs::read_to_string(folder.join(format!("ggml-vocab-{name}.gguf.inp"))).unwrap();
    // In most files a mark is after each text, in others between them.
    let texts = texts.strip_suffix(MARK).unwrap_or(&texts);
    texts.split(MARK).map(str::to_owned).collect()
}

#[test]
fn every_text_of_llama_cpp_has_its_tokens() {
    let Some(folder) = folder() else { return };
    let mut differences = Vec::new();
    for name in names(&folder) {
        let tokenizer = tokenizer(&folder, &name);
        let expected = std::fs::read_to_string(folder.join(format!("ggml-vocab-{name}.gguf.out"))).unwrap();
        let expected: Vec<&str> = expected.lines().collect();
        let texts = texts(&folder, &name);
        assert!(expected.len() == texts.len() && texts.len() > 40, "{name}: {} {}", expected.len(), texts.len());
        let mut wrong = 0;
        for (text, expected) in texts.iter().zip(expected) {
            let expected: Vec<u32> = expected.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let tokens = tokenizer.encode(text.as_bytes(), false, usize::MAX, &mut || Ok(())).unwrap();
            if tokens != expected {
                wrong += 1;
                differences.push(format!("{name}: {text:?}\n  {tokens:?}\n  not {expected:?}"));
            }
        }
        eprintln!("{name}: {wrong} of {} texts differ", texts.len());
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn bytes(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// The lines of a record of `scripts/record_tokens.py`, or `None` with a message that the test is skipped.
fn record(folder: &Path, name: &str, ending: &str) -> Option<String> {
    let record = std::fs::read_to_string(folder.join(format!("ggml-vocab-{name}.{ending}"))).ok();
    if record.is_none() {
        eprintln!("skipped: no {ending} of {name} in .cache/vocabularies, where scripts/record_tokens.py puts them");
    }
    record
}

#[test]
fn random_texts_have_the_tokens_of_llama_cpp() {
    let Some(folder) = folder() else { return };
    for name in names(&folder) {
        let Some(record) = record(&folder, &name, "random") else { return };
        let tokenizer = tokenizer(&folder, &name);
        for line in record.lines() {
            let mut parts = line.split(' ');
            let (parse_special, text) = (parts.next().unwrap() == "1", bytes(parts.next().unwrap()));
            let expected: Vec<u32> = parts.filter(|id| !id.is_empty()).map(|id| id.parse().unwrap()).collect();
            let tokens = tokenizer.encode(&text, parse_special, usize::MAX, &mut || Ok(())).unwrap();
            assert_eq!(tokens, expected, "{name}: {:?}", String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn tokens_have_the_bytes_and_the_ends_of_llama_cpp() {
    let Some(folder) = folder() else { return };
    for name in names(&folder) {
        let Some(record) = record(&folder, &name, "pieces") else { return };
        let tokenizer = tokenizer(&folder, &name);
        assert_eq!(tokenizer.len(), record.lines().count(), "{name}");
        for (token, line) in record.lines().enumerate() {
            let [written, hidden, end] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{name}: {line}") };
            assert_eq!(tokenizer.is_end(token as u32), end == "1", "{name}: {token}");
            for (special, expected) in [(true, bytes(written)), (false, bytes(hidden))] {
                let mut out = Vec::new();
                tokenizer.decode(token as u32, special, &mut out);
                // What no byte is written as has a note of llama.cpp's around it.
                if !expected.starts_with(b"[UNK_BYTE_") {
                    assert_eq!(out, expected, "{name}: {token}, {special}");
                }
            }
        }
    }
}
