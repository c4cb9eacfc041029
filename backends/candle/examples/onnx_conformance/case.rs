//! A test case: its folder, its operator, and the outcome of its run.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fmt, fs, io, thread};

use graphpool::backend::ComputeControl;
use graphpool::nn::ErrorKind;
use graphpool_candle::messages::{ModelProto, TypeProto, ValueInfoProto};
use graphpool_candle::{CandleBackend, CandleGraph, ElementType, Port, Value, decode_tensor};
use prost::Message;

use crate::compare::difference;

/// Cases whose expected output is wrong, or one of many that are right, with the evidence.
pub const DISPUTED: &[(&str, &str)] = &[
    (
        "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
        "divides by places past the last pad; ONNX 1.18 corrected it, and onnxruntime 1.32 and ONNX 1.23's reference \
         give what is given here",
    ),
    ("test_bernoulli", DRAWN),
    ("test_bernoulli_double", DRAWN),
    ("test_bernoulli_double_expanded", DRAWN),
    ("test_bernoulli_expanded", DRAWN),
    ("test_bernoulli_seed", DRAWN),
    ("test_bernoulli_seed_expanded", DRAWN),
    ("test_qlinearmatmul_2D_int8_float16", WRAPS),
    ("test_qlinearmatmul_2D_int8_float32", WRAPS),
    ("test_qlinearmatmul_3D_int8_float16", WRAPS),
    ("test_qlinearmatmul_3D_int8_float32", WRAPS),
];

const DRAWN: &str = "expects numbers of numpy's generator, and ONNX doesn't specify the generator";

const WRAPS: &str = "lets sums below -128 wrap around (-236 becomes 20, -139 becomes 117), where ONNX's text wants -128; \
                     ONNX 1.23's suite has -128 there, and onnxruntime 1.32 gives it for these inputs";

/// One version's node tests.
pub struct Suite {
    /// The name in reports.
    pub name: &'static str,
    /// The folder of the cases.
    folder: &'static str,
    /// The file with the recorded counts.
    pub record: &'static str,
    /// For each other runtime, the cases of the f32 subset that it passed and that it got wrong.
    pub others: &'static [(&'static str, usize, usize)],
    /// The script that fetches the cases. `None` if they are made locally; such a suite is optional.
    fetch: Option<&'static str>,
}

/// The suites: the last one that a package ships, and the cases that a newer version generates.
pub const SUITES: [Suite; 2] = [
    Suite {
        name: "ONNX 1.17.0 node tests",
        folder: concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/node-tests"),
        record: concat!(env!("CARGO_MANIFEST_DIR"), "/examples/onnx_conformance/recorded.txt"),
        // Other runtimes in Rust, measured in 2026-11.
        others: &[("tract-onnx 0.23.9", 574, 1), ("rten 0.27", 601, 17)],
        fetch: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/fetch_node_tests.sh")),
    },
    Suite {
        name: "ONNX 1.23.2 newer node tests",
        folder: concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/node-tests-new"),
        record: concat!(env!("CARGO_MANIFEST_DIR"), "/examples/onnx_conformance/recorded-new.txt"),
        others: &[],
        fetch: None,
    },
];

/// The tolerance of a case for narrow floats, in steps of the type. The suite rounds attention after every operation,
/// in another order than this backend, which rounds once at the end and is nearer to the exact result.
fn steps(folder: &Path) -> f64 {
    if name(folder).starts_with("test_attention_") { 2.0 } else { 1.0 }
}

/// The time limit of a case.
const TIME: Duration = Duration::from_mins(1);

/// The memory limit of a case, in bytes.
pub const MEMORY: usize = 1 << 32;

/// The outcome of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every output is right within the tolerance.
    Passed,
    /// Refused, at load or at run, as unsupported.
    Unsupported,
    /// Ended with another error.
    Failed,
    /// An output is wrong.
    Wrong,
    /// The process panicked, aborted or hung.
    Panicked,
    /// Wrong, but the expected output is disputed.
    Disputed,
}

impl Outcome {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 6] =
        [Self::Passed, Self::Unsupported, Self::Failed, Self::Wrong, Self::Panicked, Self::Disputed];

    /// The name in the table and in the record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
            Self::Wrong => "wrong",
            Self::Panicked => "panicked",
            Self::Disputed => "disputed",
        }
    }
}

/// An outcome, with the reason unless it passed.
pub struct Verdict {
    pub outcome: Outcome,
    pub why: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.outcome.name(), self.why)
    }
}

/// A case that was run.
pub struct Case {
    pub name: String,
    /// The operator that is tested. For an operator that is expanded to others, that operator.
    pub operator: String,
    /// Whether the case is in the f32 subset.
    pub f32_subset: bool,
    pub verdict: Verdict,
}

