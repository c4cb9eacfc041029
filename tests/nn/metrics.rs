//! What the recorder of the host is told.

use std::collections::BTreeMap;

use graphpool::nn::{Encoding, EngineLimits, ErrorKind, ModelSource, Target, TensorType, TensorView};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::backends::{Model, Watch, eventually, is_alone};

/// The sums of all that was told: counters and gauges as they stand, of histograms the number of their values.
struct Numbers(Snapshotter, BTreeMap<String, i64>);

impl Numbers {
    fn read(&mut self) -> &BTreeMap<String, i64> {
        // A snapshot takes what it shows, and leaves zero.
        for (key, _, _, value) in self.0.snapshot().into_vec() {
            let key = key.key();
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let sum = self.1.entry([&[key.name().to_owned()], &*labels].concat().join(" ")).or_default();
            *sum += match value {
                DebugValue::Counter(count) => count as i64,
                DebugValue::Gauge(value) => value.into_inner() as i64,
                DebugValue::Histogram(values) => {
                    assert!(values.iter().all(|value| (0.0..60.0).contains(&value.into_inner())), "{key}: {values:?}");
                    values.len() as i64
                }
            };
        }
        &self.1
    }

    fn is(&mut self, name: &str, value: i64) -> bool {
        self.read().get(name).copied().unwrap_or(0) == value
    }
}

#[test]
fn the_recorder_is_told_every_number_and_gauges_come_back_to_zero() {
    // The engine's threads tell the process's recorder.
    if !is_alone("metrics::the_recorder_is_told_every_number_and_gauges_come_back_to_zero") {
        return;
    }
    let recorder = DebuggingRecorder::new();
    let mut numbers = Numbers(recorder.snapshotter(), BTreeMap::new());
    recorder.install().unwrap();

    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().with_max_computing(1).with_max_queued(1));
    let source = |a| ModelSource::bytes(Model { a, ..Model::default() }.bytes());
    engine.register_model("m", source(2.0), Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest();
    let named = guest.load_by_name("m").unwrap();
    assert_eq!(engine.replace_model("m", source(3.0)).unwrap(), 2);
    guest.load_by_name("none").unwrap_err();
    let _ = guest.refuse("load", graphpool::nn::Error::missing_memory("outside"));
    let reserved = guest.reserve(5).unwrap();
    let affine = guest.init_execution_context(named).unwrap();
    let data = [0; 8];
    guest.set_input(affine, 0, TensorView::new(&[2], TensorType::F32, &data).unwrap()).unwrap();
    guest.compute(affine).unwrap();

    let open = |model: &str| {
        let graph = guest.load(&[model.as_bytes()], Encoding::PyTorch, Target::Cpu).unwrap();
        guest.init_execution_context(graph).unwrap()
    };
    let [sleep, gate, waiting, late, panicking] = ["sleep", "gate", "waiting", "waiting", "compute"].map(open);
    let asleep = guest.compute_async(sleep);
    watch.wait_for(1);
    let running = guest.compute_async(gate);
    watch.wait_for(2);
    let queued = guest.compute_async(waiting);
    for (name, value) in [("graphpool_computing", 2), ("graphpool_suspended", 1), ("graphpool_queued", 1)] {
        assert!(numbers.is(name, value), "{name} is not {value}: {:?}", numbers.1);
    }
    assert_eq!((engine.stats().computing, engine.stats().suspended), (1, 1));
    assert_eq!(guest.compute(waiting).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(guest.compute(late).unwrap_err().kind(), ErrorKind::Busy);
    drop(queued);
    assert_eq!(guest.compute_within(late, std::time::Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout);
    watch.open();
    // Its place is free, so that the next compute does not wait.
    eventually(|| (engine.stats().computing, engine.stats().suspended) == (0, 0));
    drop((asleep, running));
    guest.compute(panicking).unwrap_err();

    let gauges = [
        ("graphpool_guests", 1),
        // The version before has gone with its last user.
        ("graphpool_graphs", 5),
        ("graphpool_graph_bytes", 100),
        // The one that panicked is lost.
        ("graphpool_contexts", 5),
        ("graphpool_context_bytes", 8),
        ("graphpool_host_bytes", 5),
        ("graphpool_computing", 0),
        ("graphpool_suspended", 0),
        ("graphpool_queued", 0),
    ];
    for (name, value) in gauges {
        eventually(|| numbers.is(name, value));
    }
    let totals = [
        ("graphpool_builds_total", 6),
        ("graphpool_reloads_total", 1),
        ("graphpool_contexts_opened_total", 6),
        ("graphpool_computes_total", 3),
        ("graphpool_failed_computes_total", 1),
        ("graphpool_busy_contexts_total", 1),
        ("graphpool_limited_total", 1),
        ("graphpool_timeouts_total", 1),
        ("graphpool_cancelled_total", 1),
        ("graphpool_panics_total", 1),
        ("graphpool_build_seconds", 6),
        ("graphpool_compute_seconds", 4),
        // The one that was cancelled, the one that found the queue full and the one that was late.
        ("graphpool_wait_seconds", 3),
        ("graphpool_errors_total call=load_by_name kind=not found", 1),
        ("graphpool_errors_total call=load kind=missing memory", 1),
        ("graphpool_errors_total call=compute kind=busy", 2),
        ("graphpool_errors_total call=compute kind=timeout", 1),
        ("graphpool_errors_total call=compute kind=runtime error", 2),
    ];
    for (name, value) in totals {
        assert!(numbers.is(name, value), "{name} is not {value}: {:#?}", numbers.1);
    }
    assert_eq!(engine.stats().errors, 7);
    drop((guest, reserved, engine));
    for (name, _) in gauges {
        eventually(|| numbers.is(name, 0));
    }
    // And nothing that the documentation does not name.
    assert_eq!(numbers.1.len(), gauges.len() + totals.len(), "{:#?}", numbers.1);
}
