//! Computes with bad arguments, and with backends that fail.

use std::time::Duration;

use graphpool::nn::{EngineLimits, ErrorKind, Limits};

use crate::puppet::{Puppet, code, ty};
use crate::setup::{codes, each, each_with, refused};

const PAIR: [u8; 8] = [0, 0, 128, 63, 0, 0, 0, 64];

fn pair(puppet: &mut Puppet) -> u32 {
    puppet.tensor(&[1, 2], ty::FP32, &PAIR)
}

#[test]
fn inputs_and_outputs_have_their_names() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("pair");
        let (a, b) = (pair(&mut puppet), puppet.tensor(&[2, 2], ty::FP32, &[PAIR, PAIR].concat()));
        let outputs = puppet.compute(context, &[("b", b), ("a", a)]).unwrap();
        assert_eq!(outputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", ""]);
        assert_eq!(puppet.parts(outputs[0].1), (vec![1, 2], ty::FP32, PAIR.to_vec()));
        assert_eq!(puppet.parts(outputs[1].1).0, [2, 2]);
    });
}

#[test]
fn a_name_that_no_input_has_is_refused() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("echo");
        for (name, words) in [
            ("", "no input is named \"\"; the graph has 1"),
            ("X", "no input is named \"X\""),
            ("x ", "no input is named \"x \""),
            ("y", "no input is named \"y\""),
            ("1", "there is no input 1; the graph has 1"),
            ("4294967295", "there is no input 4294967295"),
            ("4294967296", "no input is named"),
            ("-1", "no input is named"),
        ] {
            let tensor = puppet.bytes(&[1]);
            refused(puppet.echo(context, name, tensor), code::INVALID_ARGUMENT, words);
        }
        let long = "é".repeat(2_000);
        let tensor = puppet.bytes(&[1]);
        refused(puppet.echo(context, &long, tensor), code::INVALID_ARGUMENT, "no input is named");
    });
}

#[test]
fn a_number_is_an_index_where_no_input_has_it_as_its_name() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("echo");
        let tensor = puppet.bytes(&[1]);
        assert_eq!(puppet.echo(context, "0", tensor).unwrap().2, [1]);
        let context = puppet.open("swapped");
        let (zero, one) = (puppet.bytes(&[0]), puppet.bytes(&[1]));
        let outputs = puppet.compute(context, &[("0", zero), ("1", one)]).unwrap();
        assert_eq!(outputs[0].0, "1");
        assert_eq!(puppet.parts(outputs[0].1).2, [1]);
    });
}

#[test]
fn an_input_that_is_given_twice_or_not_at_all_is_refused() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("pair");
        for names in [["a", "a"], ["b", "1"], ["0", "a"]] {
            let tensors = [pair(&mut puppet), pair(&mut puppet)];
            let inputs = [(names[0], tensors[0]), (names[1], tensors[1])];
            refused(puppet.compute(context, &inputs), code::INVALID_ARGUMENT, "is given twice");
        }
        let a = pair(&mut puppet);
        refused(puppet.compute(context, &[("a", a)]), code::INVALID_ARGUMENT, "missing");
        refused(puppet.compute(context, &[]), code::INVALID_ARGUMENT, "missing");
        // The inputs of an earlier compute are no inputs of this one.
        let tensors = [pair(&mut puppet), pair(&mut puppet)];
        puppet.compute(context, &[("a", tensors[0]), ("b", tensors[1])]).unwrap();
        let a = pair(&mut puppet);
        refused(puppet.compute(context, &[("a", a)]), code::INVALID_ARGUMENT, "missing");
    });
}

