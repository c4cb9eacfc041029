//! Which memory a call uses.

use graphpool_wasmtime::WasiNnCtx;
use wasmtime::{Extern, Module};

use crate::backend::Words;
use crate::layout::{BUFFER, CPU, ONNX, OUT, PARTS, TENSOR, engine, guest};
use crate::puppet::{Mode, Puppet, UNSHARED, WASM, linker, wat};

/// The calls that use a memory, with arguments.
const WITH_MEMORY: [(&str, &[u32]); 6] = [
    ("load", &[PARTS, 1, ONNX, CPU, OUT]),
    ("load_by_name", &[0, 4, OUT]),
    ("load_by_name_with_config", &[0, 4, 0, 0, OUT]),
    ("init_execution_context", &[1, OUT]),
    ("set_input", &[1, 0, TENSOR]),
    ("get_output", &[1, 0, BUFFER, 8, OUT]),
];

#[test]
fn without_a_32_bit_memory_a_call_is_missing_memory() {
    let engine = engine(&Words::default());
    for memory in [
        "",
        "(memory 2)",
        r#"(memory (export "memori") 2)"#,
        r#"(func (export "memory"))"#,
        r#"(global (export "memory") i32 (i32.const 0))"#,
        r#"(table (export "memory") 1 funcref)"#,
        r#"(memory (export "memory") i64 2)"#,
        r#"(memory (export "memory") i64 2 2 shared)"#,
    ] {
        for mode in [Mode::Blocking, Mode::Async] {
            let mut puppet = Puppet::new(WasiNnCtx::new(guest(&engine)), memory, mode);
            let errors = engine.stats().errors;
            for (call, arguments) in WITH_MEMORY {
                assert_eq!(puppet.call(call, arguments), 3, "{call} with {memory}");
            }
            assert_eq!(engine.stats().errors - errors, WITH_MEMORY.len() as u64);
            for call in ["compute", "compute_single", "fini_single", "unload", "finalize_execution_context"] {
                assert_eq!(puppet.call(call, &[1]), 1, "{call} with {memory}");
            }
        }
    }
}

#[test]
fn a_memory_of_no_pages_and_one_that_grows_are_checked_at_each_call() {
    let engine = engine(&Words::default());
    for memory in [r#"(memory (export "memory") 0)"#, r#"(memory (export "memory") 0 4 shared)"#] {
        let mut puppet = Puppet::new(WasiNnCtx::new(guest(&engine)), memory, Mode::Blocking);
        for (call, arguments) in WITH_MEMORY {
            assert_eq!(puppet.call(call, arguments), 3, "{call} with {memory}");
        }
        puppet.grow(2);
        puppet.furnish("copy");
        puppet.works();
    }
}

#[test]
fn the_host_calls_without_an_instance() {
    let engine = engine(&Words::default());
    let mut store = wasmtime::Store::new(&WASM, WasiNnCtx::new(guest(&engine)));
    let linker = linker(&WASM, Mode::Blocking);
    let Ok(Extern::Func(load)) = linker.get(&mut store, "wasi_ephemeral_nn", "load") else { panic!() };
    let load = load.typed::<(u32, u32, u32, u32, u32), u32>(&store).unwrap();
    assert_eq!(load.call(&mut store, (PARTS, 1, ONNX, CPU, OUT)).unwrap(), 3);
}

#[test]
fn a_module_export_finds_the_memory_of_the_instance_that_calls() {
    let engine = engine(&Words::default());
    // The memory has another name here, so that only the export finds it.
    let module = Module::new(&WASM, wat(r#"(memory (export "heap") 2)"#)).unwrap();
    let other = Module::new(&WASM, wat(UNSHARED)).unwrap();
    let heap = module.get_export_index("heap").unwrap();
    let linker = linker(&WASM, Mode::Blocking);
    let mut store = wasmtime::Store::new(&WASM, WasiNnCtx::new(guest(&engine)).with_memory(heap));
    // Two instances of the module and one of another, in one store: each has the name of a model in its own memory.
    let names = [(&module, "heap", "copy"), (&module, "heap", "mine"), (&other, "memory", "none")];
    let instances = names.map(|(module, memory, name)| {
        let instance = linker.instantiate(&mut store, module).unwrap();
        instance.get_memory(&mut store, memory).unwrap().write(&mut store, 0, name.as_bytes()).unwrap();
        instance
    });
    for (instance, errno) in instances.into_iter().zip([0, 0, 8]) {
        let load = instance.get_typed_func::<(u32, u32, u32), u32>(&mut store, "load_by_name").unwrap();
        assert_eq!(load.call(&mut store, (0, 4, OUT)).unwrap(), errno);
    }
    let outs = instances.into_iter().zip(names).map(|(instance, (_, memory, _))| {
        let memory = instance.get_memory(&mut store, memory).unwrap();
        u32::from_le_bytes(memory.data(&store)[OUT as usize..][..4].try_into().unwrap())
    });
    let outs: Vec<u32> = outs.collect();
    assert!(outs[0] != 0 && outs[1] != 0 && outs[0] != outs[1] && outs[2] == 0);
}

#[test]
fn a_module_export_that_is_no_memory_is_missing_memory() {
    let engine = engine(&Words::default());
    let module = Module::new(&WASM, wat(UNSHARED)).unwrap();
    let function = module.get_export_index("load").unwrap();
    let mut puppet = Puppet::of(WasiNnCtx::new(guest(&engine)).with_memory(function), &module, Mode::Blocking);
    for (call, arguments) in WITH_MEMORY {
        assert_eq!(puppet.call(call, arguments), 3, "{call}");
    }
}
