//! The choice of tokens.

use crate::text::sampler::{Sampler, SamplerOptions};
use graphpool::backend::ErrorKind;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Options under which every token can be drawn by its probability.
fn plain() -> SamplerOptions {
    SamplerOptions {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        seed: Some(7),
        ..SamplerOptions::default()
    }
}

/// Logits of these probabilities.
fn logits(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|probability| probability.ln()).collect()
}

/// The parts of 20,000 draws that each token has. Deviations are 0.0035 at most, and the seed is fixed.
fn parts(options: SamplerOptions, probabilities: &[f32]) -> BTreeMap<u32, f64> {
    let mut sampler = Sampler::new(options, probabilities.len(), &[]).unwrap();
    let mut parts = BTreeMap::new();
    for _ in 0..20_000 {
        *parts.entry(sampler.sample(&mut logits(probabilities), &[])).or_default() += 1.0 / 20_000.0;
    }
    parts
}

#[track_caller]
fn check(options: SamplerOptions, probabilities: &[f32], expected: &[(u32, f64)]) {
    let parts = parts(options, probabilities);
    assert_eq!(parts.keys().copied().collect::<Vec<_>>(), expected.iter().map(|&(token, _)| token).collect::<Vec<_>>());
    for (token, part) in expected {
        assert!((parts[token] - part).abs() < 0.015, "{parts:?}");
    }
}

#[test]
fn tokens_are_drawn_by_their_probabilities() {
    check(plain(), &[0.1, 0.6, 0.3], &[(0, 0.1), (1, 0.6), (2, 0.3)]);
    // At half the temperature by their squares.
    let cold = SamplerOptions { temperature: 0.5, ..plain() };
    check(cold, &[0.1, 0.6, 0.3], &[(0, 0.01 / 0.46), (1, 0.36 / 0.46), (2, 0.09 / 0.46)]);
}

#[test]
fn the_highest_is_taken_at_temperature_0_and_the_lowest_of_equal_ones() {
    for temperature in [0.0, -1.0] {
        let mut sampler = Sampler::new(SamplerOptions { temperature, ..plain() }, 4, &[]).unwrap();
        assert_eq!(sampler.sample(&mut [1.0, 3.0, 3.0, 2.0], &[]), 1);
    }
    let top_1 = SamplerOptions { top_k: 1, ..plain() };
    assert_eq!(Sampler::new(top_1, 4, &[]).unwrap().sample(&mut [1.0, 3.0, 3.0, 2.0], &[]), 1);
}

#[test]
fn top_k_top_p_and_min_p_keep_the_highest() {
    let probabilities = [0.05, 0.4, 0.15, 0.3, 0.1];
    check(SamplerOptions { top_k: 2, ..plain() }, &probabilities, &[(1, 4.0 / 7.0), (3, 3.0 / 7.0)]);
    let of_three = [(1, 0.4 / 0.85), (2, 0.15 / 0.85), (3, 0.3 / 0.85)];
    check(SamplerOptions { top_p: 0.71, ..plain() }, &probabilities, &of_three);
    check(SamplerOptions { min_p: 0.3, ..plain() }, &probabilities, &of_three);
    // One is always left.
    check(SamplerOptions { top_p: 0.0, min_p: 1.0, ..plain() }, &probabilities, &[(1, 1.0)]);
    // Of those that top-k left, 0.75 is the first alone.
    check(SamplerOptions { top_k: 2, top_p: 0.5, ..plain() }, &[0.6, 0.2, 0.2], &[(0, 1.0)]);
}

#[test]
fn typical_tokens_are_those_of_a_surprise_near_the_entropy() {
    let probabilities = [0.9, 0.05, 0.05];
    check(SamplerOptions { typical_p: 0.5, ..plain() }, &probabilities, &[(0, 1.0)]);
    let probabilities = [0.4, 0.15, 0.15, 0.15, 0.15];
    // Surprises 0.92 and 1.90, entropy 1.50: the distances are 0.59 and 0.39.
    check(
        SamplerOptions { typical_p: 0.4, ..plain() },
        &probabilities,
        &[(1, 1.0 / 3.0), (2, 1.0 / 3.0), (3, 1.0 / 3.0)],
    );
}

