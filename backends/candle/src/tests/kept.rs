//! What a context keeps of the memory of its computes for the next one: it is counted, bounded, and gives way.

use crate::CandleContext;
use crate::tests::builder::{F32, Model, int};
use graphpool::backend::{BackendContext as _, ComputeControl, Error, ErrorKind, Tensor};

/// A product that is not constant, and tensors of several sizes.
fn model() -> Model {
    let mut model = Model::new(13)
        .node("Concat", "x x", "xx", &[int("axis", 0)])
        .node("Exp", "xx", "e", &[])
        .node("Concat", "e x", "ex", &[int("axis", 0)])
        .node("Add", "ex ex", "y", &[])
        .output("y", F32);
    model.graph.input = vec![crate::tests::builder::info("x", F32, None)];
    model
}

fn set(context: &mut CandleContext, len: u32) {
    let input = Tensor::from_slice([len], &vec![1.0_f32; len as usize]).unwrap();
    context.set_input(0, input.view()).unwrap();
}

fn compute(context: &mut CandleContext, memory_limit: usize) -> Result<(), Error> {
    context.compute(&ComputeControl::default().with_memory_limit(memory_limit))
}

/// Bytes of the input and the output of a length.
fn least(len: u32) -> usize {
    4 * len as usize * (1 + 3)
}

#[test]
fn what_is_kept_gives_way_to_a_limit() {
    let graph = model().load().unwrap();
    let fits = |limit: usize| {
        let mut context = graph.context();
        set(&mut context, 1000);
        compute(&mut context, limit).is_ok()
    };
    // The least limit of a first compute.
    let (mut low, mut high) = (1, 1 << 20);
    while low < high {
        let middle = usize::midpoint(low, high);
        if fits(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    assert!(low > 4000, "{low}");
    let mut context = graph.context();
    for len in [1000, 3000, 1000] {
        set(&mut context, len);
        compute(&mut context, usize::MAX).unwrap();
    }
    for _ in 0..3 {
        compute(&mut context, low).unwrap();
        assert_eq!(compute(&mut context, low - 1).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

#[test]
fn what_is_kept_is_counted_until_a_compute_fails() {
    let graph = model().load().unwrap();
    let mut context = graph.context();
    set(&mut context, 1000);
    assert_eq!(context.memory(), 4000);
    compute(&mut context, usize::MAX).unwrap();
    let kept = context.memory() - least(1000);
    // The tensors of 2,000 and 3,000 elements at least.
    assert!(kept > 4 * 5000, "{kept}");
    compute(&mut context, usize::MAX).unwrap();
    compute(&mut context, usize::MAX).unwrap();
    let steady = context.memory();
    compute(&mut context, usize::MAX).unwrap();
    assert_eq!(context.memory(), steady);
    let control = ComputeControl::default();
    control.cancel.cancel();
    assert_eq!(context.compute(&control).unwrap_err().message(), "cancelled");
    assert_eq!(context.memory(), least(1000));
    // The outputs are those of the last compute that succeeded.
    assert_eq!(context.output(0).unwrap().dimensions(), [3000]);
}

#[test]
fn what_other_shapes_used_is_freed() {
    let graph = model().load().unwrap();
    let mut context = graph.context();
    set(&mut context, 1 << 18);
    compute(&mut context, usize::MAX).unwrap();
    assert!(context.memory() > least(1 << 18) + (4 << 19));
    set(&mut context, 4);
    compute(&mut context, usize::MAX).unwrap();
    assert!(context.memory() < 1 << 16, "{}", context.memory());
}

#[test]
fn a_context_keeps_little_of_its_limit() {
    let graph = model().load().unwrap();
    for (limit, most) in [(least(1000), least(1000)), (1 << 20, least(1000) + (1 << 16) + 4096)] {
        let mut context = graph.context();
        set(&mut context, 1000);
        context.compute(&ComputeControl::default().with_context_memory_limit(limit)).unwrap();
        assert!(context.memory() <= most, "{} of {limit}", context.memory());
    }
}

#[test]
fn inputs_that_are_cleared_are_freed() {
    let mut context = model().load().unwrap().context();
    set(&mut context, 1000);
    set(&mut context, 2000);
    context.clear_inputs();
    assert_eq!(context.memory(), 0);
}
