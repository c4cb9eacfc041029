//! Telemetry of the engine: `tracing` spans and events and, with the feature `metrics`, metrics for the recorder that
//! the host has installed.
//!
//! | what | level | fields |
//! | --- | --- | --- |
//! | span `load` | debug | `guest`, `name` for a named model |
//! | span `build` | info | `encoding`, `target`, `bytes` |
//! | event `built` | info | `graph`, `backend`, `bytes` |
//! | event `loaded` | debug | `guest`, `graph` |
//! | span `compute` | trace | `guest`, `graph` |
//! | event `computed` | trace | `guest`, `graph`, `ok` |
//! | event `reloaded` | info | `name`, `version`, `graph` |
//! | event `reload failed` | warn | `name`, `error` |
//! | event `refused` | debug | `guest`, `call`, `error`; `graph` for a compute |
//!
//! No value is longer than an error's message, whatever a guest sends. The exception is the error of a reload, which
//! belongs to the host and contains the host's paths.

use tracing::Span;

use crate::nn::guest::check::Quoted;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, ModelError, Target};

pub(crate) fn load_span(guest: u64) -> Span {
    tracing::debug_span!("load", guest)
}

pub(crate) fn load_by_name_span(guest: u64, name: &str) -> Span {
    tracing::debug_span!("load", guest, name = %Quoted(name))
}

pub(crate) fn loaded(guest: u64, graph: u64) {
    tracing::debug!(guest, graph, "loaded");
}

/// Runs a build in a span.
pub(crate) fn build<R>(encoding: Encoding, target: Target, bytes: usize, build: impl FnOnce() -> R) -> R {
    let span = tracing::info_span!("build", ?encoding, ?target, bytes);
    let timer = Timer::start();
    let result = span.in_scope(build);
    timer.stop("graphpool_build_seconds");
    result
}

pub(crate) fn built(graph: u64, backend: &str, bytes: usize) {
    tracing::info!(graph, backend, bytes, "built");
}

/// Runs a compute in a span.
pub(crate) fn compute(guest: u64, graph: u64, compute: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let span = tracing::trace_span!("compute", guest, graph);
    let _computing = Gauge::raise("graphpool_computing");
    let timer = Timer::start();
    let result = span.in_scope(compute);
    timer.stop("graphpool_compute_seconds");
    tracing::trace!(guest, graph, ok = result.is_ok(), "computed");
    result
}

/// Records a compute that was refused, or failed.
pub(crate) fn compute_refused(counters: &Counters, call: &'static str, guest: u64, graph: u64, error: Error) -> Error {
    tracing::debug!(guest, graph, call, %error, "refused");
    count_refusal(counters, call, &error);
    error
}

/// Records a guest's call that failed.
pub(crate) fn refused(counters: &Counters, guest: u64, call: &'static str, error: Error) -> Error {
    tracing::debug!(guest, call, %error, "refused");
    count_refusal(counters, call, &error);
    error
}

pub(crate) fn reloaded(name: &str, version: u64, graph: u64) {
    tracing::info!(name = %Quoted(name), version, graph, "reloaded");
}

pub(crate) fn reload_failed(name: &str, error: &ModelError) {
    tracing::warn!(name = %Quoted(name), error = %error.chain(), "reload failed");
}

#[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "they are the labels of a metric"))]
fn count_refusal(counters: &Counters, call: &'static str, error: &Error) {
    if error.is_by_limit() {
        Counters::count(&counters.limited);
    }
    #[cfg(feature = "metrics")]
    metrics::counter!("graphpool_errors_total", "call" => call, "kind" => error.kind().name()).increment(1);
}

/// A compute that waits for its turn: counted in the gauge until the drop, which adds its time to the histogram.
pub(crate) struct Waiting {
    _gauge: Gauge,
    timer: Option<Timer>,
}

impl Waiting {
    pub(crate) fn start() -> Self {
        Self { _gauge: Gauge::raise("graphpool_queued"), timer: Some(Timer::start()) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.stop("graphpool_wait_seconds");
        }
    }
}

/// Increments the gauge of that name until the drop.
struct Gauge(#[cfg(feature = "metrics")] &'static str);

impl Gauge {
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "it is a metric's name"))]
    fn raise(name: &'static str) -> Self {
        #[cfg(feature = "metrics")]
        metrics::gauge!(name).increment(1.0);
        Self(
            #[cfg(feature = "metrics")]
            name,
        )
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        metrics::gauge!(self.0).decrement(1.0);
    }
}

/// Reads the clock only if a recorder needs it.
struct Timer(#[cfg(feature = "metrics")] std::time::Instant);

impl Timer {
    fn start() -> Self {
        Self(
            #[cfg(feature = "metrics")]
            std::time::Instant::now(),
        )
    }

    #[cfg_attr(
        not(feature = "metrics"),
        expect(unused_variables, clippy::unused_self, reason = "they are a metric's name and where it began")
    )]
    fn stop(self, name: &'static str) {
        #[cfg(feature = "metrics")]
        metrics::histogram!(name).record(self.0.elapsed().as_secs_f64());
    }
}
