//! Named models that guests load with a configuration of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use graphpool::GuestHandle;
use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{
    Encoding, Engine, Error, ErrorKind, Guest, Limits, ModelSource, Target, Tensor, TensorDescription, TensorType,
    TensorView,
};

use crate::backends::{Over, eventually};

/// Whose graphs give back their model's number and their configuration. The configuration `junk` is refused, and `slow`
/// takes a while.
#[derive(Clone, Default)]
pub struct Echo(pub Arc<AtomicUsize>);

struct Graph(Vec<u8>, [TensorDescription; 1]);

struct Context(Tensor);

impl Backend for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match request.config {
            Some("junk") => return Err(Error::invalid_argument("the configuration is junk")),
            Some("panic") => panic!("as it was told"),
            Some("slow") => thread::sleep(Duration::from_millis(50)),
            _ => {}
        }
        let text = [request.parts[0], request.config.unwrap_or("none").as_bytes()].concat();
        Ok(Box::new(Graph(text, [TensorDescription::new("text", TensorType::U8, None)])))
    }
}

/// The same, whose graphs can be reconfigured.
struct Sharing(Echo);

impl Backend for Sharing {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        self.0.supports(encoding, target)
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        self.0.load(request)
    }

    fn reconfigures(&self, _: Encoding, _: Target) -> bool {
        true
    }
}

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.1
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(Context(Tensor::from_slice([self.0.len() as u32], &self.0)?)))
    }

    fn reconfigure(&self, config: &str, _: usize) -> Result<Box<dyn BackendGraph>, Error> {
        if config == "junk" {
            return Err(Error::invalid_argument("the configuration is junk"));
        }
        Ok(Box::new(Self([&self.0[..1], config.as_bytes()].concat(), self.1.clone())))
    }

    fn memory(&self) -> usize {
        100
    }
}

impl BackendContext for Context {
    fn set_input(&mut self, _: usize, _: TensorView<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn clear_inputs(&mut self) {}

    fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
        Ok(())
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        Ok(self.0.view())
    }
}

pub fn model(version: u8) -> ModelSource {
    ModelSource::bytes(vec![version])
}

/// An engine with the model `m`, of which guests may have so many configurations, and how many graphs were built.
fn engine(configs: usize) -> (Engine, Arc<AtomicUsize>) {
    let backend = Echo::default();
    let loads = Arc::clone(&backend.0);
    let engine = Engine::new(backend);
    let source = model(1).with_config("host").with_guest_configs(configs);
    engine.register_model("m", source, Encoding::Onnx, Target::Cpu).unwrap();
    (engine, loads)
}

/// The version and the configuration that a new context of the graph runs with.
pub fn runs(guest: &Guest, graph: GuestHandle) -> (u8, String) {
    let context = guest.init_execution_context(graph).unwrap();
    let outputs = guest.infer::<u32, &Tensor>(context, []).unwrap();
    guest.drop_context(context).unwrap();
    let [version, config @ ..] = outputs[0].data() else { panic!("it has no version") };
    (*version, String::from_utf8(config.to_vec()).unwrap())
}

fn configured(engine: &Engine) -> usize {
    engine.list_models()[0].configured
}

