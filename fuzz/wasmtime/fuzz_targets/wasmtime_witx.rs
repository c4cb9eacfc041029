//! The calls of the core-module form with random arguments over a random memory: each returns an errno, and nothing is
//! left when the store is gone.
#![no_main]

use std::sync::{LazyLock, OnceLock};

use graphpool::backend::wire::Dialect;
use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{
    Encoding, Engine, Error, Limits, ModelSource, Target, Tensor, TensorDescription, TensorType, TensorView,
};
use graphpool_wasmtime::{WasiNnCtx, witx};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use wasmtime::{Config, Extern, Linker, Module, Store, Val};
use wiggle::{GuestMemory, GuestPtr};

/// The functions, with the number of their parameters.
const CALLS: [(&str, usize); 9] = [
    ("load", 5),
    ("load_by_name", 3),
    ("load_by_name_with_config", 5),
    ("init_execution_context", 2),
    ("set_input", 3),
    ("compute", 1),
    ("get_output", 5),
    ("unload", 1),
    ("finalize_execution_context", 1),
];

/// The memories. The first has what good calls need at its start.
const MEMORIES: [&str; 6] = [
    r#"(memory (export "memory") 1)"#,
    r#"(memory (export "memory") 1 1 shared)"#,
    r#"(memory (export "memory") i64 1)"#,
    r#"(memory (export "memory") 0)"#,
    r#"(func (export "memory"))"#,
    "",
];

const PAGE: u32 = 65_536;

/// A number, mostly near one that means something.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Argument {
    /// In the first bytes, where good arguments are.
    Near(u8),
    Any(u32),
    /// So far before or after the end of the memory.
    End(i8),
    /// So far before the end of the address space.
    Last(u8),
    /// A result of an earlier call, and what is next to it.
    Result(u8, i8),
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// A good call, with these arguments in the places of its own.
    Call(u8, Vec<(u8, Argument)>),
    Write(Argument, Vec<u8>),
    WriteWord(Argument, Argument),
}

#[derive(Arbitrary, Debug)]
struct Input {
    memory: u8,
    /// How many of the calls of a good guest come first.
    prepared: u8,
    dialect: u8,
    falls_back: bool,
    by_export: bool,
    small_limits: bool,
    steps: Vec<Step>,
}

/// Copies a vector of any type and any length.
struct Copy;

struct Graph([TensorDescription; 1]);

struct Context(Option<Tensor>);

impl Backend for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        encoding == Encoding::Onnx && target == Target::Cpu
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let first = request.parts.iter().find_map(|part| part.first());
        let ty = first.and_then(|first| TensorType::ALL.get(usize::from(first % 16)));
        let ty = *ty.ok_or_else(|| Error::invalid_encoding("no type"))?;
        Ok(Box::new(Graph([TensorDescription::new("x", ty, Some(vec![None]))])))
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
        Ok(Box::new(Context(None)))
    }

    fn memory(&self) -> usize {
        16
    }
}

impl BackendContext for Context {
    fn set_input(&mut self, _: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        self.0 = Some(tensor.to_owned());
        Ok(())
    }

    fn clear_inputs(&mut self) {
        self.0 = None;
    }

    fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
        self.0.as_ref().map(|_| ()).ok_or_else(|| Error::invalid_argument("no input"))
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        self.0.as_ref().map(Tensor::view).ok_or_else(|| Error::invalid_argument("no input"))
    }
}

struct Host {
    wasm: wasmtime::Engine,
    linker: Linker<WasiNnCtx>,
    modules: [OnceLock<Module>; MEMORIES.len()],
    engine: Engine,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let mut config = Config::new();
    config.shared_memory(true);
    let wasm = wasmtime::Engine::new(&config).unwrap();
    let mut linker = Linker::new(&wasm);
    witx::add_to_linker(&mut linker, |ctx: &mut WasiNnCtx| ctx).unwrap();
    let engine = Engine::new(Copy);
    let model = ModelSource::bytes(vec![1]).with_guest_configs(4);
    engine.register_model("m", model, Encoding::Onnx, Target::Cpu).unwrap();
    Host { wasm, linker, modules: Default::default(), engine }
});

