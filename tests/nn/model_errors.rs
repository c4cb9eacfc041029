//! What a host is told of names and directories, and what guests are told of the same.

use std::error::Error as _;
use std::io;

use graphpool::nn::{Encoding, Engine, Error, ErrorKind, Limits, MESSAGE_BYTES, ModelError, ModelSource, Target};

use crate::backends::{Model, Watch};
use crate::reload::Folder;

fn register(engine: &Engine, name: &str, source: ModelSource) -> Result<(), ModelError> {
    engine.register_model_now(name, source, Encoding::Onnx, Target::Cpu)
}

/// The kind of the system's error behind it.
fn io_kind(error: &ModelError) -> Option<io::ErrorKind> {
    error.source()?.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[test]
fn a_host_is_told_the_path_and_the_source_and_a_guest_neither() {
    let engine = Watch::default().engine();
    let folder = Folder::new("model-errors");
    let nowhere = folder.0.join("nowhere.onnx");
    let long = folder.0.join("a".repeat(200)).join("b".repeat(200));
    let [path, file] = [nowhere.clone(), long].map(|path| (ModelSource::path(&path), path));
    let directory = (ModelSource::directory(&nowhere), nowhere);
    let sources = [(path, "ReadFile"), (file, "ReadFile"), (directory, "ReadDirectory")];
    for (number, ((source, path), variant)) in sources.into_iter().enumerate() {
        let error = register(&engine, "m", source.clone()).unwrap_err();
        let told = format!("{error:?}");
        assert!(told.starts_with(variant), "{told}");
        assert_eq!((error.kind(), io_kind(&error)), (ErrorKind::RuntimeError, Some(io::ErrorKind::NotFound)));
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        let name = format!("n{number}");
        engine.register_model(&name, source, Encoding::Onnx, Target::Cpu).unwrap();
        let guests = engine.guest().load_by_name(&name).unwrap_err();
        assert!(guests.source().is_none() && guests.message().len() <= MESSAGE_BYTES, "{guests}");
        assert!(!guests.message().contains("nowhere") && !guests.message().contains("aaaa"), "{guests}");
        assert_eq!(format!("load_by_name: {}", Error::from(error).message()), guests.message());
    }
    let error = register(&engine, "m", ModelSource::path(&folder.0)).unwrap_err();
    assert!(matches!(&error, ModelError::NotAFile { path } if *path == folder.0), "{error}");
    let error = register(&engine, "m", ModelSource::bytes(b"junk".as_slice())).unwrap_err();
    let ModelError::Build { source } = &error else { panic!("{error:?}") };
    assert_eq!((source.message(), error.kind()), ("not affine", ErrorKind::InvalidEncoding));
    assert_eq!(error.source().unwrap().to_string(), "invalid encoding: not affine");
    assert_eq!(Error::from(error), Error::invalid_encoding("not affine"));
    assert!(engine.model_names().iter().all(|name| name != "m"));
}

#[test]
fn each_refusal_of_a_name_says_which() {
    let engine = Watch::default().builder().with_limits(Limits::default().with_max_name_bytes(4)).build();
    let model = || ModelSource::bytes(Model::default().bytes());
    register(&engine, "m", model()).unwrap();
    let told = |result: Result<(), ModelError>| {
        let error = result.unwrap_err();
        assert!(error.source().is_none());
        (error.kind(), error.to_string(), Error::from(error).message().to_owned())
    };
    let same = |kind, words: &str| (kind, words.to_owned(), words.to_owned());
    let taken = same(ErrorKind::InvalidArgument, "the name \"m\" is taken");
    assert_eq!(told(register(&engine, "m", model())), taken);
    assert_eq!(told(engine.register_model("m", model(), Encoding::Onnx, Target::Cpu)), taken);
    let long = same(ErrorKind::TooLarge, "the name has 5 bytes; the limit is 4");
    assert_eq!(told(register(&engine, "mmmmm", model())), long);
    let unknown = same(ErrorKind::NotFound, "no model is named \"nosuch\"");
    assert_eq!(told(engine.remove_model("nosuch")), unknown);
    assert_eq!(told(engine.reload_model("nosuch").map(drop)), unknown);
    assert_eq!(told(engine.replace_model("nosuch", model()).map(drop)), unknown);
    let kept = told(engine.reload_model("m").map(drop));
    assert_eq!(kept.0, ErrorKind::InvalidArgument);
    assert!(kept.1.starts_with(&kept.2) && kept.2 == "the model \"m\" came from bytes, which are not kept");
}

#[test]
fn a_directory_of_a_model_must_say_which_file_it_is() {
    let engine = Watch::default().engine();
    let folder = Folder::new("model-directory");
    let directory = || ModelSource::directory(&folder.0);
    let error = register(&engine, "m", directory()).unwrap_err();
    assert!(matches!(&error, ModelError::ModelFile { path, extension: "onnx", found: 0 } if *path == folder.0));
    folder.write("a.onnx", 2.0);
    folder.write("b.onnx", 2.0);
    let error = register(&engine, "m", directory()).unwrap_err();
    assert!(matches!(&error, ModelError::ModelFile { found: 2, .. }), "{error}");
    let error = engine.register_model_now("m", directory(), Encoding::Autodetect, Target::Cpu).unwrap_err();
    assert!(matches!(&error, ModelError::NoExtension { encoding: Encoding::Autodetect, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let nowhere = folder.0.join("nowhere");
    let error = engine.register_directory(&nowhere, Target::Cpu).unwrap_err();
    assert!(matches!(&error, ModelError::ReadDirectory { path, .. } if *path == nowhere), "{error}");
    #[cfg(feature = "watch")]
    {
        let error = engine.watch_directory(&nowhere, Target::Cpu).unwrap_err();
        assert!(matches!(&error, ModelError::ReadDirectory { path, .. } if *path == nowhere), "{error}");
    }
}
