//! Tokens that stand for themselves, and tokens that end an answer.

use super::*;

fn chat() -> Tokenizer {
    let special = [("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL), ("<think>", USER_DEFINED), ("<unused>", UNUSED)];
    tokenizer(byte_pairs("qwen2", &["u s"], &special))
}

const START: u32 = 257;
const END: u32 = 258;
const THINK: u32 = 259;

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn marks_are_parsed_where_that_is_asked_for() {
    let text = "<|im_start|>us<think><|im_end|>\n<unused>";
    let unused = [u32::from(b'<'), u32::from(b'u'), u32::from(b'n'), 256];
    let unused: Vec<u32> = unused.into_iter().chain(bytes("ed>")).collect();
    let expected = [vec![START, 256, THINK, END, u32::from(b'\n')], unused.clone()].concat();
    assert_eq!(encode(&chat(), text, true), expected);
    let expected = [bytes("<|im_start|>"), vec![256, THINK], bytes("<|im_end|>\n"), unused].concat();
    assert_eq!(encode(&chat(), text, false), expected);
}

#[test]
fn marks_are_written_where_that_is_asked_for() {
    let tokens = [START, 256, THINK, END, 260];
    assert_eq!(decode(&chat(), &tokens, false), b"us<think>");
    assert_eq!(decode(&chat(), &tokens, true), b"<|im_start|>us<think><|im_end|>");
    // Not a token.
    assert_eq!(decode(&chat(), &[261, u32::MAX], true), b"");
}

#[test]
fn of_marks_that_overlap_the_leftmost_and_longest_counts() {
    let special = [("<a>", CONTROL), ("<a><b>", CONTROL), ("<b><c>", CONTROL), ("", CONTROL)];
    let tokenizer = tokenizer(byte_pairs("gpt-2", &["x y"], &special));
    assert_eq!(encode(&tokenizer, "<a><b><c>", true), [vec![258], bytes("<c>")].concat());
    assert_eq!(encode(&tokenizer, "<a><b", true), [vec![257], bytes("<b")].concat());
}

#[test]
fn phi_3_leaves_out_spaces_after_marks() {
    let special = [("<|user|>", CONTROL), ("<s>", CONTROL), (" x", CONTROL)];
    let mut vocabulary = byte_pairs("gpt-2", &["x y"], &special);
    assert_eq!(encode(&tokenizer(vocabulary.clone()), "<|user|>\n x", true), [257, u32::from(b'\n'), 259]);
    vocabulary.name = Some("Phi-3 Mini".to_owned());
    let phi = tokenizer(vocabulary);
    // A mark that begins with such a space is none then.
    assert_eq!(encode(&phi, "<|user|>\n x x", true), [257, u32::from(b'x'), 259]);
    assert_eq!(encode(&phi, "<|user|> <|user|> ", true), [257, 257]);
    assert_eq!(encode(&phi, "<s> y", true), [vec![258], bytes(" y")].concat());
}

#[test]
fn answers_end_with_the_tokens_of_the_keys_and_of_known_names() {
    let special = [("<|im_end|>", NORMAL), ("<|endoftext|>", CONTROL), ("<x>", CONTROL), ("<y>", CONTROL)];
    let mut vocabulary = byte_pairs("qwen2", &["u s"], &special);
    (vocabulary.eos, vocabulary.eot, vocabulary.eom) = (Some(259), Some(u32::MAX), Some(257));
    let tokenizer = tokenizer(vocabulary);
    assert_eq!(tokenizer.ends(), [257, 258, 259]);
    assert!(tokenizer.is_end(259) && !tokenizer.is_end(260) && !tokenizer.is_end(u32::MAX));
    // A known name is a mark, whatever the file says.
    assert_eq!(decode(&tokenizer, &[257], false), b"");
    assert_eq!(encode(&tokenizer, "<|im_end|>", true), [257]);
}

#[test]
fn parts_of_code_are_marks_whatever_their_kind_is() {
    let special = [("<fim_prefix>", USER_DEFINED), ("<fim_pad>", NORMAL)];
    let tokenizer = tokenizer(byte_pairs("starcoder", &["u s"], &special));
    assert_eq!(encode(&tokenizer, "<fim_prefix>", false), bytes("<fim_prefix>"));
    assert_eq!(encode(&tokenizer, "<fim_prefix>x<fim_pad>", true), [257, u32::from(b'x'), 258]);
    assert_eq!(decode(&tokenizer, &[257, 258], false), b"");
    assert_eq!(tokenizer.ends(), [258]);
}

#[test]
fn a_model_with_channels_ends_a_message_and_not_the_answer() {
    let names = ["<|end|>", "<|return|>", "<|call|>", "<|message|>"];
    let special: Vec<(&str, i32)> = names.into_iter().map(|name| (name, CONTROL)).collect();
    let with_channels = tokenizer(byte_pairs("gpt-4o", &["u s"], &special));
    assert_eq!(with_channels.ends(), [258, 259]);
    assert_eq!(decode(&with_channels, &[257, 258, 260], false), b"<|end|><|message|>");
    let without = tokenizer(byte_pairs("gpt-4o", &["u s"], &special[..2]));
    assert_eq!(without.ends(), [257, 258]);
}
