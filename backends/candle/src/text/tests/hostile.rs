//! Vocabularies and texts that are made to do harm.

use super::*;
use crate::text::merge::Merger;
use graphpool::backend::{Error, ErrorKind};
use proptest::prelude::*;

#[track_caller]
fn refused(vocabulary: Vocabulary, kind: ErrorKind, message: &str) {
    let error = Tokenizer::new(vocabulary).unwrap_err();
    assert_eq!((error.kind(), error.message()), (kind, message));
}

#[test]
fn vocabularies_whose_parts_do_not_fit_are_refused() {
    let invalid = ErrorKind::InvalidEncoding;
    refused(Vocabulary { model: "llama".to_owned(), ..Vocabulary::default() }, invalid, "the vocabulary has 0 tokens");
    let mut vocabulary = scored_pairs(&[("a", 0.0)]);
    vocabulary.scores.pop();
    refused(vocabulary, invalid, "the vocabulary has 260 tokens and 259 scores");
    let mut vocabulary = scored_pairs(&[("a", 0.0)]);
    vocabulary.types.push(1);
    refused(vocabulary, invalid, "the vocabulary has 260 tokens and 261 token types");
    refused(byte_pairs("gpt-2", &[], &[]), invalid, "the vocabulary has no merges");
    let unsupported = ErrorKind::UnsupportedOperation;
    refused(byte_pairs("superbpe", &["a b"], &[]), unsupported, "the pre-tokenizer 'superbpe' is not supported");
    let vocabulary = Vocabulary { model: "rwkv".to_owned(), ..byte_pairs("gpt-2", &["a b"], &[]) };
    refused(vocabulary, unsupported, "the tokenizer 'rwkv' is not supported");
    let name = format!("<{}>", "x".repeat(255));
    refused(
        byte_pairs("gpt-2", &["a b"], &[(&name, CONTROL)]),
        ErrorKind::TooLarge,
        "the special tokens of the vocabulary have 257 bytes, and the longest has 257: at most 262144 and 256 are \
         supported",
    );
    let long = "x".repeat((1 << 14) + 1);
    refused(
        byte_pairs("gpt-2", &["a b"], &[(&long, NORMAL)]),
        ErrorKind::TooLarge,
        "the longest token of the vocabulary has 16385 bytes, and the limit is 16384",
    );
}

#[test]
fn tokens_that_are_empty_or_twice_do_no_harm() {
    let texts = ["a", "", "a", "b", "", "ab", "<0x", "<0xZZ>", "<0x4>", ""].map(str::to_owned);
    let types = vec![NORMAL, NORMAL, NORMAL, NORMAL, CONTROL, NORMAL, BYTE, BYTE, BYTE, USER_DEFINED];
    let merges = ["a b", "a b", "", " ", "a", "a  b", " a b", "nothing here", "a b c"];
    for model in ["llama", "gpt2", "gemma4"] {
        let tokenizer = tokenizer(Vocabulary {
            model: model.to_owned(),
            pre: Some("llama-bpe".to_owned()),
            tokens: list(&texts),
            types: types.clone(),
            merges: merges.iter().map(|merge| merge.as_bytes()).collect(),
            add_space_prefix: Some(false),
            unk: Some(1),
            ..Vocabulary::default()
        });
        assert_eq!(encode(&tokenizer, "abba", true), [5, 3, 0], "{model}");
        for token in 0..12 {
            decode(&tokenizer, &[token], true);
        }
        // Not the name of a byte.
        assert_eq!(decode(&tokenizer, &[6, 7, 8], true), b"<0x<0xZZ><0x4>");
    }
}

#[test]
fn kinds_and_keys_may_be_any_numbers() {
    let mut vocabulary =
        scored_pairs(&[("▁", f32::NAN), ("a", f32::NAN), ("aa", f32::INFINITY), ("▁a", f32::NEG_INFINITY)]);
    for (kind, number) in vocabulary.types.iter_mut().zip([i32::MIN, -1, 0, 7, i32::MAX]) {
        *kind = number;
    }
    let wild = Some(u32::MAX);
    (vocabulary.bos, vocabulary.eos, vocabulary.eot) = (wild, wild, wild);
    (vocabulary.eom, vocabulary.unk) = (wild, wild);
    let tokenizer = tokenizer(vocabulary);
    assert_eq!(tokenizer.start(), None);
    assert_eq!(encode(&tokenizer, "aaa", true), [259, 261, 260]);
}

