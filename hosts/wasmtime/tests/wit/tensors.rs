//! Tensors: what is kept, what is refused, and when.

use graphpool::nn::Limits;

use crate::puppet::{Data, Puppet, code, ty};
use crate::setup::{each, refused};

#[test]
fn a_tensor_keeps_what_it_was_given() {
    each(|setup| {
        let mut puppet = setup.puppet();
        for (dimensions, number, data) in [
            (&[2, 3][..], ty::U8, &[1, 2, 3, 4, 5, 6][..]),
            (&[], ty::FP32, &[0, 0, 128, 63]),
            (&[0, 7], 6, &[]),
            (&[1], 0, &[1, 2]),
        ] {
            let tensor = puppet.tensor(dimensions, number, data);
            for _ in 0..2 {
                assert_eq!(puppet.parts(tensor), (dimensions.to_vec(), number, data.to_vec()));
            }
            puppet.drop("tensor", tensor);
        }
    });
}

#[test]
fn data_that_does_not_fit_the_dimensions_is_refused_by_compute() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("echo");
        for (dimensions, data) in [
            (&[3][..], &[1, 2][..]),
            (&[1], &[]),
            (&[], &[]),
            (&[0], &[1]),
            (&[u32::MAX; 4], &[1]),
            (&[1 << 31, 1 << 31, 4], &[]),
        ] {
            let tensor = puppet.tensor(dimensions, ty::U8, data);
            assert_eq!(puppet.parts(tensor), (dimensions.to_vec(), ty::U8, data.to_vec()));
            refused(puppet.echo(context, "x", tensor), code::INVALID_ARGUMENT, "tensor 0: the tensor data has");
        }
        // The context still computes.
        let tensor = puppet.bytes(&[1]);
        puppet.echo(context, "x", tensor).unwrap();
    });
}

#[test]
fn an_empty_tensor_and_a_scalar_compute() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("echo");
        for (dimensions, data) in [(&[0][..], &[][..]), (&[3, 0, u32::MAX], &[]), (&[], &[9])] {
            let tensor = puppet.tensor(dimensions, ty::U8, data);
            assert_eq!(puppet.echo(context, "x", tensor), Ok((dimensions.to_vec(), ty::U8, data.to_vec())));
        }
    });
}

#[test]
fn a_tensor_over_a_limit_is_empty_and_compute_reports_the_limit() {
    each(|setup| {
        let limits = Limits::default().with_max_tensor_rank(3).with_max_tensor_bytes(4);
        let mut puppet = setup.puppet_of(|guest| guest.with_limits(limits));
        let context = puppet.open("echo");
        for (dimensions, data, words) in
            [(&[1; 4][..], &[1][..], "4 dimensions; the limit is 3"), (&[5], &[1; 5], "5 bytes; the limit is 4")]
        {
            let tensor = puppet.tensor(dimensions, ty::U8, data);
            assert_eq!(puppet.parts(tensor), (vec![], ty::U8, vec![]));
            refused(puppet.echo(context, "x", tensor), code::TOO_LARGE, words);
        }
        for (dimensions, data) in [(&[1; 3][..], &[1][..]), (&[4], &[1; 4])] {
            let tensor = puppet.tensor(dimensions, ty::U8, data);
            puppet.echo(context, "x", tensor).unwrap();
        }
    });
}

