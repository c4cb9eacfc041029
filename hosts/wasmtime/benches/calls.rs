//! `cargo bench -p graphpool-wasmtime --bench calls`: what a host call of the core-module form costs above an empty
//! one, how threads on one graph scale, and the memory of a hundred stores of one model.

mod common;

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use common::{DIGITS, ROUNDS, Way, block_on, median};
use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{Encoding, Engine, Error, ModelSource, Target, TensorDescription, TensorType, TensorView};
use graphpool_candle::CandleBackend;
use graphpool_candle::messages::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use graphpool_wasmtime::{WasiNnCtx, witx};
use prost::Message as _;
use wasmtime::{Instance, Linker, Module, Store};

/// Each exported function makes one call so many times.
const GUEST: &str = r#"(module
    (import "test" "empty" (func $empty (param i32) (result i32)))
    (import "wasi_ephemeral_nn" "load_by_name" (func $load_by_name (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "init_execution_context" (func $init (param i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "set_input" (func $set_input (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
    (import "wasi_ephemeral_nn" "get_output" (func $get_output (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    ;; A name, a tensor of [256] f32 and its dimensions; the graph is at 0, the context at 4, a size at 8.
    (data (i32.const 16) "model")
    (data (i32.const 32) "\40\00\00\00\01\00\00\00\01\00\00\00\00\10\00\00\00\04\00\00")
    (data (i32.const 64) "\00\01\00\00")
    ;; The same for digits: [1, 1, 8, 8] f32.
    (data (i32.const 96) "\80\00\00\00\04\00\00\00\01\00\00\00\00\10\00\00\00\01\00\00")
    (data (i32.const 128) "\01\00\00\00\01\00\00\00\08\00\00\00\08\00\00\00")
    (func $check (param i32) (if (local.get 0) (then unreachable)))
    (func (export "open")
        (call $check (call $load_by_name (i32.const 16) (i32.const 5) (i32.const 0)))
        (call $check (call $init (i32.load (i32.const 0)) (i32.const 4))))
    (func (export "empty") (param i32) (loop
        (call $check (call $empty (i32.const 0)))
        (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "set_input") (param i32) (loop
        (call $check (call $set_input (i32.load (i32.const 4)) (i32.const 0) (i32.const 32)))
        (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "compute") (param i32) (loop
        (call $check (call $compute (i32.load (i32.const 4))))
        (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "get_output") (param i32) (loop
        (call $check (call $get_output
            (i32.load (i32.const 4)) (i32.const 0) (i32.const 8192) (i32.const 4096) (i32.const 8)))
        (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "digits") (param i32) (loop
        (call $check (call $set_input (i32.load (i32.const 4)) (i32.const 0) (i32.const 96)))
        (call $check (call $compute (i32.load (i32.const 4))))
        (call $check (call $get_output
            (i32.load (i32.const 4)) (i32.const 0) (i32.const 8192) (i32.const 4096) (i32.const 8)))
        (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#;

/// Rounds of calls: many and short, so that most end within a turn of the processor, whatever else runs.
const SHORT_ROUNDS: usize = 301;
/// The calls of a short round.
const CALLS_A_ROUND: u32 = 400;

/// A model that computes nothing: its output is its input, of 256 f32.
struct Nothing;

struct Graph([TensorDescription; 1]);

struct Kept(Vec<u8>);

impl Backend for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        Ok(Box::new(Graph([TensorDescription::new("x", TensorType::F32, Some(vec![Some(256)]))])))
    }
}

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.0
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.0
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(Kept(vec![0; 1_024])))
    }

    fn memory(&self) -> usize {
        0
    }
}

impl BackendContext for Kept {
    fn set_input(&mut self, _: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        self.0.copy_from_slice(tensor.data());
        Ok(())
    }

    fn clear_inputs(&mut self) {}

    fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
        Ok(())
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        TensorView::new(&[256], TensorType::F32, &self.0)
    }
}

/// A store with an instance that has opened a context.
struct Opened {
    store: Store<WasiNnCtx>,
    instance: Instance,
}

struct Host {
    linker: Linker<WasiNnCtx>,
    module: Module,
    engine: Engine,
}

impl Host {
    fn new(engine: Engine, way: Way) -> Self {
        let wasm = wasmtime::Engine::default();
        let mut linker = Linker::new(&wasm);
        match way {
            Way::Blocking => {
                linker.func_wrap("test", "empty", |number: i32| number).unwrap();
                witx::add_to_linker(&mut linker, |ctx: &mut WasiNnCtx| ctx).unwrap();
            }
            Way::Async => {
                linker
                    .func_wrap_async("test", "empty", |_, (number,): (i32,)| Box::new(async move { number }))
                    .unwrap();
                witx::add_to_linker_async(&mut linker, |ctx: &mut WasiNnCtx| ctx).unwrap();
            }
        }
        let module = Module::new(&wasm, GUEST).unwrap();
        Self { linker, module, engine }
    }

    fn open(&self, by_export: bool) -> Opened {
        let mut ctx = WasiNnCtx::new(self.engine.guest());
        if by_export {
            ctx = ctx.with_memory(self.module.get_export_index("memory").unwrap());
        }
        let mut store = Store::new(self.module.engine(), ctx);
        let instance = block_on(self.linker.instantiate_async(&mut store, &self.module)).unwrap();
        let open = instance.get_typed_func::<(), ()>(&mut store, "open").unwrap();
        block_on(open.call_async(&mut store, ())).unwrap();
        Opened { store, instance }
    }
}

impl Opened {
    /// Makes a call so many times; the time of each.
    fn time(&mut self, call: &str, times: u32, way: Way) -> f64 {
        let function = self.instance.get_typed_func::<u32, ()>(&mut self.store, call).unwrap();
        let start = Instant::now();
        match way {
            Way::Blocking => function.call(&mut self.store, times).unwrap(),
            Way::Async => block_on(function.call_async(&mut self.store, times)).unwrap(),
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(times)
    }
}

/// What was asked for, and whether it is so.
fn verdict(goal: &str, holds: bool) {
    println!("    {goal}: {}", if holds { "holds" } else { "DOES NOT HOLD" });
}

fn host(engine: Engine, model: ModelSource, way: Way) -> Host {
    engine.register_model_now("model", model, Encoding::Onnx, Target::Cpu).unwrap();
    Host::new(engine, way)
}

fn calls() {
    const CALLS: [&str; 4] = ["empty", "set_input", "compute", "get_output"];
    println!("a call of a model that does nothing, ns above an empty call; 1 KB in, 1 KB out");
    let nothing = || ModelSource::bytes(vec![0]);
    let blocking = host(Engine::new(Nothing), nothing(), Way::Blocking);
    let threaded = host(Engine::new(Nothing), nothing(), Way::Async);
    let inline = Engine::builder(Nothing).with_inline_computes(Duration::from_micros(100)).build();
    let inline = host(inline, nothing(), Way::Async);
    let mut rows = [
        ("blocking, memory by name", blocking.open(false), Way::Blocking),
        ("blocking, memory by export", blocking.open(true), Way::Blocking),
        ("async, memory by name", inline.open(false), Way::Async),
        ("async, memory by export", inline.open(true), Way::Async),
        ("async, computes on threads of the engine", threaded.open(true), Way::Async),
    ]
    .map(|(name, opened, way)| (name, opened, way, CALLS.map(|_| Vec::new())));
    for _ in 0..SHORT_ROUNDS {
        for (_, opened, way, times) in &mut rows {
            for (call, times) in CALLS.into_iter().zip(times) {
                times.push(opened.time(call, CALLS_A_ROUND, *way));
            }
        }
    }
    for (name, _, way, times) in rows {
        let [empty, set_input, compute, get_output] = times.map(median);
        let above = [set_input, compute, get_output].map(|time| time - empty);
        let [set_input, compute, get_output] = above;
        println!(
            "  {name}: empty {empty:.0}, set_input {set_input:+.0}, compute {compute:+.0}, get_output {get_output:+.0}"
        );
        if way == Way::Blocking {
            verdict("each at most 500 above the empty call", above.iter().all(|time| *time <= 500.0));
        }
    }
}

fn threads() {
    println!("digits on one graph, inferences a second");
    let host = host(Engine::new(CandleBackend::new()), ModelSource::path(DIGITS), Way::Blocking);
    let mut opened = [host.open(true), host.open(true)];
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (count, rates) in [1, 2].into_iter().zip(&mut rates) {
            let each = thread::scope(|scope| {
                let threads: Vec<_> = opened[..count]
                    .iter_mut()
                    .map(|opened| scope.spawn(|| opened.time("digits", 4_000, Way::Blocking)))
                    .collect();
                threads.into_iter().map(|thread| 1e9 / thread.join().unwrap()).sum::<f64>()
            });
            rates.push(each);
        }
    }
    let [one, two] = rates.map(median);
    println!("  1 thread {one:.0}, 2 threads {two:.0}: {:.2} times", two / one);
    verdict("at least 1.9 times", two >= 1.9 * one);
}

/// An ONNX model of a matrix of 3 MB.
fn large() -> Vec<u8> {
    const SIDE: i64 = 887;
    let info = |name: &str| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(TensorTypeProto { elem_type: Some(1), shape: None }) }),
    };
    let weights = TensorProto {
        name: Some("w".to_owned()),
        data_type: Some(1),
        dims: vec![SIDE, SIDE],
        raw_data: Some((0..SIDE * SIDE).flat_map(|number| (number as f32 / 1e6).to_le_bytes()).collect()),
        ..TensorProto::default()
    };
    let node = NodeProto {
        input: vec!["x".to_owned(), "w".to_owned()],
        output: vec!["y".to_owned()],
        op_type: Some("MatMul".to_owned()),
        ..NodeProto::default()
    };
    let graph = GraphProto {
        node: vec![node],
        initializer: vec![weights],
        input: vec![info("x")],
        output: vec![info("y")],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        graph: Some(graph),
        ..ModelProto::default()
    }
    .encode_to_vec()
}

/// Resident bytes of this process, where the system says.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib << 10)
}

fn memory() {
    let Some(_) = resident() else { return println!("the system does not say how much memory is resident") };
    println!("resident memory of stores that have opened a context of a model of 3 MB");
    let engine = Engine::new(CandleBackend::new());
    // Before the model, so that the rest of the process does not count.
    let start = {
        let model = ModelSource::bytes(large());
        engine.register_model("model", model, Encoding::Onnx, Target::Cpu).unwrap();
        Host::new(engine, Way::Blocking)
    };
    let before = resident().unwrap();
    let mut stores = vec![start.open(true)];
    thread::sleep(Duration::from_millis(300));
    let one = resident().unwrap() - before;
    stores.extend((1..100).map(|_| start.open(true)));
    thread::sleep(Duration::from_millis(300));
    let hundred = resident().unwrap() - before;
    println!("  1 store {} KiB, 100 stores {} KiB more than none", one >> 10, hundred >> 10);
    let whole = |bytes: usize| (before + bytes) as f64 / f64::from(1 << 20);
    println!("  the whole process: {:.1} MiB and {:.1} MiB", whole(one), whole(hundred));
    verdict("the process with 100 stores at most 1.1 times that with 1", whole(hundred) <= 1.1 * whole(one));
    black_box(stores);
}

fn main() {
    // First, so that nothing is resident that the others have left.
    memory();
    calls();
    threads();
}
