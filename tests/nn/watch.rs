//! Watched directories.

use std::fs;
use std::path::Path;
use std::time::Duration;

use graphpool::backend::{Backend, BackendGraph, LoadRequest};
use graphpool::nn::{Encoding, Engine, Error, Guest, ModelSource, Target, Tensor};

use crate::backends::{Model, Watch, eventually};
use crate::reload::Folder;

fn model(a: f32) -> Vec<u8> {
    Model { a, b: 0.0, ..Model::default() }.bytes()
}

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    let aside = directory.join("aside");
    fs::write(&aside, bytes).unwrap();
    fs::rename(aside, directory.join(name)).unwrap();
}

fn version(engine: &Engine, name: &str) -> Option<u64> {
    engine.list_models().into_iter().find(|model| model.name == name)?.version
}

/// What a fresh context of the named model makes of 1.
fn run(guest: &Guest, name: &str) -> u64 {
    let graph = guest.load_by_name(name).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    guest.set_input(context, 0, Tensor::from_f32(vec![2], &[1.0; 2]).unwrap().view()).unwrap();
    guest.compute(context).unwrap();
    let y = guest.output(context, 0).unwrap().to_f32().unwrap()[0];
    guest.drop_context(context).unwrap();
    guest.unload(graph).unwrap();
    y as u64
}

/// Returns when the watch has looked through the directory after everything that came before this.
fn looked_through(engine: &Engine, directory: &Path, marker: &str) {
    write(directory, &format!("{marker}.onnx"), &model(1.0));
    eventually(|| engine.model_names().iter().any(|name| name == marker));
}

#[test]
fn a_file_of_another_encoding_is_no_version_of_a_name() {
    let watch = Watch::default();
    let engine = watch.engine();
    let folder = Folder::new("watch-encodings");
    folder.write("m.onnx", 2.0);
    let _following = engine.watch_directory(&folder.0, Target::Cpu).unwrap();
    let guest = engine.guest();
    assert_eq!(run(&guest, "m"), 2);
    folder.write("m.gguf", 3.0);
    folder.write("m.tflite", 4.0);
    looked_through(&engine, &folder.0, "z");
    assert_eq!((version(&engine, "m"), run(&guest, "m")), (Some(1), 2));
    // Nor when its own file is gone.
    fs::remove_file(folder.0.join("m.onnx")).unwrap();
    folder.write("m.gguf", 5.0);
    looked_through(&engine, &folder.0, "zz");
    assert_eq!((version(&engine, "m"), run(&guest, "m")), (Some(1), 2));
    folder.write("m.onnx", 6.0);
    eventually(|| version(&engine, "m") == Some(2));
    assert_eq!(run(&guest, "m"), 6);
}

#[test]
fn of_several_files_of_one_name_the_first_in_the_documented_order_is_the_model() {
    let folder = Folder::new("watch-order");
    for name in ["m.gguf", "m.pt", "m.onnx", "m.xml", "n.pt", "n.gguf", "n.tflite"] {
        folder.write(name, 2.0);
    }
    for _ in 0..8 {
        let engine = Watch::default().engine();
        let following = engine.watch_directory(&folder.0, Target::Cpu).unwrap();
        let listed = |engine: &Engine| -> Vec<_> {
            engine.list_models().into_iter().map(|model| (model.name, model.encoding)).collect()
        };
        let expected = [("m".to_owned(), Encoding::Onnx), ("n".to_owned(), Encoding::PyTorch)];
        assert_eq!(listed(&engine), expected);
        drop(following);
        let engine = Watch::default().engine();
        assert_eq!(engine.register_directory(&folder.0, Target::Cpu).unwrap(), ["m", "n"]);
        assert_eq!(listed(&engine), expected);
    }
}

