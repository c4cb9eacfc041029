//! The example of the README: `cargo run --release --example quickstart`.

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use graphpool::nn::{Encoding, Engine, ModelSource, Target, Tensor};
    use graphpool_candle::CandleBackend;

    // Once for the process.
    let engine = Engine::new(CandleBackend::new());
    let model = ModelSource::path("examples/models/digits/digits.onnx");
    engine.register_model("digits", model, Encoding::Onnx, Target::Cpu)?;

    // Once for each wasm instance. Its handles are u32s that mean nothing in any other guest.
    let guest = engine.guest();
    let graph = guest.load_by_name("digits")?;
    let context = guest.init_execution_context(graph)?;
    guest.set_input(context, 0, Tensor::from_f32(vec![1, 1, 8, 8], &[0.5; 64])?.view())?;
    guest.compute(context)?;
    println!("{:?}", guest.output(context, "probabilities")?.to_f32());
    Ok(()) // Dropping the guest gives back everything that it still holds.
}
