//! When memory goes, and on whose thread.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use graphpool::backend::{Backend, BackendContext, BackendGraph, LoadRequest};
use graphpool::nn::{Encoding, Engine, Error, ModelSource, Target, TensorDescription};

use crate::backends::{Model, Watch, is_alone};

/// Nobody calls any more: no thread of the process does anything that the pools would notice.
#[test]
fn a_released_graph_is_gone_within_100_ms_though_nobody_calls() {
    if !is_alone("lifetime::a_released_graph_is_gone_within_100_ms_though_nobody_calls") {
        return;
    }
    let watch = Watch::default();
    let engine = watch.engine();
    // Whatever starts once has started.
    for round in 0..5_u8 {
        let guest = engine.guest();
        let model = Model { a: round.into(), ..Model::default() };
        let graph = guest.load(&[&model.bytes()], Encoding::Onnx, Target::Cpu).unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        if round % 2 == 0 {
            drop(guest);
        } else {
            guest.drop_context(context).unwrap();
            guest.unload(graph).unwrap();
            std::mem::forget(guest);
        }
        let released = Instant::now();
        while watch.alive() > 0 && released.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(1));
        }
        let took = released.elapsed();
        assert!(took < Duration::from_millis(100), "round {round} took {took:?}");
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
        let engine = watch.builder().backend(Curious { engine: Arc::clone(&place), told }).build();
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
