//! Telemetry of the engine: `tracing` spans and events and, with the feature `metrics`, metrics for the recorder that
//! the host has installed.
//!
//! | what | level | fields |
//! | --- | --- | --- |
//! | span `load` | debug | `guest`, `label`, `name` for a named model |
//! | span `resolve` | debug | `name` |
//! | event `resolved` | debug | `name`, `found`; `error` if the resolver failed |
//! | span `build` | info | `encoding`, `target`, `bytes` |
//! | event `built` | info | `graph`, `backend`, `bytes`; `device_steps`, `host_steps`, `transfers` on a device |
//! | event `loaded` | debug | `guest`, `label`, `graph` |
//! | span `compute` | trace | `guest`, `label`, `graph` |
//! | event `computed` | trace | `guest`, `label`, `graph`, `ok` |
//! | event `reloaded` | info | `name`, `version`, `graph` |
//! | event `reload failed` | warn | `name`, `error` |
//! | event `backend registered`, `backend replaced`, `backend removed` | info | `backend` |
//! | event `refused` | debug | `guest`, `label`, `call`, `error`; `graph` for a compute |
//!
//! Their target is [`TRACING_TARGET`]. The parent of what runs on a thread of the engine is the span in which the
//! guest's call was made. The field `label` is there if the host has given the guest one.
//!
//! No value is longer than an error's message, whatever a guest sends. The exceptions are a guest's label, and the
//! error of a reload, which contains the host's paths: both belong to the host.

use std::time::{Duration, Instant};

use tracing::{Span, dispatcher};

use crate::backend::Placement;
use crate::nn::guest::account::Account;
use crate::nn::guest::check::Quoted;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, ModelError, Target};

/// The `tracing` target of every span and event of an engine, for the filters of subscribers. It stays the same in all
/// versions.
pub const TRACING_TARGET: &str = "graphpool";

/// The spans of a call, for its work on other threads.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The caller's own span: the parent where the subscriber does not want `call`.
    current: Span,
    call: Span,
}

impl Caller {
    /// No span, for work on the thread of the call.
    pub(crate) fn none() -> Self {
        Self { current: Span::none(), call: Span::none() }
    }

    /// The current span.
    pub(crate) fn current() -> Self {
        Self::new(Span::none())
    }

    /// The current span, and the span of the call.
    pub(crate) fn new(call: Span) -> Self {
        Self { current: Span::current(), call }
    }

    /// Runs `f` in the spans, and with the subscriber that has them.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let run = || self.current.in_scope(|| self.call.in_scope(f));
        let subscriber = |span: &Span| span.with_subscriber(|(_, subscriber)| subscriber.clone());
        match subscriber(&self.call).or_else(|| subscriber(&self.current)) {
            Some(subscriber) => dispatcher::with_default(&subscriber, run),
            None => run(),
        }
    }
}

pub(crate) fn load_span(guest: &Account) -> Span {
    tracing::debug_span!(target: TRACING_TARGET, "load", guest = guest.id(), label = guest.label())
}

pub(crate) fn load_by_name_span(guest: &Account, name: &str) -> Span {
    tracing::debug_span!(target: TRACING_TARGET, "load", guest = guest.id(), label = guest.label(), name = %Quoted(name))
}

pub(crate) fn loaded(guest: &Account, graph: u64) {
    tracing::debug!(target: TRACING_TARGET, guest = guest.id(), label = guest.label(), graph, "loaded");
}

/// Runs a call of the host's resolver in a span.
pub(crate) fn resolve<T>(
    name: &str,
    resolve: impl FnOnce() -> Result<Result<Option<T>, Error>, Error>,
) -> Result<Option<T>, Error> {
    let name = Quoted(name);
    let result = tracing::debug_span!(target: TRACING_TARGET, "resolve", %name).in_scope(resolve).flatten();
    match &result {
        Ok(answer) => tracing::debug!(target: TRACING_TARGET, %name, found = answer.is_some(), "resolved"),
        Err(error) => tracing::debug!(target: TRACING_TARGET, %name, found = false, %error, "resolved"),
    }
    result
}

/// Runs a build in a span.
pub(crate) fn build<R>(encoding: Encoding, target: Target, bytes: usize, build: impl FnOnce() -> R) -> R {
    let span = tracing::info_span!(target: TRACING_TARGET, "build", ?encoding, ?target, bytes);
    let timer = Timer::start();
    let result = span.in_scope(build);
    timer.stop("graphpool_build_seconds");
    result
}

pub(crate) fn built(graph: u64, backend: &str, bytes: usize, placement: Option<Placement>) {
    let device_steps = placement.map(|placement| placement.device_steps);
    let host_steps = placement.map(|placement| placement.host_steps);
    let transfers = placement.map(|placement| placement.transfers);
    tracing::info!(target: TRACING_TARGET, graph, backend, bytes, device_steps, host_steps, transfers, "built");
}

/// Runs a compute in a span, records its time, and returns it with the result.
pub(crate) fn compute<R>(guest: &Account, graph: u64, compute: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let span =
        tracing::trace_span!(target: TRACING_TARGET, "compute", guest = guest.id(), label = guest.label(), graph);
    let _computing = Gauge::raise("graphpool_computing");
    let result = span.in_scope(compute);
    (result, start.elapsed())
}

/// Records a compute that has left the backend for the last time, after that time inside.
pub(crate) fn computed(guest: &Account, graph: u64, time: Duration, ok: bool) {
    guest.computed(time);
    #[cfg(feature = "metrics")]
    metrics::histogram!("graphpool_compute_seconds").record(time.as_secs_f64());
    tracing::trace!(target: TRACING_TARGET, guest = guest.id(), label = guest.label(), graph, ok, "computed");
}

/// Records a compute that was refused, or failed.
pub(crate) fn compute_refused(
    counters: &Counters,
    call: &'static str,
    guest: &Account,
    graph: u64,
    error: Error,
) -> Error {
    tracing::debug!(target: TRACING_TARGET, guest = guest.id(), label = guest.label(), graph, call, %error, "refused");
    counters.count_error(call, &error);
    error
}

/// Records a guest's call that failed.
pub(crate) fn refused(counters: &Counters, guest: &Account, call: &'static str, error: Error) -> Error {
    tracing::debug!(target: TRACING_TARGET, guest = guest.id(), label = guest.label(), call, %error, "refused");
    counters.count_error(call, &error);
    error
}

pub(crate) fn reloaded(name: &str, version: u64, graph: u64) {
    tracing::info!(target: TRACING_TARGET, name = %Quoted(name), version, graph, "reloaded");
}

pub(crate) fn backend_changed(change: BackendChange, backend: &str) {
    match change {
        BackendChange::Registered => tracing::info!(target: TRACING_TARGET, backend, "backend registered"),
        BackendChange::Replaced => tracing::info!(target: TRACING_TARGET, backend, "backend replaced"),
        BackendChange::Removed => tracing::info!(target: TRACING_TARGET, backend, "backend removed"),
    }
}

pub(crate) fn reload_failed(name: &str, error: &ModelError) {
    tracing::warn!(target: TRACING_TARGET, name = %Quoted(name), error = %error.chain(), "reload failed");
}

/// What happened to a backend.
#[derive(Clone, Copy)]
pub(crate) enum BackendChange {
    Registered,
    Replaced,
    Removed,
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

/// A compute that sleeps in its backend: counted in the gauge until the drop.
pub(crate) struct Sleeping {
    _gauge: Gauge,
}

impl Sleeping {
    pub(crate) fn start() -> Self {
        Self { _gauge: Gauge::raise("graphpool_suspended") }
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
