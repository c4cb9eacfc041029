//! A module that does what the test says: it exports every function of the host, and its memory is the test's to write.

#[path = "executor.rs"]
mod executor;

use std::fmt::Write as _;
use std::sync::LazyLock;

pub use executor::block_on;
use graphpool_wasmtime::{WasiNnCtx, witx};
use wasmtime::{Config, Engine, Extern, Instance, Linker, Memory, Module, SharedMemory, Store, Val};
use wiggle::{GuestMemory, GuestPtr};

/// The functions of the host, with the number of their parameters.
pub const CALLS: [(&str, usize); 12] = [
    ("load", 5),
    ("load_by_name", 3),
    ("load_by_name_with_config", 5),
    ("init_execution_context", 2),
    ("set_input", 3),
    ("compute", 1),
    ("get_output", 5),
    ("compute_single", 1),
    ("get_output_single", 5),
    ("fini_single", 1),
    ("unload", 1),
    ("finalize_execution_context", 1),
];

/// An unshared memory of two pages.
pub const UNSHARED: &str = r#"(memory (export "memory") 2)"#;
/// A shared one.
pub const SHARED: &str = r#"(memory (export "memory") 2 2 shared)"#;
/// The length of both.
pub const END: u32 = 2 * 65_536;

pub static WASM: LazyLock<Engine> = LazyLock::new(|| engine(Config::new()));

pub fn engine(mut config: Config) -> Engine {
    config.shared_memory(true);
    Engine::new(&config).unwrap()
}

