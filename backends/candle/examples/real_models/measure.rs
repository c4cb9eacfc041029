//! Runs the rows of a record, compares their outputs and measures their times.

use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{Encoding, Error, Target, TensorType, TensorView};
use graphpool_candle::CandleBackend;

use crate::record::{Record, Row};

/// The relative tolerance of an output.
const RELATIVE: f32 = 1e-3;

/// The duration of one measurement.
const TIME: Duration = Duration::from_millis(500);

/// The results of a record.
pub struct Measured {
    /// The largest difference from the recorded outputs.
    pub worst: f32,
    /// Whether every output is within the tolerance.
    pub right: bool,
    /// The median time of an inference, in milliseconds.
    pub ms: f64,
    /// The throughput of two threads with a context each, relative to one thread.
    pub two_contexts: f64,
    /// The speed of an inference on two threads, relative to one thread.
    pub two_threads: f64,
}

/// Compares and measures all rows of a record.
pub fn measure(record: &Record) -> Result<Measured, Error> {
    let parts = [record.model.as_slice()];
    let request = LoadRequest::new(&parts, Encoding::Onnx, Target::Cpu);
    let graph = CandleBackend::new().load(&request)?;
    let spread = CandleBackend::with_threads(NonZeroUsize::MIN.saturating_add(1))?.load(&request)?;
    let (worst, right) = check(&*graph, record)?;
    // Measurements take turns, so that the load of the machine affects all of them alike.
    let (mut one, mut both, mut halves) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        one.extend(times(&*graph, record)?);
        halves.extend(times(&*spread, record)?);
        let pair = thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| times(&*graph, record)));
            threads.map(|thread| thread.join().unwrap_or_else(|_| Err(Error::runtime_error("a thread panicked"))))
        });
        for times in pair {
            both.extend(times?);
        }
    }
    let [ms, ms_both, ms_halves] = [&mut one, &mut both, &mut halves].map(|times| median(times));
    Ok(Measured { worst, right, ms, two_contexts: 2.0 * ms / ms_both, two_threads: ms / ms_halves })
}

/// Runs all rows of a record. Returns the largest difference from the recorded outputs, and whether every output is
/// within the tolerance.
pub fn check(graph: &dyn BackendGraph, record: &Record) -> Result<(f32, bool), Error> {
    let (mut worst, mut right) = (0.0_f32, true);
    let mut context = graph.init_context()?;
    for row in &record.rows {
        infer(&mut *context, row)?;
        for (index, wanted) in &row.outputs {
            let (difference, near) = compare(context.output(*index as usize)?, wanted.view(), record.tolerance);
            worst = worst.max(difference);
            right &= near;
        }
    }
    Ok((worst, right))
}

/// Sets the inputs of a row and computes.
pub fn infer(context: &mut dyn BackendContext, row: &Row) -> Result<(), Error> {
    for (index, tensor) in &row.inputs {
        context.set_input(*index as usize, tensor.view())?;
    }
    context.compute(&ComputeControl::default())
}

/// The time of each inference in milliseconds, after a few for warming up.
fn times(graph: &dyn BackendGraph, record: &Record) -> Result<Vec<f64>, Error> {
    let mut context = graph.init_context()?;
    let mut times = Vec::new();
    for row in record.rows.iter().cycle().take(3) {
        infer(&mut *context, row)?;
    }
    let end = Instant::now() + TIME;
    for row in record.rows.iter().cycle() {
        let start = Instant::now();
        infer(&mut *context, row)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        if Instant::now() > end {
            break;
        }
    }
    Ok(times)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The largest difference, and whether every element is within the tolerance.
fn compare(found: TensorView<'_>, wanted: TensorView<'_>, absolute: f32) -> (f32, bool) {
    let same = found.ty() == wanted.ty() && found.dimensions() == wanted.dimensions();
    if !same || found.ty() != TensorType::F32 {
        return (0.0, same && found.data() == wanted.data());
    }
    let floats = |data: &'_ [u8]| -> Vec<f32> {
        data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let (mut worst, mut near) = (0.0_f32, true);
    for (found, wanted) in floats(found.data()).into_iter().zip(floats(wanted.data())) {
        let difference = (found - wanted).abs();
        worst = worst.max(difference);
        // Written so that a NaN is out of the tolerance.
        near &= difference <= absolute + RELATIVE * wanted.abs();
    }
    (worst, near)
}
