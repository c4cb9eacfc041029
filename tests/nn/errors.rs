//! What errors say: the call, the value and the bound, in under 200 characters.

use std::time::Duration;

use graphpool::GuestHandle;
use graphpool::nn::{
    Encoding, EngineLimits, Error, ErrorCode, ErrorKind, Limits, Target, Tensor, TensorType, TensorView,
};

use crate::admission::block_on;
use crate::backends::{Model, Watch};

/// What holds of every error that a caller is given.
fn check(error: &Error, kind: ErrorKind, call: &str, says: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!((error.errno(), error.code()), (kind.errno(), kind.code()));
    let cause = error.message().strip_prefix(&format!("{call}: ")).unwrap_or_else(|| panic!("not {call}: {error}"));
    assert!(cause.contains(says), "{error}");
    assert!(error.message().len() < 200, "{error}");
    // The call is named once.
    assert!(!cause.starts_with(&format!("{call}: ")), "{error}");
}

/// A backend may answer with any kind, in any words.
#[test]
fn every_kind_of_error_reaches_the_guest_in_both_forms_and_in_under_200_characters() {
    let engine = Watch::default().engine();
    let guest = engine.guest();
    for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
        let graph = guest.load(&[format!("answers {place}").as_bytes()], Encoding::PyTorch, Target::Cpu).unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        check(&guest.compute(context).unwrap_err(), kind, "compute", "as it was told");
    }
    assert_eq!(engine.stats().failed_computes, 15);
    // No limit of the engine's has refused any of them.
    assert_eq!(engine.stats().limited, 0);
}

#[test]
fn what_is_in_use_full_late_cancelled_or_lost_is_told_with_what_and_how_many() {
    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().with_max_computing(1).with_max_queued(0));
    let guest = engine.guest_with(Limits::default().with_max_computes(2));
    let open = |model: &str| {
        let graph = guest.load(&[model.as_bytes()], Encoding::PyTorch, Target::Cpu).unwrap();
        guest.init_execution_context(graph).unwrap()
    };
    let (running, other, panics) = (open("loop"), open("any"), open("compute"));
    let named = |context: GuestHandle| format!("the context {:#010x}", context.to_bits());
    let compute = guest.compute_async(running);
    watch.wait_for(1);
    check(&guest.compute(running).unwrap_err(), ErrorKind::Busy, "compute", &named(running));
    check(&guest.output(running, 0).unwrap_err(), ErrorKind::Busy, "output", &named(running));
    let full = guest.compute(other).unwrap_err();
    check(&full, ErrorKind::Busy, "compute", "queue of 0 computes is full");
    assert_eq!((engine.stats().limited, engine.stats().busy_contexts), (1, 2));
    assert_eq!(guest.cancel(running), Ok(true));
    check(&block_on(compute).unwrap_err(), ErrorKind::RuntimeError, "compute", "cancelled");
    let time = Duration::from_millis(150);
    check(
        &guest.compute_within(running, time).unwrap_err(),
        ErrorKind::Timeout,
        "compute",
        "exceeded the time limit of 150ms",
    );
    check(&guest.compute(panics).unwrap_err(), ErrorKind::RuntimeError, "compute", "the backend panicked: compute");
    check(&guest.compute(panics).unwrap_err(), ErrorKind::RuntimeError, "compute", &named(panics));
    let mut compute = guest.compute_async(other);
    block_on(&mut compute).unwrap();
    check(&block_on(compute).unwrap_err(), ErrorKind::RuntimeError, "compute", "polled after its end");
}

