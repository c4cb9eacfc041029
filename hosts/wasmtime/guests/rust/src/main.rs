//! Classifies images through the published crate `wasi-nn`.
//!
//! ```text
//! classify MODEL IMAGES [ROWS]
//! ```
//!
//! `MODEL` is a name that the host has registered or, with a slash in it, a file to load from bytes.

use std::error::Error;
use std::{env, fs};

use wasi_nn::{ExecutionTarget, GraphBuilder, GraphEncoding, TensorType};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    let [model, images, rows @ ..] = arguments.as_slice() else {
        return Err("usage: classify MODEL IMAGES [ROWS]".into());
    };
    let rows = rows.first().map_or(Ok(usize::MAX), |rows| rows.parse())?;
    let builder = GraphBuilder::new(GraphEncoding::Onnx, ExecutionTarget::CPU);
    let graph =
        if model.contains('/') { builder.build_from_files([model])? } else { builder.build_from_cache(model)? };
    let mut context = graph.init_execution_context()?;
    for (row, image) in fs::read(images)?.chunks_exact(64).take(rows).enumerate() {
        let pixels = image.iter().map(|pixel| f32::from(*pixel) / 16.0).collect::<Vec<_>>();
        context.set_input(0, TensorType::F32, &[1, 1, 8, 8], &pixels)?;
        context.compute()?;
        let mut probabilities = [0.0_f32; 10];
        let bytes = context.get_output(0, &mut probabilities)?;
        if bytes != size_of_val(&probabilities) {
            return Err(format!("get_output: {bytes} bytes instead of {}", size_of_val(&probabilities)).into());
        }
        let (class, probability) =
            probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).ok_or("no classes")?;
        println!("{row}: {class} {probability:.4}");
    }
    Ok(())
}
