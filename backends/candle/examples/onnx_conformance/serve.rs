//! Runs cases for another program, which writes folders to standard input, and writes the outputs to files.
//!
//! The other program compares the outputs. It also restarts this process after a case that ends it or takes too long.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::{fs, io};

use graphpool_candle::{CandleBackend, CandleGraph, ElementType, LATEST_OPSET, operators as all_operators};
use serde_json::{Value as Json, json};

use crate::case::{MEMORY, control, tensors};

/// The newest opset; for each operator, its domain, its name, and its first and last opset; and ONNX's numbers of the
/// element types.
pub fn operators() -> Json {
    let operators: Vec<Json> = all_operators().map(|row| json!([row.domain, row.name, row.since, row.until])).collect();
    let types: Vec<i32> = (0..64).filter(|&number| ElementType::from_onnx(number).is_some()).collect();
    json!({ "latest": LATEST_OPSET, "operators": operators, "types": types })
}

/// Answers each line of standard input, which is a folder, with a line of JSON.
pub fn serve() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for folder in io::stdin().lock().lines() {
        writeln!(out, "{}", answer(Path::new(&folder?)))?;
        out.flush()?;
    }
    Ok(())
}

fn answer(folder: &Path) -> Json {
    match run(folder) {
        Ok(outputs) => json!({ "outputs": outputs }),
        Err(error) => {
            let kind =
                error.downcast_ref::<graphpool::nn::Error>().map_or_else(String::new, |e| format!("{:?}", e.kind()));
            json!({ "refused": error.to_string(), "kind": kind })
        }
    }
}

/// Runs the first data set and writes output `i` to found_`i`.bin, as little-endian elements. Returns types and
/// dimensions.
fn run(folder: &Path) -> Result<Vec<Json>, Box<dyn Error>> {
    let graph = CandleBackend::new().load_graph(&fs::read(folder.join("model.onnx"))?, MEMORY)?;
    let data = folder.join("test_data_set_0");
    let inputs = tensors(&data, "input", graph.input_ports())?;
    let outputs = CandleGraph::run(&graph, inputs, &control())?;
    let write = |(index, value): (usize, &graphpool_candle::Value)| {
        fs::write(data.join(format!("found_{index}.bin")), value.to_bytes())?;
        Ok(json!({ "type": format!("{:?}", value.ty()), "dims": value.dims() }))
    };
    outputs.iter().enumerate().map(write).collect()
}