#[test]
fn a_name_that_the_host_has_removed_comes_back_with_its_own_file_alone() {
    let watch = Watch::default();
    let engine = watch.engine();
    let folder = Folder::new("watch-removed");
    for name in ["m.onnx", "bad.onnx"] {
        folder.write(name, 2.0);
    }
    let _following = engine.watch_directory(&folder.0, Target::Cpu).unwrap();
    let guest = engine.guest();
    assert_eq!((run(&guest, "m"), run(&guest, "bad")), (2, 2));
    // One whose reload has failed, and is tried again at each event.
    write(&folder.0, "bad.onnx", b"junk");
    looked_through(&engine, &folder.0, "w");
    engine.remove_model("m").unwrap();
    engine.remove_model("bad").unwrap();
    looked_through(&engine, &folder.0, "x");
    // No part of the model, though it would be of another encoding's.
    write(&folder.0, "m.bin", &[1]);
    looked_through(&engine, &folder.0, "y");
    assert_eq!(engine.model_names(), ["w", "x", "y"]);
    folder.write("m.onnx", 3.0);
    eventually(|| engine.model_names() == ["m", "w", "x", "y"]);
    assert_eq!(run(&guest, "m"), 3);
}

#[test]
fn a_name_that_the_host_has_from_elsewhere_is_the_hosts() {
    let watch = Watch::default();
    let engine = watch.engine();
    let (folder, other) = (Folder::new("watch-taken"), Folder::new("watch-taken-elsewhere"));
    for name in ["bytes.onnx", "elsewhere.onnx", "replaced.onnx"] {
        folder.write(name, 2.0);
    }
    other.write("elsewhere.onnx", 3.0);
    let register = |name, source| engine.register_model_now(name, source, Encoding::Onnx, Target::Cpu).unwrap();
    register("bytes", ModelSource::bytes(model(3.0)));
    register("elsewhere", ModelSource::path(other.0.join("elsewhere.onnx")));
    let _following = engine.watch_directory(&folder.0, Target::Cpu).unwrap();
    let guest = engine.guest();
    assert_eq!(run(&guest, "replaced"), 2);
    assert_eq!(engine.replace_model("replaced", ModelSource::bytes(model(3.0))).unwrap(), 2);
    for name in ["bytes.onnx", "elsewhere.onnx", "replaced.onnx"] {
        folder.write(name, 4.0);
    }
    looked_through(&engine, &folder.0, "z");
    for (name, at) in [("bytes", 1), ("elsewhere", 1), ("replaced", 2)] {
        assert_eq!((version(&engine, name), run(&guest, name)), (Some(at), 3), "{name}");
    }
    // Nor when the host gives it up and some other file changes.
    engine.remove_model("bytes").unwrap();
    looked_through(&engine, &folder.0, "zz");
    assert!(!engine.model_names().contains(&"bytes".to_owned()));
}

#[test]
fn a_name_that_was_registered_from_the_file_itself_is_followed() {
    let watch = Watch::default();
    let engine = watch.engine();
    let folder = Folder::new("watch-registered");
    folder.write("m.onnx", 2.0);
    engine.register_directory(&folder.0, Target::Cpu).unwrap();
    let guest = engine.guest();
    assert_eq!(run(&guest, "m"), 2);
    // A change between the two is seen when the watch begins.
    folder.write("m.onnx", 3.0);
    let following = engine.watch_directory(&folder.0, Target::Cpu).unwrap();
    assert_eq!((version(&engine, "m"), run(&guest, "m")), (Some(2), 3));
    folder.write("m.onnx", 4.0);
    eventually(|| version(&engine, "m") == Some(3));
    // Another watch takes up where the first has ended.
    drop(following);
    folder.write("m.onnx", 5.0);
    let _following = engine.watch_directory(&folder.0, Target::Cpu).unwrap();
    assert_eq!((version(&engine, "m"), run(&guest, "m")), (Some(4), 5));
    folder.write("m.onnx", 6.0);
    eventually(|| version(&engine, "m") == Some(5));
}

/// Keeps the bytes that were read in the middle of the change: the build waits at the gate with those from before.
#[test]
fn a_change_during_the_first_load_is_not_lost() {
    let watch = Watch::default();
    let engine = watch.engine();
    let folder = Folder::new("watch-first-load");
    write(&folder.0, "m.pt", b"gate load");
    let _following = engine.watch_directory(&folder.0, Target::Cpu).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| engine.guest().load_by_name("m").map(drop));
        watch.wait_for(1);
        write(&folder.0, "m.pt", b"anything");
        looked_through(&engine, &folder.0, "a");
        // The look goes on to "m" right after "a".
        std::thread::sleep(Duration::from_millis(100));
        watch.open();
        first.join().unwrap().unwrap();
    });
    eventually(|| version(&engine, "m") == Some(2));
}

