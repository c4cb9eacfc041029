//! What a component's tensors count for, and what the host learns of its refusals.

use graphpool::nn::{EngineLimits, Limits};

use crate::puppet::{CPU, ONNX, code, ty};
use crate::setup::{each, each_with, refused};

#[test]
fn the_tensors_of_a_component_count_against_its_guests_limit() {
    each(|setup| {
        let limits = Limits::default().with_max_context_bytes(1_000);
        let mut puppet = setup.puppet_of(|guest| guest.with_limits(limits));
        let context = puppet.open("echo");
        let host_bytes = || setup.engine.stats().host_bytes;
        let first = puppet.bytes(&[1; 600]);
        // The data, and four bytes for the dimension.
        assert_eq!(host_bytes(), 604);
        let second = puppet.bytes(&[2; 600]);
        assert_eq!(host_bytes(), 604);
        assert_eq!(puppet.parts(second), (vec![], ty::U8, vec![]));
        refused(puppet.echo(context, "x", second), code::TOO_LARGE, "604 of 1000");
        puppet.drop("tensor", first);
        assert_eq!(host_bytes(), 0);
        let third = puppet.bytes(&[3; 400]);
        let outputs = puppet.compute(context, &[("x", third)]).unwrap();
        assert_eq!(host_bytes(), 404);
        puppet.drop("tensor", outputs[0].1);
        assert_eq!(host_bytes(), 0);
        // The rest is left to the end of the store.
        puppet.bytes(&[4; 500]);
    });
}

#[test]
fn outputs_without_room_are_refused_and_gone() {
    each(|setup| {
        let limits = Limits::default().with_max_context_bytes(4);
        let mut puppet = setup.puppet_of(|guest| guest.with_limits(limits));
        let context = puppet.open("constant");
        refused(puppet.compute(context, &[]), code::TOO_LARGE, "5 more");
        assert!(puppet.store.data().table.is_empty());
    });
}

#[test]
fn the_tensors_of_all_components_count_against_the_engines_limit() {
    each_with(
        |builder| builder.with_engine_limits(EngineLimits::default().with_max_context_bytes(1_000)),
        |setup| {
            let (mut one, mut other) = (setup.puppet(), setup.puppet());
            let context = other.open("echo");
            one.bytes(&[1; 600]);
            let tensor = other.bytes(&[2; 600]);
            refused(other.echo(context, "x", tensor), code::RUNTIME_ERROR, "604 of 1000");
            drop(one);
            let tensor = other.bytes(&[3; 400]);
            other.echo(context, "x", tensor).unwrap();
        },
    );
}

#[test]
fn a_refusal_of_the_hosts_own_counts_in_the_engine() {
    each(|setup| {
        let limits = Limits::default().with_max_tensor_rank(2);
        let mut puppet = setup.puppet_of(|guest| guest.with_limits(limits));
        let context = puppet.open("echo");
        let counts = || (setup.engine.stats().errors, setup.engine.stats().limited);
        let parts = [&b"echo"[..]; 65];
        refused(puppet.load(&parts, ONNX, CPU), code::TOO_LARGE, "load: the model has 65 parts; the limit is 64");
        assert_eq!(counts(), (1, 1));
        let tensor = puppet.tensor(&[1; 3], ty::U8, &[1]);
        assert_eq!(counts(), (2, 2));
        refused(puppet.echo(context, "x", tensor), code::TOO_LARGE, "compute: tensor: the tensor has 3 dimensions");
        assert_eq!(counts(), (3, 3));
        let tensor = puppet.tensor(&[2], ty::U8, &[1]);
        refused(puppet.echo(context, "x", tensor), code::INVALID_ARGUMENT, "compute: tensor 0: the tensor data");
        assert_eq!(counts(), (4, 3));
        // An error of the engine's own counts once.
        refused(puppet.load_by_name("nothing"), code::NOT_FOUND, "nothing");
        assert_eq!(counts(), (5, 3));
    });
}

#[test]
fn the_bytes_of_all_parts_are_compared_with_the_limit_before_a_copy() {
    each(|setup| {
        let limits = Limits::default().with_max_graph_bytes(1_000);
        let mut puppet = setup.puppet_of(|guest| guest.with_limits(limits));
        let part = [b'x'; 501];
        refused(
            puppet.load(&[&part, &part], ONNX, CPU),
            code::TOO_LARGE,
            "the model has 1002 bytes; the limit is 1000",
        );
    });
}
