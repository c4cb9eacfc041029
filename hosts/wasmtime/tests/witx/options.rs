//! What the host chooses: the dialect, the fallback to the CPU, the errno of a timeout, limits.

use std::thread;
use std::time::Duration;

use graphpool::backend::wire::Dialect;
use graphpool::backend::{Backend, BackendGraph, LoadRequest};
use graphpool::nn::{Encoding, Engine, Error, Limits, Target};
use graphpool_wasmtime::WasiNnCtx;

use crate::backend::Words;
use crate::layout::{BUFFER, CPU, DIMENSIONS, F32, ONNX, OUT, PARTS, TENSOR};
use crate::puppet::{Mode, Puppet, SHARED, UNSHARED};

const GPU: u32 = 1;
const TPU: u32 = 2;

/// Serves the GPU, and lacks an operator of every model.
struct Gpu;

impl Backend for Gpu {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        (encoding, target) == (Encoding::Onnx, Target::Gpu)
    }

    fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        Err(Error::unsupported("no operator of the model is supported"))
    }
}

#[test]
fn numbers_are_those_of_the_dialect() {
    let engine = Engine::new(Words::default());
    for (dialect, encoding, target, errno) in [
        (Dialect::Witx, 1, 0, 0),
        (Dialect::Witx, 6, 0, 2),
        (Dialect::WasmEdge, 1, 0, 0),
        // A known encoding without a backend, one that no crate here has, `auto`.
        (Dialect::WasmEdge, 6, 0, 6),
        (Dialect::WasmEdge, 9, 0, 2),
        (Dialect::WasmEdge, 1, 3, 1),
        (Dialect::Wamr, 1, 0, 0),
        (Dialect::Wamr, 6, 0, 6),
        (Dialect::Wamr, 7, 0, 2),
    ] {
        let ctx = WasiNnCtx::new(engine.guest()).with_dialect(dialect);
        let mut puppet = Puppet::furnished(ctx, UNSHARED, Mode::Blocking);
        let what = format!("{dialect:?}: encoding {encoding}, target {target}");
        assert_eq!(puppet.call("load", &[PARTS, 1, encoding, target, OUT]), errno, "{what}");
        puppet.works();
    }
}

#[test]
fn a_short_buffer_gets_the_needed_size_in_wasmedges_dialect_only() {
    let engine = Engine::new(Words::default());
    for (dialect, size) in [(Dialect::Witx, u32::MAX), (Dialect::Wamr, u32::MAX), (Dialect::WasmEdge, 8)] {
        for memory in [UNSHARED, SHARED] {
            let ctx = WasiNnCtx::new(engine.guest()).with_dialect(dialect);
            let mut puppet = Puppet::furnished(ctx, memory, Mode::Blocking);
            let graph = puppet.load();
            let context = puppet.context(graph);
            assert_eq!(puppet.call("compute", &[context]), 0);
            puppet.write_words(OUT, &[u32::MAX]);
            for room in [0, 7] {
                assert_eq!(puppet.call("get_output", &[context, 0, BUFFER, room, OUT]), 7);
                assert_eq!((puppet.word(OUT), puppet.word(BUFFER)), (size, 0), "{dialect:?} in {memory}");
            }
        }
    }
}

#[test]
fn another_target_falls_back_to_the_cpu_only_if_the_host_says_so_and_nothing_serves_it() {
    let cpu = Engine::new(Words::default());
    let both = Engine::builder(Words::default()).with_backend(Gpu).build();
    for mode in [Mode::Blocking, Mode::Async] {
        for (engine, falls_back, encoding, target, errno) in [
            (&cpu, false, ONNX, GPU, 6),
            (&cpu, false, ONNX, TPU, 6),
            (&cpu, true, ONNX, GPU, 0),
            (&cpu, true, ONNX, TPU, 0),
            (&cpu, true, ONNX, CPU, 0),
            // Neither target has a backend for it.
            (&cpu, true, 0, GPU, 6),
            // A backend serves the GPU, and refuses the model.
            (&both, true, ONNX, GPU, 6),
            (&both, true, ONNX, TPU, 0),
        ] {
            let ctx = WasiNnCtx::new(engine.guest()).with_fallback_to_cpu(falls_back);
            let mut puppet = Puppet::furnished(ctx, UNSHARED, mode);
            let what = format!("falls back {falls_back}, encoding {encoding}, target {target}");
            assert_eq!(puppet.call("load", &[PARTS, 1, encoding, target, OUT]), errno, "{what}");
        }
    }
}