#[test]
fn penalties_lower_what_is_in_the_window() {
    let greedy = |options: SamplerOptions, logits: &[f32], history: &[u32]| {
        let options = SamplerOptions { temperature: 0.0, ..options };
        Sampler::new(options, logits.len(), &[]).unwrap().sample(&mut logits.to_vec(), history)
    };
    let repeat = SamplerOptions { repeat_penalty: 2.0, repeat_last_n: 2, ..plain() };
    assert_eq!(greedy(repeat.clone(), &[3.0, 2.0, 1.0], &[0]), 1);
    assert_eq!(greedy(repeat.clone(), &[3.0, 2.0, 1.4], &[0, 1, 9]), 0);
    assert_eq!(greedy(repeat.clone(), &[3.0, 2.0, 1.6], &[0, 1]), 2);
    // A negative one is multiplied.
    assert_eq!(greedy(repeat, &[-1.0, -1.5, -9.0], &[0]), 1);
    let presence = SamplerOptions { presence_penalty: 0.5, ..plain() };
    assert_eq!(greedy(presence.clone(), &[2.0, 1.6], &[0, 0, 0]), 1);
    assert_eq!(greedy(presence, &[2.0, 1.4], &[0, 0, 0]), 0);
    let frequency = SamplerOptions { frequency_penalty: 0.25, ..plain() };
    assert_eq!(greedy(frequency.clone(), &[2.0, 1.4], &[0, 0, 0]), 1);
    assert_eq!(greedy(frequency, &[2.0, 1.4], &[0, 0]), 0);
    // All of the sequence for -1, and nothing for 0.
    let all = SamplerOptions { presence_penalty: 1.0, repeat_last_n: -1, ..plain() };
    let history: Vec<u32> = std::iter::once(0).chain(std::iter::repeat_n(1, 1000)).collect();
    assert_eq!(greedy(all.clone(), &[2.0, 0.0, 1.5], &history), 2);
    assert_eq!(greedy(SamplerOptions { repeat_last_n: 0, ..all }, &[2.0, 0.0, 1.5], &history), 0);
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let tokens = |seed, count: usize| -> Vec<u32> {
        let options = SamplerOptions { seed, temperature: 2.0, ..SamplerOptions::default() };
        let mut sampler = Sampler::new(options, 100, &[]).unwrap();
        let logits: Vec<f32> = (0..100).map(|token| (token as f32 * 0.7).sin()).collect();
        let mut history = Vec::new();
        for _ in 0..count {
            let token = sampler.sample(&mut logits.clone(), &history);
            history.push(token);
        }
        history
    };
    assert_eq!(tokens(Some(1), 50), tokens(Some(1), 50));
    assert_ne!(tokens(Some(1), 50), tokens(Some(2), 50));
    assert_ne!(tokens(Some(1), 50), tokens(Some(1 | 1 << 40), 50));
    assert_ne!(tokens(None, 50), tokens(None, 50));
    // On every machine.
    assert_eq!(tokens(Some(42), 8), RECORDED);
}

/// The first tokens of seed 42 above.
const RECORDED: [u32; 8] = [93, 74, 31, 57, 28, 91, 46, 82];

/// A distribution like that of a model's tokens: probabilities fall with a power of the rank.
fn zipf(tokens: usize, exponent: f32) -> Vec<f32> {
    (1..=tokens).map(|rank| (rank as f32).powf(-exponent)).collect()
}

