//! Byte pair encoding, on small vocabularies.

use super::*;

fn greeting(pre: &str) -> Tokenizer {
    tokenizer(byte_pairs(pre, &["l l", "h e", "he ll", "hell o", "Ġ w", "o r", "Ġw or"], &[("<|end|>", CONTROL)]))
}

/// The numbers of the merges' results.
const LL: u32 = 256;
const HELLO: u32 = 259;
const W: u32 = 260;
const WOR: u32 = 262;

#[test]
fn merges_are_made_in_their_order() {
    let greeting = greeting("gpt-2");
    assert_eq!(encode(&greeting, "hello world", false), [HELLO, WOR, u32::from(b'l'), u32::from(b'd')]);
    // "he" can't merge with "ll" where "ll" took the wrong two.
    assert_eq!(encode(&greeting, "lll", false), [LL, u32::from(b'l')]);
    assert_eq!(encode(&greeting, " w w", false), [W, W]);
    assert_eq!(encode(&greeting, "", false), [0_u32; 0]);
}

#[test]
fn of_merges_of_the_same_rank_the_leftmost_is_first() {
    let tokenizer = tokenizer(byte_pairs("gpt-2", &["a a", "aa aa"], &[]));
    assert_eq!(encode(&tokenizer, "aaaaa", false), [257, u32::from(b'a')]);
    assert_eq!(encode(&tokenizer, "aaaaaaa", false), [257, 256, u32::from(b'a')]);
}

#[test]
fn a_word_that_is_a_token_needs_no_merges_where_that_is_the_rule() {
    let text = "xyz";
    let with_word = |pre| tokenizer(byte_pairs(pre, &["y z"], &[(text, NORMAL)]));
    assert_eq!(encode(&with_word("llama-bpe"), text, false), [257]);
    assert_eq!(encode(&with_word("qwen2"), text, false), [u32::from(b'x'), 256]);
    // Not if it is a mark for the model.
    let marked = tokenizer(byte_pairs("llama-bpe", &["y z"], &[(text, CONTROL)]));
    assert_eq!(encode(&marked, text, false), [u32::from(b'x'), 256]);
}

#[test]
fn every_byte_comes_back() {
    let greeting = greeting("llama-bpe");
    let text: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    assert_eq!(decode(&greeting, &encode(&greeting, &text, false), false), text);
    for byte in 0..=255 {
        assert_eq!(decode(&greeting, &[u32::from(byte)], false), [byte]);
    }
}

#[test]
fn a_token_may_be_a_part_of_a_character() {
    let tokenizer = tokenizer(byte_pairs("gpt-2", &["ð Ł", "ðŁ ¦"], &[]));
    let tokens = encode(&tokenizer, "🦙", false);
    assert_eq!(tokens, [257, 0x99]);
    assert_eq!(decode(&tokenizer, &tokens[..1], false), [0xf0, 0x9f, 0xa6]);
}

#[test]
fn a_byte_without_a_token_is_unknown_or_left_out() {
    let mut vocabulary = byte_pairs("gpt-2", &["a b"], &[("<unk>", UNKNOWN)]);
    let mut texts: Vec<String> = bytes_as_characters();
    texts[usize::from(b'c')] = "another".to_owned();
    texts.extend(["ab".to_owned(), "<unk>".to_owned()]);
    vocabulary.tokens = list(&texts);
    assert_eq!(encode(&tokenizer(vocabulary.clone()), "cab", false), [256]);
    vocabulary.unk = Some(257);
    assert_eq!(encode(&tokenizer(vocabulary), "cab", false), [257, 256]);
}

/// `a`, `b`, `ab`, U+2581, U+2581 `a`, two ends of lines, é and the bytes of €.
fn characters() -> Tokenizer {
    let texts = ["a", "b", "ab", "▁", "▁a", "\n", "\n\n", "é", "<0xE2>", "<0x82>", "<0xAC>"].map(str::to_owned);
    let mut types = vec![NORMAL; 8];
    types.extend([BYTE; 3]);
    tokenizer(Vocabulary {
        model: "gemma4".to_owned(),
        tokens: list(&texts),
        types,
        merges: ["a b", "▁ a"].map(str::as_bytes).into_iter().collect(),
        ..Vocabulary::default()
    })
}

#[test]
fn characters_are_merged_across_words_and_others_become_bytes() {
    let characters = characters();
    assert_eq!(encode(&characters, "ab ab a", false), [2, 3, 2, 4]);
    assert_eq!(encode(&characters, "é€", false), [7, 8, 9, 10]);
    assert_eq!(encode(&characters, "a\n\nb\n", false), [0, 6, 1, 5]);
    assert_eq!(decode(&characters, &[4, 8, 9, 10, 6], false), " a€\n\n".as_bytes());
    // Of € the bytes are there, of ¢ not all: it is left out, as there is no token for what is unknown.
    assert_eq!(encode(&characters, "a¢b", false), [0, 1]);
}
