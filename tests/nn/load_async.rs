//! Loads that block no thread of the host's.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use graphpool::GuestHandle;
use graphpool::nn::{
    Encoding, Engine, EngineLimits, Error, ErrorKind, Guest, Limits, Load, ModelBytes, ModelSource, ResolvedModel,
    Target,
};

use crate::admission::block_on;
use crate::backends::{Model, Watch, eventually, is_alone};
use crate::scripted::Scripted;

/// Counts how often it is woken.
#[derive(Default)]
pub struct Count(pub AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn poll(load: &mut Load, count: &Arc<Count>) -> Poll<Result<GuestHandle, Error>> {
    Pin::new(load).poll(&mut Context::from_waker(&Waker::from(Arc::clone(count))))
}

/// The result of the first poll.
fn at_once(mut load: Load) -> Option<Result<GuestHandle, Error>> {
    match poll(&mut load, &Arc::default()) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

pub fn start(guest: &Guest, model: &'static str) -> Load {
    guest.load_async([model.as_bytes()], Encoding::PyTorch, Target::Cpu)
}

pub fn engine(watch: &Watch, loading: usize, queue: usize) -> Engine {
    let limits = EngineLimits::default().with_max_computing(16);
    watch.engine_within(limits.with_max_loading(loading).with_max_queued_loads(queue))
}

/// Two loads may work at one time. A thread that has handed its turn on may not be idle yet, so there may be more than
/// two; one for each waiting load would be 200.
const FEW: usize = 20;

/// The threads of this process that run loads, where the system says.
fn threads_that_load() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    // A thread may end meanwhile.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "graphpool-load").count()
}

pub fn is_quiet(engine: &Engine) -> bool {
    let stats = engine.stats();
    (stats.loads, stats.graphs, stats.graph_bytes, stats.graph_handles) == (0, 0, 0, 0)
}

#[test]
fn each_kind_of_bytes_is_one_graph_with_that_of_a_blocking_load() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let bytes = Model::default().bytes();
    let shared: Arc<[u8]> = Arc::from(bytes.as_slice());
    let leaked: &'static [u8] = bytes.clone().leak();
    let first = block_on(guest.load_async([bytes.clone()], Encoding::Onnx, Target::Cpu)).unwrap();
    let parts: [ModelBytes; 4] =
        [bytes.clone().into(), shared.into(), leaked.into(), bytes.clone().into_boxed_slice().into()];
    for part in parts {
        let graph = at_once(guest.load_async([part], Encoding::Onnx, Target::Cpu)).unwrap().unwrap();
        assert_ne!(graph, first);
    }
    guest.load(&[&bytes], Encoding::Onnx, Target::Cpu).unwrap();
    assert_eq!((watch.loads(), engine.stats().graphs, engine.stats().graph_handles), (1, 1, 6));
    let context = guest.init_execution_context(first).unwrap();
    assert_eq!(guest.inputs(context).unwrap().len(), 1);
    drop(guest);
    watch.all_gone();
    eventually(|| is_quiet(&engine));
}

#[test]
fn what_is_in_memory_is_there_at_the_first_poll() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let source = ModelSource::bytes(Model::default().bytes()).with_guest_configs(1);
    engine.register_model("m", source, Encoding::Onnx, Target::Cpu).unwrap();
    assert_eq!(block_on(guest.load_by_name_async("m")).err(), None);
    assert_eq!(block_on(guest.load_by_name_with_config_async("m", "x")).err(), None);
    assert_eq!(watch.loads(), 2);
    at_once(guest.load_by_name_async("m")).unwrap().unwrap();
    at_once(guest.load_by_name_with_config_async("m", "x")).unwrap().unwrap();
    at_once(guest.load_by_name_with_config_async("m", " ")).unwrap().unwrap();
    assert_eq!((watch.loads(), engine.stats().graph_handles, engine.stats().loads), (2, 5, 0));
}

