//! Runs a case on this backend.

use std::time::{Duration, Instant};

use graphpool::backend::ComputeControl;
use graphpool::nn::Error;
use graphpool_candle::{CandleBackend, CandleGraph, ElementType, Value};

use crate::peer::Case;

/// The duration of a turn, and the fewest runs in it.
const TURN: Duration = Duration::from_millis(20);
const LEAST_RUNS: usize = 3;

/// The memory of a load.
const MEMORY: usize = 1 << 32;

/// A case that is loaded, with its inputs.
pub struct Ours {
    graph: CandleGraph,
    inputs: Vec<Value>,
    control: ComputeControl,
}

impl Ours {
    /// Loads the model and makes its inputs.
    pub fn load(case: &Case) -> Result<Self, Error> {
        let graph = CandleBackend::new().load_graph(&case.model, MEMORY)?;
        let inputs = case.inputs.iter().zip(graph.input_ports());
        let inputs = inputs.map(|(input, port)| Value::from_bytes(input.dims.clone(), port.ty, &input.data));
        let inputs = inputs.collect::<Result<_, _>>()?;
        Ok(Self { graph, inputs, control: ComputeControl::default() })
    }

    /// Computes once. Returns the largest difference of an output, and whether all are within the row's tolerance.
    pub fn check(&self, case: &Case) -> Result<(f64, bool), Error> {
        let (mut worst, mut right) = (0.0_f64, true);
        for (found, wanted) in self.run()?.iter().zip(&case.outputs) {
            right &= found.dims() == wanted.dims;
            let ty = found.ty();
            for (found, wanted) in numbers(ty, &found.to_bytes()).into_iter().zip(numbers(ty, &wanted.data)) {
                let same = found.to_bits() == wanted.to_bits() || (found.is_nan() && wanted.is_nan());
                let difference = if same { 0.0 } else { (found - wanted).abs() };
                worst = worst.max(difference);
                // Written so that a NaN is out of the tolerance.
                right &= difference <= case.tolerance * (1.0 + wanted.abs());
            }
        }
        Ok((worst, right))
    }

    /// The median milliseconds of a run in this turn.
    pub fn turn(&self) -> Result<f64, Error> {
        let (end, mut times) = (Instant::now() + TURN, Vec::new());
        while times.len() < LEAST_RUNS || Instant::now() < end {
            let start = Instant::now();
            self.run()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(crate::median(&mut times))
    }

    /// The outputs. The inputs are shared, so that no operator may overwrite them.
    fn run(&self) -> Result<Vec<Value>, Error> {
        self.graph.run(self.inputs.clone(), &self.control)
    }
}

/// The elements as f64.
fn numbers(ty: ElementType, data: &[u8]) -> Vec<f64> {
    fn each<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|&bytes| number(bytes)).collect()
    }
    match ty {
        ElementType::F16 => each(data, |bytes| half::f16::from_le_bytes(bytes).to_f64()),
        ElementType::F32 => each(data, |bytes| f64::from(f32::from_le_bytes(bytes))),
        ElementType::I32 => each(data, |bytes| f64::from(i32::from_le_bytes(bytes))),
        ElementType::I64 => each(data, |bytes| i64::from_le_bytes(bytes) as f64),
        ElementType::I8 => each(data, |[byte]| f64::from(byte.cast_signed())),
        _ => each(data, |[byte]| f64::from(byte)),
    }
}
