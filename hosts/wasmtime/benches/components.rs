//! `cargo bench -p graphpool-wasmtime --bench components`: how long a component takes from a fresh store to the first
//! result of the digits model, and for each later inference, in blocking and asynchronous stores.

mod common;

use std::time::Instant;

use common::{DIGITS, ROUNDS, Way, block_on, median};
use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, Guest, ModelSource, Target, Tensor};
use graphpool_candle::CandleBackend;
use graphpool_wasmtime::WasiNnCtx;
use graphpool_wasmtime::wit::{self, WasiNnView};
use wasmtime::Store;
use wasmtime::component::{Component, Instance, InstancePre, Linker, ResourceTable};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// `open` loads the model and opens a context; `infer` makes an input, computes and reads the output so many times.
const GUEST: &str = r#"(module
    (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[constructor]tensor"
        (func $tensor (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[method]tensor.data" (func $data (param i32 i32)))
    (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[resource-drop]tensor" (func $drop (param i32)))
    (import "wasi:nn/graph@0.2.0-rc-2024-10-28" "load-by-name" (func $load (param i32 i32 i32)))
    (import "wasi:nn/graph@0.2.0-rc-2024-10-28" "[method]graph.init-execution-context" (func $init (param i32 i32)))
    (import "wasi:nn/inference@0.2.0-rc-2024-10-28" "[method]graph-execution-context.compute"
        (func $compute (param i32 i32 i32 i32)))
    (memory (export "memory") 1)
    ;; The model's name, the input's name, its dimensions; an input of the list is at 64, a result at 96, pixels at 256.
    (data (i32.const 16) "digits")
    (data (i32.const 24) "image")
    (data (i32.const 32) "\01\00\00\00\01\00\00\00\08\00\00\00\08\00\00\00")
    (data (i32.const 64) "\18\00\00\00\05\00\00\00")
    (global $next (mut i32) (i32.const 4096))
    (global $context (mut i32) (i32.const 0))
    (func $check (if (i32.load8_u (i32.const 96)) (then unreachable)))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
        (global.get $next)
        (global.set $next (i32.add (global.get $next) (local.get 3))))
    (func (export "open")
        (call $load (i32.const 16) (i32.const 6) (i32.const 96))
        (call $check)
        (call $init (i32.load (i32.const 100)) (i32.const 96))
        (call $check)
        (global.set $context (i32.load (i32.const 100))))
    (func (export "infer") (param $times i32) (local $output i32) (loop
        (global.set $next (i32.const 4096))
        (i32.store (i32.const 72)
            (call $tensor (i32.const 32) (i32.const 4) (i32.const 1) (i32.const 256) (i32.const 256)))
        (call $compute (global.get $context) (i32.const 64) (i32.const 1) (i32.const 96))
        (call $check)
        (local.set $output (i32.load offset=8 (i32.load (i32.const 100))))
        (call $data (local.get $output) (i32.const 96))
        (call $drop (local.get $output))
        (br_if 0 (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))))"#;

const WORLD: &str = "
package bench:guest;

world guest {
    include wasi:nn/ml@0.2.0-rc-2024-10-28;

    export open: func();
    export infer: func(times: u32);
}";

const STORES: u32 = 100;
const INFERENCES: u32 = 2_000;

struct Data {
    table: ResourceTable,
    nn: WasiNnCtx,
}

struct Host {
    engine: Engine,
    pre: InstancePre<Data>,
    way: Way,
}

struct Opened {
    store: Store<Data>,
    instance: Instance,
    way: Way,
}

fn component() -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("wasi-nn.wit", include_str!("../wit/wasi-nn.wit")).unwrap();
    let package = resolve.push_str("guest.wit", WORLD).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = wat::parse_str(GUEST).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

fn view(data: &mut Data) -> WasiNnView<'_> {
    WasiNnView::new(&mut data.table, &mut data.nn)
}

impl Host {
    fn new(engine: Engine, way: Way) -> Self {
        let wasm = wasmtime::Engine::default();
        let mut linker = Linker::new(&wasm);
        match way {
            Way::Blocking => wit::add_to_linker(&mut linker, view).unwrap(),
            Way::Async => wit::add_to_linker_async(&mut linker, view).unwrap(),
        }
        let pre = linker.instantiate_pre(&Component::new(&wasm, component()).unwrap()).unwrap();
        Self { engine, pre, way }
    }

    fn open(&self) -> Opened {
        let data = Data { table: ResourceTable::new(), nn: WasiNnCtx::new(self.engine.guest()) };
        let mut store = Store::new(self.pre.engine(), data);
        let way = self.way;
        let instance = match way {
            Way::Blocking => self.pre.instantiate(&mut store).unwrap(),
            Way::Async => block_on(self.pre.instantiate_async(&mut store)).unwrap(),
        };
        let open = instance.get_typed_func::<(), ()>(&mut store, "open").unwrap();
        match way {
            Way::Blocking => open.call(&mut store, ()).unwrap(),
            Way::Async => block_on(open.call_async(&mut store, ())).unwrap(),
        }
        Opened { store, instance, way }
    }
}

impl Opened {
    fn infer(&mut self, times: u32) {
        let infer = self.instance.get_typed_func::<(u32,), ()>(&mut self.store, "infer").unwrap();
        match self.way {
            Way::Blocking => infer.call(&mut self.store, (times,)).unwrap(),
            Way::Async => block_on(infer.call_async(&mut self.store, (times,))).unwrap(),
        }
    }
}

fn infer(guest: &Guest, context: GuestHandle, input: &Tensor) {
    assert_eq!(guest.infer(context, [("image", input)]).unwrap().len(), 1);
}

fn open(engine: &Engine) -> (Guest, GuestHandle) {
    let guest = engine.guest();
    let graph = guest.load_by_name("digits").unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    (guest, context)
}

/// The time of each of so many calls, in µs.
fn time(count: u32, f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

fn main() {
    let engine = Engine::new(CandleBackend::new());
    engine.register_model_now("digits", ModelSource::path(DIGITS), Encoding::Onnx, Target::Cpu).unwrap();
    let hosts = [("blocking", Way::Blocking), ("async", Way::Async)]
        .map(|(name, way)| (name, Host::new(engine.clone(), way), [Vec::new(), Vec::new()]));
    let mut rows: Vec<_> = hosts.into_iter().map(|(name, host, times)| (name, host.open(), host, times)).collect();
    let mut alone = [Vec::new(), Vec::new()];
    let input = Tensor::from_f32([1, 1, 8, 8], &[0.0; 64]).unwrap();
    let (guest, context) = open(&engine);
    for _ in 0..ROUNDS {
        for (_, opened, host, [first, later]) in &mut rows {
            first.push(time(STORES, || (0..STORES).for_each(|_| host.open().infer(1))));
            later.push(time(INFERENCES, || opened.infer(INFERENCES)));
        }
        let [first, later] = &mut alone;
        first.push(time(STORES, || {
            for _ in 0..STORES {
                let (guest, context) = open(&engine);
                infer(&guest, context, &input);
            }
        }));
        later.push(time(INFERENCES, || (0..INFERENCES).for_each(|_| infer(&guest, context, &input))));
    }
    println!("the digits model, µs: from a fresh store to its end with the first result, and for each later inference");
    for (name, _, _, times) in rows {
        let [first, later] = times.map(median);
        println!("  {name}: {first:.1}, {later:.1}");
    }
    let [first, later] = alone.map(median);
    println!("  the engine without Wasmtime: {first:.1}, {later:.1}");
}
