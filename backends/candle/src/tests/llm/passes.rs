//! The same logits whatever the chunks of a prompt are, and whatever is passed beside it.

use super::{ARCHITECTURES, TINY, load, model, pass, tokens};
use crate::llm::cache::{Cache, CacheType};
use crate::llm::forward::{Buffers, Results, Run};
use graphpool::backend::{CancelToken, ComputeControl, ErrorKind};

#[test]
fn a_prompt_has_the_same_logits_in_chunks_of_any_length() {
    for architecture in ARCHITECTURES {
        let graph = load(&model(architecture, TINY, 8, 2)).unwrap();
        let (whole, cache) = pass(&graph.shared().model, &tokens(), 100, CacheType::F16);
        assert_eq!(cache.len(), 100);
        assert!(whole.iter().all(|logit| logit.is_finite()), "{architecture}");
        for chunk in [1, 7, 32, 33, 64] {
            let (logits, _) = pass(&graph.shared().model, &tokens(), chunk, CacheType::F16);
            assert!(logits == whole, "{architecture} in chunks of {chunk}");
        }
    }
}

#[test]
fn a_sequence_has_the_same_logits_beside_others() {
    let graph = load(&model("llama", TINY, 8, 2)).unwrap();
    let model = &graph.shared().model;
    let sequences = [&tokens()[..40], &tokens()[3..4], &tokens()[20..97]];
    let alone: Vec<f32> = sequences.iter().flat_map(|tokens| pass(model, tokens, 100, CacheType::F16).0).collect();
    let mut caches = [(); 3].map(|()| Cache::new(&model.hyper, CacheType::F16));
    let mut runs: Vec<Run<'_>> = caches
        .iter_mut()
        .zip(sequences)
        .map(|(cache, tokens)| {
            cache.reserve(tokens.len()).unwrap();
            Run { cache, tokens, wanted: usize::MAX }
        })
        .collect();
    let mut buffers = Buffers::default();
    model.step(&mut runs, Results::Logits, &mut buffers, &ComputeControl::default()).unwrap();
    assert!(buffers.results() == alone);
}

#[test]
fn only_the_rows_that_are_wanted_have_results() {
    let graph = load(&model("llama", TINY, 0, 2)).unwrap();
    let model = &graph.shared().model;
    let (tokens, vocabulary) = (tokens(), model.hyper.vocabulary);
    let mut caches = [(); 3].map(|()| Cache::new(&model.hyper, CacheType::F16));
    let wanted = [1, 0, 5];
    let mut runs: Vec<Run<'_>> = caches
        .iter_mut()
        .zip(wanted)
        .map(|(cache, wanted)| {
            cache.reserve(5).unwrap();
            Run { cache, tokens: &tokens[..5], wanted }
        })
        .collect();
    let mut buffers = Buffers::default();
    model.step(&mut runs, Results::Logits, &mut buffers, &ComputeControl::default()).unwrap();
    let (all, _) = pass(model, &tokens[..5], 5, CacheType::F16);
    let results = buffers.results();
    assert_eq!(results.len(), 6 * vocabulary);
    assert!(results[..vocabulary] == all[4 * vocabulary..]);
    assert!(results[vocabulary..] == all);
}

#[test]
fn a_cache_of_f32_gives_nearly_the_same_logits() {
    for architecture in ARCHITECTURES {
        let graph = load(&model(architecture, TINY, 0, 2)).unwrap();
        let (half, _) = pass(&graph.shared().model, &tokens(), 50, CacheType::F16);
        let (full, _) = pass(&graph.shared().model, &tokens(), 50, CacheType::F32);
        let difference = half.iter().zip(&full).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(difference > 0.0 && difference < 0.02, "{architecture}: {difference}");
    }
}

#[test]
fn a_truncated_cache_goes_on_as_if_it_had_never_been_longer() {
    let graph = load(&model("gemma3", TINY, 0, 2)).unwrap();
    let (model, tokens, vocabulary) = (&graph.shared().model, tokens(), graph.shared().model.hyper.vocabulary);
    let (logits, _) = pass(model, &tokens, 100, CacheType::F16);
    let others: Vec<u32> = tokens.iter().rev().copied().collect();
    for kept in [1, 31, 32, 33, 70] {
        let mut sequence = tokens[..kept].to_vec();
        sequence.extend_from_slice(&others[..90 - kept]);
        let (_, mut cache) = pass(model, &sequence, 100, CacheType::F16);
        cache.truncate(kept);
        assert_eq!(cache.len(), kept);
        cache.reserve(100).unwrap();
        let mut buffers = Buffers::default();
        let run = Run { cache: &mut cache, tokens: &tokens[kept..], wanted: usize::MAX };
        model.step(&mut [run], Results::Logits, &mut buffers, &ComputeControl::default()).unwrap();
        assert!(buffers.results() == &logits[kept * vocabulary..], "{kept}");
    }
}

#[test]
fn a_step_that_fails_leaves_caches_as_they_were() {
    let graph = load(&model("llama", TINY, 0, 2)).unwrap();
    let (model, tokens) = (&graph.shared().model, tokens());
    let mut cache = Cache::new(&model.hyper, CacheType::F16);
    cache.reserve(10).unwrap();
    let mut buffers = Buffers::default();
    let cancel = CancelToken::default();
    cancel.cancel();
    let cancelled = ComputeControl::default().with_cancel(cancel);
    let run = Run { cache: &mut cache, tokens: &tokens[..10], wanted: usize::MAX };
    let error = model.step(&mut [run], Results::Logits, &mut buffers, &cancelled).unwrap_err();
    assert_eq!((error.kind(), cache.len()), (ErrorKind::RuntimeError, 0));
    let run = Run { cache: &mut cache, tokens: &[0, 100_000], wanted: usize::MAX };
    let error = model.step(&mut [run], Results::Logits, &mut buffers, &ComputeControl::default()).unwrap_err();
    assert_eq!((error.kind(), cache.len()), (ErrorKind::InvalidArgument, 0));
}

#[test]
fn a_cache_reports_what_it_grows_by() {
    let graph = load(&model("llama", TINY, 0, 2)).unwrap();
    for ty in [CacheType::F16, CacheType::F32] {
        let mut cache = Cache::new(&graph.shared().model.hyper, ty);
        for len in [1, 32, 33, 100, 1000] {
            let (before, growth) = (cache.bytes(), cache.growth(len));
            cache.reserve(len).unwrap();
            // The list of pages is counted anew when it grows.
            assert!(cache.bytes() <= before + growth && cache.bytes() > before.min(cache.bytes() - 1), "{len}");
            assert_eq!(cache.growth(len), 0);
        }
        let element = if ty == CacheType::F16 { 2 } else { 4 };
        assert!(cache.bytes() >= 32 * 32 * 2 * 2 * 8 * 2 * element);
        cache.truncate(0);
        assert!(cache.bytes() < 1024);
    }
}
