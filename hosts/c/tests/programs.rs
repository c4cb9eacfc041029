//! Programs in C and C++ that use the header and the library.
#![cfg(all(unix, not(miri)))]

mod common;
#[path = "../../../backends/candle/src/tests/gguf/writer.rs"]
#[allow(dead_code, reason = "tests of the backend use the rest")]
#[cfg(feature = "ggml")]
mod writer;

use std::fs;
use std::path::Path;

use common::{compile, digits, run};

/// What the digits example prints for some images, against their labels; one of 50 may be another.
fn prints_the_digits(program: &Path) {
    let labels = fs::read(digits("labels.bin")).unwrap();
    let right = labels.iter().enumerate().take(20).filter(|(number, label)| {
        let output = run(program, &[&digits("digits.onnx"), &digits("images.bin"), Path::new(&number.to_string())]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout.starts_with(format!("{label} (").as_bytes())
    });
    assert!(right.count() >= 19);
    let output = run(program, &[Path::new("/no/such/model"), &digits("images.bin")]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains("the model's file cannot be read"), "{error}");
}

#[test]
fn the_example_in_c_prints_the_digits() {
    if let Some(program) = compile("CC", &["-std=c99"], "examples/digits.c", "digits-c") {
        prints_the_digits(&program);
    }
}

#[test]
fn the_example_in_c_plus_plus_prints_the_digits() {
    if let Some(program) = compile("CXX", &["-std=c++17"], "examples/digits.cpp", "digits-cpp") {
        prints_the_digits(&program);
    }
}

#[test]
#[cfg(feature = "ggml")]
fn the_call_sequences_of_language_models_end_as_expected() {
    // A model with weights of chance. ci/c.sh finds the file, too.
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join("language.gguf");
    fs::write(&model, writer::model("llama", writer::TINY, 8, 3).finish()).unwrap();
    if let Some(program) = compile("CC", &["-std=c11"], "tests/c/sequences.c", "sequences") {
        let output = run(&program, &[&model]);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {out}{error}", output.status);
        assert_eq!(out.lines().filter(|line| line.ends_with(": as expected")).count(), 6, "{out}");
    }
}

#[test]
fn threads_that_share_guests_get_right_outputs_or_errors() {
    if let Some(program) = compile("CC", &["-std=c11"], "tests/c/threads.c", "threads") {
        let output = run(&program, &[&digits("digits.onnx"), &digits("images.bin"), &digits("expected.bin")]);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {out}{error}", output.status);
        println!("{out}");
    }
}
