//! The models: the digits, and one of 3 MB.

use std::fs;
use std::path::{Path, PathBuf};

use wasmtime::Result;
use wasmtime::error::Context as _;

/// Rows and columns of the large model's only weight: 3 MiB of f32.
const ROWS: usize = 768;
const COLUMNS: usize = 1024;

/// Directories with a `model.onnx` each, and what goes with them.
pub struct Models {
    /// The repository.
    pub root: PathBuf,
    /// The digits.
    pub digits: Model,
    /// `y = x · W` with 3 MiB of weights.
    pub large: Model,
}

/// A model with one input and one output of f32, each of at most 32 KiB.
pub struct Model {
    /// Its directory; the last name is the model's.
    pub directory: PathBuf,
    /// The sizes of the input.
    pub dims: Vec<u32>,
}

impl Model {
    /// The name under which both hosts register it.
    pub fn name(&self) -> &str {
        self.directory.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The elements of the input.
    pub fn inputs(&self) -> usize {
        self.dims.iter().product::<u32>() as usize
    }
}

impl Models {
    /// Writes both models where both hosts look for them.
    pub fn make(root: &Path) -> Result<Self> {
        let directory = root.join("target/hosts");
        let model = |name: &str, bytes: &[u8], dims: &[u32]| {
            let directory = directory.join(name);
            let path = directory.join("model.onnx");
            // The processes of one run read it while another writes.
            if fs::read(&path).ok().as_deref() != Some(bytes) {
                fs::create_dir_all(&directory)?;
                fs::write(&path, bytes)?;
            }
            Ok::<_, wasmtime::Error>(Model { directory, dims: dims.to_vec() })
        };
        let digits = root.join("examples/models/digits/digits.onnx");
        let digits = fs::read(&digits).with_context(|| format!("{} cannot be read", digits.display()))?;
        Ok(Self {
            root: root.to_owned(),
            digits: model("digits", &digits, &[1, 1, 8, 8])?,
            large: model("large", &large(), &[1, ROWS as u32])?,
        })
    }
}

/// ONNX of one matrix product.
fn large() -> Vec<u8> {
    // No two rows alike, and all small.
    let weights = (0..ROWS * COLUMNS).flat_map(|i| (((i * 7919) % 1024) as f32 / 1024.0 - 0.5).to_le_bytes());
    let weight =
        [number(1, ROWS), number(1, COLUMNS), number(2, 1), bytes(8, b"w"), bytes(9, &weights.collect::<Vec<_>>())];
    let node = [bytes(1, b"x"), bytes(1, b"w"), bytes(2, b"y"), bytes(4, b"MatMul")];
    let graph = [
        bytes(1, &node.concat()),
        bytes(2, b"large"),
        bytes(5, &weight.concat()),
        bytes(11, &value(b"x", ROWS)),
        bytes(12, &value(b"y", COLUMNS)),
    ];
    let opset = number(2, 17);
    [number(1, 8), bytes(7, &graph.concat()), bytes(8, &opset)].concat()
}

/// The description of a row of f32.
fn value(name: &[u8], columns: usize) -> Vec<u8> {
    let dimension = |size| bytes(1, &number(1, size));
    let tensor = [number(1, 1), bytes(2, &[dimension(1), dimension(columns)].concat())];
    [bytes(1, name), bytes(2, &bytes(1, &tensor.concat()))].concat()
}

/// A field of protobuf: a number.
fn number(field: u8, value: usize) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

/// A field of protobuf: bytes, a string or a message.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(value.len()), value.to_vec()].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
