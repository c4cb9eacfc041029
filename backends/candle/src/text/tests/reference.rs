//! Merges compared with the definition: look at all pairs, take the best, and begin again.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// The symbols of a text after all merges. `best` gives the order of the merge of two texts, lowest first.
fn merged<K: PartialOrd>(text: &str, best: impl Fn(&str, &str) -> Option<K>) -> Vec<String> {
    let mut symbols: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let mut found: Option<(K, usize)> = None;
        for at in 1..symbols.len() {
            if let Some(key) = best(&symbols[at - 1], &symbols[at])
                && found.as_ref().is_none_or(|(least, _)| key < *least)
            {
                found = Some((key, at));
            }
        }
        let Some((_, at)) = found else { return symbols };
        let right = symbols.remove(at);
        symbols[at - 1] += &right;
    }
}

/// Merges of letters and of the results of earlier ones, all of different texts, by the numbers of a random list.
fn merges(choices: &[(usize, usize)]) -> Vec<(String, String)> {
    let mut texts: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    let mut merges = Vec::new();
    for (left, right) in choices {
        let (left, right) = (texts[left % texts.len()].clone(), texts[right % texts.len()].clone());
        let both = left.clone() + &right;
        if both.len() < 9 && !texts.contains(&both) {
            texts.push(both);
            merges.push((left, right));
        }
    }
    merges
}

fn choices() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((any::<usize>(), any::<usize>()), 1..40)
}

proptest! {
    #[test]
    fn byte_pairs_merge_as_defined(choices in choices(), order in any::<u64>(), text in "[abc]{0,40}") {
        // In another order than they were made in.
        let mut pairs = merges(&choices);
        let turn = order as usize % (pairs.len() + 1);
        pairs.rotate_left(turn);
        let lines: Vec<String> = pairs.iter().map(|(left, right)| format!("{left} {right}")).collect();
        prop_assume!(!lines.is_empty());
        let tokenizer = tokenizer(byte_pairs("gpt-2", &lines.iter().map(String::as_str).collect::<Vec<_>>(), &[]));
        let ranks: HashMap<(&str, &str), usize> =
            pairs.iter().enumerate().map(|(rank, (left, right))| ((left.as_str(), right.as_str()), rank)).collect();
        let number = |symbol: &String| match symbol.as_bytes() {
            [byte] => u32::from(*byte),
            _ => 256 + pairs.iter().position(|(left, right)| left.to_owned() + right == *symbol).unwrap() as u32,
        };
        let expected = merged(&text, |left, right| ranks.get(&(left, right)).copied());
        prop_assert_eq!(encode(&tokenizer, &text, false), expected.iter().map(number).collect::<Vec<_>>());
    }

    #[test]
    fn scored_pairs_merge_as_defined(
        choices in choices(),
        scores in prop::collection::vec(-3..3_i8, 43),
        text in "[abc ]{0,40}",
        blanks in any::<bool>(),
    ) {
        let mut pieces: Vec<(String, f32)> = ["▁", "a", "b", "c"].map(|text| (text.to_owned(), 0.0)).to_vec();
        pieces.extend(merges(&choices).into_iter().map(|(left, right)| (left + &right, 0.0)));
        if blanks {
            // So that pieces begin with a blank, and some have one within.
            for (text, _) in pieces.iter_mut().skip(4).filter(|(text, _)| text.contains('c')) {
                *text = text.replace('c', "▁");
            }
        }
        for ((_, score), &random) in pieces.iter_mut().zip(&scores) {
            *score = f32::from(random);
        }
        let pieces: Vec<(&str, f32)> = pieces.iter().map(|(text, score)| (text.as_str(), *score)).collect();
        let tokenizer = tokenizer(scored_pairs(&pieces));
        // The first of a text counts.
        let mut ids: HashMap<&str, usize> = HashMap::new();
        for (at, (text, _)) in pieces.iter().enumerate() {
            ids.entry(text).or_insert(at);
        }
        let whole = if text.is_empty() { String::new() } else { format!(" {text}").replace(' ', "▁") };
        let expected = merged(&whole, |left, right| {
            ids.get(format!("{left}{right}").as_str()).map(|&at| -pieces[at].1)
        });
        let expected: Vec<u32> = expected.iter().map(|symbol| 259 + ids[symbol.as_str()] as u32).collect();
        prop_assert_eq!(encode(&tokenizer, &text, false), expected);
    }
}
