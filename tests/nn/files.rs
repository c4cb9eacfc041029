//! Files of named models: bounds are asked before a byte is read, and hold though the file changes.

use std::fs::{self, File};
use std::path::Path;

use graphpool::nn::{Encoding, Engine, EngineLimits, Error, ErrorKind, ModelSource, Target};

use crate::backends::{Model, Watch};
use crate::reload::Folder;

/// A file of so many bytes, of which none takes any space.
fn sparse(path: &Path, length: u64) {
    File::create(path).unwrap().set_len(length).unwrap();
}

fn load(engine: &Engine, source: ModelSource) -> Result<(), Error> {
    let _ = engine.remove_model("m");
    engine.register_model("m", source, Encoding::Onnx, Target::Cpu)?;
    engine.guest().load_by_name("m").map(drop)
}

/// A file that no machine could read tells a bound that is asked before from one that is asked afterwards.
#[test]
fn a_file_over_the_bound_is_refused_unread() {
    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().with_max_graph_bytes(1 << 20));
    let folder = Folder::new("large");
    let path = folder.0.join("model.onnx");
    sparse(&path, 8 << 40);
    for source in [
        ModelSource::path(&path),
        ModelSource::directory(&folder.0),
        ModelSource::bytes(vec![1]).and(ModelSource::path(&path)),
    ] {
        let error = load(&engine, source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.message().contains("engine graph bytes limit exceeded: 0 of 1048576 bytes in use"), "{error}");
    }
    assert_eq!((watch.loads(), engine.stats().graphs), (0, 0));
    // One that fits is read, with what the refusals took given back.
    sparse(&path, 1 << 20);
    assert_eq!(load(&engine, ModelSource::path(&path)).unwrap_err().kind(), ErrorKind::InvalidEncoding);
    folder.write("model.onnx", 2.0);
    load(&engine, ModelSource::path(&path)).unwrap();
}

#[test]
fn a_reload_of_a_file_over_the_bound_leaves_the_version_and_reads_nothing() {
    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().with_max_graph_bytes(1 << 20));
    let folder = Folder::new("large-reload");
    folder.write("m.onnx", 2.0);
    engine.register_directory(&folder.0, Target::Cpu).unwrap();
    assert_eq!(engine.reload_model("m").unwrap(), 1);
    sparse(&folder.0.join("m.onnx"), 8 << 40);
    let error = engine.reload_model("m").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert_eq!(engine.list_models()[0].version, Some(1));
}

#[test]
fn a_length_that_no_memory_holds_is_an_error_without_any_bound() {
    // A system that promises whatever it is asked for has no such length.
    if fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "1") {
        return;
    }
    let watch = Watch::default();
    let folder = Folder::new("unbounded");
    let path = folder.0.join("m.onnx");
    sparse(&path, 8 << 40);
    let error = load(&watch.engine(), ModelSource::path(&path)).unwrap_err();
    assert_eq!(error.message(), "load_by_name: the model's file cannot be read: out of memory");
}

/// The system's own files have no length before they are read, as one that grows meanwhile has another.
#[cfg(target_os = "linux")]
#[test]
fn a_file_with_more_in_it_than_its_length_is_not_read_on() {
    let watch = Watch::default();
    let error = load(&watch.engine(), ModelSource::path("/proc/self/maps")).unwrap_err();
    assert_eq!(
        error.message(),
        "load_by_name: the model's file has more or fewer bytes than the 0 that its metadata says"
    );
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_opened() {
    let watch = Watch::default();
    let folder = Folder::new("pipe");
    let pipe = folder.0.join("m.onnx");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&pipe, &folder.0, Path::new("/dev/zero")] {
        let error = load(&watch.engine(), ModelSource::path(path)).unwrap_err();
        assert_eq!(error.message(), "load_by_name: the model's file is not a regular file");
    }
}

#[test]
fn an_empty_file_and_a_missing_one_are_told_apart() {
    let watch = Watch::default();
    let folder = Folder::new("empty");
    let path = folder.0.join("m.onnx");
    let told = |path: &Path| load(&watch.engine(), ModelSource::path(path)).unwrap_err();
    assert_eq!(told(&path).message(), "load_by_name: the model's file cannot be read: entity not found");
    fs::write(&path, "").unwrap();
    assert_eq!(told(&path).kind(), ErrorKind::InvalidEncoding);
    let error = load(&watch.engine(), ModelSource::directory(&path)).unwrap_err();
    assert_eq!(error.message(), "load_by_name: the model's directory cannot be read: not a directory");
    fs::write(&path, Model::default().bytes()).unwrap();
    load(&watch.engine(), ModelSource::path(&path)).unwrap();
}
