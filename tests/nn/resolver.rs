//! Names that the host's resolver is asked for.

use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use graphpool::nn::{
    Encoding, Engine, EngineLimits, Error, ErrorKind, Guest, GuestPolicy, Limits, ModelError, ModelSource,
    ResolvedModel, Target,
};

use crate::admission::block_on;
use crate::backends::{Over, Watch, comes_about, eventually};
use crate::configs::{Echo, model, runs};

type Asked = Arc<Mutex<Vec<String>>>;

fn answer(source: ModelSource) -> ResolvedModel {
    ResolvedModel::new(source, Encoding::Onnx, Target::Cpu)
}

/// An engine whose resolver has the names `m1` to `m9`, whose models are their numbers, and what it was asked.
fn engine_within(limits: EngineLimits) -> (Engine, Asked) {
    let asked = Asked::default();
    let its = Arc::clone(&asked);
    let resolver = move |name: &str| {
        its.lock().unwrap().push(name.to_owned());
        let number = name.strip_prefix('m').and_then(|number| number.parse().ok()).filter(|number| *number < 10);
        Ok(number.map(|number| answer(model(number).with_guest_configs(1))))
    };
    let engine = Engine::builder(Echo::default()).with_engine_limits(limits).with_resolver(resolver).build();
    (engine, asked)
}

fn engine() -> (Engine, Asked) {
    engine_within(EngineLimits::default())
}

/// What the resolver was asked since the last call of this.
fn asked(asked: &Asked) -> Vec<String> {
    std::mem::take(&mut *asked.lock().unwrap())
}

/// The model's number; its handle is given back.
fn loads(guest: &Guest, name: &str) -> Result<u8, Error> {
    let graph = guest.load_by_name(name)?;
    let (number, _) = runs(guest, graph);
    guest.unload(graph)?;
    Ok(number)
}

fn register(engine: &Engine, name: &str, number: u8) -> Result<(), ModelError> {
    engine.register_model(name, model(number), Encoding::Onnx, Target::Cpu)
}

#[test]
fn what_the_resolver_gives_is_registered_like_a_model_of_the_host_s() {
    let (engine, questions) = engine();
    register(&engine, "own", 100).unwrap();
    let [one, two] = [engine.guest(), engine.guest()];
    let graph = one.load_by_name("m1").unwrap();
    assert_eq!((loads(&one, "m1"), loads(&two, "m1"), loads(&two, "own")), (Ok(1), Ok(1), Ok(100)));
    assert_eq!(asked(&questions), ["m1"]);
    let listed = engine.list_models();
    let listed: Vec<_> = listed.iter().map(|model| (&*model.name, model.version, model.resolved)).collect();
    assert_eq!(listed, [("m1", Some(1), true), ("own", Some(1), false)]);
    assert_eq!(register(&engine, "m1", 8).unwrap_err().to_string(), "the name \"m1\" is taken");
    assert_eq!(engine.replace_model("m1", model(9)).unwrap(), 2);
    assert_eq!(runs(&one, graph).0, 9);
    engine.remove_model("m1").unwrap();
    assert_eq!(engine.remove_model("m1").unwrap_err().kind(), ErrorKind::NotFound);
    // Who has it keeps it, and the next load asks again.
    assert_eq!((runs(&one, graph).0, loads(&two, "m1"), asked(&questions)), (9, Ok(1), vec!["m1".to_owned()]));
    // The host's names are not the resolver's business.
    engine.remove_model("m1").unwrap();
    register(&engine, "m1", 50).unwrap();
    assert_eq!((loads(&two, "m1"), asked(&questions).len()), (Ok(50), 0));
}

