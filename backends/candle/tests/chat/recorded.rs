//! The templates of real files, with what Python makes of them.

use crate::conversation;
use graphpool::backend::ErrorKind;
use graphpool_candle::ChatTemplate;
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn templates_of_files_write_what_jinja_writes() {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache");
    let record: Value = serde_json::from_str(include_str!("prompts.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let conversations: Vec<Vec<(String, String)>> = record["conversations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turns| turns.as_array().unwrap().iter().map(|turn| (text(&turn[0]), text(&turn[1]))).collect())
        .collect();
    for prompt in record["prompts"].as_array().unwrap() {
        let path = cache.join(text(&prompt["file"]));
        if !path.exists() {
            println!(
                "skipped: {} is not there; the scripts fetch_vocabularies.sh and fetch_models.sh fetch it",
                path.display()
            );
            continue;
        }
        let template = ChatTemplate::from_gguf_file(&path).unwrap().expect("the file has a template");
        let turns = &conversations[prompt["conversation"].as_u64().unwrap() as usize];
        let turns: Vec<(&str, &str)> = turns.iter().map(|(role, content)| (&**role, &**content)).collect();
        let rendered = template.render(&conversation(&turns), prompt["generation"].as_bool().unwrap());
        match prompt["prompt"].as_str() {
            Some(expected) => assert_eq!(rendered.unwrap(), expected, "{}, {turns:?}", path.display()),
            None => assert_eq!(rendered.unwrap_err().kind(), ErrorKind::InvalidArgument),
        }
    }
}

#[test]
fn a_file_without_a_template_has_none() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/austen/austen.gguf");
    assert!(ChatTemplate::from_gguf_file(&path).unwrap().is_none());
    let bytes = fs::read(&path).unwrap();
    assert!(ChatTemplate::from_gguf(&bytes).unwrap().is_none());
    let error = ChatTemplate::from_gguf(&bytes[..1000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEncoding, "{error}");
    assert_eq!(ChatTemplate::from_gguf_file("no such file").unwrap_err().kind(), ErrorKind::NotFound);
}

/// A GGUF file of the given keys and no tensors.
fn file(keys: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    for (key, kind, value) in keys {
        bytes.extend(string(key.as_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

#[test]
fn the_template_and_the_tokens_of_a_file_are_checked() {
    const STRING: u32 = 8;
    let template = |text: &[u8]| ("tokenizer.chat_template", STRING, string(text));
    let tokens = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &string(b"<a>"), &string(b"\xff")].concat();
    let tokens = ("tokenizer.ggml.tokens", 9, tokens);
    let bos = |id: i32| ("tokenizer.ggml.bos_token_id", 5, id.to_le_bytes().to_vec());
    let first = |keys: &[(&str, u32, Vec<u8>)]| {
        let template = ChatTemplate::from_gguf(&file(keys)).map(Option::unwrap);
        template.map(|template| template.render(&[], false).unwrap())
    };
    let ends = template(b"{{ bos_token }}|{{ eos_token }}");
    assert_eq!(first(&[ends.clone(), tokens.clone(), bos(0)]).unwrap(), "<a>|");
    for missing in [-1, 2, i32::MAX] {
        assert_eq!(first(&[ends.clone(), tokens.clone(), bos(missing)]).unwrap(), "|");
    }
    for (keys, kind) in [
        (vec![ends, tokens, bos(1)], ErrorKind::InvalidEncoding),
        (vec![template(b"\xff")], ErrorKind::InvalidEncoding),
        (vec![template(b"{% for %}")], ErrorKind::InvalidEncoding),
        (vec![template(&[b' '; 65_537])], ErrorKind::TooLarge),
        (vec![("tokenizer.chat_template", 4, vec![0; 4])], ErrorKind::InvalidEncoding),
    ] {
        assert_eq!(first(&keys).unwrap_err().kind(), kind);
    }
}
