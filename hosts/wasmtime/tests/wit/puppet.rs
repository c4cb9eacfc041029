//! A component that does what a test tells it, in a store of its own.

use std::sync::OnceLock;

use graphpool::nn::Guest;
use graphpool_wasmtime::WasiNnCtx;
use graphpool_wasmtime::wit::{self, WasiNnView};
use tokio::runtime::{self, Runtime};
use wasmtime::component::{
    Component, ComponentNamedList, Instance, InstancePre, Lift, Linker, Lower, ResourceTable, TypedFunc,
};
use wasmtime::{Config, Engine, Store};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// The text of the interfaces, which the crate is built from.
pub const INTERFACES: &str = include_str!("../../wit/wasi-nn.wit");

/// How the host calls the component, and how its imports wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Sync,
    Async,
}

pub const MODES: [Mode; 2] = [Mode::Sync, Mode::Async];

/// The data of a store.
pub struct Data {
    pub table: ResourceTable,
    pub nn: WasiNnCtx,
}

impl Data {
    pub fn new(guest: Guest) -> Self {
        Self { table: ResourceTable::new(), nn: WasiNnCtx::new(guest) }
    }
}

/// The error that a guest gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u32,
    pub message: String,
}

/// The numbers of the error codes.
pub mod code {
    pub const INVALID_ARGUMENT: u32 = 0;
    pub const INVALID_ENCODING: u32 = 1;
    pub const TIMEOUT: u32 = 2;
    pub const RUNTIME_ERROR: u32 = 3;
    pub const UNSUPPORTED_OPERATION: u32 = 4;
    pub const TOO_LARGE: u32 = 5;
    pub const NOT_FOUND: u32 = 6;
    pub const SECURITY: u32 = 7;
    pub const UNKNOWN: u32 = 8;
}

/// The numbers of the element types.
pub mod ty {
    pub const FP32: u32 = 1;
    pub const U8: u32 = 4;
}

pub const ONNX: u32 = 1;
pub const CPU: u32 = 0;

struct Host {
    engine: Engine,
    linkers: [InstancePre<Data>; 2],
}

/// Encodes a core module as a component of a world of `wit`, which may use the interfaces of wasi-nn.
pub fn component(module: &str, wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("wasi-nn.wit", INTERFACES).unwrap();
    let package = resolve.push_str("world.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

fn view(data: &mut Data) -> WasiNnView<'_> {
    WasiNnView::new(&mut data.table, &mut data.nn)
}

pub fn linker(engine: &Engine, mode: Mode) -> Linker<Data> {
    let mut linker = Linker::new(engine);
    match mode {
        Mode::Sync => wit::add_to_linker(&mut linker, view).unwrap(),
        Mode::Async => wit::add_to_linker_async(&mut linker, view).unwrap(),
    }
    linker
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let engine = Engine::new(Config::new().epoch_interruption(true).consume_fuel(true)).unwrap();
        let component =
            Component::new(&engine, component(include_str!("puppet.wat"), include_str!("puppet.wit"), "puppet"))
                .unwrap();
        let linkers = MODES.map(|mode| linker(&engine, mode).instantiate_pre(&component).unwrap());
        Host { engine, linkers }
    })
}

/// The engine that all puppets share.
pub fn engine() -> &'static Engine {
    &host().engine
}

/// A store with an instance of the component.
pub struct Puppet {
    pub store: Store<Data>,
    instance: Instance,
    mode: Mode,
}

/// Whether a result is one: its discriminant is the first byte, and the others are of any content.
fn is_ok(word: u32) -> bool {
    word.to_le_bytes()[0] == 0
}

/// Runs a future on an executor of one thread.
pub fn block_on<R>(future: impl Future<Output = R>) -> R {
    thread_local!(static RUNTIME: Runtime = runtime::Builder::new_current_thread().build().unwrap());
    RUNTIME.with(|runtime| runtime.block_on(future))
}

impl Puppet {
    pub fn new(mode: Mode, guest: Guest) -> Self {
        Self::with(mode, Data::new(guest))
    }

    pub fn with(mode: Mode, data: Data) -> Self {
        let host = host();
        let mut store = Store::new(&host.engine, data);
        store.set_epoch_deadline(1 << 40);
        store.set_fuel(u64::MAX).unwrap();
        let instance = match mode {
            Mode::Sync => host.linkers[0].instantiate(&mut store).unwrap(),
            Mode::Async => block_on(host.linkers[1].instantiate_async(&mut store)).unwrap(),
        };
        Self { store, instance, mode }
    }

