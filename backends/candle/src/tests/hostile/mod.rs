//! Hostile models: each load and each run ends with an error or a result, without a panic or an abort.
//!
//! The tests catch no panics, so a panic fails them.

mod files;
mod memory;
mod values;

use crate::tensor::value::Value;
use crate::{CandleBackend, CandleGraph};
use graphpool::backend::{ComputeControl, Error};

/// Loads a model and, if that succeeds, runs it on zeros, both with a memory limit of 16 MiB.
pub fn attack(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let graph = CandleBackend::new().load_graph(bytes, 1 << 24)?;
    drive(&graph)
}

/// Runs a graph on zeros; an open size is 1.
fn drive(graph: &CandleGraph) -> Result<Vec<Value>, Error> {
    let mut inputs = Vec::new();
    for port in graph.input_ports() {
        let dims: Vec<usize> = port.dims.iter().flatten().map(|dim| dim.unwrap_or(1)).collect();
        let count =
            dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim)).filter(|&count| count < 1 << 20);
        let Some(count) = count else { return Err(Error::too_large("an input too large to try")) };
        inputs.push(Value::from_bytes(dims, port.ty, &vec![0; count * port.ty.size()])?);
    }
    let control = ComputeControl::default().with_memory_limit(1 << 24);
    graph.run(inputs, &control)
}