#[test]
fn every_refusal_names_its_call_the_value_and_the_bound_in_under_200_characters() {
    let watch = Watch::default();
    let engine =
        watch.builder().with_engine_limits(EngineLimits::default().with_max_graphs(3).with_max_contexts(2)).build();
    let long = "é".repeat(5_000);
    let guest = engine.guest_with(
        Limits::default()
            .with_max_graphs(2)
            .with_max_contexts(1)
            .with_max_tensor_rank(4)
            .with_max_tensor_bytes(99)
            .with_max_name_bytes(9),
    );
    let bytes = Model::default().bytes();
    let graph = guest.load(&[&bytes], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let (ones, data) = (vec![1; 5_000], [0; 400]);
    let deep = TensorView::new(&ones, TensorType::U8, &data[..1]).unwrap();
    let wide = TensorView::new(&[100], TensorType::F32, &data).unwrap();
    let forged = GuestHandle::from_bits(0xabcd);
    let junk = guest.load(&[b"junk"], Encoding::Onnx, Target::Cpu).map(drop);
    let (invalid, large) = (ErrorKind::InvalidArgument, ErrorKind::TooLarge);
    let answers = [
        (junk, ErrorKind::InvalidEncoding, "load", "not affine"),
        (
            guest.load(&[], Encoding::Onnx, Target::Cpu).map(drop),
            invalid,
            "load",
            "the model has 0 parts; it needs 1 or more",
        ),
        (
            guest.load(&[b"x"], Encoding::Ggml, Target::Gpu).map(drop),
            ErrorKind::UnsupportedOperation,
            "load",
            "no backend supports the encoding ggml on the target gpu",
        ),
        (guest.load_by_name("nosuch").map(drop), ErrorKind::NotFound, "load_by_name", "\"nosuch\""),
        (guest.load_by_name(&long).map(drop), large, "load_by_name", "10000 bytes; the limit is 9"),
        (guest.load_by_name(&"\u{1}".repeat(99)).map(drop), large, "load_by_name", "99 bytes; the limit is 9"),
        (guest.init_execution_context(forged).map(drop), invalid, "init_execution_context", "graph 0x0000abcd"),
        (
            guest.init_execution_context(graph).map(drop),
            large,
            "init_execution_context",
            "context limit exceeded: 1 of 1 contexts in use, 1 more requested",
        ),
        (guest.unload(forged), invalid, "unload", "graph 0x0000abcd"),
        (guest.set_input(forged, 0, deep), invalid, "set_input", "context 0x0000abcd"),
        (guest.set_input(context, 5, deep), invalid, "set_input", "there is no input 5; the graph has 1"),
        (guest.set_input(context, &*long, deep), invalid, "set_input", "; the graph has 1"),
        (guest.set_input(context, 0, deep), large, "set_input", "5000 dimensions; the limit is 4"),
        (guest.set_input(context, 0, wide), large, "set_input", "400 bytes; the limit is 99"),
        (guest.compute(context), invalid, "compute", "no input"),
        (guest.compute(forged), invalid, "compute", "context 0x0000abcd"),
        (guest.output(forged, 0).map(drop), invalid, "output", "context 0x0000abcd"),
        (
            guest.get_output(context, u32::MAX, &mut []).map(drop),
            invalid,
            "get_output",
            "there is no output 4294967295; the graph has 1",
        ),
        (guest.drop_context(graph), invalid, "drop_context", "has no context"),
        (guest.cancel(graph).map(drop), invalid, "cancel", "has no context"),
    ];
    for (answer, kind, call, says) in answers {
        check(&answer.unwrap_err(), kind, call, says);
    }
    guest.set_input(context, 0, Tensor::from_f32(vec![2], &[0.0; 2]).unwrap().view()).unwrap();
    guest.compute(context).unwrap();
    let error = guest.get_output(context, 0, &mut [0; 7]).unwrap_err();
    assert_eq!(error.message(), "get_output: the output has 8 bytes; the buffer has 7");
}

#[test]
fn a_bad_handle_is_an_invalid_argument_and_a_missing_name_not_found_in_both_forms() {
    let guest = Watch::default().engine().guest();
    let handle = guest.compute(GuestHandle::from_bits(3)).unwrap_err();
    assert_eq!((handle.errno(), handle.code()), (1, ErrorCode::InvalidArgument));
    let name = guest.load_by_name("nosuch").unwrap_err();
    assert_eq!((name.errno(), name.code()), (8, ErrorCode::NotFound));
}