#[test]
fn a_large_model_that_is_in_memory_is_found_on_a_thread_of_the_engine() {
    let engine = Scripted::new(|_| Ok(())).engine(EngineLimits::default());
    let guest = engine.guest();
    let model: Arc<[u8]> = Arc::from(vec![7; 100_000]);
    guest.load(&[&model], Encoding::Onnx, Target::Cpu).unwrap();
    block_on(guest.load_async([model], Encoding::Onnx, Target::Cpu)).unwrap();
    assert_eq!((engine.stats().builds, engine.stats().graph_handles), (1, 2));
}

#[test]
fn the_waker_of_the_last_poll_is_woken_once_and_the_handle_is_made_by_the_poll() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let mut load = start(&guest, "gate load");
    let counts = [Arc::<Count>::default(), Arc::default()];
    assert!(poll(&mut load, &counts[0]).is_pending() && poll(&mut load, &counts[1]).is_pending());
    watch.wait_for(1);
    assert_eq!(engine.stats().loads, 1);
    watch.open();
    eventually(|| counts[1].0.load(Ordering::SeqCst) == 1);
    assert_eq!((counts[0].0.load(Ordering::SeqCst), engine.stats().loads, engine.stats().graph_handles), (0, 0, 0));
    let Poll::Ready(Ok(graph)) = poll(&mut load, &counts[0]) else { panic!("it was woken") };
    assert_eq!(engine.stats().graph_handles, 1);
    let Poll::Ready(Err(error)) = poll(&mut load, &counts[0]) else { panic!("it has ended") };
    assert_eq!(error.message(), "load: polled after its end");
    guest.unload(graph).unwrap();
}

#[test]
fn loads_that_wait_for_a_build_take_no_thread_and_no_turn() {
    if !is_alone("load_async::loads_that_wait_for_a_build_take_no_thread_and_no_turn") {
        return;
    }
    let watch = Watch::default();
    let engine = engine(&watch, 2, 1_000);
    let guests: Vec<_> = (0..20).map(|_| engine.guest()).collect();
    let mut loads: Vec<_> = guests.iter().flat_map(|guest| (0..10).map(|_| start(guest, "gate load"))).collect();
    let count = Arc::<Count>::default();
    assert!(loads.iter_mut().all(|load| poll(load, &count).is_pending()));
    watch.wait_for(1);
    // One of the two turns builds. A guest's loads have their turns in order, so all have passed through the other one.
    for guest in &guests {
        let another = block_on(start(guest, "another")).unwrap();
        guest.unload(another).unwrap();
    }
    assert_eq!(engine.stats().loads, 200);
    let loads_before = watch.loads();
    assert!(threads_that_load() < FEW);
    watch.open();
    assert!(loads.into_iter().map(block_on).all(|loaded| loaded.is_ok()));
    assert_eq!((watch.loads(), engine.stats().graph_handles), (loads_before, 200));
    drop(guests);
    watch.all_gone();
    eventually(|| is_quiet(&engine));
}

