//! The guest programs of `guests`, through the runner of `examples/run`.
//!
//! `scripts/build_guests.sh` makes the programs. A test without its program says so and passes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use serde_json::Value;

#[path = "../../../backends/candle/src/tests/gguf/writer.rs"]
#[allow(dead_code, reason = "tests of the backend use the rest")]
mod writer;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The guest's file, or `None` with a word to the reader.
fn guest(name: &str) -> Option<PathBuf> {
    let path = root().join(".cache/guests").join(name).with_extension("wasm");
    if !path.is_file() {
        eprintln!("SKIPPED: {} is not there; scripts/build_guests.sh makes it", path.display());
        return None;
    }
    Some(path)
}

/// The runner, which `cargo test` builds beside this test.
fn runner() -> Command {
    let target = env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let path = target.join("examples").join(format!("run{}", env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is not built: cargo test -p graphpool-wasmtime, or --example run", path.display());
    let mut command = Command::new(path);
    command.current_dir(root());
    command
}

/// The runner with the digits under their name and as files.
fn with_digits(guest: &Path, options: &[&str], args: &[&str]) -> Output {
    let digits = "examples/models/digits";
    let mut command = runner();
    command.args(["--graph", &format!("onnx::{digits}"), "--dir", &format!("{digits}::/digits")]);
    command.args(options).arg(guest).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Compares what a classifier prints with onnxruntime's probabilities.
fn classifies(lines: &str, count: usize) {
    let expected = fs::read(root().join("examples/models/digits/expected.bin")).unwrap();
    let expected = expected.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<_>>();
    assert_eq!(lines.lines().count(), count, "{lines}");
    for (row, (line, probabilities)) in lines.lines().zip(expected.chunks(10)).enumerate() {
        let best = (0..10).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b])).unwrap();
        let (class, probability) = line.strip_prefix(&format!("{row}: ")).unwrap().split_once(' ').unwrap();
        assert_eq!(class, best.to_string(), "row {row}");
        assert!((probability.parse::<f32>().unwrap() - probabilities[best]).abs() < 1e-3, "row {row}: {line}");
    }
}

/// Classifies by name, every image, and by the model's bytes, some.
fn classifies_digits(name: &str) {
    let Some(guest) = guest(name) else { return };
    classifies(&succeeds(&with_digits(&guest, &[], &["digits", "/digits/images.bin"])), 450);
    classifies(&succeeds(&with_digits(&guest, &[], &["/digits/digits.onnx", "/digits/images.bin", "5"])), 5);
}

#[test]
fn a_module_in_c_classifies_the_digits() {
    classifies_digits("classify");
}

#[test]
fn a_component_in_c_classifies_the_digits() {
    classifies_digits("classify_component");
}

#[test]
fn the_published_guest_crate_classifies_the_digits() {
    classifies_digits("classify_rust");
}

#[test]
fn each_bad_argument_has_the_expected_errno() {
    let Some(guest) = guest("hostile") else { return };
    let printed = succeeds(&with_digits(&guest, &[], &["digits", "/digits/digits.onnx"]));
    let last = printed.lines().last().unwrap();
    assert!(last.ends_with(" cases, 0 wrong"), "{printed}");
    assert!(last.split(' ').next().unwrap().parse::<usize>().unwrap() >= 50, "{last}");
}

#[test]
fn instances_on_two_threads_open_and_close_and_leave_nothing() {
    let Some(guest) = guest("cycle") else { return };
    let options = ["--instances", "8", "--threads", "2", "--json"];
    let output = with_digits(&guest, &options, &["digits", "/digits/images.bin", "25"]);
    assert_eq!(text(&output.stderr).lines().last(), Some("25 rounds"));
    let report = serde_json::from_str::<Value>(&succeeds(&output)).unwrap();
    for (key, expected) in [
        ("instances", 8),
        ("threads", 2),
        ("failed", 0),
        ("differing_outputs", 0),
        ("inferences", 200),
        ("alive_at_end", 0),
    ] {
        assert_eq!(report[key], expected, "{key} in {report}");
    }
    let calls = &report["calls"];
    assert_eq!((&calls["load_by_name"]["count"], &calls["compute"]["count"]), (&200.into(), &400.into()), "{report}");
    let times = ["p50_ns", "p99_ns"].map(|key| calls["compute"][key].as_u64().unwrap());
    assert!(times[0] > 0 && times[0] <= times[1], "{report}");
}