/// Tells what it is given.
struct Telling;

impl Backend for Telling {
    fn name(&self) -> &'static str {
        "telling"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        Err(Error::runtime_error(format!("{:?}", request.parts)))
    }
}

#[test]
fn weights_that_come_before_the_first_load_belong_to_the_model() {
    let engine = Engine::builder(Telling).build();
    let folder = Folder::new("watch-weights");
    write(&folder.0, "net.xml", &[1]);
    let _following = engine.watch_directory(&folder.0, Target::Cpu).unwrap();
    write(&folder.0, "net.bin", &[2]);
    let told = || engine.guest().load_by_name("net").unwrap_err().message().to_owned();
    eventually(|| told() == "load_by_name: [[1], [2]]");
    // And those that are gone do not.
    fs::remove_file(folder.0.join("net.bin")).unwrap();
    eventually(|| told() == "load_by_name: [[1]]");
}

#[cfg(unix)]
#[test]
fn a_link_to_another_directory_is_followed() {
    use std::os::unix::fs::symlink;

    let watch = Watch::default();
    let engine = watch.engine();
    let (folder, place) = (Folder::new("watch-link"), Folder::new("watch-link-place"));
    let link = place.0.join("current");
    for version in ["one", "two"] {
        fs::create_dir(folder.0.join(version)).unwrap();
    }
    write(&folder.0.join("one"), "m.onnx", &model(2.0));
    write(&folder.0.join("two"), "m.onnx", &model(3.0));
    symlink(folder.0.join("one"), &link).unwrap();
    let _following = engine.watch_directory(&link, Target::Cpu).unwrap();
    let guest = engine.guest();
    assert_eq!(run(&guest, "m"), 2);
    let swap = place.0.join("swap");
    symlink(folder.0.join("two"), &swap).unwrap();
    fs::rename(&swap, &link).unwrap();
    eventually(|| version(&engine, "m") == Some(2));
    assert_eq!(run(&guest, "m"), 3);
    // It hears of what happens there, and no more of the directory before.
    write(&folder.0.join("two"), "m.onnx", &model(4.0));
    eventually(|| version(&engine, "m") == Some(3));
    write(&folder.0.join("one"), "n.onnx", &model(4.0));
    looked_through(&engine, &link, "z");
    assert_eq!(engine.model_names(), ["m", "z"]);
}

#[test]
fn a_directory_that_is_swapped_or_made_again_is_followed() {
    let watch = Watch::default();
    let engine = watch.engine();
    let folder = Folder::new("watch-swap");
    let (directory, other) = (folder.0.join("models"), folder.0.join("other"));
    fs::create_dir(&directory).unwrap();
    write(&directory, "m.onnx", &model(2.0));
    let _following = engine.watch_directory(&directory, Target::Cpu).unwrap();
    let guest = engine.guest();
    assert_eq!(run(&guest, "m"), 2);
    fs::create_dir(&other).unwrap();
    write(&other, "m.onnx", &model(3.0));
    fs::rename(&directory, folder.0.join("before")).unwrap();
    fs::rename(&other, &directory).unwrap();
    eventually(|| version(&engine, "m") == Some(2));
    write(&directory, "m.onnx", &model(4.0));
    eventually(|| version(&engine, "m") == Some(3));
    // Made again, perhaps with the number of the one before.
    for round in 4..8_u8 {
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        write(&directory, "m.onnx", &model(f32::from(round + 1)));
        eventually(|| version(&engine, "m") == Some(round.into()));
        assert_eq!(run(&guest, "m"), u64::from(round + 1));
    }
}

#[test]
fn a_watch_ends_with_its_engine_and_keeps_none() {
    let watch = Watch::default();
    let engine = watch.engine();
    let folder = Folder::new("watch-end");
    folder.write("m.onnx", 2.0);
    let following = engine.watch_directory(&folder.0, Target::Cpu).unwrap();
    assert_eq!(run(&engine.guest(), "m"), 2);
    drop(engine);
    watch.all_gone();
    folder.write("m.onnx", 3.0);
    drop(following);
    assert!(watch.engine().watch_directory(folder.0.join("nowhere"), Target::Cpu).is_err());
}