#[test]
fn a_timeout_is_a_runtime_error_unless_the_host_says_busy() {
    let engine = Engine::new(Words::default());
    for mode in [Mode::Blocking, Mode::Async] {
        for (busy, errno) in [(false, 5), (true, 4)] {
            let limits = Limits::default().with_max_compute_time(Duration::from_millis(1));
            let guest = engine.guest_builder().with_limits(limits).build();
            let mut puppet = Puppet::furnished(WasiNnCtx::new(guest).with_timeout_as_busy(busy), UNSHARED, mode);
            puppet.furnish("wait");
            let graph = puppet.load();
            let context = puppet.context(graph);
            assert_eq!(puppet.call("compute", &[context]), errno);
        }
    }
    assert_eq!(engine.stats().timeouts, 4);
}

#[test]
fn a_context_in_use_is_busy_for_another_store_of_the_same_guest() {
    let words = Words::default();
    let engine = Engine::new(words.clone());
    for mode in [Mode::Blocking, Mode::Async] {
        let guest = engine.guest();
        let mut puppet = Puppet::furnished(WasiNnCtx::new(guest.clone()), UNSHARED, mode);
        puppet.furnish("wait");
        let graph = puppet.load();
        let context = puppet.context(graph);
        let mut other = Puppet::furnished(WasiNnCtx::new(guest.clone()), UNSHARED, mode);
        let entered = words.entered();
        thread::scope(|scope| {
            let computing = scope.spawn(|| puppet.call("compute", &[context]));
            words.wait_for(entered + 1);
            assert_eq!(other.call("compute", &[context]), 4);
            assert_eq!(other.call("set_input", &[context, 0, TENSOR]), 4);
            assert_eq!(other.call("get_output", &[context, 0, BUFFER, 8, OUT]), 4);
            other.works();
            assert!(guest.cancel(graphpool::GuestHandle::from_bits(context)).unwrap());
            assert_eq!(computing.join().unwrap(), 5);
        });
        assert_eq!(other.call("compute", &[context + 2]), 1);
    }
}

#[test]
fn limits_of_the_guest_are_those_of_the_engine() {
    let engine = Engine::new(Words::default());
    let limits = Limits::default()
        .with_max_graphs(1)
        .with_max_contexts(1)
        .with_max_graph_bytes(4)
        .with_max_tensor_rank(1)
        .with_max_tensor_bytes(8);
    let mut puppet =
        Puppet::furnished(WasiNnCtx::new(engine.guest_builder().with_limits(limits).build()), UNSHARED, Mode::Blocking);
    puppet.write_words(PARTS, &[0x140, 5]);
    assert_eq!(puppet.call("load", &[PARTS, 1, ONNX, CPU, OUT]), 7);
    puppet.furnish("copy");
    let graph = puppet.load();
    assert_eq!(puppet.call("load", &[PARTS, 1, ONNX, CPU, OUT]), 7);
    let context = puppet.context(graph);
    assert_eq!(puppet.call("init_execution_context", &[graph, OUT]), 7);
    puppet.write_words(TENSOR, &[DIMENSIONS, 2, F32, 0x280, 8]);
    assert_eq!(puppet.call("set_input", &[context, 0, TENSOR]), 7);
    puppet.write_words(TENSOR, &[DIMENSIONS, 1, F32, 0x280, 9]);
    assert_eq!(puppet.call("set_input", &[context, 0, TENSOR]), 7);
    puppet.furnish("copy");
    assert_eq!(puppet.call("set_input", &[context, 0, TENSOR]), 0);
}

#[test]
fn a_failed_compute_is_a_runtime_error() {
    let engine = Engine::new(Words::default());
    for mode in [Mode::Blocking, Mode::Async] {
        let mut puppet = Puppet::furnished(WasiNnCtx::new(engine.guest()), UNSHARED, mode);
        puppet.furnish("fail");
        let graph = puppet.load();
        let context = puppet.context(graph);
        assert_eq!(puppet.call("compute", &[context]), 5);
        assert_eq!(puppet.call("get_output", &[context, 0, BUFFER, 8, OUT]), 1);
    }
}
