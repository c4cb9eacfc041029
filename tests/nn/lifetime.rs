//! When memory goes, and on whose thread.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use graphpool::GuestHandle;
use graphpool::backend::{Backend, BackendContext, BackendGraph, LoadRequest};
use graphpool::nn::{Encoding, Engine, Error, Guest, ModelSource, Target, Tensor, TensorDescription};

use crate::admission::block_on;
use crate::backends::{Model, Watch, is_alone};

/// Releases something, and says how many of the backends' things are to be left.
type Release = fn(&Engine, &Watch, u8) -> usize;

fn load(guest: &Guest, number: u8) -> (GuestHandle, GuestHandle) {
    let model = Model { a: number.into(), ..Model::default() };
    let graph = guest.load(&[&model.bytes()], Encoding::Onnx, Target::Cpu).unwrap();
    (graph, guest.init_execution_context(graph).unwrap())
}

fn named(engine: &Engine, number: u8) -> ModelSource {
    let model = |a: u8| ModelSource::bytes(Model { a: a.into(), b: 9.0, ..Model::default() }.bytes());
    engine.register_model_now("m", model(number), Encoding::Onnx, Target::Cpu).unwrap();
    model(number + 100)
}

const RELEASES: [(&str, Release); 6] = [
    ("guest dropped", |engine, _, number| {
        load(&engine.guest(), number);
        0
    }),
    ("handles given back", |engine, _, number| {
        let guest = engine.guest();
        let (graph, context) = load(&guest, number);
        guest.drop_context(context).unwrap();
        guest.unload(graph).unwrap();
        std::mem::forget(guest);
        0
    }),
    ("graph before context", |engine, _, number| {
        let guest = engine.guest();
        let (graph, context) = load(&guest, number);
        guest.unload(graph).unwrap();
        guest.drop_context(context).unwrap();
        std::mem::forget(guest);
        0
    }),
    ("compute ended after its guest", |engine, watch, number| {
        let guest = engine.guest();
        let (graph, context) = load(&guest, number);
        guest.set_input(context, 0, Tensor::from_f32(vec![2], &[0.0; 2]).unwrap().view()).unwrap();
        let held = watch.hold_next();
        let compute = guest.compute_async(context);
        watch.wait_for_held(held);
        guest.drop_context(context).unwrap();
        guest.unload(graph).unwrap();
        assert_eq!(watch.alive(), 2);
        std::mem::forget(guest);
        watch.release(held);
        block_on(compute).unwrap();
        0
    }),
    ("name removed", |engine, _, number| {
        named(engine, number);
        engine.remove_model("m").unwrap();
        0
    }),
    ("version replaced", |engine, _, number| {
        let next = named(engine, number);
        assert_eq!(engine.replace_model("m", next).unwrap(), 2);
        1
    }),
];

/// Nobody calls any more: no thread of the process does anything that the pools would notice.
#[test]
fn what_is_released_is_gone_within_100_ms_though_nobody_calls() {
    if !is_alone("lifetime::what_is_released_is_gone_within_100_ms_though_nobody_calls") {
        return;
    }
    let watch = Watch::default();
    let engine = watch.engine();
    for (place, (what, release)) in (0..).zip(RELEASES) {
        // The best of three, as the machine may have other things to do.
        let times = [1, 2, 3].map(|round| {
            let left = release(&engine, &watch, 3 * place + round);
            let released = Instant::now();
            while watch.alive() > left && released.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(1));
            }
            let took = released.elapsed();
            assert_eq!(watch.alive(), left, "{what}");
            let _ = engine.remove_model("m");
            watch.all_gone();
            took
        });
        assert!(times.iter().min() < Some(&Duration::from_millis(100)), "{what}: {times:?}");
    }
}

/// A backend whose graphs use their engine when they die.
struct Curious {
    engine: Arc<Mutex<Option<Engine>>>,
    told: mpsc::Sender<Result<usize, Error>>,
}

struct CuriousGraph {
    engine: Arc<Mutex<Option<Engine>>>,
    told: mpsc::Sender<Result<usize, Error>>,
}

impl Backend for Curious {
    fn name(&self) -> &'static str {
        "curious"
    }

    fn supports(&self, encoding: Encoding, _: Target) -> bool {
        encoding == Encoding::Ggml
    }

    fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        Ok(Box::new(CuriousGraph { engine: Arc::clone(&self.engine), told: self.told.clone() }))
    }
}

impl BackendGraph for CuriousGraph {
    fn inputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn outputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Err(Error::unsupported("none"))
    }

    fn memory(&self) -> usize {
        1
    }
}

impl Drop for CuriousGraph {
    fn drop(&mut self) {
        // The last clone of the engine, where the test has let go of its own: it ends here, on its own thread.
        let engine = self.engine.lock().unwrap().take();
        if let Some(engine) = engine {
            let guest = engine.guest();
            let loaded = guest.load(&[&Model::default().bytes()], Encoding::Onnx, Target::Cpu);
            let _ = self.told.send(loaded.map(|_| engine.list_graphs().len()));
            let _ = engine.remove_model("m");
        }
    }
}

#[test]
fn a_destructor_may_use_the_engine_and_even_be_the_last_to_have_it() {
    for keep in [true, false] {
        let watch = Watch::default();
        let (told, hears) = mpsc::channel();
        let place = Arc::new(Mutex::new(None));
        let engine = watch.builder().with_backend(Curious { engine: Arc::clone(&place), told }).build();
        engine.register_model("m", ModelSource::bytes(b"named".as_slice()), Encoding::Ggml, Target::Cpu).unwrap();
        *place.lock().unwrap() = Some(engine.clone());
        let guest = engine.guest();
        let graph = guest.load(&[b"curious"], Encoding::Ggml, Target::Cpu).unwrap();
        guest.unload(graph).unwrap();
        drop(guest);
        let kept = keep.then(|| engine.clone());
        drop(engine);
        assert_eq!(hears.recv_timeout(Duration::from_secs(10)).unwrap(), Ok(1));
        drop(kept);
        watch.all_gone();
    }
}

#[test]
fn an_engine_that_is_dropped_is_gone_with_all_that_it_had() {
    if !is_alone("lifetime::an_engine_that_is_dropped_is_gone_with_all_that_it_had") {
        return;
    }
    let watch = Watch::default();
    let engine = watch.engine();
    let source = ModelSource::bytes(Model::default().bytes());
    engine.register_model_now("m", source, Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest();
    for round in 0..20_u8 {
        let model = Model { b: round.into(), a: 9.0, ..Model::default() };
        let graph = guest.load(&[&model.bytes()], Encoding::Onnx, Target::Cpu).unwrap();
        guest.init_execution_context(graph).unwrap();
    }
    assert_eq!(watch.alive(), 41);
    drop(engine);
    assert_eq!(watch.alive(), 41);
    drop(guest);
    // Not eventually.
    assert_eq!(watch.alive(), 0);
}