#[test]
fn a_name_takes_no_configuration_unless_the_host_allows_it() {
    let (engine, loads) = engine(0);
    let guest = engine.guest();
    let error = guest.load_by_name_with_config("m", "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Security);
    let told = "load_by_name_with_config: the host does not let guests configure the model \"m\"";
    assert_eq!(error.message(), told);
    // One that says nothing is none.
    for nothing in ["", " \n\t"] {
        let graph = guest.load_by_name_with_config("m", nothing).unwrap();
        assert_eq!(runs(&guest, graph), (1, "host".to_owned()));
    }
    assert_eq!((loads.load(Ordering::SeqCst), engine.stats().graphs, configured(&engine)), (1, 1, 0));
    // Whoever may not load a name does not learn that it is there.
    let stranger = engine.guest_builder().with_models(["other"]).build();
    for name in ["m", "nosuch"] {
        let error = stranger.load_by_name_with_config(name, "x").unwrap_err();
        assert_eq!(error.message(), format!("load_by_name_with_config: no model is named {name:?}"));
    }
}

#[test]
fn equal_configurations_are_one_graph_beside_the_name_s_own() {
    let (engine, loads) = engine(2);
    let [one, two] = [engine.guest(), engine.guest()];
    let own = one.load_by_name("m").unwrap();
    let [x, again, y] = [(&one, "x"), (&two, "x"), (&two, "y")]
        .map(|(guest, config)| (guest, guest.load_by_name_with_config("m", config).unwrap()));
    assert_eq!((loads.load(Ordering::SeqCst), engine.stats().graphs, configured(&engine)), (3, 3, 2));
    for ((guest, graph), config) in [((&one, own), "host"), (x, "x"), (again, "x"), (y, "y")] {
        assert_eq!(runs(guest, graph), (1, config.to_owned()));
    }
    drop((one, two));
    eventually(|| engine.stats().graphs == 1 && configured(&engine) == 0);
    // The name's own stays.
    let guest = engine.guest();
    assert_eq!(runs(&guest, guest.load_by_name("m").unwrap()).0, 1);
}

#[test]
fn the_host_bounds_them_and_a_context_keeps_the_place() {
    let (engine, _) = engine(2);
    let guest = engine.guest();
    let [a, b] = ["a", "b"].map(|config| guest.load_by_name_with_config("m", config).unwrap());
    let error = guest.load_by_name_with_config("m", "c").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let told = "load_by_name_with_config: configured graph limit exceeded: 2 of 2 graphs in use, 1 more requested";
    assert_eq!((error.message(), engine.stats().limited), (told, 1));
    // What is there may be loaded once more.
    let again = guest.load_by_name_with_config("m", "a").unwrap();
    let context = guest.init_execution_context(a).unwrap();
    guest.unload(a).unwrap();
    guest.unload(again).unwrap();
    assert_eq!(guest.load_by_name_with_config("m", "c").unwrap_err().kind(), ErrorKind::Busy);
    guest.drop_context(context).unwrap();
    let c = guest.load_by_name_with_config("m", "c").unwrap();
    assert_eq!((runs(&guest, c).1, runs(&guest, b).1), ("c".to_owned(), "b".to_owned()));
    assert_eq!(configured(&engine), 2);
}

#[test]
fn a_build_that_fails_takes_no_place_and_no_handle() {
    let (engine, loads) = engine(1);
    let guest = engine.guest_with(Limits::default().with_max_graphs(1));
    for (config, told) in [("junk", "the configuration is junk"), ("panic", "the backend panicked: as it was told")] {
        let error = guest.load_by_name_with_config("m", config).unwrap_err();
        assert_eq!(error.message(), format!("load_by_name_with_config: {told}"));
    }
    let graph = guest.load_by_name_with_config("m", "fine").unwrap();
    assert_eq!(guest.load_by_name_with_config("m", "fine").unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!((runs(&guest, graph).1, loads.load(Ordering::SeqCst)), ("fine".to_owned(), 3));
}

#[test]
fn a_configuration_may_be_as_long_as_the_limit_and_no_longer() {
    let (engine, loads) = engine(9);
    let guest = engine.guest_with(Limits::default().with_max_config_bytes(4));
    guest.load_by_name_with_config("m", "four").unwrap();
    for long in ["fiver", "     "] {
        let error = guest.load_by_name_with_config("m", long).unwrap_err();
        let told = "load_by_name_with_config: the configuration has 5 bytes; the limit is 4";
        assert_eq!((error.kind(), error.message()), (ErrorKind::TooLarge, told));
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_reload_leaves_a_configured_graph_and_gives_later_loads_another() {
    let (engine, _) = engine(2);
    let guest = engine.guest();
    let before = guest.load_by_name_with_config("m", "x").unwrap();
    // Before the name's own is built, and after.
    let own = guest.load_by_name("m").unwrap();
    assert_eq!((runs(&guest, own).0, configured(&engine)), (1, 1));
    guest.unload(guest.load_by_name_with_config("m", "x").unwrap()).unwrap();
    assert_eq!(engine.stats().graphs, 2);
    assert_eq!(engine.replace_model("m", model(2).with_guest_configs(2)).unwrap(), 2);
    let after = guest.load_by_name_with_config("m", "x").unwrap();
    assert_eq!((runs(&guest, before), runs(&guest, after)), ((1, "x".to_owned()), (2, "x".to_owned())));
    assert_eq!((runs(&guest, own), configured(&engine)), ((2, "none".to_owned()), 2));
    // Both count.
    assert_eq!(guest.load_by_name_with_config("m", "y").unwrap_err().kind(), ErrorKind::Busy);
    guest.unload(before).unwrap();
    guest.load_by_name_with_config("m", "y").unwrap();
    // Equal bytes are the same version, and the same graphs.
    assert_eq!(engine.replace_model("m", model(2).with_guest_configs(2)).unwrap(), 2);
    guest.load_by_name_with_config("m", "x").unwrap();
    // The new source decides who may configure it.
    assert_eq!(engine.replace_model("m", model(3)).unwrap(), 3);
    assert_eq!(guest.load_by_name_with_config("m", "x").unwrap_err().kind(), ErrorKind::Security);
    assert_eq!(runs(&guest, after), (2, "x".to_owned()));
}

#[test]
fn the_end_of_a_name_leaves_its_configured_graphs_to_their_guests() {
    let (engine, _) = engine(1);
    let guest = engine.guest();
    let graph = guest.load_by_name_with_config("m", "x").unwrap();
    engine.remove_model("m").unwrap();
    assert_eq!(guest.load_by_name_with_config("m", "x").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(runs(&guest, graph), (1, "x".to_owned()));
    guest.unload(graph).unwrap();
    eventually(|| engine.stats().graphs == 0);
}

#[test]
fn many_who_ask_for_one_configuration_build_it_once() {
    let (engine, loads) = engine(1);
    let guests: Vec<Guest> = (0..8).map(|_| engine.guest()).collect();
    thread::scope(|scope| {
        for guest in &guests {
            scope.spawn(|| guest.load_by_name_with_config("m", "slow").unwrap());
        }
    });
    assert_eq!((loads.load(Ordering::SeqCst), configured(&engine)), (1, 1));
}

/// A load that begins after a reload has returned gives that version or a later one.
#[test]
fn a_load_after_a_reload_is_of_its_version_whoever_else_loads() {
    let (engine, _) = engine(8);
    let (newest, over) = (AtomicUsize::new(1), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let guest = engine.guest();
                while !over.load(Ordering::SeqCst) {
                    let least = newest.load(Ordering::SeqCst);
                    let graph = guest.load_by_name_with_config("m", "x").unwrap();
                    let (version, config) = runs(&guest, graph);
                    assert!(usize::from(version) >= least && config == "x");
                    guest.unload(graph).unwrap();
                }
            });
        }
        let (_over, guest) = (Over(&over), engine.guest());
        for version in 2..200 {
            // One of before is alive all the time.
            let before = guest.load_by_name_with_config("m", "x").unwrap();
            engine.replace_model("m", model(version).with_guest_configs(8)).unwrap();
            newest.store(version.into(), Ordering::SeqCst);
            guest.unload(before).unwrap();
        }
    });
    eventually(|| engine.stats().graphs == 1 && configured(&engine) == 0);
}

#[test]
fn a_model_whose_backend_reconfigures_graphs_is_loaded_once() {
    let (loads, later_loads) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let engine = Engine::new(Sharing(Echo(Arc::clone(&loads))));
    let source = |version| model(version).with_config("host").with_guest_configs(8);
    engine.register_model("m", source(1), Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest();
    let load = |config| guest.load_by_name_with_config("m", config).unwrap();
    let [x, y, host] = ["x", "y", "host"].map(load);
    for (graph, config) in [(x, "x"), (y, "y"), (host, "host")] {
        assert_eq!(runs(&guest, graph), (1, config.to_owned()));
    }
    // The configuration of the host is that of the model's own graph.
    let loaded = || (loads.load(Ordering::SeqCst), later_loads.load(Ordering::SeqCst));
    assert_eq!((loaded(), engine.stats().graphs, configured(&engine)), ((1, 0), 3, 3));
    let error = guest.load_by_name_with_config("m", "junk").unwrap_err();
    assert_eq!(error.message(), "load_by_name_with_config: the configuration is junk");
    // After a reload they are made from the new version.
    engine.replace_model("m", source(2)).unwrap();
    assert_eq!((runs(&guest, load("x")), runs(&guest, x)), ((2, "x".to_owned()), (1, "x".to_owned())));
    assert_eq!(loaded(), (2, 0));
    // A backend that was replaced makes no more graphs, and so none of its graphs is reconfigured.
    engine.replace_backend(Sharing(Echo(Arc::clone(&later_loads)))).unwrap();
    assert_eq!((runs(&guest, load("z")), loaded()), ((2, "z".to_owned()), (2, 1)));
    drop(guest);
    eventually(|| engine.stats().graphs == 1 && configured(&engine) == 0);
}
