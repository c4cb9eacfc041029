//! Loom models of the whole engine: names, versions, the store and the graphs in it, over a backend that counts the
//! graphs that it makes and drops.
//!
//! An `Arc` of a graph is std's, because it needs a `Weak`: loom does not see its steps. A count that both touch orders
//! a graph's use and end for loom.

use std::sync::Arc as StdArc;

use loom::sync::Arc;
use loom::thread;

use crate::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use crate::model_support::{explore, explore_bounded};
use crate::nn::graphs::configured::Configured;
use crate::nn::graphs::entry::Entry;
use crate::nn::graphs::graph::GraphUse;
use crate::nn::graphs::loaded::{LoadedGraph, Named};
use crate::nn::limits::usage::{Reservation, Usage};
use crate::nn::{
    Encoding, Engine, Error, ErrorKind, Limits, ModelError, ModelSource, Target, TensorDescription, TensorView,
};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// The number of made and ended graphs of each number, which is their model's only byte.
#[derive(Default)]
struct Lives {
    made: [AtomicUsize; 3],
    ended: [AtomicUsize; 3],
    /// The number of backends that have ended.
    backends: AtomicUsize,
}

impl Lives {
    fn made(&self, number: u8) -> usize {
        self.made[usize::from(number)].load(Ordering::Relaxed)
    }

    fn ended(&self, number: u8) -> usize {
        self.ended[usize::from(number)].load(Ordering::Relaxed)
    }
}

/// Builds a graph of every number but 0.
struct Recorder(Arc<Lives>);

impl Backend for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let number = request.parts[0][0];
        self.0.made[usize::from(number)].fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            return Err(Error::invalid_encoding("0"));
        }
        Ok(Box::new(Recorded { number, again: number, lives: Arc::clone(&self.0) }))
    }
}

/// B2: after every graph of the backend.
impl Drop for Recorder {
    fn drop(&mut self) {
        for number in 1..3 {
            assert_eq!(self.0.made(number), self.0.ended(number));
        }
        self.0.backends.fetch_add(1, Ordering::Relaxed);
    }
}

struct Recorded {
    number: u8,
    lives: Arc<Lives>,
    again: u8,
}

impl BackendGraph for Recorded {
    fn inputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn outputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        if self.number != self.again || self.lives.ended(self.number) == self.lives.made(self.number) {
            return Err(Error::runtime_error("used after its end"));
        }
        Ok(Box::new(Opened(self.number)))
    }

    fn memory(&self) -> usize {
        1
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.lives.ended[usize::from(self.number)].fetch_add(1, Ordering::Relaxed);
    }
}

/// The number of its graph is its memory.
struct Opened(u8);

impl BackendContext for Opened {
    fn set_input(&mut self, _: usize, _: TensorView<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn clear_inputs(&mut self) {}

    fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
        Ok(())
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        Err(Error::invalid_argument("none"))
    }

    fn memory(&self) -> usize {
        usize::from(self.0)
    }
}

fn engine() -> (Engine, Arc<Lives>) {
    let lives = Arc::new(Lives::default());
    (Engine::builder(Recorder(Arc::clone(&lives))).build(), lives)
}

fn source(number: u8) -> ModelSource {
    ModelSource::bytes(vec![number])
}

fn register(engine: &Engine, number: u8) -> Result<(), ModelError> {
    engine.register_model("name", source(number), Encoding::Onnx, Target::Cpu)
}

/// A context's reference to its graph, and the graph's number.
struct Use {
    number: u8,
    _graph: GraphUse,
}

/// Loads by name and opens a context, as a guest does, but without the guest's tables and the pools.
fn load_by_name(engine: &Engine) -> Result<LoadedGraph, Error> {
    let model = engine.inner.registry.get("name")?;
    model.get_or_build(&*engine.inner)?;
    let usage = Usage::new(&Limits::default());
    let slot = Reservation::new(&usage, |usage| &usage.graphs, "load", 1)?;
    let bytes = Reservation::new(&usage, |usage| &usage.graph_bytes, "load", 0)?;
    Ok(LoadedGraph::new(Named::Model(model), slot, bytes))
}

