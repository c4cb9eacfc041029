//! Named models.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, process, thread};

use graphpool::backend::{Backend, BackendGraph, LoadRequest};
use graphpool::nn::{Encoding, Engine, Error, ErrorKind, ModelSource, Target};

use crate::backends::{Model, Watch, comes_about, eventually};

fn register(engine: &Engine, name: &str, text: &str) {
    let source = ModelSource::bytes(text.as_bytes().to_vec());
    engine.register_model(name, source, Encoding::PyTorch, Target::Cpu).unwrap();
}

#[test]
fn nothing_is_built_before_a_guest_asks_and_then_it_is_shared() {
    let watch = Watch::default();
    let engine = watch.engine();
    engine.register_model("a", ModelSource::bytes(Model::default().bytes()), Encoding::Onnx, Target::Cpu).unwrap();
    register(&engine, "b", "anything");
    assert_eq!((watch.loads(), engine.model_names()), (0, vec!["a".to_owned(), "b".to_owned()]));
    let (one, two) = (engine.guest(), engine.guest());
    let graphs = [one.load_by_name("a"), one.load_by_name("a"), two.load_by_name("a")].map(Result::unwrap);
    assert_eq!(watch.loads(), 1);
    assert_ne!(graphs[0], graphs[1]);
    assert_eq!((engine.stats().graphs, engine.stats().graph_handles, engine.stats().names), (1, 3, 2));
    // One guest's unloading is nothing to the others, and the name keeps the graph.
    one.unload(graphs[0]).unwrap();
    one.init_execution_context(graphs[1]).unwrap();
    drop((one, two));
    engine.guest().load_by_name("a").unwrap();
    assert_eq!(watch.loads(), 1);
}

/// The condition: a thousand threads, all of which have asked before the build can end.
#[test]
fn a_thousand_loads_by_name_at_once_make_one_build() {
    const THREADS: usize = 1_000;
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, "gated", "gate load");
    let loaded = AtomicUsize::new(0);
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let thread = thread::Builder::new().stack_size(256 << 10);
            let load = || {
                let guest = engine.guest();
                barrier.wait();
                let graph = guest.load_by_name("gated").unwrap();
                loaded.fetch_add(1, Ordering::SeqCst);
                guest.init_execution_context(graph).unwrap();
            };
            thread.spawn_scoped(scope, load).unwrap();
        }
        watch.wait_for(1);
        eventually(|| engine.stats().guests == THREADS);
        assert_eq!(loaded.load(Ordering::SeqCst), 0);
        watch.open();
    });
    assert_eq!((watch.loads(), engine.stats().builds), (1, 1));
    assert_eq!((loaded.into_inner(), engine.stats().contexts_opened), (THREADS, THREADS as u64));
    engine.remove_model("gated").unwrap();
    watch.all_gone();
}

/// Who has a version waits for nobody, not even for a build of the next.
#[test]
fn nobody_waits_for_a_name_that_is_ready() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, "m", "anything");
    engine.guest().load_by_name("m").unwrap();
    thread::scope(|scope| {
        let reload = scope.spawn(|| engine.replace_model("m", ModelSource::bytes(b"gate load".as_slice())));
        watch.wait_for(1);
        let use_it = || {
            let guest = engine.guest();
            let context = guest.init_execution_context(guest.load_by_name("m")?)?;
            guest.compute(context)?;
            Ok::<_, Error>((engine.list_models()[0].version, engine.list_graphs().len()))
        };
        let used = scope.spawn(use_it);
        let in_time = comes_about(|| used.is_finished());
        // Whatever came of it, so that no thread is left at the gate.
        watch.open();
        assert!(in_time, "it waits for the reload");
        assert_eq!(used.join().unwrap(), Ok((Some(1), 1)));
        assert_eq!(reload.join().unwrap().unwrap(), 2);
    });
    assert_eq!(engine.list_models()[0].version, Some(2));
}

#[test]
fn a_name_that_is_removed_while_it_is_built_is_for_those_who_wait_and_no_one_else() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, "m", "gate load");
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            let guest = engine.guest();
            guest.init_execution_context(guest.load_by_name("m")?).map(drop)
        });
        watch.wait_for(1);
        engine.remove_model("m").unwrap();
        assert_eq!(engine.guest().load_by_name("m").unwrap_err().kind(), ErrorKind::NotFound);
        // The name is free at once, for another model.
        engine.register_model("m", ModelSource::bytes(Model::default().bytes()), Encoding::Onnx, Target::Cpu).unwrap();
        let guest = engine.guest();
        assert_eq!(guest.inputs(guest.load_by_name("m").unwrap()).unwrap()[0].name, "x");
        watch.open();
        assert_eq!(first.join().unwrap(), Ok(()));
    });
    // The one that was removed has gone with its last user.
    eventually(|| engine.list_graphs().len() == 1 && watch.alive() == 1);
}

#[test]
fn the_backend_gets_the_configuration_of_a_named_model() {
    let engine = Engine::builder(Configured).build();
    for (name, source) in [
        ("plain", ModelSource::bytes(vec![1])),
        ("configured", ModelSource::bytes(vec![1]).with_config("streams=2")),
        ("in parts", ModelSource::bytes(vec![1]).and(ModelSource::bytes(vec![2]).with_config("streams=3"))),
    ] {
        engine.register_model(name, source, Encoding::OpenVino, Target::Gpu).unwrap();
    }
    let told = |name| engine.guest().load_by_name(name).unwrap_err().message().to_owned();
    assert_eq!(told("plain"), "load_by_name: [[1]] OpenVino Gpu None");
    assert_eq!(told("configured"), "load_by_name: [[1]] OpenVino Gpu Some(\"streams=2\")");
    assert_eq!(told("in parts"), "load_by_name: [[1], [2]] OpenVino Gpu Some(\"streams=3\")");
}