#[test]
fn loads_that_wait_for_the_resolver_take_no_thread_and_no_turn() {
    if !is_alone("load_async::loads_that_wait_for_the_resolver_take_no_thread_and_no_turn") {
        return;
    }
    let (asked, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (its, until) = (Arc::clone(&asked), Arc::clone(&answered));
    let resolver = move |name: &str| {
        its.fetch_add(1, Ordering::SeqCst);
        eventually(|| until.load(Ordering::SeqCst) > usize::from(name == "m"));
        let source = ModelSource::bytes(vec![7]).with_guest_configs(1);
        Ok((name == "m").then(|| ResolvedModel::new(source, Encoding::Onnx, Target::Cpu)))
    };
    let limits = EngineLimits::default().with_max_loading(2);
    let engine = Scripted::new(|_| Ok(())).builder().with_engine_limits(limits).with_resolver(resolver).build();
    let guests: Vec<_> = (0..20).map(|_| engine.guest()).collect();
    for name in ["none", "m"] {
        let load = |guest: &Guest| [guest.load_by_name_async(name), guest.load_by_name_with_config_async(name, "x")];
        let mut loads: Vec<_> = guests.iter().flat_map(|guest| (0..5).flat_map(|_| load(guest))).collect();
        let count = Arc::<Count>::default();
        assert!(loads.iter_mut().all(|load| poll(load, &count).is_pending()));
        // A guest's loads have their turns in order, so all of those have had theirs.
        for guest in &guests {
            let another = block_on(guest.load_async([b"another".to_vec()], Encoding::Onnx, Target::Cpu)).unwrap();
            guest.unload(another).unwrap();
        }
        assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
        assert!(threads_that_load() < FEW);
        answered.fetch_add(1, Ordering::SeqCst);
        for load in loads {
            let error = block_on(load).err();
            assert_eq!(error.map(|error| error.kind()), (name == "none").then_some(ErrorKind::NotFound));
        }
        assert_eq!(engine.stats().loads, 0);
    }
    assert_eq!(engine.stats().graph_handles, 200);
}

#[test]
fn a_full_queue_of_loads_is_busy_and_a_guest_with_fewer_gets_a_place() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 2);
    let [one, two] = [(); 2].map(|()| engine.guest());
    let running = start(&one, "gate load");
    watch.wait_for(1);
    let queued = ["a", "b"].map(|model| start(&one, model));
    let error = block_on(start(&one, "c")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(error.message(), "load: the engine's queue of 2 loads is full, 2 of them this guest's");
    let theirs = start(&two, "d");
    watch.open();
    let [kept, displaced] = queued.map(block_on);
    kept.unwrap();
    let error = displaced.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let expected = "load: the engine's queue of 2 loads was full, and a guest with fewer of them took this place";
    assert_eq!(error.message(), expected);
    block_on(theirs).unwrap();
    block_on(running).unwrap();
    assert_eq!((engine.stats().limited, engine.stats().loads, watch.loads()), (2, 0, 3));
}

#[test]
fn errors_are_those_of_the_blocking_loads() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = || engine.guest_builder().with_limits(Limits::default().with_max_graph_bytes(120)).build();
    let source = || ModelSource::bytes(Model::default().bytes());
    engine.register_model("m", source(), Encoding::Onnx, Target::Cpu).unwrap();
    engine.register_model("c", source().with_guest_configs(1), Encoding::Onnx, Target::Cpu).unwrap();
    engine.register_model("bad", ModelSource::bytes(b"x".as_slice()), Encoding::Onnx, Target::Cpu).unwrap();
    let large = Model { memory: 121, ..Model::default() }.bytes();
    let models: [(Vec<Vec<u8>>, Encoding, Target); 9] = [
        (vec![], Encoding::Onnx, Target::Cpu),
        (vec![b"junk".to_vec()], Encoding::Onnx, Target::Cpu),
        (vec![b"junk".to_vec()], Encoding::Ggml, Target::Cpu),
        (vec![b"junk".to_vec()], Encoding::Onnx, Target::Gpu),
        (vec![b"load".to_vec()], Encoding::PyTorch, Target::Cpu),
        (vec![b"fail load".to_vec()], Encoding::PyTorch, Target::Cpu),
        (vec![b"describe".to_vec()], Encoding::PyTorch, Target::Cpu),
        (vec![vec![0; 121]], Encoding::PyTorch, Target::Cpu),
        (vec![large], Encoding::Onnx, Target::Cpu),
    ];
    for (parts, encoding, target) in models {
        let borrowed: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let blocking = guest().load(&borrowed, encoding, target).unwrap_err();
        let guest = guest();
        assert_eq!(block_on(guest.load_async(parts, encoding, target)).unwrap_err(), blocking);
        drop(guest);
    }
    let long = "n".repeat(300);
    for name in ["none", "bad", &long] {
        let guest = guest();
        assert_eq!(block_on(guest.load_by_name_async(name)).err(), guest.load_by_name(name).err(), "{name}");
    }
    let config = "c".repeat(70_000);
    let spaces = " ".repeat(70_000);
    for (name, config) in [("m", "x"), ("none", "x"), ("c", &*config), ("m", &*spaces), (&*long, "x"), ("none", " ")] {
        let guest = guest();
        let blocking = guest.load_by_name_with_config(name, config).unwrap_err();
        assert_eq!(block_on(guest.load_by_name_with_config_async(name, config)).unwrap_err(), blocking);
    }
    let none = engine.guest_with(Limits::default().with_max_graphs(0));
    let blocking = none.load(&[b"anything"], Encoding::PyTorch, Target::Cpu).unwrap_err();
    assert_eq!(block_on(start(&none, "anything")).unwrap_err(), blocking);
    drop(none);
    eventually(|| engine.stats().loads == 0 && engine.stats().graph_handles == 0);
}