fn open(loaded: &LoadedGraph) -> Use {
    let graph = loaded.graph().unwrap();
    let number = graph.init_context().unwrap().memory() as u8;
    Use { number, _graph: graph.in_use() }
}

/// N2: a load by name and a context of it, during a reload. The context runs on the version before or after; if it is
/// opened after the reload has returned, on the version after. The version before ends once, with its last context.
#[test]
fn load_by_name_against_a_reload_with_5_preemptions() {
    explore_bounded("load by name against a reload", 5, || {
        let (engine, lives) = engine();
        register(&engine, 1).unwrap();
        load_by_name(&engine).unwrap();
        let other = engine.clone();
        let other = thread::spawn(move || {
            assert_eq!(other.replace_model("name", source(2)).unwrap(), 2);
            assert_eq!(open(&load_by_name(&other).unwrap()).number, 2);
        });
        let loaded = load_by_name(&engine).unwrap();
        let before = open(&loaded);
        assert_eq!(lives.ended(before.number), 0);
        other.join().unwrap();
        assert_eq!(open(&loaded).number, 2, "the handle means the name");
        assert_eq!(lives.ended(1), usize::from(before.number != 1));
        drop(before);
        assert_eq!((lives.ended(1), lives.ended(2)), (1, 0));
        drop(loaded);
        drop(engine);
        assert_eq!((lives.ended(1), lives.ended(2)), (1, 1));
    });
}

/// N1, N2: the first load by name, which builds, during a reload: the reload's version is current at the end.
#[test]
fn first_load_by_name_against_a_reload_with_5_preemptions() {
    explore_bounded("first load by name against a reload", 5, || {
        let (engine, lives) = engine();
        register(&engine, 1).unwrap();
        let other = engine.clone();
        let other = thread::spawn(move || other.replace_model("name", source(2)).unwrap());
        let number = open(&load_by_name(&engine).unwrap()).number;
        let version = other.join().unwrap();
        assert_eq!((lives.made(1), lives.ended(1)), if version == 2 { (1, 1) } else { (0, 0) });
        assert!(number == 2 || version == 2);
        assert_eq!(open(&load_by_name(&engine).unwrap()).number, 2);
        drop(engine);
        assert_eq!((lives.made(2), lives.ended(2)), (1, 1));
    });
}

/// F3 in an engine: two loads of a named model whose build fails.
#[test]
fn load_by_name_against_its_like_where_the_build_fails_with_5_preemptions() {
    explore_bounded("load by name against its like where the build fails", 5, || {
        let (engine, lives) = engine();
        register(&engine, 0).unwrap();
        let other = engine.clone();
        let kind = |engine: &Engine| load_by_name(engine).err().map(|error| error.kind());
        let other = thread::spawn(move || kind(&other));
        assert_eq!(kind(&engine), Some(ErrorKind::InvalidEncoding));
        assert_eq!(other.join().unwrap(), Some(ErrorKind::InvalidEncoding));
        assert!((1..=2).contains(&lives.made(0)));
        assert_eq!(engine.replace_model("name", source(1)).unwrap(), 1);
        assert_eq!(open(&load_by_name(&engine).unwrap()).number, 1);
    });
}

/// A registration and a concurrent removal: neither loses another name.
#[test]
fn register_against_register() {
    explore("register against register", || {
        let (engine, _) = engine();
        let other = engine.clone();
        let other = thread::spawn(move || register(&other, 1).is_ok());
        let mine = register(&engine, 2).is_ok();
        assert!(mine != other.join().unwrap());
        assert_eq!(open(&load_by_name(&engine).unwrap()).number, if mine { 2 } else { 1 });
    });
}

/// Two concurrent changes of the names are both kept.
#[test]
fn register_against_remove_of_another() {
    explore("register against remove of another", || {
        let (engine, _) = engine();
        engine.register_model("gone", source(1), Encoding::Onnx, Target::Cpu).unwrap();
        let other = engine.clone();
        let other = thread::spawn(move || other.remove_model("gone").unwrap());
        register(&engine, 2).unwrap();
        other.join().unwrap();
        assert_eq!(engine.model_names(), ["name"]);
    });
}

