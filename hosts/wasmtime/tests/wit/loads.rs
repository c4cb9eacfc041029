//! Loads with bad arguments.

use graphpool::nn::Limits;

use crate::puppet::{CPU, ONNX, Puppet, code};
use crate::setup::{codes, each, refused};

#[test]
fn bytes_that_are_no_model_are_refused_with_the_cause() {
    each(|setup| {
        let mut puppet = setup.puppet();
        refused(puppet.load(&[], ONNX, CPU), code::INVALID_ARGUMENT, "part");
        refused(puppet.load(&[b""], ONNX, CPU), code::INVALID_ENCODING, "\"\" is not a word");
        refused(puppet.load(&[b"junk"], ONNX, CPU), code::INVALID_ENCODING, "\"junk\" is not a word");
        refused(puppet.load(&[b"\xff\xfe"], ONNX, CPU), code::INVALID_ENCODING, "not a text");
        refused(puppet.load(&[b"echo", b"echo"], ONNX, CPU), code::INVALID_ENCODING, "\"echoecho\" is not a word");
    });
}

#[test]
fn a_model_in_parts_loads() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let graph = puppet.load(&[b"ec", b"", b"ho"], ONNX, CPU).unwrap();
        let context = puppet.context(graph).unwrap();
        let input = puppet.bytes(b"abc");
        assert_eq!(puppet.echo(context, "x", input).unwrap().2, b"abc");
    });
}

#[test]
fn an_encoding_or_target_without_a_backend_is_unsupported() {
    each(|setup| {
        let mut puppet = setup.puppet();
        for (number, name) in
            [(0, "openvino"), (2, "tensorflow"), (3, "pytorch"), (4, "tensorflowlite"), (5, "ggml"), (6, "autodetect")]
        {
            refused(puppet.load(&[b"echo"], number, CPU), code::UNSUPPORTED_OPERATION, name);
        }
        refused(puppet.load(&[b"echo"], ONNX, 1), code::UNSUPPORTED_OPERATION, "gpu");
        refused(puppet.load(&[b"echo"], ONNX, 2), code::UNSUPPORTED_OPERATION, "tpu");
    });
}

#[test]
fn each_error_of_a_load_has_its_code() {
    each(|setup| {
        let mut puppet = setup.puppet();
        for (kind, code) in codes() {
            refused(puppet.words(&format!("refuse {kind}")), code, "refused");
        }
        refused(puppet.words("explode"), code::RUNTIME_ERROR, "panicked");
        // Another load works.
        puppet.words("echo").unwrap();
    });
}

#[test]
fn the_limits_of_graphs_hold() {
    each(|setup| {
        let mut puppet =
            setup.puppet_of(|guest| guest.with_limits(Limits::default().with_max_graphs(2).with_max_graph_bytes(250)));
        refused(puppet.load(&[&[b'x'; 300]], ONNX, CPU), code::TOO_LARGE, "300");
        let graph = puppet.words("echo").unwrap();
        puppet.words("constant").unwrap();
        refused(puppet.words("pair"), code::TOO_LARGE, "");
        refused(puppet.load_by_name("echo"), code::TOO_LARGE, "");
        // A dropped graph makes room at once.
        puppet.drop("graph", graph);
        puppet.load_by_name("echo").unwrap();
    });
}

#[test]
fn a_name_that_the_guest_may_not_load_is_not_found() {
    each(|setup| {
        let mut puppet = setup.puppet();
        refused(puppet.load_by_name("nothing"), code::NOT_FOUND, "no model is named \"nothing\"");
        refused(puppet.load_by_name(""), code::NOT_FOUND, "no model is named \"\"");
        refused(puppet.load_by_name("echo\0"), code::NOT_FOUND, "no model is named");
        refused(puppet.load_by_name(&"é".repeat(200)), code::TOO_LARGE, "400 bytes; the limit is 256");
        let mut other = setup.puppet_of(|guest| guest.with_models(["other"]));
        refused(other.load_by_name("echo"), code::NOT_FOUND, "no model is named \"echo\"");
    });
}

