//! Versions of named models.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, ErrorKind, Guest, ModelSource, Target, Tensor};

use crate::backends::{Model, Over, Watch, eventually};

fn model(a: f32) -> ModelSource {
    ModelSource::bytes(Model { a, b: 0.0, ..Model::default() }.bytes())
}

fn register(engine: &Engine, a: f32) {
    engine.register_model("m", model(a), Encoding::Onnx, Target::Cpu).unwrap();
}

fn run(guest: &Guest, context: GuestHandle) -> u64 {
    guest.set_input(context, 0, Tensor::from_f32(vec![2], &[1.0, 1.0]).unwrap().view()).unwrap();
    guest.compute(context).unwrap();
    guest.output(context, 0).unwrap().to_f32().unwrap()[0] as u64
}

/// A directory of the test's own, gone at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("graphpool-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, a: f32) {
        // Renamed into place, as the documentation asks.
        let aside = self.0.join("aside");
        fs::write(&aside, Model { a, b: 0.0, ..Model::default() }.bytes()).unwrap();
        fs::rename(aside, self.0.join(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn new_contexts_run_on_the_new_version_and_old_ones_where_they_are() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, 2.0);
    let guest = engine.guest();
    let graph = guest.load_by_name("m").unwrap();
    let old = guest.init_execution_context(graph).unwrap();
    assert_eq!(engine.replace_model("m", model(3.0)).unwrap(), 2);
    let new = guest.init_execution_context(graph).unwrap();
    assert_eq!((run(&guest, old), run(&guest, new)), (2, 3));
    assert_eq!(engine.stats().graphs, 2);
    // The old version goes with its last context, though the handle from before is still there.
    guest.drop_context(old).unwrap();
    eventually(|| engine.stats().graphs == 1);
    assert_eq!(run(&guest, new), 3);
    engine.remove_model("m").unwrap();
    // A removed name is nothing to those who have it.
    let last = guest.init_execution_context(graph).unwrap();
    assert_eq!(run(&guest, last), 3);
    drop(guest);
    watch.all_gone();
}

#[test]
fn a_reload_that_fails_leaves_the_version_in_use() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, 2.0);
    let guest = engine.guest();
    let graph = guest.load_by_name("m").unwrap();
    for source in [ModelSource::bytes(b"junk".as_slice()), ModelSource::path("/nowhere")] {
        engine.replace_model("m", source).unwrap_err();
    }
    let error = engine.reload_model("m").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("the model \"m\" came from bytes, which are not kept"), "{error}");
    assert_eq!(engine.reload_model("n").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(run(&guest, guest.init_execution_context(graph).unwrap()), 2);
    assert_eq!(engine.list_models()[0].version, Some(1));
}

#[test]
fn versions_are_listed_and_equal_bytes_are_no_new_one() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, 2.0);
    engine.register_model("l", model(5.0), Encoding::Onnx, Target::Cpu).unwrap();
    let list = |engine: &Engine| {
        let models = engine.list_models();
        models.into_iter().map(|model| (model.name, model.version)).collect::<Vec<_>>()
    };
    assert_eq!(list(&engine), [("l".to_owned(), None), ("m".to_owned(), None)]);
    // A reload of one that was never built builds it.
    assert_eq!(engine.reload_model("m").unwrap(), 1);
    assert_eq!(engine.replace_model("m", model(2.0)).unwrap(), 1);
    assert_eq!(engine.replace_model("m", model(4.0)).unwrap(), 2);
    assert_eq!(list(&engine)[1], ("m".to_owned(), Some(2)));
    let graph = engine.list_models()[1].graph.clone().unwrap();
    eventually(|| engine.list_graphs() == [graph.clone()]);
}

#[test]
fn a_model_can_be_built_at_once_and_has_no_name_where_that_fails() {
    let watch = Watch::default();
    let engine = watch.engine();
    let register =
        |source| engine.register_model_now("m", source, Encoding::Onnx, Target::Cpu).map_err(|error| error.kind());
    assert_eq!(register(ModelSource::bytes(b"junk".as_slice())), Err(ErrorKind::InvalidEncoding));
    assert!(engine.model_names().is_empty());
    assert_eq!(register(model(2.0)), Ok(()));
    assert_eq!((watch.loads(), engine.list_models()[0].version), (1, Some(1)));
    assert_eq!(register(model(3.0)), Err(ErrorKind::InvalidArgument));
    engine.guest().load_by_name("m").unwrap();
    assert_eq!(watch.loads(), 1);
}

