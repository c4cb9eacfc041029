//! An asynchronous host: the executor's one thread goes on while models load and compute, and a dropped call is
//! cancelled.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use graphpool::nn::{Encoding, Engine, ModelSource, Stats, Target};
use graphpool_wasmtime::WasiNnCtx;
use tokio::runtime::Builder;
use tokio::task;

use crate::backend::Words;
use crate::layout::{BUFFER, CONFIG, CPU, DATA, DIMENSIONS, NAME, ONNX, OUT, PARTS, TENSOR, engine, guest};
use crate::puppet::{Mode, Puppet, SHARED, UNSHARED};
use crate::speaker::{Speaker, model};

/// Runs a test on an executor with a single thread.
fn on_one_thread<R>(test: impl Future<Output = R>) -> R {
    Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}

/// Lets the executor run other tasks until the backend has been entered so many times.
async fn entered(words: &Words, count: usize) {
    while words.entered() < count {
        task::yield_now().await;
    }
}

fn held(stats: &Stats) -> (usize, usize, usize, usize, usize) {
    (stats.guests, stats.graph_handles, stats.contexts, stats.computing, stats.queued)
}

/// Waits for what other threads bring about.
async fn eventually(engine: &Engine, holds: impl Fn(&Stats) -> bool) {
    for _ in 0..4_000 {
        if holds(&engine.stats()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it has not come about: {:?}", engine.stats());
}

async fn nothing_is_left(engine: &Engine) {
    eventually(engine, |stats| held(stats) == (0, 0, 0, 0, 0)).await;
}

#[test]
fn the_executor_goes_on_while_a_model_loads() {
    on_one_thread(async {
        for memory in [UNSHARED, SHARED] {
            let words = Words::default();
            let engine = Engine::new(words.clone());
            let mut puppet = Puppet::furnished(WasiNnCtx::new(engine.guest()), memory, Mode::Async);
            puppet.furnish("slow");
            let load = task::spawn(async move {
                let errno = puppet.call_async("load", &[PARTS, 1, ONNX, CPU, OUT]).await.unwrap();
                (puppet, errno)
            });
            // The load is inside the backend, and this thread, on which it was called, is not.
            entered(&words, 1).await;
            for _ in 0..100 {
                task::yield_now().await;
            }
            assert!(!load.is_finished());
            words.open();
            let (mut puppet, errno) = load.await.unwrap();
            assert_eq!(errno, 0);
            let graph = puppet.word(OUT);
            assert_eq!(puppet.call_async("unload", &[graph]).await.unwrap(), 0);
        }
    });
}

#[test]
fn the_executor_goes_on_while_named_models_load() {
    on_one_thread(async {
        let words = Words::default();
        let engine = engine(&words);
        let slow = || ModelSource::bytes(b"slow".to_vec()).with_guest_configs(4);
        engine.register_model("slow", slow(), Encoding::Onnx, Target::Cpu).unwrap();
        let mut loads = Vec::new();
        for (place, call) in ["load_by_name", "load_by_name_with_config"].into_iter().enumerate() {
            let mut puppet = Puppet::furnished(WasiNnCtx::new(engine.guest()), UNSHARED, Mode::Async);
            puppet.write(NAME, b"slow");
            loads.push(task::spawn(async move {
                let arguments: &[u32] = if place == 0 { &[NAME, 4, OUT] } else { &[NAME, 4, CONFIG, 2, OUT] };
                puppet.call_async(call, arguments).await.unwrap()
            }));
            entered(&words, place + 1).await;
        }
        // Another guest of the same executor goes through a whole inference meanwhile.
        let mut puppet = Puppet::furnished(WasiNnCtx::new(guest(&engine)), UNSHARED, Mode::Async);
        puppet.works_async().await;
        assert!(loads.iter().all(|load| !load.is_finished()));
        words.open();
        for load in loads {
            assert_eq!(load.await.unwrap(), 0);
        }
    });
}

#[test]
fn the_executor_goes_on_while_a_model_computes() {
    on_one_thread(async {
        let words = Words::default();
        let engine = Engine::new(words.clone());
        let mut puppet = Puppet::furnished(WasiNnCtx::new(engine.guest()), UNSHARED, Mode::Async);
        let context = puppet.waiting().await;
        let compute = task::spawn(async move { (puppet.call_async("compute", &[context]).await.unwrap(), puppet) });
        entered(&words, 1).await;
        let mut other = Puppet::furnished(WasiNnCtx::new(engine.guest()), UNSHARED, Mode::Async);
        assert_eq!(other.call_async("load", &[PARTS, 1, ONNX, CPU, OUT]).await.unwrap(), 0);
        assert!(!compute.is_finished());
        words.open();
        let (errno, mut puppet) = compute.await.unwrap();
        assert_eq!(errno, 0);
        assert_eq!(puppet.call_async("get_output", &[context, 0, BUFFER, 8, OUT]).await.unwrap(), 0);
        assert_eq!(puppet.floats(BUFFER, 2), [1.5, -2.0]);
    });
}

#[test]
fn a_dropped_call_cancels_its_compute_and_a_dropped_store_releases_everything() {
    on_one_thread(async {
        let words = Words::default();
        let engine = Engine::new(words.clone());
        let mut puppet = Puppet::furnished(WasiNnCtx::new(engine.guest()), UNSHARED, Mode::Async);
        let context = puppet.waiting().await;
        // The future of the call, on its own: the store stays.
        {
            let arguments = [context];
            let mut compute = pin!(puppet.call_async("compute", &arguments));
            poll_once(compute.as_mut()).await;
            entered(&words, 1).await;
        }
        // The thread that computes counts it, after it has left the backend.
        words.wait_for_leaving(1);
        eventually(&engine, |stats| stats.cancelled == 1).await;
        assert_eq!(engine.stats().guests, 1);
        // The call with its store, as by an abort of its task. In another context: the first is claimed a moment
        // longer.
        let context = puppet.waiting().await;
        let compute = task::spawn(async move { puppet.call_async("compute", &[context]).await });
        entered(&words, 2).await;
        compute.abort();
        assert!(compute.await.unwrap_err().is_cancelled());
        words.wait_for_leaving(2);
        nothing_is_left(&engine).await;
        eventually(&engine, |stats| stats.cancelled == 2).await;
    });
}

#[test]
fn the_executor_goes_on_while_a_word_is_made_and_a_dropped_call_cancels_it() {
    on_one_thread(async {
        let speaker = Speaker::default();
        let engine = Engine::new(speaker.clone());
        let source = ModelSource::bytes(model(8, &["hold", "two"]));
        engine.register_model("copy", source, Encoding::Ggml, Target::Cpu).unwrap();
        let mut puppet = Puppet::furnished(WasiNnCtx::new(engine.guest()), UNSHARED, Mode::Async);
        let graph = puppet.made_async("load_by_name", &[NAME, 4, OUT]).await;
        let context = puppet.made_async("init_execution_context", &[graph, OUT]).await;
        puppet.write_words(TENSOR, &[DIMENSIONS, 1, 3, DATA, 4]);
        puppet.write_words(DIMENSIONS, &[4]);
        puppet.write(DATA, b"hold");
        assert_eq!(puppet.call_async("set_input", &[context, 0, TENSOR]).await.unwrap(), 0);
        {
            let arguments = [context];
            let mut step = pin!(puppet.call_async("compute_single", &arguments));
            poll_once(step.as_mut()).await;
            speaker.wait_for(1);
        }
        eventually(&engine, |stats| stats.cancelled == 1 && stats.computing == 0).await;
        let step = task::spawn(async move { (puppet.call_async("compute_single", &[context]).await.unwrap(), puppet) });
        while speaker.held() < 2 {
            task::yield_now().await;
        }
        assert!(!step.is_finished());
        speaker.open();
        let (errno, mut puppet) = step.await.unwrap();
        assert_eq!(errno, 0);
        assert_eq!(puppet.call_async("get_output_single", &[context, 0, BUFFER, 8, OUT]).await.unwrap(), 0);
        assert_eq!(puppet.read(BUFFER, 4), b" two");
    });
}

#[test]
fn a_dropped_call_leaves_its_load() {
    on_one_thread(async {
        let words = Words::default();
        let engine = Engine::new(words.clone());
        let mut puppet = Puppet::furnished(WasiNnCtx::new(engine.guest()), UNSHARED, Mode::Async);
        puppet.furnish("slow");
        let load = task::spawn(async move { puppet.call_async("load", &[PARTS, 1, ONNX, CPU, OUT]).await });
        entered(&words, 1).await;
        load.abort();
        assert!(load.await.unwrap_err().is_cancelled());
        assert_eq!(engine.stats().graph_handles, 0);
        words.open();
        words.wait_for_leaving(1);
        nothing_is_left(&engine).await;
    });
}

/// Polls a future once, which is then pending.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) {
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

impl Puppet {
    /// A context whose compute waits at the gate.
    async fn waiting(&mut self) -> u32 {
        self.furnish("wait");
        let graph = self.made_async("load", &[PARTS, 1, ONNX, CPU, OUT]).await;
        let context = self.made_async("init_execution_context", &[graph, OUT]).await;
        assert_eq!(self.call_async("set_input", &[context, 0, TENSOR]).await.unwrap(), 0);
        context
    }

    async fn made_async(&mut self, name: &str, arguments: &[u32]) -> u32 {
        assert_eq!(self.call_async(name, arguments).await.unwrap(), 0, "{name} {arguments:x?}");
        self.word(*arguments.last().unwrap())
    }

    async fn works_async(&mut self) {
        let graph = self.made_async("load", &[PARTS, 1, ONNX, CPU, OUT]).await;
        let context = self.made_async("init_execution_context", &[graph, OUT]).await;
        assert_eq!(self.call_async("set_input", &[context, 0, TENSOR]).await.unwrap(), 0);
        assert_eq!(self.call_async("compute", &[context]).await.unwrap(), 0);
        assert_eq!(self.made_async("get_output", &[context, 0, BUFFER, 8, OUT]).await, 8);
    }
}
