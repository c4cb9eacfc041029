//! The library as WAMR uses it: opened by its path, called through the nine names.
#![cfg(all(target_os = "linux", not(miri)))]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn digits(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/digits").join(file)
}

fn library() -> PathBuf {
    env::current_exe().unwrap().parent().unwrap().join("libwasi_nn_onnx.so")
}

/// A folder of this package's: the tests of all packages have one together.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wamr");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiles a program of `tests/c`; `None` without a compiler.
fn compile(name: &str) -> Option<PathBuf> {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    if let Err(error) = Command::new(&compiler).arg("--version").output() {
        println!("SKIPPED: no {compiler}: {error}");
        return None;
    }
    let program = folder().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name).with_extension("c");
    let output = Command::new(&compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1"])
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .args(["-lpthread", "-ldl", "-lm"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

#[test]
fn the_library_survives_being_closed_and_opened_while_threads_compute() {
    let Some(program) = compile("open_close") else { return };
    let models = folder().join("models");
    fs::create_dir_all(&models).unwrap();
    fs::copy(digits("digits.onnx"), models.join("digits.onnx")).unwrap();
    let output = Command::new(&program)
        .arg(library())
        .args([digits("digits.onnx"), digits("images.bin"), digits("expected.bin")])
        .env("GRAPHPOOL_MODELS", &models)
        .env("GRAPHPOOL_GUEST_MAX_GRAPHS", "unlimited")
        .output()
        .unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{error}", output.status);
}

#[test]
#[cfg(feature = "ggml")]
fn a_language_model_is_served_under_both_names_of_the_library() {
    let Some(program) = compile("language") else { return };
    let link = folder().join("libwasi_nn_llamacpp.so");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(library(), &link).unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/austen");
    for watch in ["0", "1"] {
        let output = Command::new(&program)
            .args([library(), link.clone(), models.join("austen.gguf")])
            .env("GRAPHPOOL_MODELS", &models)
            .env("GRAPHPOOL_CONFIGS", "1")
            .env("GRAPHPOOL_WATCH", watch)
            .output()
            .unwrap();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {out}{error}", output.status);
    }
}

/// WAMR finds functions by their names; any other name might be taken for one of the host's.
#[test]
fn the_library_exports_the_nine_functions_and_nothing_else() {
    let Ok(output) = Command::new("nm").args(["-D", "--defined-only"]).arg(library()).output() else {
        println!("SKIPPED: no nm");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().last()).collect();
    names.sort_unstable();
    let mut wanted = [
        "init_backend",
        "deinit_backend",
        "load",
        "load_by_name",
        "load_by_name_with_config",
        "init_execution_context",
        "set_input",
        "compute",
        "get_output",
    ];
    wanted.sort_unstable();
    assert_eq!(names, wanted);
}