#[test]
fn an_input_of_another_type_or_size_is_refused() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("pair");
        for (dimensions, number, data) in [
            (&[1, 2][..], 5, &PAIR[..]),
            (&[2], ty::FP32, &PAIR),
            (&[2, 1], ty::FP32, &PAIR),
            (&[1, 2, 1], ty::FP32, &PAIR),
            (&[8, 1], ty::U8, &PAIR),
        ] {
            let (a, b) = (pair(&mut puppet), puppet.tensor(dimensions, number, data));
            refused(puppet.compute(context, &[("a", a), ("b", b)]), code::INVALID_ARGUMENT, "input 1 takes fp32 [?×2]");
        }
    });
}

#[test]
fn every_element_type_comes_back() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("types");
        let sizes = [("fp16", 2), ("fp32", 4), ("fp64", 8), ("bf16", 2), ("u8", 1), ("i32", 4), ("i64", 8)];
        let data = |size: u8| (1..=size).collect::<Vec<u8>>();
        let inputs: Vec<(&str, u32)> = sizes
            .iter()
            .zip(0..)
            .map(|((name, size), number)| (*name, puppet.tensor(&[1], number, &data(*size))))
            .collect();
        let outputs = puppet.compute(context, &inputs).unwrap();
        assert_eq!(outputs.len(), 7);
        for (name, tensor) in outputs {
            let number = sizes.iter().position(|(its, _)| *its == name).unwrap();
            let parts = puppet.parts(tensor);
            assert_eq!(parts, (vec![1], u32::try_from(number).unwrap(), data(sizes[number].1)), "{name}");
        }
    });
}

#[test]
fn a_compute_consumes_its_inputs_even_where_it_fails() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("echo");
        let (bad, good) = (puppet.bytes(&[1]), puppet.bytes(&[2]));
        let inputs = [("bad", bad), ("x", good)];
        refused(puppet.compute(context, &inputs), code::INVALID_ARGUMENT, "2 inputs are given; the graph has 1");
        assert!(puppet.store.data().table.is_empty());
        assert!(puppet.call::<_, (u32,)>("ty", (good,)).is_err());
    });
}

#[test]
fn each_error_of_a_compute_has_its_code() {
    each(|setup| {
        let mut puppet = setup.puppet();
        for (kind, code) in codes() {
            let context = puppet.open(&format!("fail {kind}"));
            refused(puppet.compute(context, &[]), code, "as the model says");
        }
    });
}

#[test]
fn a_backend_that_panics_loses_its_context_and_nothing_else() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let (context, other) = (puppet.open("panic"), puppet.open("constant"));
        refused(puppet.compute(context, &[]), code::RUNTIME_ERROR, "panicked");
        refused(puppet.compute(context, &[]), code::RUNTIME_ERROR, "poisoned");
        puppet.compute(other, &[]).unwrap();
        puppet.drop("context", context);
    });
}

#[test]
fn a_compute_past_its_time_has_a_code_of_its_own() {
    each(|setup| {
        let limits = Limits::default().with_max_compute_time(Duration::from_millis(1));
        let mut puppet = setup.puppet_of(|guest| guest.with_limits(limits));
        let context = puppet.open("wait");
        refused(puppet.compute(context, &[]), code::TIMEOUT, "exceeded the time limit of 1ms");
        // The context computes again.
        refused(puppet.compute(context, &[]), code::TIMEOUT, "");
    });
}

#[test]
fn a_compute_that_finds_no_capacity_is_a_runtime_error_that_says_so() {
    let no_queue = |limits: EngineLimits| limits.with_max_computing(1).with_max_queued(0);
    each_with(
        |builder| builder.with_engine_limits(no_queue(EngineLimits::default())),
        |setup| {
            let busy = setup.engine.guest();
            let graph = busy.load(&[b"wait"], graphpool::nn::Encoding::Onnx, graphpool::nn::Target::Cpu).unwrap();
            let context = busy.init_execution_context(graph).unwrap();
            let compute = busy.compute_async(context);
            setup.gate.events.recv().unwrap();
            let mut puppet = setup.puppet();
            let context = puppet.open("constant");
            refused(puppet.compute(context, &[]), code::RUNTIME_ERROR, "queue");
            drop((compute, busy));
            setup.gate.events.recv().unwrap();
        },
    );
}