#[test]
fn a_full_table_gives_errors_and_no_trap() {
    each(|setup| {
        let mut data = Data::new(setup.engine.guest());
        data.table.set_max_capacity(3);
        let mut puppet = Puppet::with(setup.mode, data);
        let context = puppet.open("echo");
        let kept: Vec<u32> = (0..3).map(|byte| puppet.bytes(&[byte])).collect();
        let without = puppet.bytes(&[9]);
        assert_eq!(puppet.parts(without), (vec![], ty::U8, vec![]));
        // The error has no entry either: its code is known, its message lost.
        refused(puppet.load_by_name("nothing"), code::NOT_FOUND, "no room");
        refused(puppet.words("junk"), code::INVALID_ENCODING, "no room");
        refused(puppet.echo(context, "x", without), code::TOO_LARGE, "no room");
        let without = puppet.bytes(&[9]);
        puppet.drop("tensor", without);
        // Graphs and contexts take no entries.
        puppet.open("constant");
        let without = puppet.bytes(&[9]);
        puppet.drop("tensor", kept[1]);
        refused(puppet.echo(context, "x", without), code::TOO_LARGE, "table of resources is full");
        // A compute consumes its inputs, so its outputs have room.
        assert_eq!(puppet.echo(context, "x", kept[2]).unwrap().2, [2]);
        assert_eq!(puppet.parts(kept[0]).2, [0]);
    });
}

#[test]
fn outputs_that_the_full_table_has_no_room_for_are_refused_together() {
    each(|setup| {
        let mut data = Data::new(setup.engine.guest());
        data.table.set_max_capacity(1);
        let mut puppet = Puppet::with(setup.mode, data);
        let context = puppet.open("constant");
        let outputs = puppet.compute(context, &[]).unwrap();
        let result = puppet.compute(context, &[]);
        refused(result, code::TOO_LARGE, "no room");
        assert_eq!(puppet.parts(outputs[0].1).2, [7]);
        puppet.drop("tensor", outputs[0].1);
        // One of two has room: the guest gets neither, and the entry is free for the error.
        let context = puppet.open("two");
        refused(puppet.compute(context, &[]), code::TOO_LARGE, "table of resources is full");
        assert!(puppet.store.data().table.is_empty());
    });
}

#[test]
fn what_the_canonical_abi_refuses_of_a_tensor_traps() {
    let traps = |call: &dyn Fn(&mut Puppet) -> wasmtime::Result<()>| {
        each(|setup| assert!(call(&mut setup.puppet()).is_err()));
    };
    for arguments in [
        // An element type that does not exist.
        (0, 0, 7, 0, 0),
        (0, 0, u32::MAX, 0, 0),
        // Dimensions or data that are not in the memory, or not aligned.
        (1 << 30, 1, ty::U8, 0, 1),
        (0, u32::MAX, ty::U8, 0, 1),
        (2, 1, ty::U8, 0, 1),
        (0, 1, ty::U8, 1 << 30, 1),
        (0, 1, ty::U8, 0, u32::MAX),
    ] {
        traps(&|puppet| puppet.call::<(u32, u32, u32, u32, u32), (u32,)>("new-tensor", arguments).map(drop));
    }
    for tensor in [0, 1, 99, u32::MAX] {
        traps(&|puppet| puppet.call::<_, (u32,)>("ty", (tensor,)).map(drop));
        traps(&|puppet| puppet.call("dimensions", (tensor, 0_u32)));
        traps(&|puppet| puppet.call("data", (tensor, 0_u32)));
        traps(&|puppet| puppet.call("drop-tensor", (tensor,)));
        traps(&|puppet| puppet.call::<_, (u32,)>("error-code", (tensor,)).map(drop));
        traps(&|puppet| puppet.call("error-data", (tensor, 0_u32)));
        traps(&|puppet| puppet.call("drop-error", (tensor,)));
    }
    // A result that has no room in the guest's memory.
    traps(&|puppet| {
        let tensor = puppet.bytes(&[1]);
        puppet.call("data", (tensor, 1_u32 << 30))
    });
    // A tensor that was dropped, or is one of another kind.
    traps(&|puppet| {
        let tensor = puppet.bytes(&[1]);
        puppet.drop("tensor", tensor);
        puppet.call("data", (tensor, 0_u32))
    });
    traps(&|puppet| {
        let graph = puppet.words("echo").unwrap();
        puppet.call("data", (graph, 0_u32))
    });
}