/// The runner with a language model, whose weights are of chance, as the file of a name. The numbers are `WasmEdge`'s.
fn with_language_model(name: &str, guest: &str, options: &[&str]) -> Option<Command> {
    let guest = self::guest(guest)?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("language");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(name).with_extension("gguf");
    fs::write(&file, writer::model("llama", writer::TINY, 8, 3).finish()).unwrap();
    let mut command = runner();
    command.args(["--dialect", "wasmedge", "--graph", &format!("ggml::{}", file.display())]);
    command.args(["--dir", &format!("{}::/models", folder.display())]).args(options).arg(guest);
    Some(command)
}

#[test]
fn the_call_sequences_of_language_models_end_as_expected() {
    let Some(mut command) = with_language_model("sequences", "sequences", &["--configs", "2"]) else { return };
    let printed = succeeds(&command.arg("sequences").output().unwrap());
    let expected = ["basic", "chat", "stream", "embedding", "unload", "set input twice"];
    assert_eq!(printed, expected.map(|name| format!("{name}: as expected\n")).concat());
}

#[test]
fn instances_with_a_language_model_share_it_and_print_the_same() {
    let options = ["--configs", "16", "--instances", "6", "--threads", "3", "--json"];
    let Some(mut command) = with_language_model("shared", "sequences", &options) else { return };
    let report = serde_json::from_str::<Value>(&succeeds(&command.arg("shared").output().unwrap())).unwrap();
    for (key, expected) in [("instances", 6), ("failed", 0), ("differing_outputs", 0), ("alive_at_end", 0)] {
        assert_eq!(report[key], expected, "{key} in {report}");
    }
}

#[test]
fn a_chat_continues_a_prompt_by_name_and_from_bytes_and_reads_turns() {
    let options = r#"{"temp":0,"n-predict":8}"#;
    let run = |model: &str, arguments: &[&str], input: &str| {
        let mut command = with_language_model("chat", "chat", &[])?;
        command.arg(model).arg(options).args(arguments).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(output.stdout)
    };
    let Some(named) = run("chat", &["the cat"], "") else { return };
    assert!(named.starts_with(b"the cat") && named.len() > "the cat\n".len());
    assert_eq!(run("/models/chat.gguf", &["the cat"], "").unwrap(), named);
    // Each turn has an answer, also where the first ones no longer fit.
    let turns = run("chat", &[], &"the cat in the hat\n".repeat(40)).unwrap();
    assert!(turns.split(|byte| *byte == b'\n').count() > 40);
}

#[test]
fn a_limit_of_the_runner_reaches_the_guest() {
    let Some(guest) = guest("cycle") else { return };
    let output = with_digits(&guest, &["--max-contexts", "1"], &["digits", "/digits/images.bin", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "round 0: init_execution_context: errno 7 instead of 0\n");
}

#[test]
fn the_exit_status_is_the_guests() {
    let Some(guest) = guest("classify") else { return };
    let output = with_digits(&guest, &[], &[]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), "usage: classify MODEL IMAGES [ROWS]\n".into()));
    let output = with_digits(&guest, &[], &["gone", "/digits/images.bin"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), "load_by_name: errno 8\n".into()));
}