#[test]
fn a_guest_may_be_restricted_to_a_list_of_names() {
    let engine = Watch::default().engine();
    register(&engine, 2.0);
    engine.register_model("secret", model(3.0), Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest_builder().with_models(["m", "later"]).build();
    guest.load_by_name("m").unwrap();
    let hidden = guest.load_by_name("secret").unwrap_err();
    assert_eq!(hidden.kind(), ErrorKind::NotFound);
    // One that exists cannot be told from one that does not.
    let missing = engine.guest().load_by_name("nosuch").unwrap_err();
    assert_eq!(hidden.message().replace("secret", "nosuch"), missing.message());
    assert_eq!(guest.load_by_name("later").unwrap_err().kind(), ErrorKind::NotFound);
    engine.register_model("later", model(4.0), Encoding::Onnx, Target::Cpu).unwrap();
    guest.load_by_name("later").unwrap();
    assert!(engine.guest_builder().with_models([""; 0]).build().load_by_name("m").is_err());
}

/// The condition: no inference is lost, and no context mixes two versions.
#[test]
fn a_reload_under_load_loses_no_inference_and_mixes_no_versions() {
    let watch = Watch::default();
    let engine = watch.engine();
    register(&engine, 1.0);
    engine.guest().load_by_name("m").unwrap();
    // Versions that may be met: not before this one is built, not after the next is published.
    let (published, over) = (AtomicU64::new(1), AtomicBool::new(false));
    let inferences = AtomicU64::new(0);
    thread::scope(|scope| {
        let _over = Over(&over);
        for _ in 0..3 {
            scope.spawn(|| {
                let guest = engine.guest();
                let kept = guest.load_by_name("m").unwrap();
                while !over.load(Ordering::SeqCst) {
                    let before = published.load(Ordering::SeqCst);
                    let fresh = guest.load_by_name("m").unwrap();
                    let graph = if before.is_multiple_of(2) { kept } else { fresh };
                    let context = guest.init_execution_context(graph).unwrap();
                    let after = published.load(Ordering::SeqCst);
                    let infer = || {
                        let version = run(&guest, context);
                        inferences.fetch_add(1, Ordering::SeqCst);
                        version
                    };
                    let version = infer();
                    assert!((before..=after + 1).contains(&version), "{version} of {before} to {after}");
                    for _ in 0..3 {
                        assert_eq!(infer(), version);
                    }
                    guest.drop_context(context).unwrap();
                    guest.unload(fresh).unwrap();
                }
            });
        }
        for version in 2..=200_u16 {
            assert_eq!(engine.replace_model("m", model(f32::from(version))).unwrap(), u64::from(version));
            published.store(version.into(), Ordering::SeqCst);
            // Each version is met, mostly in the middle of a context's life.
            let (met, late) = (inferences.load(Ordering::SeqCst), Instant::now() + Duration::from_secs(10));
            while inferences.load(Ordering::SeqCst) < met + 2 {
                assert!(Instant::now() < late, "no inference in 10 s, at version {version}");
                thread::yield_now();
            }
        }
    });
    eventually(|| engine.stats().graphs == 1);
    let stats = engine.stats();
    assert_eq!((watch.loads(), stats.reloads, stats.failed_computes), (200, 199, 0));
    assert_eq!((stats.computes, stats.contexts), (inferences.into_inner(), 0));
}

#[test]
fn a_directory_gives_a_model_or_many() {
    let watch = Watch::default();
    let engine = watch.engine();
    let folder = Folder::new("directory");
    folder.write("b.onnx", 3.0);
    fs::write(folder.0.join("notes.txt"), "no model").unwrap();
    let own = |name: &str| {
        engine.register_model(name, ModelSource::directory(&folder.0), Encoding::Onnx, Target::Cpu).unwrap();
        engine.guest().load_by_name(name).map(drop).map_err(|error| error.message().to_owned())
    };
    assert_eq!(own("only"), Ok(()));
    folder.write("a.onnx", 2.0);
    assert_eq!(own("two"), Err("load_by_name: the model's directory has 2 .onnx files, none named model".to_owned()));
    folder.write("model.onnx", 4.0);
    let guest = engine.guest();
    let context = guest.init_execution_context(guest.load_by_name("two").unwrap()).unwrap();
    assert_eq!(run(&guest, context), 4);
    engine.register_directory(folder.0.join("nowhere"), Target::Cpu).unwrap_err();
    assert_eq!(engine.register_directory(&folder.0, Target::Cpu).unwrap(), ["a", "b", "model"]);
    let context = guest.init_execution_context(guest.load_by_name("b").unwrap()).unwrap();
    assert_eq!(run(&guest, context), 3);
    // The file's next version, when the host says so.
    folder.write("b.onnx", 7.0);
    assert_eq!(engine.reload_model("b").unwrap(), 2);
}

/// Guests stay where they were when the name went, and whoever reloads it is told so.
#[test]
fn a_reload_that_ends_after_its_name_is_gone_moves_nobody() {
    let watch = Watch::default();
    let engine = watch.engine();
    let text = |text: &'static str| ModelSource::bytes(text.as_bytes());
    engine.register_model_now("m", text("first"), Encoding::PyTorch, Target::Cpu).unwrap();
    let guest = engine.guest();
    let graph = guest.load_by_name("m").unwrap();
    let first = engine.list_graphs()[0].id;
    thread::scope(|scope| {
        let reload = scope.spawn(|| engine.replace_model("m", text("gate load")));
        watch.wait_for(1);
        engine.remove_model("m").unwrap();
        // Another of the name is another model.
        engine.register_model_now("m", text("other"), Encoding::PyTorch, Target::Cpu).unwrap();
        watch.open();
        let error = reload.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "the model \"m\" was removed during the reload");
    });
    guest.init_execution_context(graph).unwrap();
    let used = engine.list_graphs().into_iter().filter(|graph| graph.contexts == 1).map(|graph| graph.id);
    assert_eq!(used.collect::<Vec<_>>(), [first]);
    assert_eq!((engine.list_models()[0].version, engine.stats().reloads), (Some(1), 0));
    // What it built for nobody is gone.
    eventually(|| engine.stats().graphs == 2);
}

#[test]
fn a_version_is_counted_once_whoever_else_reloads_it() {
    let watch = Watch::default();
    let engine = watch.engine();
    let text = |text: &'static str| ModelSource::bytes(text.as_bytes());
    engine.register_model_now("m", text("first"), Encoding::PyTorch, Target::Cpu).unwrap();
    thread::scope(|scope| {
        let reload = || engine.replace_model("m", text("gate load"));
        let reloads = [scope.spawn(reload), scope.spawn(reload)];
        watch.wait_for(1);
        // The other waits for it by now, as far as can be seen from outside.
        thread::sleep(Duration::from_millis(50));
        watch.open();
        for reload in reloads {
            assert_eq!(reload.join().unwrap().unwrap(), 2);
        }
    });
    assert_eq!((watch.loads(), engine.stats().reloads), (2, 1));
}
