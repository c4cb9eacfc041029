//! Stop strings over the boundaries of tokens.

use crate::text::stop::StopStrings;
use proptest::prelude::*;

fn stops(strings: &[&str]) -> StopStrings {
    StopStrings::new(strings.iter().map(|string| string.as_bytes().to_vec()).collect()).unwrap()
}

/// The text that comes out of pieces, with `|` after each piece, and `!` at a stop.
fn written(stops: &mut StopStrings, pieces: &[&str]) -> String {
    let mut written = String::new();
    for piece in pieces {
        let mut out = Vec::new();
        let stopped = stops.push(piece.as_bytes(), &mut out);
        written += std::str::from_utf8(&out).unwrap();
        if stopped {
            return written + "!";
        }
        written.push('|');
    }
    let mut out = Vec::new();
    stops.finish(&mut out);
    written + std::str::from_utf8(&out).unwrap()
}

#[test]
fn what_may_begin_a_stop_string_is_held_back() {
    let mut stops = stops(&["</s>", "\nUser:"]);
    assert_eq!(written(&mut stops, &["a</", "b", "c<", "/s", ">d"]), "a|</b|c||!");
    assert_eq!(written(&mut stops, &["x\n", "User", "s"]), "x||\nUsers|");
    assert_eq!(written(&mut stops, &["x\nUse"]), "x|\nUse");
}

#[test]
fn a_beginning_within_another_is_found() {
    assert_eq!(written(&mut stops(&["aab"]), &["aa", "a", "b"]), "|a|!");
    assert_eq!(written(&mut stops(&["abac"]), &["ab", "ab", "ac", "x"]), "|ab|!");
    assert_eq!(written(&mut stops(&["abcd", "bc"]), &["abc", "d"]), "a!");
    assert_eq!(written(&mut stops(&["b", "ab"]), &["xab"]), "x!");
}

#[test]
fn without_stop_strings_all_goes_through() {
    assert_eq!(written(&mut stops(&[]), &["a", "b"]), "a|b|");
    assert_eq!(written(&mut stops(&["", ""]), &["a", "b"]), "a|b|");
}

#[test]
fn too_many_and_too_long_ones_are_refused() {
    let error = StopStrings::new(vec![b"a".to_vec(); StopStrings::MOST + 1]).unwrap_err();
    assert_eq!(error.message(), "there are 65 stop strings, and at most 64 are supported");
    let error = StopStrings::new(vec![vec![b'a'; StopStrings::LONGEST + 1]]).unwrap_err();
    assert_eq!(error.message(), "a stop string has 4097 bytes, and at most 4096 are supported");
    assert!(StopStrings::new(vec![vec![b'a'; StopStrings::LONGEST]; StopStrings::MOST]).is_ok());
}

proptest! {
    #[test]
    fn the_text_ends_where_the_first_stop_string_does(
        strings in prop::collection::vec("[ab]{1,4}", 1..4),
        text in "[abc]{0,24}",
        cuts in prop::collection::vec(1..5_usize, 24),
    ) {
        let mut stops = stops(&strings.iter().map(String::as_str).collect::<Vec<_>>());
        let (mut out, mut rest, mut stopped) = (Vec::new(), text.as_bytes(), false);
        for cut in cuts {
            let (piece, others) = rest.split_at(cut.min(rest.len()));
            stopped = stops.push(piece, &mut out);
            rest = others;
            if stopped {
                break;
            }
        }
        stops.finish(&mut out);
        // By its first end, and of those that end there by the longest.
        let ends = |string: &String| text.find(string.as_str()).map(|at| (at + string.len(), at));
        let expected = strings.iter().filter_map(ends).min();
        prop_assert_eq!(stopped, expected.is_some());
        prop_assert_eq!(out, text.as_bytes()[..expected.map_or(text.len(), |(_, at)| at)].to_vec());
    }
}
