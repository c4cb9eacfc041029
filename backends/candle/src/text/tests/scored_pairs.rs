//! `SentencePiece`'s merges, on small vocabularies.

use super::*;

/// The token of a byte.
fn byte(byte: u8) -> u32 {
    3 + u32::from(byte)
}

/// `▁` is token 259, and the others follow.
fn greeting() -> Vocabulary {
    scored_pairs(&[
        ("▁", -9.0),
        ("h", -8.0),
        ("e", -7.0),
        ("l", -6.0),
        ("o", -5.0),
        ("he", -3.0),
        ("ll", -4.0),
        ("hell", -2.0),
        ("▁hell", -1.5),
        ("lo", -1.0),
    ])
}

const BLANK: u32 = 259;
const L: u32 = 262;
const HE: u32 = 264;
const LO: u32 = 268;

#[test]
fn the_merge_of_the_highest_score_is_first() {
    let tokenizer = tokenizer(greeting());
    // "lo" before "he", and then no "ll" is left.
    assert_eq!(encode(&tokenizer, "hello", false), [BLANK, HE, L, LO]);
    assert_eq!(decode(&tokenizer, &[BLANK, HE, L, LO], false), b" hello");
}

#[test]
fn a_text_gets_a_blank_unless_the_file_says_otherwise() {
    let mut vocabulary = greeting();
    assert_eq!(encode(&tokenizer(vocabulary.clone()), " l", false), [BLANK, BLANK, L]);
    assert_eq!(encode(&tokenizer(vocabulary.clone()), "", false), [0_u32; 0]);
    // After a special token, too.
    assert_eq!(encode(&tokenizer(vocabulary.clone()), "l</s>l", true), [BLANK, L, 2, BLANK, L]);
    assert_eq!(encode(&tokenizer(vocabulary.clone()), "<s></s>", true), [1, 2]);
    vocabulary.add_space_prefix = Some(false);
    assert_eq!(encode(&tokenizer(vocabulary), " l</s>l", true), [BLANK, L, 2, L]);
}

#[test]
fn characters_without_a_token_become_bytes() {
    let mut vocabulary = greeting();
    vocabulary.add_space_prefix = Some(false);
    let without_blank = tokenizer(vocabulary);
    assert_eq!(encode(&without_blank, "é\n", false), [byte(0xc3), byte(0xa9), byte(b'\n')]);
    assert_eq!(encode(&without_blank, b"\xffl", false), [byte(0xff), L]);
    assert_eq!(decode(&without_blank, &[byte(0xc3), byte(0xa9)], false), "é".as_bytes());
    // A text is not taken for the byte that it names.
    assert_eq!(encode(&without_blank, "<0x41>", false), "<0x41>".bytes().map(byte).collect::<Vec<_>>());
}

#[test]
fn without_byte_tokens_a_character_is_unknown() {
    let texts = ["<unk>", "<s>", "</s>", "▁", "a"].map(str::to_owned);
    let types = vec![UNKNOWN, CONTROL, CONTROL, NORMAL, NORMAL];
    let vocabulary = Vocabulary { model: "llama".to_owned(), tokens: list(&texts), types, ..Vocabulary::default() };
    assert_eq!(encode(&tokenizer(vocabulary), "aéa", false), [3, 4, 0, 4]);
}

#[test]
fn equal_scores_merge_from_the_left() {
    let pieces = [("a", 0.0), ("b", 0.0), ("ab", -1.0), ("ba", -1.0), ("▁", 0.0)];
    let tokenizer = tokenizer(scored_pairs(&pieces));
    assert_eq!(encode(&tokenizer, "bab", false), [263, 262, 260]);
    let pieces = [("a", 0.0), ("b", 0.0), ("ab", 0.0), ("ba", -0.0), ("▁", 0.0)];
    let tokenizer = super::tokenizer(scored_pairs(&pieces));
    assert_eq!(encode(&tokenizer, "bab", false), [263, 262, 260]);
}

#[test]
fn a_piece_may_go_across_words() {
    let pieces = [("▁", -1.0), ("a", -1.0), ("b", -1.0), ("▁b", -0.5), ("a▁", -0.1), ("a▁b", -0.2)];
    let across = tokenizer(scored_pairs(&pieces));
    assert_eq!(encode(&across, "a b", false), [259, 264]);
    let within = tokenizer(scored_pairs(&pieces[..4]));
    assert_eq!(encode(&within, "a b", false), [259, 260, 262]);
}

#[test]
fn a_text_never_becomes_a_mark_for_the_model() {
    let mut vocabulary =
        scored_pairs(&[("▁", 0.0), ("<", 0.0), ("/", 0.0), ("s", 0.0), (">", 0.0), ("</", 0.0), ("s>", 0.0)]);
    vocabulary.add_space_prefix = Some(false);
    let tokenizer = tokenizer(vocabulary);
    assert_eq!(encode(&tokenizer, "</s>", false), [264, 265]);
    assert_eq!(encode(&tokenizer, "</s>", true), [2]);
}

#[test]
fn a_sequence_begins_with_its_token() {
    let mut vocabulary = greeting();
    let marks = |vocabulary: &Vocabulary| tokenizer(vocabulary.clone()).start();
    assert_eq!(marks(&vocabulary), Some(1));
    vocabulary.add_bos = Some(false);
    assert_eq!(marks(&vocabulary), None);
    (vocabulary.add_bos, vocabulary.bos, vocabulary.eos) = (None, Some(5), Some(u32::MAX));
    assert_eq!(marks(&vocabulary), Some(5));
    let llama_3 = byte_pairs("llama-bpe", &["a b"], &[("<s>", CONTROL)]);
    assert_eq!(marks(&llama_3), None);
    assert_eq!(marks(&Vocabulary { bos: Some(257), ..llama_3 }), Some(257));
    let qwen = byte_pairs("qwen2", &["a b"], &[("<s>", CONTROL)]);
    assert_eq!(marks(&Vocabulary { bos: Some(257), ..qwen }), None);
}
