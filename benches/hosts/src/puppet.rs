//! A guest without WASI whose every step the host chooses, for what is measured call by call.

use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Result, Store, TypedFunc, ensure};

use crate::model::Model;
use crate::way::{State, Way};

/// Where the guest has its input.
const INPUT: u32 = 4096;

const GUEST: &str = r#"
(module
  (import "wasi_ephemeral_nn" "load_by_name" (func $load_by_name (param i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "init_execution_context" (func $init (param i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "set_input" (func $set_input (param i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
  (import "wasi_ephemeral_nn" "get_output" (func $get_output (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; The graph is at 0, the context at 4, the size of an output at 8, the tensor at 16, the name at 128.
  ;; Each function returns the errnos of its calls, or-ed.
  (func (export "open") (param $name_length i32) (result i32)
    (i32.or
      (call $load_by_name (i32.const 128) (local.get $name_length) (i32.const 0))
      (call $init (i32.load (i32.const 0)) (i32.const 4))))
  (func (export "infer") (result i32)
    (local $context i32)
    (local.set $context (i32.load (i32.const 4)))
    (i32.or
      (i32.or
        (call $set_input (local.get $context) (i32.const 0) (i32.const 16))
        (call $compute (local.get $context)))
      (call $get_output (local.get $context) (i32.const 0) (i32.const 32768) (i32.const 32768) (i32.const 8)))))
"#;

/// The guest, compiled and linked.
pub fn link<W: Way>(engine: &Engine) -> Result<InstancePre<State<W>>> {
    let mut linker = Linker::new(engine);
    W::link(&mut linker)?;
    linker.instantiate_pre(&Module::new(engine, GUEST)?)
}

/// An instance in a store, with an open context.
pub struct Puppet<W: Way> {
    store: Store<State<W>>,
    infer: TypedFunc<(), i32>,
}

impl<W: Way> Puppet<W> {
    /// Instantiates the guest in a store of its own, and opens the model.
    pub fn open(pre: &InstancePre<State<W>>, way: &W, model: &Model) -> Result<Self> {
        let state = State { core: Some(way.core()?), component: None, wasi: None };
        let mut store = Store::new(pre.module().engine(), state);
        let instance = pre.instantiate(&mut store)?;
        write(&mut store, instance, 128, model.name().as_bytes())?;
        // Dimensions, rank, type 1 (f32), data and length; the dimensions follow.
        let tensor = [64, model.dims.len() as u32, 1, INPUT, 4 * model.inputs() as u32];
        write(&mut store, instance, 16, &tensor.map(u32::to_le_bytes).concat())?;
        let dims = model.dims.iter().copied().flat_map(u32::to_le_bytes);
        write(&mut store, instance, 64, &dims.collect::<Vec<_>>())?;
        let pixels = (0..model.inputs()).flat_map(|i| ((i % 16) as f32 / 16.0).to_le_bytes());
        write(&mut store, instance, INPUT as usize, &pixels.collect::<Vec<_>>())?;

        let open = instance.get_typed_func::<i32, i32>(&mut store, "open")?;
        let errno = open.call(&mut store, model.name().len() as i32)?;
        ensure!(errno == 0, "{}: errno {errno} where the guest opened {}", W::NAME, model.name());
        let infer = instance.get_typed_func(&mut store, "infer")?;
        Ok(Self { store, infer })
    }

    /// `set_input`, `compute` and `get_output`.
    pub fn infer(&mut self) -> Result<()> {
        let errno = self.infer.call(&mut self.store, ())?;
        ensure!(errno == 0, "{}: errno {errno} where the guest inferred", W::NAME);
        Ok(())
    }
}

fn write<W: Way>(store: &mut Store<State<W>>, instance: Instance, at: usize, bytes: &[u8]) -> Result<()> {
    let memory = instance.get_memory(&mut *store, "memory").expect("the guest exports its memory");
    Ok(memory.write(store, at, bytes)?)
}