#[test]
fn a_dropped_graph_leaves_its_contexts_and_nothing_else() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let graph = puppet.words("echo").unwrap();
        let context = puppet.context(graph).unwrap();
        puppet.drop("graph", graph);
        let input = puppet.bytes(&[5]);
        assert_eq!(puppet.echo(context, "x", input).unwrap().2, [5]);
        puppet.drop("context", context);
        assert_eq!(setup.engine.stats().contexts, 0);
        assert!(puppet.call::<_, ()>("init-execution-context", (graph, 0_u32)).is_err());
    });
}

#[test]
fn the_limit_of_contexts_holds() {
    each(|setup| {
        let mut puppet = setup.puppet_of(|guest| guest.with_limits(Limits::default().with_max_contexts(2)));
        let graph = puppet.words("echo").unwrap();
        let context = puppet.context(graph).unwrap();
        puppet.context(graph).unwrap();
        refused(puppet.context(graph), code::TOO_LARGE, "");
        puppet.drop("context", context);
        puppet.context(graph).unwrap();
    });
}

/// Calls an export with numbers that the canonical ABI refuses, which traps.
fn traps(call: impl Fn(&mut Puppet) -> wasmtime::Result<()>) {
    each(|setup| {
        let mut puppet = setup.puppet();
        assert!(call(&mut puppet).is_err());
        drop(puppet);
        // The host is alive.
        setup.puppet().words("echo").unwrap();
    });
}

#[test]
fn what_the_canonical_abi_refuses_traps_and_leaves_the_host_alive() {
    // Encodings and targets that do not exist.
    for (encoding, target) in [(7, 0), (u32::MAX, 0), (1, 3), (1, u32::MAX)] {
        traps(|puppet| puppet.call("load", (0_u32, 0_u32, encoding, target, 0_u32)));
    }
    // A list of parts that is not in the memory, or not aligned; a part that is not in the memory.
    for (at, count) in [(u32::MAX - 3, 1), (0, u32::MAX), (1 << 30, 1), (2, 1)] {
        traps(|puppet| puppet.call("load", (at, count, ONNX, CPU, 0_u32)));
    }
    for (at, length) in [(0, u32::MAX), (u32::MAX, 2), (1 << 30, 1)] {
        traps(|puppet| {
            let list = puppet.put_words(&[at, length]);
            puppet.call("load", (list, 1_u32, ONNX, CPU, 0_u32))
        });
    }
    // Names that are not in the memory, or not UTF-8.
    traps(|puppet| puppet.call("load-by-name", (1_u32 << 30, 1_u32, 0_u32)));
    traps(|puppet| puppet.call("load-by-name", (0_u32, u32::MAX, 0_u32)));
    traps(|puppet| {
        let at = puppet.put(b"\xff");
        puppet.call("load-by-name", (at, 1_u32, 0_u32))
    });
    // Graphs that the guest does not have, and a handle of another kind.
    for graph in [0, 1, 77, u32::MAX] {
        traps(|puppet| puppet.call("init-execution-context", (graph, 0_u32)));
        traps(|puppet| puppet.call("drop-graph", (graph,)));
    }
    traps(|puppet| {
        let tensor = puppet.bytes(&[1]);
        puppet.call("init-execution-context", (tensor, 0_u32))
    });
}

#[test]
fn a_call_that_passes_more_bytes_than_the_store_allows_traps() {
    each(|setup| {
        let model = format!("echo\n{}", "x".repeat(100_000));
        let mut puppet = setup.puppet();
        puppet.store.set_hostcall_fuel(90_000);
        puppet.reset();
        let part = puppet.ask::<_, (u32,)>("allocate", (100_005_u32,)).0;
        for (position, piece) in model.as_bytes().chunks(50_000).enumerate() {
            puppet.put_at(part + 50_000 * u32::try_from(position).unwrap(), piece);
        }
        let list = puppet.put_words(&[part, 100_005]);
        puppet.store.set_hostcall_fuel(101_000);
        puppet.ask::<_, ()>("load", (list, 1_u32, ONNX, CPU, 0_u32));
        puppet.result(0).unwrap();
        puppet.store.set_hostcall_fuel(90_000);
        assert!(puppet.call::<_, ()>("load", (list, 1_u32, ONNX, CPU, 0_u32)).is_err());
    });
}