#[test]
fn mirostat_keeps_the_surprise_that_is_asked_for() {
    let weights = zipf(5000, 1.1);
    let sum: f32 = weights.iter().sum();
    for (version, target) in [(1, 3.0), (1, 5.0), (2, 3.0), (2, 5.0)] {
        let options = SamplerOptions { mirostat: version, mirostat_tau: target, ..plain() };
        let mut sampler = Sampler::new(options, weights.len(), &[]).unwrap();
        let mut surprise = 0.0;
        for step in 0..1500 {
            let token = sampler.sample(&mut logits(&weights), &[]);
            // The first ones come before the bound has moved.
            if step >= 500 {
                surprise -= (weights[token as usize] / sum).log2() / 1000.0;
            }
        }
        // Mirostat measures it among the candidates that it left, whose probabilities are higher.
        assert!(
            surprise > target - 0.3 && surprise < target + 2.5,
            "version {version}: {surprise} instead of {target}"
        );
    }
    let mean = |target| {
        let mut sampler =
            Sampler::new(SamplerOptions { mirostat: 2, mirostat_tau: target, ..plain() }, weights.len(), &[]).unwrap();
        (0..500).map(|_| sampler.sample(&mut logits(&weights), &[])).map(f64::from).sum::<f64>() / 500.0
    };
    assert!(mean(1.0) * 10.0 < mean(6.0));
}

#[test]
fn the_end_is_never_chosen_where_it_is_to_be_ignored() {
    for temperature in [0.0, 1.0] {
        let options = SamplerOptions { ignore_end: true, temperature, ..plain() };
        let mut sampler = Sampler::new(options.clone(), 4, &[1, 9]).unwrap();
        for _ in 0..100 {
            assert_ne!(sampler.sample(&mut [0.0, 50.0, 0.0, 0.0], &[]), 1);
        }
        let mut sampler = Sampler::new(SamplerOptions { ignore_end: false, ..options }, 4, &[1, 9]).unwrap();
        assert_eq!(sampler.sample(&mut [0.0, 50.0, 0.0, 0.0], &[]), 1);
    }
}

#[test]
fn what_is_no_number_is_never_chosen_and_infinity_is() {
    for temperature in [0.0, 1.0] {
        for mirostat in 0..3 {
            let options = SamplerOptions { temperature, mirostat, repeat_penalty: 1.1, ..plain() };
            let mut sampler = Sampler::new(options, 4, &[]).unwrap();
            for _ in 0..50 {
                let token = sampler.sample(&mut [f32::NAN, 1.0, 1.0, -f32::NAN], &[0, 3]);
                assert!(token == 1 || token == 2, "{token}");
                assert_eq!(sampler.sample(&mut [9.0, f32::NAN, f32::INFINITY, f32::MAX / 2.0], &[1]), 2);
                assert_eq!(sampler.sample(&mut [f32::NAN, f32::NEG_INFINITY, -9.0, f32::NAN], &[]), 2);
            }
            // None is left.
            assert_eq!(sampler.sample(&mut [f32::NAN, f32::NEG_INFINITY], &[]), 0);
        }
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let refused = |options: SamplerOptions, message: &str| {
        let error = Sampler::new(options, 10, &[]).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidArgument, message));
    };
    let default = SamplerOptions::default;
    refused(SamplerOptions { temperature: f32::NAN, ..default() }, "temp is NaN, and must be a finite number");
    refused(SamplerOptions { top_p: -0.5, ..default() }, "top-p is -0.5, and must be a finite number from 0");
    refused(SamplerOptions { min_p: 1.5, ..default() }, "min-p is 1.5, and must be from 0 to 1");
    refused(
        SamplerOptions { typical_p: f32::INFINITY, ..default() },
        "typ-p is inf, and must be a finite number from 0",
    );
    refused(
        SamplerOptions { repeat_penalty: 0.0, ..default() },
        "repeat-penalty is 0, and must be a finite number above 0",
    );
    refused(SamplerOptions { mirostat: 3, ..default() }, "mirostat is 3, and must be 0, 1 or 2");
    refused(SamplerOptions { mirostat_eta: 2.0, ..default() }, "mirostat-lr is 2, and must be from 0 to 1");
    refused(SamplerOptions { repeat_last_n: -2, ..default() }, "repeat-last-n is -2, and must be from -1 to 65536");
    refused(
        SamplerOptions { repeat_last_n: 65_537, ..default() },
        "repeat-last-n is 65537, and must be from -1 to 65536",
    );
}

