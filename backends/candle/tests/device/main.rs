//! The device forms against the host's kernels: random models give the same results, or errors of the same kind.

mod attention;
mod builder;
mod cases;
mod fused;
mod hostile;
mod losses;
mod moving;
mod special;
mod windows;

use std::collections::BTreeSet;

use builder::Random;
use graphpool::backend::ComputeControl;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Seeds of one operator in a run of the tests, unless the variable `DEVICE_SEEDS` gives their number. They begin at
/// the one in `DEVICE_FROM`.
const SEEDS: u64 = 60;

#[test]
fn each_form_agrees_with_its_kernel() {
    let seeds = std::env::var("DEVICE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let from = std::env::var("DEVICE_FROM").ok().and_then(|from| from.parse().ok()).unwrap_or(0);
    let only = std::env::var("DEVICE_OPERATOR").ok();
    let (mut differences, mut without, mut agreed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for operator in graphpool_candle::operators().filter(|operator| operator.on_device()) {
        if only.as_ref().is_some_and(|only| only != operator.name) {
            continue;
        }
        let (mut found, mut alone) = (0, 0);
        for seed in from..from + seeds {
            let mut random = Random(seed.wrapping_mul(0x1234_5677) ^ operator.name.len() as u64);
            let last = operator.until.min(24).max(operator.since);
            let opset = operator.since + random.below((last - operator.since + 1) as usize) as i64;
            let Some(case) = cases::case(operator, opset.max(1), &mut random) else {
                without.insert(operator.name);
                break;
            };
            // What the operator reads is a view in every second case.
            let case = if seed % 2 == 1 { case.with_views(&mut random) } else { case };
            match case.difference(&ComputeControl::default()) {
                Some(difference) if found < 2 => {
                    found += 1;
                    differences.push(format!("{} with seed {seed}: {difference}", operator.name));
                }
                Some(_) => {}
                None => {
                    let runs = case.runs_on_device();
                    alone += u64::from(runs);
                    agreed.extend(runs.then_some((operator.domain, operator.name)));
                }
            }
        }
        if only.is_some() {
            println!("{} {}: {alone} of {seeds} cases ran on the device alone", operator.domain, operator.name);
        }
    }
    assert!(without.is_empty(), "these operators have a form and no case here: {without:?}");
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    let forms = graphpool_candle::operators().filter(|operator| operator.on_device());
    let mut failed: Vec<_> = forms.map(|operator| (operator.domain, operator.name)).collect();
    failed.retain(|name| only.is_none() && !agreed.contains(name));
    assert!(failed.is_empty(), "no case of these operators ran on the device: {failed:?}");
}

proptest! {
    // The same cases in each run: a sum that cancels out may differ for some others. `DEVICE_SEEDS` tries more.
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn chains_agree(seed in any::<u64>()) {
        let case = cases::chain(&mut Random(seed));
        let difference = case.difference(&ComputeControl::default());
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }

    #[test]
    fn random_nodes_agree(seed in any::<u64>()) {
        let mut random = Random(seed);
        let forms: Vec<_> = graphpool_candle::operators().filter(|operator| operator.on_device()).collect();
        let operator = forms[random.below(forms.len())];
        let last = operator.until.min(24).max(operator.since);
        let opset = operator.since + random.below((last - operator.since + 1) as usize) as i64;
        if let Some(case) = cases::case(operator, opset, &mut random) {
            let case = case.with_views(&mut random);
            let difference = case.difference(&ComputeControl::default());
            prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
        }
    }
}
