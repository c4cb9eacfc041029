//! The Python process that makes the models and times onnxruntime.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use serde_json::Value as Json;

/// What a sweep needs, where it is missing.
const NEEDS: &str = "a sweep needs python3, or the program in PYTHON, with the packages of scripts/requirements.txt: \
                     python3 -m pip install -r scripts/requirements.txt";

/// The process, which is at one case after another.
pub struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
}

/// The dimensions of a tensor, and its elements as little-endian bytes.
pub struct Elements {
    pub dims: Vec<usize>,
    pub data: Vec<u8>,
}

/// A model of one operator at one size.
pub struct Case {
    pub name: String,
    pub size: String,
    pub tolerance: f64,
    /// Why onnxruntime does not run it. Then the rest is empty.
    pub error: Option<String>,
    pub model: Vec<u8>,
    pub inputs: Vec<Elements>,
    pub outputs: Vec<Elements>,
}

impl Peer {
    /// Starts the process for the rows whose names contain one of `asked`, or all.
    pub fn start(asked: &[String]) -> Result<Self, String> {
        let python = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let found = Command::new(&python)
            .args(["-c", "import numpy, onnx, onnxruntime"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !found {
            return Err(NEEDS.to_owned());
        }
        let folder = env::temp_dir().join(format!("operator_sweep-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/time_operators.py"))
            .arg(&folder)
            .args(asked)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("time_operators.py: {error}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, answers) = pipes.ok_or("time_operators.py has no pipes")?;
        Ok(Self { child, requests, answers: BufReader::new(answers), folder })
    }

    /// The case that the process is at; `None` after the last.
    pub fn case(&mut self) -> Result<Option<Case>, String> {
        let line = self.line()?;
        if line.is_empty() {
            return Ok(None);
        }
        let about: Json = serde_json::from_str(&line).map_err(|error| format!("time_operators.py: {error}"))?;
        let text = |name: &str| about[name].as_str().map(str::to_owned);
        let mut case = Case {
            name: text("name").unwrap_or_default(),
            size: text("size").unwrap_or_default(),
            tolerance: about["tolerance"].as_f64().unwrap_or(0.0),
            error: text("error"),
            model: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        if case.error.is_none() {
            case.model = read(&self.folder.join("model.onnx"))?;
            case.inputs = self.tensors(&about["inputs"])?;
            case.outputs = self.tensors(&about["outputs"])?;
        }
        Ok(Some(case))
    }

    /// The median milliseconds of a turn of onnxruntime.
    pub fn turn(&mut self) -> Result<f64, String> {
        self.request("time")?;
        let line = self.line()?;
        line.trim().parse().map_err(|_| format!("time_operators.py answered {line:?}"))
    }

    /// Goes on to the next case.
    pub fn go_on(&mut self) -> Result<(), String> {
        self.request("next")
    }

    fn request(&mut self, request: &str) -> Result<(), String> {
        writeln!(self.requests, "{request}").map_err(|error| format!("time_operators.py: {error}"))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| format!("time_operators.py: {error}"))?;
        Ok(line)
    }

    fn tensors(&self, list: &Json) -> Result<Vec<Elements>, String> {
        list.as_array().into_iter().flatten().map(|about| tensor(&self.folder, about)).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Ends a process that still waits for requests. One that has ended already is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn tensor(folder: &Path, about: &Json) -> Result<Elements, String> {
    let data = read(&folder.join(about["file"].as_str().unwrap_or_default()))?;
    let dims = about["dims"].as_array().into_iter().flatten();
    Ok(Elements { dims: dims.map(|dim| dim.as_u64().unwrap_or(0) as usize).collect(), data })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
