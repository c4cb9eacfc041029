//! The second example of the README: what a runtime does with the engine. `cargo run --release --example host`.

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::time::Duration;

    use graphpool::nn::{Encoding, Engine, EngineLimits, Limits, ModelSource, Target, Tensor};
    use graphpool_candle::CandleBackend;

    let pixels = Tensor::from_f32(vec![1, 1, 8, 8], &[0.5; 64])?;

    // At the start: what all guests may have together, and what each may. Each bound has a default.
    let limits = EngineLimits::default().with_max_graph_bytes(8 << 30).with_max_computing(2).with_max_queued(64);
    let engine = Engine::builder(CandleBackend::new())
        .with_engine_limits(limits)
        .with_limits(Limits::default().with_max_contexts(16).with_max_compute_time(Duration::from_secs(2)))
        .build();
    let model = ModelSource::path("examples/models/digits/digits.onnx");
    engine.register_model("digits", model, Encoding::Onnx, Target::Cpu)?;

    // At an instance's start. In its calls: one method for each function of wasi-nn, with the guest's own numbers.
    let guest = engine.guest_builder().with_models(["digits"]).build();
    let graph = guest.load_by_name("digits")?;
    let context = guest.init_execution_context(graph)?;
    guest.set_input(context, 0, pixels.view())?;
    block_on(guest.compute_async(context))?; // or compute(), which blocks; both wait for their turn
    let mut buffer = [0; 40];
    assert_eq!(guest.get_output(context, 0, &mut buffer)?, 40);

    // An error says what to do, in the codes of both forms of wasi-nn.
    let error = guest.load_by_name("another's").unwrap_err();
    assert_eq!(error.errno(), 8); // not_found
    assert_eq!(error.message(), "load_by_name: no model is named \"another's\"");

    // Meanwhile, on another thread: new contexts run on the new version, open ones keep the old one.
    let version = engine.reload_model("digits")?;
    println!("version {version}, {} graphs in memory", engine.list_graphs().len());

    drop(guest); // releases all that it holds, and cancels its computes
    println!("{:#?}", engine.stats());
    Ok(())
}

/// The simplest executor: any other does as well.
#[cfg(not(loom))]
fn block_on<F: Future>(future: F) -> F::Output {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake};
    use std::thread::{self, Thread};

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}