fn wild() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -20.0_f32..20.0,
        1 => prop::sample::select(vec![
            f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, -0.0, f32::MIN_POSITIVE,
            1e-45,
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_logits_and_no_options_panic(
        rows in prop::collection::vec(prop::collection::vec(wild(), 0..50), 1..4),
        numbers in prop::collection::vec(wild(), 9),
        top_k in prop::sample::select(vec![i32::MIN, -1, 0, 1, 3, 40, i32::MAX]),
        repeat_last_n in -1..70_i32,
        mirostat in 0..3_i32,
        history in prop::collection::vec(prop_oneof![0..60_u32, Just(u32::MAX)], 0..80),
        ignore_end in any::<bool>(),
    ) {
        let options = SamplerOptions {
            temperature: numbers[0],
            top_k,
            top_p: numbers[1].abs(),
            min_p: numbers[2].abs() / 20.0,
            typical_p: numbers[3].abs() / 10.0,
            repeat_penalty: numbers[4],
            presence_penalty: numbers[5],
            frequency_penalty: numbers[6],
            repeat_last_n,
            mirostat,
            mirostat_tau: numbers[7].abs(),
            mirostat_eta: numbers[8].abs() / 20.0,
            seed: Some(1),
            ignore_end,
        };
        let Ok(mut sampler) = Sampler::new(options, 40, &[0, 7, 100]) else { return Ok(()) };
        for mut row in rows {
            let count = row.len().min(40);
            let token = sampler.sample(&mut row, &history);
            prop_assert!((token as usize) < count.max(1), "{} of {}", token, count);
        }
    }

    /// The candidates are a heap, a partial order or a whole one, depending on the options: all have the same highest.
    #[test]
    fn the_highest_are_kept_whatever_finds_them(
        logits in prop::collection::vec(-8..8_i8, 1..600),
        count in 1..600_usize,
    ) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        let kept = crate::text::sampler::highest_candidates(&logits, count);
        prop_assert_eq!(&kept, &order[..count.min(order.len())]);
        let sorted = crate::text::sampler::sorted_candidates(&logits, count);
        prop_assert_eq!(&sorted, &order[..count.min(order.len())]);
    }
}

proptest! {
    #[test]
    fn only_allowed_tokens_are_chosen_whatever_the_logits_are(
        bits in prop::collection::vec(any::<u32>(), 70),
        allowed in any::<[u32; 2]>(),
        (temperature, top_k, typical_p) in (prop_oneof![Just(0.0_f32), 0.01..3.0_f32], 0..50_i32, 0.1..1.2_f32),
        (mirostat, ignore_end, repeat_penalty) in (0..3_i32, any::<bool>(), 0.5..2.0_f32),
    ) {
        // Also negative infinities and NaNs.
        let mut logits: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        logits[7] = f32::NEG_INFINITY;
        let options =
            SamplerOptions { temperature, top_k, typical_p, repeat_penalty, mirostat, ignore_end, ..plain() };
        let ends = [3, 40];
        let has = |token: u32| {
            allowed.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
                && !(ignore_end && ends.contains(&token))
        };
        let mut sampler = Sampler::new(options, 70, &ends).unwrap();
        for _ in 0..4 {
            let chosen = sampler.sample_from(&mut logits.clone(), &[1, 2, 7, 7], &allowed);
            prop_assert_eq!(chosen.is_some(), (0..70).any(has));
            prop_assert!(chosen.is_none_or(has), "{:?}", chosen);
        }
        // Of one, that one, however low it is.
        prop_assert_eq!(sampler.sample_from(&mut logits.clone(), &[7], &[1 << 7]), Some(7));
        prop_assert_eq!(sampler.sample_from(&mut logits.clone(), &[7], &[0, 0, 0]), None);
    }
}