/// Fetches the suite's cases and runs those whose name contains `only`. `None` if the suite is missing.
pub fn all(suite: &Suite, only: &str) -> Result<Option<Vec<Case>>, Box<dyn Error>> {
    match suite.fetch {
        Some(script) if !Command::new(script).status()?.success() => {
            return Err("the node tests could not be fetched".into());
        }
        None if !Path::new(suite.folder).is_dir() => return Ok(None),
        _ => {}
    }
    let folders = fs::read_dir(suite.folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut folders = folders.collect::<io::Result<Vec<PathBuf>>>()?;
    folders.retain(|folder| folder.is_dir() && name(folder).contains(only));
    folders.sort();
    folders.iter().map(|folder| run_in_process(folder)).collect::<Result<_, _>>().map(Some)
}

fn name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs a case in its own process.
fn run_in_process(folder: &Path) -> Result<Case, Box<dyn Error>> {
    let model = ModelProto::decode(fs::read(folder.join("model.onnx"))?.as_slice())?;
    let mut child = Command::new(env::current_exe()?);
    let mut child = child.arg("--case").arg(folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let end = Instant::now() + TIME;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
        }
        thread::sleep(Duration::from_micros(200));
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (word, why) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == word);
    let mut verdict = Verdict { outcome: outcome.unwrap_or(Outcome::Panicked), why: why.to_owned() };
    let name = name(folder);
    if let Some((_, why)) = DISPUTED.iter().find(|(disputed, _)| *disputed == name)
        && verdict.outcome == Outcome::Wrong
    {
        verdict = Verdict { outcome: Outcome::Disputed, why: (*why).to_owned() };
    }
    Ok(Case { operator: operator(folder, &model), f32_subset: is_f32(&model), name, verdict })
}

fn operator(folder: &Path, model: &ModelProto) -> String {
    // `test_x_expanded` is `test_x` with its operator expanded to others.
    let name = name(folder);
    let base = name.split("_expanded").next().map(|base| folder.with_file_name(base).join("model.onnx"));
    let base = base.and_then(|file| ModelProto::decode(fs::read(file).ok()?.as_slice()).ok());
    let graph = base.as_ref().unwrap_or(model).graph.as_ref();
    let nodes = graph.map(|graph| graph.node.as_slice()).unwrap_or_default();
    if let [node] = nodes {
        return node.op_type.clone().unwrap_or_default();
    }
    // Some cases have constants in addition to their operator.
    let names: BTreeSet<&str> = nodes.iter().filter_map(|node| node.op_type.as_deref()).collect();
    names.into_iter().filter(|name| *name != "Constant").collect::<Vec<_>>().join("+")
}

fn is_f32(model: &ModelProto) -> bool {
    const F32: i32 = 1;
    let Some(graph) = &model.graph else { return false };
    let own = |domain: &Option<String>| matches!(domain.as_deref(), None | Some("" | "ai.onnx"));
    let types = graph.input.iter().chain(&graph.output).map(|info: &ValueInfoProto| match &info.r#type {
        Some(TypeProto { tensor_type: Some(tensor) }) => tensor.elem_type.unwrap_or(0),
        _ => 0,
    });
    let types: Vec<i32> = types.collect();
    types.contains(&F32)
        && types.iter().all(|ty| [F32, 6, 7, 9].contains(ty))
        && graph.node.iter().all(|node| own(&node.domain))
        && model.opset_import.iter().all(|import| own(&import.domain))
}

/// Runs the case in this process.
pub fn run(folder: &Path) -> Verdict {
    match attempt(folder) {
        Ok(None) => Verdict { outcome: Outcome::Passed, why: String::new() },
        Ok(Some(why)) => Verdict { outcome: Outcome::Wrong, why },
        Err(error) => {
            let unsupported = error.downcast_ref::<graphpool::nn::Error>().map(graphpool::nn::Error::kind)
                == Some(ErrorKind::UnsupportedOperation);
            let outcome = if unsupported { Outcome::Unsupported } else { Outcome::Failed };
            Verdict { outcome, why: error.to_string().replace('\n', " ") }
        }
    }
}

/// Runs all data sets of a case. Returns the first difference of an output, if there is one.
fn attempt(folder: &Path) -> Result<Option<String>, Box<dyn Error>> {
    let graph = CandleBackend::new().load_graph(&fs::read(folder.join("model.onnx"))?, MEMORY)?;
    let control = control();
    for set in 0.. {
        let data = folder.join(format!("test_data_set_{set}"));
        if !data.is_dir() {
            break;
        }
        let (inputs, wanted) =
            (tensors(&data, "input", graph.input_ports())?, tensors(&data, "output", graph.output_ports())?);
        let found = CandleGraph::run(&graph, inputs, &control)?;
        for (index, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            if let Some(why) = difference(found, wanted, steps(folder)) {
                return Ok(Some(format!("output {index}: {why}")));
            }
        }
    }
    Ok(None)
}

/// The limits of a case.
pub fn control() -> ComputeControl {
    let mut control = ComputeControl::default();
    control.memory_limit = MEMORY;
    control
}

/// Reads the tensors of a data set, one for each port.
pub fn tensors(folder: &Path, kind: &str, ports: &[Port]) -> Result<Vec<Value>, Box<dyn Error>> {
    let tensor = |(index, port): (usize, &Port)| -> Result<Value, Box<dyn Error>> {
        let value = decode_tensor(&fs::read(folder.join(format!("{kind}_{index}.pb")))?)?;
        // The suite's files store bfloat16 as uint16 with the same bits.
        if (port.ty, value.ty()) == (ElementType::Bf16, ElementType::U16) {
            return Ok(Value::from_bytes(value.dims().to_vec(), ElementType::Bf16, &value.to_bytes())?);
        }
        Ok(value)
    };
    ports.iter().enumerate().map(tensor).collect()
}