/// S1, S2: two concurrent loads of equal bytes share one graph, which ends once, with its entry.
#[test]
fn load_against_a_load_of_equal_bytes_with_5_preemptions() {
    explore_bounded("load against a load of equal bytes", 5, || {
        let (engine, lives) = engine();
        let load = |engine: &Engine| {
            let graph = engine.inner.build(&LoadRequest::new(&[&[1]], Encoding::Onnx, Target::Cpu)).unwrap();
            graph.init_context().unwrap();
            graph
        };
        let other = engine.clone();
        let other = thread::spawn(move || drop(load(&other)));
        let mine = load(&engine);
        other.join().unwrap();
        assert_eq!(engine.list_graphs().len(), 1);
        assert_eq!(lives.made(1), lives.ended(1) + 1);
        drop(mine);
        assert_eq!(lives.made(1), lives.ended(1));
        assert_eq!(engine.inner.store.len(), 0);
    });
}

/// G1, G2: a context of a graph is opened while the graph is unloaded. The pool keeps the cell to the end, as for a
/// guard of another thread. A call that finds the graph can use it, and the graph ends with its last user.
#[test]
fn a_use_of_a_graph_against_its_removal_under_a_guard() {
    explore("a use of a graph against its removal under a guard", || {
        let (engine, lives) = engine();
        let usage = Usage::new(&Limits::default());
        let slot = Reservation::new(&usage, |usage| &usage.graphs, "load", 1).unwrap();
        let bytes = Reservation::new(&usage, |usage| &usage.graph_bytes, "load", 1).unwrap();
        let graph = engine.inner.build(&LoadRequest::new(&[&[1]], Encoding::Onnx, Target::Cpu)).unwrap();
        let entry = Arc::new(Entry::new(LoadedGraph::new(Named::Graph(graph), slot, bytes)));
        // The progress of the removal: the steps of a cell are invisible to loom.
        let steps = Arc::new(AtomicUsize::new(0));
        let (other, its) = (Arc::clone(&entry), Arc::clone(&steps));
        let other = thread::spawn(move || {
            let removed = other.take().unwrap();
            its.fetch_add(1, Ordering::Release);
            removed.unloaded();
            drop(removed);
            its.fetch_add(1, Ordering::Release);
            assert!(other.take().is_none());
        });
        let steps = steps.load(Ordering::Acquire);
        let found = entry.get().map(|loaded| open(&loaded));
        assert!(steps < 2 || found.is_none());
        other.join().unwrap();
        assert_eq!(lives.ended(1), usize::from(found.is_none()));
        drop(found);
        assert_eq!((lives.made(1), lives.ended(1)), (1, 1));
        assert!(entry.get().is_none());
        drop(engine);
    });
}

/// G1: exactly one of two removals of an entry gets its value.
#[test]
fn two_removals_of_one_entry() {
    explore("two removals of one entry", || {
        let entry = Arc::new(Entry::new(7));
        let other = Arc::clone(&entry);
        let other = thread::spawn(move || other.take().is_some());
        let mine = entry.take().is_some();
        assert!(mine != other.join().unwrap());
        assert!(entry.get().is_none());
    });
}

/// N4: a reload against the removal of its name. After the removal, all contexts of the model have one version, and a
/// reload that was too late returns an error and changes nothing.
#[test]
fn a_reload_against_the_removal_of_its_name_with_5_preemptions() {
    explore_bounded("a reload against the removal of its name", 5, || {
        let (engine, lives) = engine();
        register(&engine, 1).unwrap();
        let loaded = load_by_name(&engine).unwrap();
        let other = engine.clone();
        let other = thread::spawn(move || other.replace_model("name", source(2)).map_err(|error| error.kind()));
        engine.remove_model("name").unwrap();
        let number = open(&loaded).number;
        let reloaded = other.join().unwrap();
        assert_eq!(open(&loaded).number, number);
        assert_eq!(reloaded, if number == 2 { Ok(2) } else { Err(ErrorKind::NotFound) });
        assert_eq!(
            (lives.made(2), lives.ended(1)),
            (lives.ended(2) + usize::from(number == 2), usize::from(number == 2))
        );
        drop(loaded);
        drop(engine);
        assert_eq!((lives.ended(1), lives.ended(2)), (1, lives.made(2)));
    });
}