#[test]
fn a_failure_reaches_those_that_wait_for_the_build() {
    let watch = Watch::default();
    let engine = engine(&watch, 2, 10);
    let guest = engine.guest();
    let loads = [(); 3].map(|()| start(&guest, "gate fail"));
    watch.wait_for(1);
    // It has its turn after those that come to wait.
    block_on(start(&guest, "another")).unwrap();
    watch.open();
    for load in loads {
        assert_eq!(block_on(load).unwrap_err().message(), "load: as it was told");
    }
    assert_eq!((watch.loads(), engine.stats().loads), (2, 0));
}

/// The blocking load of a guest with little room fails; of those that wait, the one with the most room builds next,
/// while all turns are taken by a load that waits for that very build.
#[test]
fn a_load_with_more_room_builds_after_one_that_was_short_even_where_all_turns_wait_for_it() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 10);
    let room = |bytes| engine.guest_with(Limits::default().with_max_graph_bytes(bytes));
    let (small, large, named) = (room(50), room(usize::MAX), engine.guest());
    let source = ModelSource::bytes(b"gate needs 100".as_slice());
    engine.register_model("m", source, Encoding::PyTorch, Target::Cpu).unwrap();
    thread::scope(|scope| {
        let short = scope.spawn(|| small.load(&[b"gate needs 100"], Encoding::PyTorch, Target::Cpu));
        watch.wait_for(1);
        // Its wait takes the thread, but not the turn.
        let by_name = named.load_by_name_async("m");
        let tiny = start(&room(60), "gate needs 100");
        let next = start(&large, "gate needs 100");
        block_on(start(&large, "another")).unwrap();
        watch.open();
        assert_eq!(short.join().unwrap().unwrap_err().kind(), ErrorKind::TooLarge);
        block_on(next).unwrap();
        block_on(by_name).unwrap();
        assert_eq!(block_on(tiny).unwrap_err().kind(), ErrorKind::RuntimeError);
    });
    assert_eq!((engine.stats().graphs, engine.stats().loads), (2, 0));
}

#[test]
fn a_backend_that_loads_without_blocking_inside_a_load_is_refused() {
    let inner = Arc::new(OnceLock::<Guest>::new());
    let its = Arc::clone(&inner);
    let engine = Scripted::new(|_| Ok(()))
        .loading(move |request| match request.parts[0][0] {
            1 => block_on(its.get().unwrap().load_async([vec![2]], Encoding::Onnx, Target::Cpu)).map(drop),
            _ => Ok(()),
        })
        .engine(EngineLimits::default().with_max_loading(1));
    inner.set(engine.guest()).unwrap();
    let guest = engine.guest();
    let error = block_on(guest.load_async([vec![1]], Encoding::Onnx, Target::Cpu)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RuntimeError);
    assert!(error.message().contains("inside a load"), "{error}");
    // What is in memory is no load.
    block_on(guest.load_async([vec![2]], Encoding::Onnx, Target::Cpu)).unwrap();
    block_on(guest.load_async([vec![1]], Encoding::Onnx, Target::Cpu)).unwrap();
}
