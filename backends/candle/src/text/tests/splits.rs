//! What pre-tokenizers make of texts. The expected pieces were worked out from the regular expressions by hand.

use crate::text::characters::LOOKED_AT;
use crate::text::split::named::named;
use crate::text::split::split;
use proptest::prelude::*;

const NAMES: [&str; 20] = [
    "llama-bpe",
    "chatglm-bpe",
    "glm4",
    "qwen2",
    "qwen35",
    "gpt-2",
    "mpt",
    "starcoder",
    "smollm",
    "command-r",
    "falcon",
    "default",
    "deepseek-coder",
    "deepseek-llm",
    "deepseek-v3",
    "gpt-4o",
    "tekken",
    "bloom",
    "viking",
    "gemma4",
];

fn pieces(name: &str, text: impl AsRef<[u8]>) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    split(named(name).unwrap().rules, text.as_ref(), &mut |piece| {
        pieces.push(piece.to_vec());
        Ok(())
    })
    .unwrap();
    pieces
}

#[track_caller]
fn check(name: &str, text: &str, expected: &[&str]) {
    let pieces: Vec<String> = pieces(name, text).into_iter().map(|piece| String::from_utf8(piece).unwrap()).collect();
    assert_eq!(pieces, expected, "{name}");
}

#[test]
fn gpt_2_keeps_a_blank_with_the_word_after_it() {
    check(
        "gpt-2",
        "We'll  see 12345 o'clock, they'RE (é)!  ",
        &["We", "'ll", " ", " see", " 12345", " o", "'", "clock", ",", " they", "'", "RE", " (", "é", ")!", "  "],
    );
    check("gpt-2", "a\n\n b\u{a0}\u{a0}c", &["a", "\n\n", " b", "\u{a0}", "\u{a0}", "c"]);
}

#[test]
fn a_run_of_spaces_gives_its_last_to_a_word_but_not_at_the_end() {
    check("gpt-2", "   x", &["  ", " x"]);
    check("gpt-2", "x   ", &["x", "   "]);
    check("gpt-2", " \t\n x", &[" \t\n", " x"]);
    check("llama-bpe", " \t\n x", &[" \t\n", " x"]);
    check("llama-bpe", "\t\tx", &["\t", "\tx"]);
}

#[test]
fn llama_3_has_numbers_in_threes_and_any_sign_before_a_word() {
    check(
        "llama-bpe",
        "It'S $money 1234567.8  (x)\r\n\n y!\n?",
        &["It", "'S", " $", "money", " ", "123", "456", "7", ".", "8", " ", " (", "x", ")\r\n\n", " y", "!\n", "?"],
    );
    check("llama-bpe", "a-b\u{301}c", &["a", "-b", "\u{301}c"]);
}

#[test]
fn qwen_has_single_numbers_and_its_successor_marks_in_words() {
    check("qwen2", "n 12 a\u{301}b", &["n", " ", "1", "2", " a", "\u{301}b"]);
    check("qwen35", "n 12 a\u{301}b\u{301}!", &["n", " ", "1", "2", " a\u{301}b\u{301}", "!"]);
    check("qwen35", "!\u{301}\u{301} \u{301}", &["!\u{301}\u{301}", " \u{301}"]);
}

#[test]
fn starcoder_splits_numbers_before_words() {
    check("starcoder", "x 12y", &["x", " ", "1", "2", "y"]);
    check("gpt-2", "x 12y", &["x", " 12", "y"]);
}

#[test]
fn falcon_splits_signs_first_and_digits_in_threes_last() {
    check("falcon", "a... 12345, don't", &["a", "...", " ", "123", "45", ",", " don", "'", "t"]);
    check("default", "x` 1234", &["x", "`", " ", "123", "4"]);
    check("falcon", "x€`€", &["x", "€", "`", "€"]);
}