    pub fn func<P, R>(&mut self, name: &str) -> TypedFunc<P, R>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        self.instance.get_typed_func(&mut self.store, name).unwrap()
    }

    /// Calls an export.
    pub fn call<P, R>(&mut self, name: &str, arguments: P) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let func = self.func::<P, R>(name);
        match self.mode {
            Mode::Sync => func.call(&mut self.store, arguments),
            Mode::Async => block_on(func.call_async(&mut self.store, arguments)),
        }
    }

    /// Calls an export that must not trap.
    pub fn ask<P, R>(&mut self, name: &str, arguments: P) -> R
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.call(name, arguments).unwrap()
    }

    /// Forgets what is in the component's memory.
    pub fn reset(&mut self) {
        self.ask::<(), ()>("reset", ());
    }

    /// Writes bytes into new memory of the component, and returns their address.
    pub fn put(&mut self, bytes: &[u8]) -> u32 {
        let (at,) = self.ask::<_, (u32,)>("allocate", (u32::try_from(bytes.len()).unwrap(),));
        self.put_at(at, bytes);
        at
    }

    pub fn put_at(&mut self, at: u32, bytes: &[u8]) {
        self.ask::<_, ()>("write", (at, bytes));
    }

    /// Writes numbers.
    pub fn put_words(&mut self, words: &[u32]) -> u32 {
        // Lists of words are aligned, which an allocation of bytes is, too.
        self.put(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }

    pub fn get(&mut self, at: u32, length: u32) -> Vec<u8> {
        self.ask::<_, (Vec<u8>,)>("read", (at, length)).0
    }

    pub fn get_words(&mut self, at: u32, count: u32) -> Vec<u32> {
        let bytes = self.get(at, 4 * count);
        bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    /// Reads a result of one word behind a discriminant.
    pub fn result(&mut self, at: u32) -> Result<u32, Failure> {
        let words = self.get_words(at, 2);
        if is_ok(words[0]) { Ok(words[1]) } else { Err(self.failure(words[1])) }
    }

    /// Reads an error, and drops it.
    pub fn failure(&mut self, error: u32) -> Failure {
        let (code,) = self.ask("error-code", (error,));
        self.ask::<_, ()>("error-data", (error, 0_u32));
        let words = self.get_words(0, 2);
        let message = String::from_utf8(self.get(words[0], words[1])).unwrap();
        self.ask::<_, ()>("drop-error", (error,));
        Failure { code, message }
    }

    pub fn load(&mut self, parts: &[&[u8]], encoding: u32, target: u32) -> Result<u32, Failure> {
        self.reset();
        let mut list = Vec::new();
        for part in parts {
            list.extend([self.put(part), u32::try_from(part.len()).unwrap()]);
        }
        let list = self.put_words(&list);
        self.ask::<_, ()>("load", (list, u32::try_from(parts.len()).unwrap(), encoding, target, 0_u32));
        self.result(0)
    }

    pub fn load_by_name(&mut self, name: &str) -> Result<u32, Failure> {
        self.reset();
        let at = self.put(name.as_bytes());
        self.ask::<_, ()>("load-by-name", (at, u32::try_from(name.len()).unwrap(), 0_u32));
        self.result(0)
    }

    pub fn context(&mut self, graph: u32) -> Result<u32, Failure> {
        self.ask::<_, ()>("init-execution-context", (graph, 0_u32));
        self.result(0)
    }

    pub fn tensor(&mut self, dimensions: &[u32], ty: u32, data: &[u8]) -> u32 {
        self.reset();
        let (at, rank) = (self.put_words(dimensions), u32::try_from(dimensions.len()).unwrap());
        let (from, length) = (self.put(data), u32::try_from(data.len()).unwrap());
        self.ask::<_, (u32,)>("new-tensor", (at, rank, ty, from, length)).0
    }

    /// A tensor's dimensions, type and data.
    pub fn parts(&mut self, tensor: u32) -> (Vec<u32>, u32, Vec<u8>) {
        self.reset();
        let (ty,) = self.ask("ty", (tensor,));
        self.ask::<_, ()>("dimensions", (tensor, 0_u32));
        self.ask::<_, ()>("data", (tensor, 8_u32));
        let words = self.get_words(0, 4);
        (self.get_words(words[0], words[1]), ty, self.get(words[2], words[3]))
    }

    /// Computes; consumes the inputs.
    pub fn compute(&mut self, context: u32, inputs: &[(&str, u32)]) -> Result<Vec<(String, u32)>, Failure> {
        self.reset();
        let mut list = Vec::new();
        for (name, tensor) in inputs {
            list.extend([self.put(name.as_bytes()), u32::try_from(name.len()).unwrap(), *tensor]);
        }
        let list = self.put_words(&list);
        self.ask::<_, ()>("compute", (context, list, u32::try_from(inputs.len()).unwrap(), 0_u32));
        let words = self.get_words(0, 3);
        if !is_ok(words[0]) {
            return Err(self.failure(words[1]));
        }
        let outputs = self.get_words(words[1], 3 * words[2]);
        let output = |output: &[u32; 3]| (String::from_utf8(self.get(output[0], output[1])).unwrap(), output[2]);
        Ok(outputs.as_chunks().0.iter().map(output).collect())
    }

    pub fn drop(&mut self, kind: &str, handle: u32) {
        self.ask::<_, ()>(&format!("drop-{kind}"), (handle,));
    }
}
