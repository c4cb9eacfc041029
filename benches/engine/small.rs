//! What the small calls cost: of a model that does nothing, and of a real one.

use std::time::Instant;

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, Guest, ModelSource, Target};
use graphpool_candle::CandleBackend;

use super::verdict;

/// The name of the model that does nothing, from [`main`] on.
pub const NAME: &str = "nothing";

/// A real model.
const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/models/digits/digits.onnx");

/// Nanoseconds a call: the least of 15 rounds.
pub fn cost(calls: u32, mut call: impl FnMut()) -> f64 {
    let mut round = || {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    (0..15).map(|_| round()).fold(f64::MAX, f64::min)
}

pub fn open_and_close(guest: &Guest, graph: GuestHandle) -> f64 {
    cost(1_000, || guest.drop_context(guest.init_execution_context(graph).unwrap()).unwrap())
}

pub fn load_and_unload(guest: &Guest, name: &str) -> f64 {
    cost(1_000, || guest.unload(guest.load_by_name(name).unwrap()).unwrap())
}

pub fn main(engine: &Engine) {
    let real = Engine::new(CandleBackend::new());
    for (engine, name, source) in
        [(engine, NAME, ModelSource::bytes(vec![0])), (&real, "digits", ModelSource::path(DIGITS))]
    {
        engine.register_model_now(name, source, Encoding::Onnx, Target::Cpu).expect("the model can be built");
        let guest = engine.guest();
        let graph = guest.load_by_name(name).unwrap();
        let (context, load) = (open_and_close(&guest, graph), load_and_unload(&guest, name));
        println!("{name}: open and close a context {context:.0} ns, load by name and unload {load:.0} ns");
        verdict("each under 0.8 µs", context < 800.0 && load < 800.0);
    }
}
