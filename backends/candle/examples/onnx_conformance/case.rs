//! A test case: its folder, its operator, and the outcome of its run.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, io};

use graphpool::backend::ComputeControl;
use graphpool::nn::ErrorKind;
use graphpool_candle::messages::{ModelProto, TypeProto, ValueInfoProto};
use graphpool_candle::{CandleBackend, CandleGraph, ElementType, Port, Value, decode_tensor};
use prost::Message;

use crate::compare::difference;
use crate::processes;

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
    /// The file with the counts on candle's CPU device.
    pub device_record: &'static str,
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
        device_record: concat!(env!("CARGO_MANIFEST_DIR"), "/examples/onnx_conformance/recorded-device.txt"),
        // Other runtimes in Rust, measured in 2026-11.
        others: &[("tract-onnx 0.23.9", 574, 1), ("rten 0.27", 601, 17)],
        fetch: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/fetch_node_tests.sh")),
    },
    Suite {
        name: "ONNX 1.23.2 newer node tests",
        folder: concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/node-tests-new"),
        record: concat!(env!("CARGO_MANIFEST_DIR"), "/examples/onnx_conformance/recorded-new.txt"),
        device_record: concat!(env!("CARGO_MANIFEST_DIR"), "/examples/onnx_conformance/recorded-new-device.txt"),
        others: &[],
        fetch: None,
    },
];

/// The tolerance of a case for narrow floats, in steps of the type. The suite rounds attention after every operation,
/// in another order than this backend, which rounds once at the end and is nearer to the exact result.
fn steps(folder: &Path) -> f64 {
    if name(folder).starts_with("test_attention_") { 2.0 } else { 1.0 }
}

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

/// Where cases run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Host,
    /// candle's CPU, through the device forms.
    Device,
    /// The first GPU.
    Gpu,
}

impl Place {
    /// A backend that loads models to the place.
    #[cfg_attr(
        any(feature = "cuda", feature = "metal"),
        expect(clippy::unnecessary_wraps, reason = "fails without the features")
    )]
    pub fn backend(self) -> Result<CandleBackend, Box<dyn Error>> {
        match self {
            Self::Host => Ok(CandleBackend::new()),
            #[cfg(feature = "candle")]
            Self::Device => Ok(CandleBackend::with_device(candle_core::Device::Cpu)),
            #[cfg(not(feature = "candle"))]
            Self::Device => Err("--device needs the feature candle".into()),
            #[cfg(any(feature = "cuda", feature = "metal"))]
            Self::Gpu => Ok(CandleBackend::with_gpu(0)),
            #[cfg(not(any(feature = "cuda", feature = "metal")))]
            Self::Gpu => Err("--gpu needs the feature cuda or metal".into()),
        }
    }
}

/// An outcome, with the reason unless it passed.
pub struct Verdict {
    pub outcome: Outcome,
    pub why: String,
    /// Whether all steps ran on the device.
    pub device_alone: bool,
}

impl Verdict {
    /// The verdict in a line that [`fmt::Display`] wrote.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        let word = words.next()?;
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == word)?;
        let device_alone = words.next()? == "device";
        Some(Self { outcome, why: words.next().unwrap_or_default().to_owned(), device_alone })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.outcome.name(), if self.device_alone { "device" } else { "host" }, self.why)
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
pub fn all(suite: &Suite, only: &str, place: Place) -> Result<Option<Vec<Case>>, Box<dyn Error>> {
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
    let verdicts = processes::run(&folders, place)?;
    folders.iter().zip(verdicts).map(|(folder, verdict)| judged(folder, verdict)).collect::<Result<_, _>>().map(Some)
}

fn name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A case with the verdict on it.
fn judged(folder: &Path, mut verdict: Verdict) -> Result<Case, Box<dyn Error>> {
    let model = ModelProto::decode(fs::read(folder.join("model.onnx"))?.as_slice())?;
    let name = name(folder);
    if let Some((_, why)) = DISPUTED.iter().find(|(disputed, _)| *disputed == name)
        && verdict.outcome == Outcome::Wrong
    {
        verdict = Verdict { outcome: Outcome::Disputed, why: (*why).to_owned(), ..verdict };
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
pub fn run(folder: &Path, place: Place) -> Verdict {
    match attempt(folder, place) {
        Ok((None, device_alone)) => Verdict { outcome: Outcome::Passed, why: String::new(), device_alone },
        Ok((Some(why), device_alone)) => Verdict { outcome: Outcome::Wrong, why, device_alone },
        Err(error) => {
            let unsupported = error.downcast_ref::<graphpool::nn::Error>().map(graphpool::nn::Error::kind)
                == Some(ErrorKind::UnsupportedOperation);
            let outcome = if unsupported { Outcome::Unsupported } else { Outcome::Failed };
            Verdict { outcome, why: error.to_string().replace('\n', " "), device_alone: false }
        }
    }
}

/// Runs all data sets of a case. Returns the first difference of an output, if there is one, and whether all steps ran
/// on the device.
fn attempt(folder: &Path, place: Place) -> Result<(Option<String>, bool), Box<dyn Error>> {
    let graph = place.backend()?.load_graph(&fs::read(folder.join("model.onnx"))?, MEMORY)?;
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
                return Ok((Some(format!("output {index}: {why}")), device_alone(&graph)));
            }
        }
    }
    Ok((None, device_alone(&graph)))
}

/// Whether all steps of a graph's computes ran on the device.
#[cfg(feature = "candle")]
fn device_alone(graph: &CandleGraph) -> bool {
    let alone = |report: graphpool_candle::DeviceReport| report.ran_on_host + report.ran_on_lists == 0;
    graph.device_report().is_some_and(|report| report.ran_on_device > 0 && alone(report))
}

#[cfg(not(feature = "candle"))]
fn device_alone(_: &CandleGraph) -> bool {
    false
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