/// Loads the model with a guest's configuration, as a guest does but without its tables; the number of its graph.
fn load_configured(engine: &Engine) -> (StdArc<Configured>, u8) {
    let model = engine.inner.registry.get("name").unwrap();
    let configured = model.get_or_build_configured("name", "configured", &*engine.inner).unwrap();
    let number = configured.graph().init_context().unwrap().memory() as u8;
    (configured, number)
}

/// K3: a load with a configuration during a reload. It gives the version before or after; after the reload has
/// returned, the version after, even while a graph of the version before is alive.
#[test]
fn a_load_with_a_configuration_against_a_reload_with_3_preemptions() {
    explore_bounded("a load with a configuration against a reload", 3, || {
        let (engine, lives) = engine();
        let configurable = |number| source(number).with_guest_configs(2);
        engine.register_model("name", configurable(1), Encoding::Onnx, Target::Cpu).unwrap();
        let other = engine.clone();
        let other = thread::spawn(move || other.replace_model("name", source(2).with_guest_configs(2)).unwrap());
        let (before, number) = load_configured(&engine);
        assert_eq!(lives.ended(number), 0);
        other.join().unwrap();
        assert_eq!(load_configured(&engine).1, 2);
        drop(before);
        assert_eq!(lives.made(1), lives.ended(1));
        drop(engine);
        assert_eq!(lives.made(2), lives.ended(2));
    });
}

/// K1, K2: two loads with one configuration, with a bound of one graph: both share it, and it ends with the last.
#[test]
fn two_loads_with_one_configuration_with_5_preemptions() {
    explore_bounded("two loads with one configuration", 5, || {
        let (engine, lives) = engine();
        engine.register_model("name", source(1).with_guest_configs(1), Encoding::Onnx, Target::Cpu).unwrap();
        let other = engine.clone();
        let other = thread::spawn(move || load_configured(&other).0);
        let mine = load_configured(&engine).0;
        let other = other.join().unwrap();
        assert!(StdArc::ptr_eq(&mine, &other));
        assert_eq!((lives.made(1), lives.ended(1), engine.list_models()[0].configured), (1, 0, 1));
        drop((mine, other));
        assert_eq!((lives.made(1), lives.ended(1), engine.list_models()[0].configured), (1, 1, 0));
        drop(engine);
    });
}

/// B1, B2, B3 in an engine: a load during the replacement of its backend. A later load of equal bytes gets a graph of
/// the new backend, although one of the other may be in memory. Each backend ends once, after its graphs.
#[test]
fn a_load_against_the_replacement_of_its_backend_with_3_preemptions() {
    explore_bounded("a load against the replacement of its backend", 3, || {
        let (engine, before) = engine();
        let after = Arc::new(Lives::default());
        let load =
            |engine: &Engine| engine.inner.build(&LoadRequest::new(&[&[1]], Encoding::Onnx, Target::Cpu)).unwrap();
        let (other, its) = (engine.clone(), Arc::clone(&after));
        let other = thread::spawn(move || {
            other.replace_backend(Recorder(Arc::clone(&its))).unwrap();
            let graph = load(&other);
            assert_eq!(its.made(1), its.ended(1) + 1);
            drop(graph);
        });
        let graph = load(&engine);
        graph.init_context().unwrap();
        other.join().unwrap();
        drop(graph);
        drop(engine);
        for lives in [before, after] {
            assert_eq!((lives.made(1), lives.backends.load(Ordering::Relaxed)), (lives.ended(1), 1));
        }
    });
}