#[test]
fn a_components_failure_is_the_exit_status() {
    let Some(guest) = guest("classify_component") else { return };
    let output = with_digits(&guest, &[], &["gone", "/digits/images.bin"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "load-by-name: error 6: load_by_name: no model is named \"gone\"\n");
}

/// A module in the text format, which needs no compiler.
fn module(name: &str, body: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("wat");
    fs::write(&path, format!("(module (memory (export \"memory\") 1) (func (export \"_start\") {body}))")).unwrap();
    path
}

#[test]
fn a_trap_is_told_and_has_a_status_of_its_own() {
    let output = runner().arg(module("trap", "unreachable")).output().unwrap();
    assert_eq!(output.status.code(), Some(134));
    assert!(text(&output.stderr).contains("wasm trap: wasm `unreachable` instruction executed"), "{output:?}");
}

#[test]
fn a_timeout_ends_a_guest_that_does_not_end() {
    let output = runner().args(["--timeout", "0.2"]).arg(module("endless", "(loop (br 0))")).output().unwrap();
    assert_eq!(output.status.code(), Some(134));
    assert!(text(&output.stderr).contains("wasm trap: interrupt"), "{output:?}");
}

#[test]
fn the_memory_of_an_instance_is_limited() {
    // 2 MiB more; grow returns -1 past the limit.
    let grow = module("grow", "(if (i32.eq (memory.grow (i32.const 32)) (i32.const -1)) (then unreachable))");
    assert!(runner().args(["--max-memory", "4"]).arg(&grow).status().unwrap().success());
    assert_eq!(runner().args(["--max-memory", "1"]).arg(&grow).output().unwrap().status.code(), Some(134));
}

/// A command that computes with the digits' model, on an image of zeros.
const ONE_DIGIT: &str = r#"(module
    (import "wasi_ephemeral_nn" "load_by_name" (func $load (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "init_execution_context" (func $context (param i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "set_input" (func $set_input (param i32 i32 i32) (result i32)))
    (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "digits")
    ;; The tensor: dimensions, type, elements; and its dimensions.
    (data (i32.const 32) "\40\00\00\00\04\00\00\00\01\00\00\00\00\10\00\00\00\01\00\00")
    (data (i32.const 64) "\01\00\00\00\01\00\00\00\08\00\00\00\08\00\00\00")
    (func $check (param i32) (if (local.get 0) (then unreachable)))
    (func (export "_start")
        (call $check (call $load (i32.const 0) (i32.const 6) (i32.const 8)))
        (call $check (call $context (i32.load (i32.const 8)) (i32.const 12)))
        (call $check (call $set_input (i32.load (i32.const 12)) (i32.const 0) (i32.const 32)))
        (call $check (call $compute (i32.load (i32.const 12))))))"#;

#[test]
fn a_profile_tells_what_each_step_of_a_model_took() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let guest = folder.join("one_digit.wat");
    fs::write(&guest, ONE_DIGIT).unwrap();
    let run = |options: &[&str]| {
        let output = with_digits(&guest, options, &[]);
        assert!(output.status.success(), "{output:?}");
        text(&output.stderr)
    };
    assert_eq!(run(&[]), "");
    let table = run(&["--profile"]);
    assert!(table.contains("\n1 computes (0 failed) in ") && table.contains(" Conv '"), "{table}");

    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (json, svg) = (file("profile.json"), file("profile.svg"));
    let several = ["--instances", "3", "--threads", "2"];
    run(&[&several[..], &[&format!("--profile=json:{json}")]].concat());
    let json: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(json["models"][0]["computes"]["runs"], 3);
    let steps = json["models"][0]["steps"].as_array().unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| step["runs"] == 3), "{json}");
    run(&[&format!("--profile=svg:{svg}")]);
    assert!(fs::read_to_string(svg).unwrap().starts_with("<svg "));

    let wrong = runner().args(["--profile=text", "gone.wasm"]).output().unwrap();
    let told = text(&wrong.stderr);
    assert!(told.contains("is not --profile=FORMAT:FILE, where FORMAT is table, json or svg"), "{told}");
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn what_cannot_be_run_is_told_in_a_line() {
    let tells = |args: &[&str], status: i32, message: &str| {
        let output = runner().args(args).output().unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stderr)),
            (Some(status), format!("run: {message}\n")),
            "{args:?}"
        );
    };
    tells(&[], 2, "no module or component is given\nTry --help.");
    tells(&["--graphs", "x"], 2, "invalid option '--graphs'\nTry --help.");
    tells(&["gone.wasm"], 1, "gone.wasm cannot be read: No such file or directory (os error 2)");
    tells(
        &["--graph", "models", "gone.wasm"],
        1,
        "a graph is given as ENCODING::PATH, such as onnx::models/mnist, not as \"models\"",
    );
    tells(
        &["--graph", "onnx::ci", "gone.wasm"],
        1,
        "the graph onnx::ci cannot be preloaded: the model's directory ci has 0 .onnx files, none named model",
    );
}