#[test]
fn deepseek_splits_lines_letters_and_signs() {
    check(
        "deepseek-coder",
        "fn  f(x)\n\t12 é中文 ",
        &["fn", " ", " f", "(", "x", ")", "\n", "\t", "1", "2", " é", "中文", " "],
    );
    // U+01BB is a letter without case, which is not in its list.
    check("deepseek-llm", "hello, 世界 123 ok ƻ  ", &["hello", ",", " ", "世界", " ", "123", " ok", " ƻ", "  "]);
}

#[test]
fn deepseek_3_puts_a_sign_before_ascii_letters() {
    check(
        "deepseek-v3",
        "$abc \"é 1234漢字かな x\u{301}y",
        &["$abc", " \"", "é", " ", "123", "4", "漢字かな", " x\u{301}y"],
    );
    // A byte that is part of no character is a symbol.
    assert_eq!(pieces("deepseek-v3", b"a \xff!"), [&b"a"[..], b" \xff!"]);
    check("deepseek-v3", "a\u{1}\u{1}\u{1}b", &["a", "\u{1}\u{1}", "\u{1}b"]);
}

#[test]
fn words_with_case_end_where_lower_case_ends() {
    check(
        "gpt-4o",
        "helloWorld HTTPServer's ÀÉÎ 1234 a/b//\n",
        &["hello", "World", " HTTPServer's", " ÀÉÎ", " ", "123", "4", " a", "/b", "//\n"],
    );
    check("tekken", "helloWorld's 12", &["hello", "World", "'s", " ", "1", "2"]);
    // A letter without case is upper and lower: it may end a word of upper case, and begin one of lower case.
    check("gpt-4o", "中文Ab ABC中DE", &["中文Ab", " ABC中", "DE"]);
}

#[test]
fn bloom_splits_at_marks_and_gemma_at_lines() {
    check("bloom", "one two,three  (four)", &["one", " two", ",", "three", "  (", "four", ")"]);
    check("viking", "a12,", &["a", "1", "2", ","]);
    check("gemma4", "one two\n\n\nthree\n", &["one two", "\n\n\n", "three", "\n"]);
}

#[test]
fn a_name_that_is_not_known_has_no_rules() {
    for name in ["", "llama", "superbpe", "LLAMA-BPE", "kimi-k2"] {
        assert!(named(name).is_none(), "{name}");
    }
}

/// Characters of every class, those that rules name, and bytes that are part of none.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => prop::sample::select(vec![
            " ", "  ", "\n", "\r\n", "\t", "\u{a0}", "'", "'s", "'LL", "a", "B", "é", "Ǆ", "ǅ", "中", "か", "가",
            "\u{301}", "0", "12345", "Ⅻ", "!", "$", "`", "(", "/", "。", "‘", "€",
            "🦙", "\u{200d}", "\0", "\u{e000}", "▁", "|", ",",
        ]).prop_map(|part| part.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => any::<char>().prop_map(|character| character.to_string().into_bytes()),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn pieces_are_the_whole_text(text in text()) {
        for name in NAMES {
            let pieces = pieces(name, &text);
            prop_assert_eq!(pieces.concat(), text.clone(), "{}", name);
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()), "{}", name);
        }
    }
}

#[test]
fn long_runs_take_time_that_is_linear() {
    for part in
        [" ", "\n", " \n", "a", "A", "aB", "中A", "é", "0", "'", "!", "'s", "! ", "\u{301}", "\u{1}", "\u{ff}", " a"]
    {
        let text = part.repeat(10_000 / part.len());
        for text in [text.clone(), text.clone() + "x", text.clone() + "1", text + "\n"] {
            for name in NAMES {
                LOOKED_AT.set(0);
                assert_eq!(pieces(name, &text).concat(), text.as_bytes(), "{name}");
                let looks = LOOKED_AT.get();
                // Each rule has several parts, and there are up to six rules.
                assert!(looks < 30 * text.len(), "{name}: {looks} characters of {part:?} were looked at");
            }
        }
    }
}