#[test]
fn a_guest_may_configure_what_the_resolver_gives_where_that_allows_it() {
    let (engine, questions) = engine();
    let policy = GuestPolicy::new().with_name("mine", "m4").with_mapped_names_only();
    let guest = engine.guest_builder().with_policy(&policy).build();
    let configured = guest.load_by_name_with_config("mine", "x").unwrap();
    let plain = guest.load_by_name("mine").unwrap();
    assert_eq!((runs(&guest, configured), runs(&guest, plain)), ((4, "x".to_owned()), (4, "none".to_owned())));
    assert_eq!(guest.load_by_name_with_config("mine", "y").unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!((asked(&questions), engine.list_models()[0].configured), (vec!["m4".to_owned()], 1));
}

#[test]
fn a_name_that_the_resolver_does_not_have_is_as_unknown_as_any_and_leaves_nothing() {
    let (engine, questions) = engine();
    let plain = Engine::new(Echo::default());
    for name in ["m10", "", "../m1", "m1\0", "M1"] {
        let told = |engine: &Engine| {
            let error = engine.guest().load_by_name(name).unwrap_err();
            (error.kind(), error.message().to_owned())
        };
        assert_eq!(told(&engine), told(&plain));
        assert_eq!(told(&engine).0, ErrorKind::NotFound);
        // Each time, as nothing is kept.
        assert_eq!(asked(&questions).len(), 2);
    }
    let guest = engine.guest();
    for name in 0..10_000 {
        assert!(guest.load_by_name(&format!("no {name}")).is_err());
    }
    assert_eq!((engine.stats().names, engine.stats().graphs, engine.stats().graph_handles), (0, 0, 0));
    assert_eq!(asked(&questions).len(), 10_000);
}

#[test]
fn what_the_resolver_fails_with_is_for_the_guests_that_waited_and_no_later_ones() {
    let turn = AtomicUsize::new(0);
    let resolver = move |name: &str| match turn.fetch_add(1, Ordering::SeqCst) {
        0 => Err(Error::busy("the store of models is away")),
        1 => panic!("as it was told"),
        2 => panic_any(7),
        // Has a name that the guest must not learn.
        3 => Err(ModelError::NotFound { name: name.to_owned() }.into()),
        4 => Ok(Some(answer(ModelSource::path("no such file")))),
        _ => Ok(Some(answer(model(6)))),
    };
    let engine = Engine::builder(Echo::default()).with_resolver(resolver).build();
    let policy = GuestPolicy::new().with_name("mine", "secret");
    let guest = engine.guest_builder().with_policy(&policy).build();
    for (kind, told) in [
        (ErrorKind::Busy, "the store of models is away"),
        (ErrorKind::RuntimeError, "the resolver panicked: as it was told"),
        (ErrorKind::RuntimeError, "the resolver panicked: with no message"),
        (ErrorKind::NotFound, "no model is named \"mine\""),
        (ErrorKind::RuntimeError, "the model's file cannot be read: entity not found"),
    ] {
        let error = guest.load_by_name("mine").unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, &*format!("load_by_name: {told}")));
    }
    assert_eq!((engine.stats().panics, engine.model_names()), (2, vec!["secret".to_owned()]));
    // It was registered as it is, so the host removes it, or mends it.
    engine.remove_model("secret").unwrap();
    assert_eq!(loads(&guest, "mine"), Ok(6));
}

/// A resolver that waits for the test's word for each name that begins with `slow`.
struct Gate {
    asked: mpsc::Receiver<String>,
    go: mpsc::SyncSender<Option<ResolvedModel>>,
}

const LONG: Duration = Duration::from_secs(15);

fn gated() -> (Engine, Gate) {
    let ((told, asked), (go, goes)) = (mpsc::channel(), mpsc::sync_channel(8));
    let goes = Mutex::new(goes);
    let resolver = move |name: &str| {
        if !name.starts_with("slow") {
            return Ok(Some(answer(model(1))));
        }
        told.send(name.to_owned()).unwrap();
        Ok(goes.lock().unwrap().recv_timeout(LONG).unwrap())
    };
    (Engine::builder(Echo::default()).with_resolver(resolver).build(), Gate { asked, go })
}

#[test]
fn many_loads_of_one_unknown_name_ask_once_and_keep_no_other_name_waiting() {
    for known in [true, false] {
        let (engine, gate) = gated();
        thread::scope(|scope| {
            let loads_slow = || engine.guest().load_by_name("slow").map(drop).map_err(|error| error.kind());
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(loads_slow)).collect();
            assert_eq!(gate.asked.recv_timeout(LONG).unwrap(), "slow");
            // All have called by now, as far as can be seen from outside.
            eventually(|| engine.stats().guests == 8);
            thread::sleep(Duration::from_millis(20));
            let quick = scope.spawn(|| loads(&engine.guest(), "quick"));
            let in_time = comes_about(|| quick.is_finished());
            // Whatever came of it, so that no thread is left waiting. More than one: a load may come late.
            for _ in 0..8 {
                gate.go.send(known.then(|| answer(model(3)))).unwrap();
            }
            assert!(in_time, "it waits for the other name");
            assert_eq!(quick.join().unwrap(), Ok(1));
            for thread in threads {
                assert_eq!(thread.join().unwrap(), if known { Ok(()) } else { Err(ErrorKind::NotFound) });
            }
        });
        let more = gate.asked.try_iter().count();
        assert!(if known { more == 0 } else { more < 7 }, "{more} more calls of the resolver");
    }
}