impl Host {
    fn module(&self, memory: usize) -> &Module {
        self.modules[memory].get_or_init(|| {
            let (mut imports, mut exports) = (String::new(), String::new());
            for (name, count) in CALLS {
                let params = "i32 ".repeat(count);
                let gets: String = (0..count).map(|place| format!("(local.get {place}) ")).collect();
                imports +=
                    &format!(r#"(import "wasi_ephemeral_nn" "{name}" (func ${name} (param {params}) (result i32)))"#);
                exports += &format!(r#"(func (export "{name}") (param {params}) (result i32) (call ${name} {gets}))"#);
            }
            Module::new(&self.wasm, format!("(module {imports} {} {exports})", MEMORIES[memory])).unwrap()
        })
    }
}

/// What good calls need: a part, a name, a tensor of two f32.
const PARTS: u32 = 16;
const NAME: u32 = 24;
const TENSOR: u32 = 32;
const DATA: u32 = 64;
const OUT: u32 = 96;
const GOOD: [(u32, u32); 8] = [
    (PARTS, DATA),
    (PARTS + 4, 1),
    (NAME, u32::from_le_bytes(*b"m{}\0")),
    (TENSOR, TENSOR + 20),
    (TENSOR + 4, 1),
    (TENSOR + 8, 1),
    (TENSOR + 12, DATA),
    (TENSOR + 16, 8),
];

/// The arguments of a good call; of a handle, the last that was made.
fn good(call: &str, place: usize, graph: u32, context: u32) -> u32 {
    let arguments: &[u32] = match call {
        "load" => &[PARTS, 1, 1, 0, OUT],
        "load_by_name" => &[NAME, 1, OUT],
        "load_by_name_with_config" => &[NAME, 1, NAME + 1, 2, OUT],
        "init_execution_context" => &[graph, OUT],
        "set_input" => &[context, 0, TENSOR],
        "get_output" => &[context, 0, DATA, 8, OUT],
        "unload" => &[graph],
        _ => &[context],
    };
    arguments[place]
}

fuzz_target!(|input: Input| {
    let host = &*HOST;
    // Mostly one of the first two, with which calls get far.
    let memory = usize::from(input.memory) % 16;
    let memory = if memory < MEMORIES.len() { memory } else { memory % 2 };
    let module = host.module(memory);
    let mut limits = Limits::default().with_max_graph_bytes(1 << 16).with_max_tensor_bytes(1 << 16);
    if input.small_limits {
        limits = limits.with_max_graphs(2).with_max_contexts(2).with_max_tensor_rank(2).with_max_context_bytes(100);
    }
    let dialects = [Dialect::Witx, Dialect::WasmEdge, Dialect::Wamr];
    let mut ctx = WasiNnCtx::new(host.engine.guest_builder().with_limits(limits).build())
        .with_dialect(dialects[usize::from(input.dialect) % dialects.len()])
        .with_fallback_to_cpu(input.falls_back);
    if input.by_export
        && let Some(export) = module.get_export_index("memory")
    {
        ctx = ctx.with_memory(export);
    }
    let mut store = Store::new(&host.wasm, ctx);
    let instance = host.linker.instantiate(&mut store, module).unwrap();
    let memory = instance.get_export(&mut store, "memory");
    let (mut results, mut graph, mut context) = (vec![0], 0, 0);

    let write = |store: &mut Store<WasiNnCtx>, at: u32, bytes: &[u8]| {
        let mut memory = match &memory {
            Some(Extern::Memory(memory)) => GuestMemory::Unshared(memory.data_mut(store)),
            Some(Extern::SharedMemory(memory)) => GuestMemory::Shared(memory.data()),
            _ => return,
        };
        let _ = memory.copy_from_slice(bytes, GuestPtr::new((at, bytes.len() as u32)));
    };
    let read = |store: &mut Store<WasiNnCtx>, at: u32| {
        let bytes = match &memory {
            Some(Extern::Memory(memory)) => {
                GuestMemory::Unshared(memory.data_mut(store)).to_vec(GuestPtr::new((at, 4)))
            }
            Some(Extern::SharedMemory(memory)) => GuestMemory::Shared(memory.data()).to_vec(GuestPtr::new((at, 4))),
            _ => return 0,
        };
        bytes.map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
    };
    for (at, word) in GOOD {
        write(&mut store, at, &word.to_le_bytes());
    }
    write(&mut store, TENSOR + 20, &2_u32.to_le_bytes());
    write(&mut store, DATA, &[1; 8]);

    let prepared = [0, 3, 4, 5].into_iter().take(usize::from(input.prepared % 5));
    for step in prepared.map(|call| Step::Call(call, Vec::new())).chain(input.steps) {
        let number = |argument: Argument| match argument {
            Argument::Near(at) => at.into(),
            Argument::Any(number) => number,
            Argument::End(distance) => PAGE.wrapping_add_signed(distance.into()),
            Argument::Last(distance) => u32::MAX - u32::from(distance),
            Argument::Result(which, distance) => {
                let result: u32 = results[usize::from(which) % results.len()];
                result.wrapping_add_signed((distance / 32).into())
            }
        };
        match step {
            Step::Write(at, bytes) => write(&mut store, number(at), &bytes),
            Step::WriteWord(at, word) => write(&mut store, number(at), &number(word).to_le_bytes()),
            Step::Call(call, replaced) => {
                let (name, count) = CALLS[usize::from(call) % CALLS.len()];
                let mut arguments: Vec<u32> = (0..count).map(|place| good(name, place, graph, context)).collect();
                for (place, argument) in replaced {
                    arguments[usize::from(place) % count] = number(argument);
                }
                let values: Vec<Val> = arguments.iter().map(|number| Val::I32(*number as i32)).collect();
                let before = host.engine.stats();
                let mut errno = [Val::I32(-1)];
                let function = instance.get_func(&mut store, name).unwrap();
                function.call(&mut store, &values, &mut errno).expect("no call traps");
                let errno = errno[0].unwrap_i32();
                assert!((0..=8).contains(&errno), "{name} {arguments:x?}: errno {errno}");
                let after = host.engine.stats();
                let held = |stats: &graphpool::nn::Stats| (stats.graph_handles, stats.contexts);
                if errno != 0 {
                    assert_eq!(held(&before), held(&after), "{name} {arguments:x?}: errno {errno}");
                } else if name.starts_with("load") || name.starts_with("init") {
                    assert_ne!(held(&before), held(&after), "{name} {arguments:x?}");
                    let made = read(&mut store, arguments[count - 1]);
                    results.push(made);
                    if name.starts_with("load") {
                        graph = made;
                    } else {
                        context = made;
                    }
                }
            }
        }
    }
    drop(store);
    let stats = host.engine.stats();
    let held = (stats.guests, stats.graph_handles, stats.contexts, stats.context_bytes, stats.panics);
    assert_eq!(held, (0, 0, 0, 0, 0));
});
