//! The guest programs of `hosts/wasmtime/guests`, in each host.

use std::fs;

use wasmtime::error::Context as _;
use wasmtime::{Engine, InstancePre, Linker, Module, Result, Store, bail, component};
use wasmtime_wasi::p2::bindings::sync::CommandPre;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use crate::model::Models;
use crate::way::{Ours, Shared, State, Way};

/// The most that a guest prints.
const MAX_OUTPUT: usize = 1 << 20;

/// A guest program, compiled and linked for one way.
pub enum Program<W: Way> {
    /// A core module.
    Core(InstancePre<State<W>>),
    /// A component.
    Component(CommandPre<State<W>>),
}

impl<W: Way> Program<W> {
    /// Compiles and links `.cache/guests/NAME.wasm`.
    pub fn load(engine: &Engine, models: &Models, name: &str) -> Result<Self> {
        let path = models.root.join(".cache/guests").join(name).with_extension("wasm");
        let bytes = fs::read(&path)
            .with_context(|| format!("{} cannot be read; scripts/build_guests.sh makes it", path.display()))?;
        if bytes.get(6..8) == Some(&[1, 0]) {
            let mut linker = component::Linker::new(engine);
            wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
            W::link_component(&mut linker)?;
            let component = component::Component::new(engine, &bytes)?;
            return Ok(Self::Component(CommandPre::new(linker.instantiate_pre(&component)?)?));
        }
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p1::add_to_linker_sync(&mut linker, State::wasi)?;
        W::link(&mut linker)?;
        Ok(Self::Core(linker.instantiate_pre(&Module::new(engine, &bytes)?)?))
    }

    /// Runs the guest in a store of its own, with the digits' files under `/digits`. Returns what it has printed.
    pub fn run(&self, way: &W, models: &Models, args: &[&str]) -> Result<String> {
        let output = MemoryOutputPipe::new(MAX_OUTPUT);
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_blocking_current_thread(true).stdout(output.clone()).inherit_stderr().arg("guest").args(args);
        wasi.preopened_dir(models.root.join("examples/models/digits"), "/digits", FsPerms::ReadOnly)?;
        let mut state = State { core: None, component: None, wasi: Some(wasi.build_p1()) };
        let result = match self {
            Self::Core(module) => {
                state.core = Some(way.core()?);
                let mut store = Store::new(module.module().engine(), state);
                let instance = module.instantiate(&mut store)?;
                instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())
            }
            Self::Component(component) => {
                state.component = Some(way.component()?);
                let mut store = Store::new(component.engine(), state);
                let command = component.instantiate(&mut store)?;
                match command.wasi_cli_run().call_run(&mut store)? {
                    Ok(()) => Ok(()),
                    Err(()) => bail!("{}: the guest failed", W::NAME),
                }
            }
        };
        match result {
            // Its output says what was wrong.
            Err(error) if error.downcast_ref::<I32Exit>().is_none() => return Err(error),
            _ => {}
        }
        Ok(String::from_utf8(output.contents().to_vec())?)
    }
}

/// Runs the classifiers of both forms in both hosts, and prints how many of their results agree.
pub fn compare(models: &Models) -> Result<()> {
    println!("| the 450 digits, by | results alike in both hosts |\n| --- | ---: |");
    let (ours, shared) = (Ours::new(&[&models.digits])?, Shared::new(&[&models.digits])?);
    for (name, form) in [("classify", "the core-module form"), ("classify_component", "the component form")] {
        let engine = Engine::default();
        let args = ["digits", "/digits/images.bin"];
        let here = Program::load(&engine, models, name)?.run(&ours, models, &args)?;
        let there = Program::load(&engine, models, name)?.run(&shared, models, &args)?;
        let alike = here.lines().zip(there.lines()).filter(|(here, there)| here == there).count();
        println!("| {form} | {alike} of {} |", here.lines().count().max(there.lines().count()));
    }
    println!();
    Ok(())
}