#[test]
fn an_asynchronous_load_asks_on_a_thread_of_the_engine() {
    let (engine, gate) = gated();
    let guest = engine.guest();
    // None of these blocks this thread, which answers the resolver's question only later.
    let loads = [(); 4].map(|()| guest.load_by_name_async("slow"));
    let configured = guest.load_by_name_with_config_async("slow", "x");
    assert_eq!(gate.asked.recv_timeout(LONG).unwrap(), "slow");
    assert_eq!(block_on(guest.load_by_name_async("quick")).map(drop), Ok(()));
    gate.go.send(Some(answer(model(3).with_guest_configs(1)))).unwrap();
    for load in loads {
        assert_eq!(runs(&guest, block_on(load).unwrap()), (3, "none".to_owned()));
    }
    assert_eq!(runs(&guest, block_on(configured).unwrap()), (3, "x".to_owned()));
    assert_eq!(gate.asked.try_iter().count(), 0);
    // The errors are those of the blocking calls.
    let (engine, _) = self::engine();
    let policy = GuestPolicy::new().with_name("mine", "gone").with_models(["m1", "gone"]);
    let guest = engine.guest_builder().with_policy(&policy).build();
    for name in ["mine", "gone", "m2", "no such"] {
        let blocking = [guest.load_by_name(name), guest.load_by_name_with_config(name, "x")];
        let others = [guest.load_by_name_async(name), guest.load_by_name_with_config_async(name, "x")];
        assert_eq!(others.map(block_on).map(Result::unwrap_err), blocking.map(Result::unwrap_err));
    }
    eventually(|| engine.stats().loads == 0);
}

#[test]
fn an_asynchronous_load_that_is_dropped_while_the_resolver_is_asked_builds_nothing() {
    let (engine, gate) = gated();
    let guest = engine.guest();
    let load = guest.load_by_name_async("slow");
    gate.asked.recv_timeout(LONG).unwrap();
    drop(load);
    gate.go.send(Some(answer(model(3)))).unwrap();
    eventually(|| engine.stats().loads == 0);
    // The answer is registered, and not built.
    eventually(|| engine.model_names() == ["slow"]);
    assert_eq!((engine.list_models()[0].version, engine.stats().graph_handles), (None, 0));
    assert_eq!(loads(&guest, "slow"), Ok(3));
}

#[test]
fn a_name_that_the_host_registers_meanwhile_is_the_host_s() {
    for known in [true, false] {
        let (engine, gate) = gated();
        thread::scope(|scope| {
            let slow = scope.spawn(|| loads(&engine.guest(), "slow"));
            gate.asked.recv_timeout(LONG).unwrap();
            register(&engine, "slow", 5).unwrap();
            // Who asks now needs no resolver.
            assert_eq!(loads(&engine.guest(), "slow"), Ok(5));
            gate.go.send(known.then(|| answer(model(3)))).unwrap();
            assert_eq!(slow.join().unwrap(), Ok(5));
        });
        assert!(!engine.list_models()[0].resolved);
    }
}