#[test]
fn the_limits_of_a_context_hold() {
    each(|setup| {
        let limits = Limits::default().with_max_context_bytes(1_000);
        let mut puppet = setup.puppet_of(|guest| guest.with_limits(limits));
        let context = puppet.open("echo");
        let tensor = puppet.bytes(&[1; 2_000]);
        refused(puppet.echo(context, "x", tensor), code::TOO_LARGE, "1000");
    });
}

#[test]
fn a_closed_context_of_the_host_is_an_invalid_argument() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let graph = puppet.words("constant").unwrap();
        let context = puppet.context(graph).unwrap();
        // The host takes everything from its guest.
        puppet.store.data_mut().nn = graphpool_wasmtime::WasiNnCtx::new(setup.engine.guest());
        refused(puppet.compute(context, &[]), code::INVALID_ARGUMENT, "context");
        refused(puppet.context(graph), code::INVALID_ARGUMENT, "graph");
        puppet.drop("context", context);
        puppet.drop("graph", graph);
    });
}

#[test]
fn what_the_canonical_abi_refuses_of_a_compute_traps() {
    let traps = |call: &dyn Fn(&mut Puppet, u32) -> wasmtime::Result<()>| {
        each(|setup| {
            let mut puppet = setup.puppet();
            let context = puppet.open("echo");
            assert!(call(&mut puppet, context).is_err());
        });
    };
    // Contexts that the guest does not have, and a handle of another kind.
    traps(&|puppet, context| puppet.call("compute", (context + 1, 0_u32, 0_u32, 0_u32)));
    traps(&|puppet, _| puppet.call("compute", (u32::MAX, 0_u32, 0_u32, 0_u32)));
    traps(&|puppet, _| {
        let tensor = puppet.bytes(&[1]);
        puppet.call("compute", (tensor, 0_u32, 0_u32, 0_u32))
    });
    traps(&|puppet, context| {
        puppet.drop("context", context);
        puppet.call("compute", (context, 0_u32, 0_u32, 0_u32))
    });
    // A list that is not in the memory, or not aligned.
    for (at, count) in [(1_u32 << 30, 1), (0, u32::MAX), (2, 1)] {
        traps(&|puppet, context| puppet.call("compute", (context, at, count, 0_u32)));
    }
    // A name that is not in the memory, or not UTF-8.
    for (at, length) in [(1_u32 << 30, 1), (0, u32::MAX)] {
        traps(&|puppet, context| {
            let tensor = puppet.bytes(&[1]);
            let list = puppet.put_words(&[at, length, tensor]);
            puppet.call("compute", (context, list, 1_u32, 0_u32))
        });
    }
    traps(&|puppet, context| {
        let tensor = puppet.bytes(&[1]);
        let name = puppet.put(b"\xc3\x28");
        let list = puppet.put_words(&[name, 2, tensor]);
        puppet.call("compute", (context, list, 1_u32, 0_u32))
    });
    // The same tensor twice, a tensor that is none, and a result without room.
    traps(&|puppet, context| {
        let tensor = puppet.bytes(&[1]);
        let list = puppet.put_words(&[0, 0, tensor, 0, 0, tensor]);
        puppet.call("compute", (context, list, 2_u32, 0_u32))
    });
    traps(&|puppet, context| {
        let list = puppet.put_words(&[0, 0, context]);
        puppet.call("compute", (context, list, 1_u32, 0_u32))
    });
    traps(&|puppet, context| puppet.call("compute", (context, 0_u32, 0_u32, 1_u32 << 30)));
}

#[test]
fn the_kinds_of_error_cover_every_code() {
    let known: std::collections::BTreeSet<u32> = codes().map(|(_, code)| code).collect();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), (0..9).collect::<Vec<u32>>());
    assert_eq!(codes().count(), ErrorKind::ALL.len());
}