/// The puppet's text, with the fields that define its memory.
pub fn wat(memory: &str) -> String {
    let (mut imports, mut exports) = (String::new(), String::new());
    for (name, count) in CALLS {
        let params = "i32 ".repeat(count);
        writeln!(imports, r#"(import "wasi_ephemeral_nn" "{name}" (func ${name} (param {params}) (result i32)))"#)
            .unwrap();
        let gets =
            ["(local.get 0)", "(local.get 1)", "(local.get 2)", "(local.get 3)", "(local.get 4)"][..count].concat();
        writeln!(exports, r#"(func (export "{name}") (param {params}) (result i32) (call ${name} {gets}))"#).unwrap();
    }
    // Computes without end.
    let spin = r#"(func (export "spin") (param i32) (result i32) (loop (drop (call $compute (local.get 0))) (br 0)) unreachable)"#;
    format!("(module {imports} {memory} {exports} {spin})")
}

/// How the host's functions are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Blocking,
    Async,
}

pub struct Puppet {
    pub store: Store<WasiNnCtx>,
    pub instance: Instance,
    memory: Option<Linear>,
    mode: Mode,
}

enum Linear {
    Unshared(Memory),
    Shared(SharedMemory),
}

impl Puppet {
    pub fn new(ctx: WasiNnCtx, memory: &str, mode: Mode) -> Self {
        Self::of(ctx, &Module::new(&WASM, wat(memory)).unwrap(), mode)
    }

    pub fn of(ctx: WasiNnCtx, module: &Module, mode: Mode) -> Self {
        Self::in_store(Store::new(module.engine(), ctx), module, mode)
    }

    pub fn in_store(store: Store<WasiNnCtx>, module: &Module, mode: Mode) -> Self {
        let linker = linker(module.engine(), mode);
        Self::linked(store, module, &linker, mode)
    }

    /// A puppet whose memory is this one.
    pub fn sharing(ctx: WasiNnCtx, memory: &SharedMemory, mode: Mode) -> Self {
        let memory_field = r#"(import "test" "memory" (memory 2 2 shared)) (export "memory" (memory 0))"#;
        let module = Module::new(&WASM, wat(memory_field)).unwrap();
        let (store, mut linker) = (Store::new(&WASM, ctx), linker(&WASM, mode));
        linker.define(&store, "test", "memory", memory.clone()).unwrap();
        Self::linked(store, &module, &linker, mode)
    }

    fn linked(mut store: Store<WasiNnCtx>, module: &Module, linker: &Linker<WasiNnCtx>, mode: Mode) -> Self {
        let instance = block_on(linker.instantiate_async(&mut store, module)).unwrap();
        let memory = match instance.get_export(&mut store, "memory") {
            Some(Extern::Memory(memory)) => Some(Linear::Unshared(memory)),
            Some(Extern::SharedMemory(memory)) => Some(Linear::Shared(memory)),
            _ => None,
        };
        Self { store, instance, memory, mode }
    }

    /// Calls a function of the host's, from the module.
    pub fn call(&mut self, name: &str, arguments: &[u32]) -> u32 {
        match self.mode {
            Mode::Blocking => self.call_blocking(name, arguments).unwrap(),
            Mode::Async => block_on(self.call_async(name, arguments)).unwrap(),
        }
    }

    fn call_blocking(&mut self, name: &str, arguments: &[u32]) -> wasmtime::Result<u32> {
        let (function, arguments, mut result) = self.prepare(name, arguments);
        function.call(&mut self.store, &arguments, &mut result)?;
        Ok(result[0].unwrap_i32() as u32)
    }

    pub async fn call_async(&mut self, name: &str, arguments: &[u32]) -> wasmtime::Result<u32> {
        let (function, arguments, mut result) = self.prepare(name, arguments);
        function.call_async(&mut self.store, &arguments, &mut result).await?;
        Ok(result[0].unwrap_i32() as u32)
    }

    fn prepare(&mut self, name: &str, arguments: &[u32]) -> (wasmtime::Func, Vec<Val>, [Val; 1]) {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        (function, arguments.iter().map(|word| Val::I32(*word as i32)).collect(), [Val::I32(-1)])
    }

    /// Calls a function that must succeed, and whose last argument is the address of its result.
    pub fn made(&mut self, name: &str, arguments: &[u32]) -> u32 {
        assert_eq!(self.call(name, arguments), 0, "{name} {arguments:x?}");
        self.word(*arguments.last().unwrap())
    }

    pub fn write(&mut self, at: u32, bytes: &[u8]) {
        let place = GuestPtr::new((at, bytes.len() as u32));
        self.memory_mut().copy_from_slice(bytes, place).unwrap();
    }

    pub fn write_words(&mut self, at: u32, words: &[u32]) {
        self.write(at, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
    }

    pub fn read(&mut self, at: u32, length: u32) -> Vec<u8> {
        self.memory_mut().to_vec(GuestPtr::new((at, length))).unwrap()
    }

    pub fn word(&mut self, at: u32) -> u32 {
        u32::from_le_bytes(self.read(at, 4).try_into().unwrap())
    }

    pub fn floats(&mut self, at: u32, count: u32) -> Vec<f32> {
        self.read(at, 4 * count).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    pub fn grow(&mut self, pages: u64) {
        match self.memory.as_ref().unwrap() {
            Linear::Unshared(memory) => memory.grow(&mut self.store, pages).unwrap(),
            Linear::Shared(memory) => memory.grow(pages).unwrap(),
        };
    }

    /// The addresses of the memory's bytes in the host.
    pub fn addresses(&mut self) -> std::ops::Range<usize> {
        let (start, length) = match self.memory.as_ref().unwrap() {
            Linear::Unshared(memory) => (memory.data_ptr(&self.store).addr(), memory.data_size(&self.store)),
            Linear::Shared(memory) => (memory.data().as_ptr().addr(), memory.data_size()),
        };
        start..start + length
    }

    fn memory_mut(&mut self) -> GuestMemory<'_> {
        match self.memory.as_ref().unwrap() {
            Linear::Unshared(memory) => GuestMemory::Unshared(memory.data_mut(&mut self.store)),
            Linear::Shared(memory) => GuestMemory::Shared(memory.data()),
        }
    }
}

pub fn linker(engine: &Engine, mode: Mode) -> Linker<WasiNnCtx> {
    let mut linker = Linker::new(engine);
    match mode {
        Mode::Blocking => witx::add_to_linker(&mut linker, |ctx: &mut WasiNnCtx| ctx),
        Mode::Async => witx::add_to_linker_async(&mut linker, |ctx: &mut WasiNnCtx| ctx),
    }
    .unwrap();
    linker
}