#[test]
fn the_resolver_gets_the_engine_s_name_and_none_that_the_guest_may_not_load() {
    let (engine, questions) = engine();
    let policy = GuestPolicy::new().with_models(["m1"]).with_name("mine", "m2");
    let guest = engine.guest_builder().with_policy(&policy).build();
    for refused in ["m2", "m3", "no such"] {
        assert_eq!(loads(&guest, refused).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(asked(&questions), [""; 0]);
    assert_eq!((loads(&guest, "mine"), loads(&guest, "m1")), (Ok(2), Ok(1)));
    assert_eq!(asked(&questions), ["m2", "m1"]);
    // A name that could not be registered, to a guest that may say it.
    let guest = engine.guest_with(Limits::default().with_max_name_bytes(1_000));
    let long = "m".repeat(257);
    assert_eq!(guest.load_by_name(&long).unwrap_err().kind(), ErrorKind::NotFound);
    let error = engine.guest().load_by_name(&long).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(asked(&questions), [""; 0]);
    // A guest at its limit is refused first.
    let guest = engine.guest_with(Limits::default().with_max_graphs(0));
    assert_eq!(guest.load_by_name("m5").unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(asked(&questions), [""; 0]);
}

/// What the resolver of this engine calls it for is told; the engine is put in its place at last.
#[test]
fn the_resolver_may_call_the_engine_but_for_the_name_that_it_is_asked_for() {
    let place = Arc::<OnceLock<Mutex<Option<Engine>>>>::default();
    let its = Arc::clone(&place);
    let (told, hears) = mpsc::channel();
    let resolver = move |name: &str| {
        let engine = its.get().unwrap().lock().unwrap().clone().unwrap();
        match name {
            "registers" => {
                register(&engine, name, 11).unwrap();
                Ok(None)
            }
            "registers now" => {
                engine.register_model_now(name, model(12), Encoding::Onnx, Target::Cpu)?;
                Ok(Some(answer(model(13))))
            }
            "loads" => {
                let number = loads(&engine.guest(), "other")?;
                Ok(Some(answer(model(number + 1))))
            }
            "other" => Ok(Some(answer(model(20)))),
            _ => {
                told.send(loads(&engine.guest(), if name == "ring" { "gnir" } else { "ring" })).unwrap();
                Ok(Some(answer(model(30))))
            }
        }
    };
    let engine = Engine::builder(Echo::default()).with_resolver(resolver).build();
    place.set(Mutex::new(Some(engine.clone()))).unwrap();
    let guest = engine.guest();
    let found = ["registers", "registers now", "loads"].map(|name| loads(&guest, name));
    assert_eq!(found, [Ok(11), Ok(12), Ok(21)]);
    // On a thread of its own, so that the test fails where it hangs.
    let loading = guest.clone();
    let ring = thread::spawn(move || loads(&loading, "ring"));
    let [inner, outer] = [(); 2].map(|()| hears.recv_timeout(LONG).unwrap());
    let message = "load_by_name: a backend or a resolver made this call inside the load that it would have to wait for";
    assert_eq!((inner.unwrap_err().message(), outer, ring.join().unwrap()), (message, Ok(30), Ok(30)));
    let taken = place.get().unwrap().lock().unwrap().take();
    drop(taken);
}

#[test]
fn one_more_than_the_bound_takes_the_place_of_one_that_no_guest_holds() {
    let (engine, questions) = engine_within(EngineLimits::default().with_max_resolved_names(4));
    // The host's own do not count.
    register(&engine, "own", 100).unwrap();
    let guest = engine.guest();
    let held = guest.load_by_name("m1").unwrap();
    assert_eq!(["m2", "m3", "m4", "m5"].map(|name| loads(&guest, name)), [2, 3, 4, 5].map(Ok));
    assert_eq!(engine.model_names(), ["m1", "m3", "m4", "m5", "own"]);
    // The one that was loaded since is spared, and the next goes.
    assert_eq!((loads(&guest, "m3"), loads(&guest, "m6")), (Ok(3), Ok(6)));
    assert_eq!(engine.model_names(), ["m1", "m3", "m5", "m6", "own"]);
    assert_eq!(asked(&questions), ["m1", "m2", "m3", "m4", "m5", "m6"]);
    let others = ["m3", "m5", "m6"].map(|name| guest.load_by_name(name).unwrap());
    let context = guest.init_execution_context(others[0]).unwrap();
    let error = guest.load_by_name("m7").unwrap_err();
    let told = "load_by_name: engine resolved name limit exceeded: 4 of 4 names in use, 1 more requested";
    assert_eq!((error.kind(), error.message()), (ErrorKind::Busy, told));
    assert_eq!(loads(&guest, "own"), Ok(100));
    // A context keeps the place of its model.
    guest.unload(others[0]).unwrap();
    assert_eq!(guest.load_by_name("m7").unwrap_err().kind(), ErrorKind::Busy);
    guest.compute(context).unwrap();
    guest.drop_context(context).unwrap();
    assert_eq!((loads(&guest, "m7"), loads(&guest, "m8"), runs(&guest, held).0), (Ok(7), Ok(8), 1));
    assert_eq!(engine.model_names(), ["m1", "m5", "m6", "m8", "own"]);
    // One that the host removes leaves its place when its last handle goes.
    engine.remove_model("m1").unwrap();
    assert_eq!(guest.load_by_name("m9").map(drop), Ok(()));
    assert_eq!(guest.load_by_name("m2").unwrap_err().kind(), ErrorKind::Busy);
    guest.unload(held).unwrap();
    assert_eq!(loads(&guest, "m2"), Ok(2));
    drop(guest);
    eventually(|| engine.stats().graphs == engine.stats().names);
    assert_eq!(engine.stats().names, 5);
    let none = engine_within(EngineLimits::default().with_max_resolved_names(0)).0;
    assert_eq!(none.guest().load_by_name("m1").unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn a_guest_that_asks_for_all_names_takes_no_more_memory_than_the_bound_and_locks_nobody_out() {
    let watch = Watch::default();
    let resolver = |name: &str| {
        let source = ModelSource::bytes(format!("anything {name}").into_bytes());
        Ok(Some(ResolvedModel::new(source, Encoding::PyTorch, Target::Cpu)))
    };
    // Room for what the hostile guest holds, one that each of its threads is evicting, and the other guest's.
    let bound = 6 + 2 + 1;
    let limits = EngineLimits::default().with_max_resolved_names(bound).with_max_graphs(64);
    let engine = watch.builder().with_engine_limits(limits).with_resolver(resolver).build();
    let (over, hostile) = (AtomicBool::new(false), engine.guest_with(Limits::default().with_max_graphs(6)));
    thread::scope(|scope| {
        for thread in 0..2 {
            let (over, hostile) = (&over, &hostile);
            scope.spawn(move || {
                for name in (0..).take_while(|_| !over.load(Ordering::SeqCst)) {
                    // Some are kept, until the guest has no room.
                    if let Ok(graph) = hostile.load_by_name(&format!("hostile {thread} {name}"))
                        && name > 2
                    {
                        hostile.unload(graph).unwrap();
                    }
                }
            });
        }
        let _over = Over(&over);
        let guest = engine.guest();
        for round in 0..500 {
            let graph = guest.load_by_name(&format!("mine {}", round % 3)).unwrap();
            guest.unload(graph).unwrap();
            assert!(engine.stats().names <= bound);
        }
    });
    drop(hostile);
    eventually(|| engine.stats().graphs <= bound);
    for name in engine.model_names() {
        engine.remove_model(&name).unwrap();
    }
    watch.all_gone();
    engine.guest().load_by_name("one more").unwrap();
    drop(engine);
    watch.all_gone();
}

#[test]
fn a_context_and_a_configured_graph_hold_their_models_name() {
    let (engine, questions) = engine_within(EngineLimits::default().with_max_resolved_names(2));
    let guest = engine.guest();
    let graph = guest.load_by_name("m1").unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    guest.unload(graph).unwrap();
    let configured = guest.load_by_name_with_config("m2", "x").unwrap();
    // Both places are taken, though there is one handle.
    for _ in 0..3 {
        assert_eq!(guest.load_by_name("m3").unwrap_err().kind(), ErrorKind::Busy);
    }
    // The bound on configured graphs is that of the one model of the name.
    assert_eq!(guest.load_by_name_with_config("m2", "y").unwrap_err().kind(), ErrorKind::Busy);
    let of_configured = guest.init_execution_context(configured).unwrap();
    guest.unload(configured).unwrap();
    assert_eq!(guest.load_by_name("m3").unwrap_err().kind(), ErrorKind::Busy);
    guest.drop_context(of_configured).unwrap();
    assert_eq!((loads(&guest, "m3"), engine.model_names()), (Ok(3), vec!["m1".to_owned(), "m3".to_owned()]));
    guest.drop_context(context).unwrap();
    assert_eq!((loads(&guest, "m4"), loads(&guest, "m5")), (Ok(4), Ok(5)));
    assert_eq!(asked(&questions)[..2], ["m1", "m2"]);
}