/// Tells what it is given.
struct Configured;

impl Backend for Configured {
    fn name(&self) -> &'static str {
        "configured"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let LoadRequest { parts, encoding, target, config, .. } = request;
        Err(Error::runtime_error(format!("{parts:?} {encoding:?} {target:?} {config:?}")))
    }
}

#[test]
fn a_build_that_fails_is_reported_to_all_that_waited_and_may_be_tried_again() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, "bad", "gate fail");
    let builds = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| engine.guest().load_by_name("bad").unwrap_err().message().to_owned()))
            .collect();
        watch.wait_for(1);
        // All have called by now, as far as can be seen from outside.
        eventually(|| engine.stats().guests == 8);
        watch.open();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), "load_by_name: as it was told");
        }
        watch.loads()
    });
    assert!(builds < 8, "{builds} builds for 8 that asked at once");
    assert!(engine.guest().load_by_name("bad").is_err());
    assert_eq!(watch.loads(), builds + 1);
}

#[test]
fn a_build_of_one_name_keeps_no_other_name_waiting() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, "slow", "gate load");
    register(&engine, "quick", "anything");
    thread::scope(|scope| {
        let slow = scope.spawn(|| engine.guest().load_by_name("slow").map(drop));
        watch.wait_for(1);
        engine.guest().load_by_name("quick").unwrap();
        // Nor the registry.
        register(&engine, "new", "anything");
        engine.remove_model("quick").unwrap();
        watch.open();
        slow.join().unwrap().unwrap();
    });
}

#[test]
fn a_panic_of_the_backend_fails_the_build_and_no_more() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, "load", "load");
    for _ in 0..3 {
        let error = engine.guest().load_by_name("load").unwrap_err();
        assert_eq!(error.message(), "load_by_name: the backend panicked: load");
    }
    assert_eq!(engine.stats().panics, 3);
}

#[test]
fn a_name_is_taken_until_it_is_removed_and_guests_keep_what_they_loaded() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, "m", "anything");
    let source = || ModelSource::bytes(Model::default().bytes());
    let error = engine.register_model("m", source(), Encoding::Onnx, Target::Cpu).unwrap_err();
    assert_eq!(error.to_string(), "the name \"m\" is taken");
    let guest = engine.guest();
    let graph = guest.load_by_name("m").unwrap();
    engine.remove_model("m").unwrap();
    assert_eq!(engine.remove_model("m").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(guest.load_by_name("m").unwrap_err().kind(), ErrorKind::NotFound);
    guest.init_execution_context(graph).unwrap();
    engine.register_model("m", source(), Encoding::Onnx, Target::Cpu).unwrap();
    let new = guest.load_by_name("m").unwrap();
    assert_eq!((&*guest.inputs(graph).unwrap()[0].name, &*guest.inputs(new).unwrap()[0].name), ("byte", "x"));
}

#[test]
fn a_model_in_files_is_read_at_its_first_use() {
    let watch = Watch::default();
    let engine = watch.engine();
    let folder = env::temp_dir().join(format!("graphpool-names-{}", process::id()));
    let (head, tail) = (folder.join("head"), folder.join("tail"));
    let source = ModelSource::path(&head).and(ModelSource::path(&tail));
    engine.register_model("files", source, Encoding::Onnx, Target::Cpu).unwrap();
    let error = engine.guest().load_by_name("files").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RuntimeError);
    assert!(!error.message().contains("head"), "the guest learns a path of the host's: {error}");

    fs::create_dir_all(&folder).unwrap();
    let bytes = Model::default().bytes();
    fs::write(&head, &bytes[..8]).unwrap();
    fs::write(&tail, &bytes[8..]).unwrap();
    engine.guest().load_by_name("files").unwrap();
    // Not a second time.
    fs::remove_dir_all(&folder).unwrap();
    engine.guest().load_by_name("files").unwrap();
}

#[test]
fn as_many_names_as_a_host_likes_are_registered_found_listed_and_removed() {
    const NAMES: usize = 20_000;
    let watch = Watch::default();
    let engine = watch.engine();
    let name = |number: usize| format!("model {number}");
    for number in 0..NAMES {
        register(&engine, &name(number), "anything");
    }
    assert!(engine.register_model(&name(7), ModelSource::bytes(vec![]), Encoding::Onnx, Target::Cpu).is_err());
    assert_eq!((engine.stats().names, engine.model_names().len()), (NAMES, NAMES));
    assert!(engine.model_names().is_sorted());
    let guest = engine.guest();
    for number in (0..NAMES).step_by(1_000) {
        guest.unload(guest.load_by_name(&name(number)).unwrap()).unwrap();
    }
    for number in 0..NAMES {
        engine.remove_model(&name(number)).unwrap();
        assert!(engine.remove_model(&name(number)).is_err());
    }
    assert_eq!((engine.stats().names, engine.list_models().len()), (0, 0));
    watch.all_gone();
}
