//! Models preloaded from directories.

use std::fs;
use std::path::{Path, PathBuf};

use graphpool::nn::{Engine, ErrorKind, ModelError};
use graphpool_candle::CandleBackend;
use graphpool_wasmtime::{preload, preload_with, split_graph};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/models/digits");

fn engine() -> Engine {
    Engine::new(CandleBackend::new())
}

/// A directory of this test's own, empty.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("preload").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn digits_at(path: &Path) {
    fs::copy(Path::new(DIGITS).join("digits.onnx"), path).unwrap();
}

#[test]
fn a_model_has_the_last_name_of_its_directory() {
    let engine = engine();
    // The shape that wasmtime-wasi-nn takes, too.
    let graphs = vec![("ONNX".to_owned(), DIGITS.to_owned())];
    assert_eq!(preload(&engine, &graphs).unwrap(), ["digits"]);
    assert_eq!(engine.stats().builds, 1);
    for _ in 0..10 {
        engine.guest().load_by_name("digits").unwrap();
    }
    assert_eq!(engine.stats().builds, 1);
}

#[test]
fn a_path_that_ends_in_dots_has_the_name_that_it_leads_to() {
    let engine = engine();
    assert_eq!(preload(&engine, &[("onnx", format!("{DIGITS}/../digits/."))]).unwrap(), ["digits"]);
    let inner = directory("outer/inner");
    digits_at(&inner.parent().unwrap().join("some.onnx"));
    assert_eq!(preload(&engine, &[("onnx", inner.join(".."))]).unwrap(), ["outer"]);
}

#[test]
fn a_file_has_its_own_name_without_the_extension() {
    let engine = engine();
    assert_eq!(preload(&engine, &[("onnx", Path::new(DIGITS).join("digits.onnx"))]).unwrap(), ["digits"]);
    let guest = engine.guest();
    guest.load_by_name("digits").unwrap();
    // A host that changes nothing allows no configurations.
    assert_eq!(guest.load_by_name_with_config("digits", "{}").unwrap_err().kind(), ErrorKind::Security);
    let allowing = Engine::new(CandleBackend::new());
    preload_with(&allowing, &[("onnx", DIGITS)], |source| source.with_guest_configs(1)).unwrap();
    assert_ne!(
        allowing.guest().load_by_name_with_config("digits", "{}").map_err(|error| error.kind()).err(),
        Some(ErrorKind::Security)
    );
}

#[test]
fn model_onnx_is_preferred_and_else_the_only_file_is_the_model() {
    let engine = engine();
    let several = directory("several");
    for name in ["a.onnx", "b.onnx"] {
        fs::write(several.join(name), "no model").unwrap();
    }
    let error = preload(&engine, &[("onnx", &several)]).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ModelError::ModelFile { found: 2, .. })), "{error:?}");
    digits_at(&several.join("model.onnx"));
    assert_eq!(preload(&engine, &[("onnx", &several)]).unwrap(), ["several"]);
}

#[test]
fn an_error_has_the_path_and_the_cause() {
    let (engine, broken) = (engine(), directory("broken"));
    fs::write(broken.join("model.onnx"), "no model").unwrap();
    let fails = |encoding: &str, path: &Path| {
        let error = preload(&engine, &[(encoding, path)]).unwrap_err();
        let chain = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        assert!(
            chain.starts_with(&format!("the graph {encoding}::{} cannot be preloaded: ", path.display())),
            "{chain}"
        );
        chain
    };
    assert!(fails("onyx", &broken).ends_with(
        "\"onyx\" is not an encoding; there are openvino, onnx, tensorflow, \
        pytorch, tensorflowlite, ggml, autodetect"
    ));
    assert!(fails("onnx", &broken.join("gone")).contains(": there is no file or directory at the path: "));
    assert!(fails("onnx", &broken.join("model.onnx")).contains("the model cannot be built: invalid encoding: "));
    assert!(fails("onnx", &directory("empty")).contains("has 0 .onnx files"));
    assert!(fails("autodetect", &broken).contains("does not say which file"));
    assert!(fails("onnx", &broken).contains("the model cannot be built: invalid encoding: "));
    assert!(fails("tensorflow", &directory("none")).contains("has 0 .pb files"));

    preload(&engine, &[("onnx", DIGITS)]).unwrap();
    assert!(fails("onnx", Path::new(DIGITS)).ends_with(": the name \"digits\" is taken"));
    assert_eq!(engine.model_names(), ["digits"]);
}

#[test]
fn models_before_one_that_fails_stay() {
    let engine = engine();
    preload(&engine, &[("onnx", DIGITS), ("onnx", "/nowhere")]).unwrap_err();
    assert_eq!(engine.model_names(), ["digits"]);
}

#[test]
fn the_form_of_the_command_line_is_split_at_the_first_colons() {
    assert_eq!(split_graph("onnx::a::b").unwrap(), ("onnx", "a::b"));
    for text in ["", "onnx", "onnx:models", "::models", "onnx::"] {
        let error = split_graph(text).unwrap_err().to_string();
        assert!(error.ends_with(&format!("not as {text:?}")), "{error}");
    }
}