#[test]
fn a_text_of_more_tokens_than_the_limit_is_refused() {
    for vocabulary in [byte_pairs("gpt-2", &["x y"], &[]), scored_pairs(&[("▁", 0.0), ("a", 0.0)])] {
        let tokenizer = tokenizer(vocabulary);
        let count = encode(&tokenizer, "aaaa", false).len();
        let limited = |limit| tokenizer.encode(b"aaaa", false, limit, &mut || Ok(()));
        assert_eq!(limited(count).unwrap().len(), count);
        let error = limited(count - 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(error.message(), format!("the text has more than {} tokens", count - 1));
    }
}

/// The times that a text's tokens were checked, until a check failed or they were complete.
fn checks(tokenizer: &Tokenizer, text: &str, failing: usize) -> (usize, Result<Vec<u32>, Error>) {
    let mut checks = 0;
    let result = tokenizer.encode(text.as_bytes(), true, usize::MAX, &mut || {
        checks += 1;
        if checks == failing { Err(Error::new(ErrorKind::Timeout, "late")) } else { Ok(()) }
    });
    (checks, result)
}

#[test]
fn a_long_word_is_checked_often_and_ends_with_the_check() {
    let pieces: Vec<String> = (1..200).map(|len| "a".repeat(len)).collect();
    let pieces: Vec<(&str, f32)> = pieces.iter().map(|text| (text.as_str(), -(text.len() as f32))).collect();
    let merges: Vec<String> = (1..200).map(|len| format!("{} a", "a".repeat(len))).collect();
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    for vocabulary in [scored_pairs(&pieces), byte_pairs("gpt-2", &merges, &[]), byte_pairs("llama-bpe", &merges, &[])]
    {
        let tokenizer = tokenizer(vocabulary);
        // Merges of n letters take n log n steps: with 16 times the letters, not much over 16 times the checks.
        let few = checks(&tokenizer, &"a".repeat(1 << 13), 0).0;
        let many = checks(&tokenizer, &"a".repeat(1 << 17), 0).0;
        assert!(few >= 4 && many <= 20 * few, "{few} and {many} checks");
        let (count, result) = checks(&tokenizer, &"a".repeat(1 << 17), 3);
        assert_eq!((count, result.unwrap_err().kind()), (3, ErrorKind::Timeout));
    }
}

#[test]
fn special_tokens_in_a_row_are_checked_often() {
    // The search for the longer one looks at 255 letters for each of the short ones.
    let longer = format!("{}b", "a".repeat(255));
    let tokenizer = tokenizer(byte_pairs("gpt-2", &["x y"], &[("a", USER_DEFINED), (&longer, USER_DEFINED)]));
    let (count, result) = checks(&tokenizer, &"a".repeat(1 << 12), 0);
    assert_eq!(result.unwrap().len(), 1 << 12);
    assert!(count >= 200, "{count} checks");
    let (count, result) = checks(&tokenizer, &"a".repeat(1 << 12), 3);
    assert_eq!((count, result.unwrap_err().kind()), (3, ErrorKind::Timeout));
}

#[test]
fn a_merger_takes_no_more_memory_than_it_says() {
    struct All;
    impl crate::text::merge::Merges for All {
        fn find(
            &self,
            _: &[u8],
            left: &crate::text::merge::Symbol,
            right: &crate::text::merge::Symbol,
        ) -> Option<(u32, u32)> {
            // Later merges come first, so that the heap keeps those that do not fit any more.
            Some((u32::MAX / 2 - (right.end - left.start), 0))
        }
    }
    let mut merger = Merger::default();
    let text = vec![b'a'; 5000];
    merger.begin(text.len());
    let before = merger.capacity();
    assert!(before <= Merger::memory(text.len()));
    (1..=text.len()).for_each(|end| merger.push(end, Some(1)));
    let mut check = || Ok(());
    let mut output = crate::text::output::Output::new(usize::MAX, &mut check);
    let mut left = Vec::new();
    merger
        .run(&text, &All, &mut output, |symbol, _| {
            left.push((symbol.start, symbol.end));
            Ok(())
        })
        .unwrap();
    assert_eq!(left, [(0, 5000)]);
    assert_eq!(merger.capacity(), before);
}

fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just("▁"),
        Just(" "),
        Just("Ġ"),
        Just("<"),
        Just("0x4"),
        Just(">"),
        Just("\n"),
        Just("é"),
    ];
    let text = prop_oneof![
        8 => prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(text, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever a vocabulary is, it is refused or it makes tokens that it has.
    #[test]
    fn no_vocabulary_and_no_text_panics(
        model in prop::sample::select(vec!["llama", "gpt2", "gemma4"]),
        pre in prop::sample::select(vec!["default", "llama-bpe", "deepseek-v3", "tekken", "gemma4"]),
        tokens in texts(),
        merges in texts(),
        scores in prop::collection::vec(any::<f32>(), 40),
        types in prop::collection::vec(0..8_i32, 40),
        keys in prop::collection::vec(prop::option::of(0..50_u32), 5),
        text in texts(),
        flags in any::<[bool; 3]>(),
    ) {
        let list = |texts: &[Vec<u8>]| texts.iter().map(Vec::as_slice).collect::<StringList>();
        let count = tokens.len() as u32;
        let vocabulary = Vocabulary {
            name: flags[2].then(|| "phi-3".to_owned()),
            model: model.to_owned(),
            pre: Some(pre.to_owned()),
            scores: scores[..tokens.len()].to_vec(),
            types: types[..tokens.len()].to_vec(),
            tokens: list(&tokens),
            merges: list(&merges),
            bos: keys[0],
            eos: keys[1],
            eot: keys[2],
            unk: keys[3],
            add_space_prefix: Some(flags[0]),
            ..Vocabulary::default()
        };
        let Ok(tokenizer) = Tokenizer::new(vocabulary) else { return Ok(()) };
        let tokens = encode(&tokenizer, text.concat(), flags[1]);
        prop_assert!(tokens.iter().chain(tokenizer.ends()).all(|&token| token < count));
        decode(&tokenizer, &tokens, true);
    }
}
