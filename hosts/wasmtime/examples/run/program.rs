//! A compiled command of either form, ready to be instantiated.

use std::path::Path;

use wasmtime::error::Context as _;
use wasmtime::{Config, Engine, InstancePre, Module, Result, Store, bail, component};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::sync::CommandPre;

use crate::instance::Instance;

/// The exit code for a trap: what a shell shows for a process that was aborted.
pub const TRAPPED: u8 = 134;

/// A module or component with its imports.
pub enum Program {
    /// A core module, with its `_start`.
    Module(InstancePre<Instance>),
    /// A component that exports `wasi:cli/run`.
    Component(CommandPre<Instance>),
}

/// How an instance ended.
pub enum Ended {
    /// By itself, with this code.
    Exit(u8),
    /// By a trap, which this tells of.
    Trap(String),
}

impl Program {
    /// Compiles a file, and finds all that it imports. `interruptible` code looks at the epoch's deadline.
    pub fn compile(file: &Path, interruptible: bool) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let mut config = Config::new();
        config.epoch_interruption(interruptible);
        let engine = Engine::new(&config)?;
        // The text format serves for small experiments.
        let bytes = if bytes.starts_with(b"\0asm") { bytes.into() } else { wat::parse_bytes(&bytes)? };
        let compiled =
            if is_component(&bytes) { Self::component(&engine, &bytes) } else { Self::module(&engine, &bytes) };
        compiled.with_context(|| format!("{} cannot be run", file.display()))
    }

    fn module(engine: &Engine, bytes: &[u8]) -> Result<Self> {
        let module = Module::new(engine, bytes)?;
        if module.get_export("_start").is_none() {
            bail!("the module exports no _start: it is no command");
        }
        let mut linker = wasmtime::Linker::new(engine);
        wasmtime_wasi::p1::add_to_linker_sync(&mut linker, |instance: &mut Instance| &mut instance.wasi)?;
        graphpool_wasmtime::witx::add_to_linker(&mut linker, |instance: &mut Instance| &mut instance.nn)?;
        Ok(Self::Module(linker.instantiate_pre(&module)?))
    }

    fn component(engine: &Engine, bytes: &[u8]) -> Result<Self> {
        let component = component::Component::new(engine, bytes)?;
        let mut linker = component::Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
        graphpool_wasmtime::wit::add_to_linker(&mut linker, Instance::view)?;
        Ok(Self::Component(CommandPre::new(linker.instantiate_pre(&component)?)?))
    }

    /// The engine that compiled it.
    pub fn engine(&self) -> &Engine {
        match self {
            Self::Module(module) => module.module().engine(),
            Self::Component(component) => component.engine(),
        }
    }

    /// Instantiates the command in a store, and runs it to its end.
    pub fn run(&self, store: &mut Store<Instance>) -> Ended {
        let result = match self {
            Self::Module(module) => module.instantiate(&mut *store).and_then(|instance| {
                instance.get_typed_func::<(), ()>(&mut *store, "_start")?.call(store, ()).map(|()| Ok(()))
            }),
            Self::Component(component) => {
                component.instantiate(&mut *store).and_then(|command| command.wasi_cli_run().call_run(store))
            }
        };
        match result {
            Ok(Ok(())) => Ended::Exit(0),
            Ok(Err(())) => Ended::Exit(1),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                // A process has eight bits of it.
                Some(I32Exit(code)) => Ended::Exit(code.to_le_bytes()[0]),
                None => Ended::Trap(format!("{error:?}")),
            },
        }
    }
}

/// Whether the layer that follows the magic number and the version is that of components.
fn is_component(bytes: &[u8]) -> bool {
    bytes.get(6..8) == Some(&[1, 0])
}
