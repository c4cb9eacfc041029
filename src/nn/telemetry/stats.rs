//! The statistics of an engine, and the counters behind them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::nn::Error;

/// The statistics of one engine, from [`Engine::stats`](crate::nn::Engine::stats).
///
/// Each number was right at some moment during the call; the moments may differ between numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Models in memory, from their load until their backend's destructor has run. A model that several guests share
    /// counts once.
    pub graphs: usize,
    /// Bytes of these models, as their backends count them.
    pub graph_bytes: usize,
    /// Graph handles that guests hold.
    pub graph_handles: usize,
    /// Bytes of the contexts in memory, as their backends count them, and at least those of their inputs. Those that a
    /// graph counts, because its contexts share them, are in `graph_bytes` alone.
    pub context_bytes: usize,
    /// Bytes that hosts keep for guests, from [`Guest::reserve`](crate::nn::Guest::reserve). They are not in
    /// `context_bytes`, and count against the same limits.
    pub host_bytes: usize,
    /// Contexts in memory, from their opening until their backend's destructor has run.
    pub contexts: usize,
    /// Live guests.
    pub guests: usize,
    /// Asynchronous loads that run or wait now.
    pub loads: usize,
    /// Registered names.
    pub names: usize,
    /// Entries removed from the pools whose grace period is not over.
    pub awaiting_reclamation: usize,
    /// Models that a backend has built since the engine was made.
    pub builds: u64,
    /// Versions of named models that a reload has made.
    pub reloads: u64,
    /// Contexts opened since the engine was made.
    pub contexts_opened: u64,
    /// Computes that have succeeded. Here and below, each [single step](crate::nn::Guest::compute_single) is a compute.
    pub computes: u64,
    /// Computes that their backend refused or ended with an error.
    pub failed_computes: u64,
    /// Calls that were refused because another call used the same context.
    pub busy_contexts: u64,
    /// Calls of guests that ended with an error, those that the host has [refused](crate::nn::Guest::refuse) included.
    pub errors: u64,
    /// Those of them that were refused by a limit of the guest, the engine or the host, or by the queue of computes.
    pub limited: u64,
    /// Computes that exceeded their time, whether they had begun or not.
    pub timeouts: u64,
    /// Computes that were cancelled and ended with an error.
    pub cancelled: u64,
    /// Computes that run now.
    pub computing: usize,
    /// Computes that sleep in their backend now until others have worked for them, or wait to go on after that.
    pub suspended: usize,
    /// Computes that wait for their turn now.
    pub queued: usize,
    /// Panics of backends, including those of their destructors.
    pub panics: u64,
}

/// The number of live objects, shown as the gauge of its name.
#[derive(Debug)]
pub(crate) struct Alive {
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "the name is what the feature shows"))]
    name: &'static str,
    count: AtomicUsize,
}

/// The number of events, shown as the counter of its name.
#[derive(Debug)]
pub(crate) struct Total {
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "the name is what the feature shows"))]
    name: &'static str,
    count: AtomicU64,
}

macro_rules! counters {
    (alive { $($alive:ident $gauge:literal,)* } total { $($total:ident $counter:literal,)* }) => {
        /// The counters behind [`Stats`]. They carry no data from thread to thread: Relaxed everywhere.
        #[derive(Debug)]
        pub(crate) struct Counters {
            $(pub(crate) $alive: Alive,)*
            $(pub(crate) $total: Total,)*
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($alive: Alive { name: $gauge, count: AtomicUsize::new(0) },)*
                    $($total: Total { name: $counter, count: AtomicU64::new(0) },)*
                }
            }
        }

        impl Counters {
            /// The numbers that are counted here; the rest of [`Stats`] is zero.
            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($alive: self.$alive.count.load(Ordering::Relaxed),)*
                    $($total: self.$total.count.load(Ordering::Relaxed),)*
                    ..Stats::default()
                }
            }
        }
    };
}

counters! {
    alive {
        graphs "graphpool_graphs",
        graph_bytes "graphpool_graph_bytes",
        contexts "graphpool_contexts",
        context_bytes "graphpool_context_bytes",
        host_bytes "graphpool_host_bytes",
        guests "graphpool_guests",
        loads "graphpool_loads",
    }
    total {
        builds "graphpool_builds_total",
        reloads "graphpool_reloads_total",
        contexts_opened "graphpool_contexts_opened_total",
        computes "graphpool_computes_total",
        failed_computes "graphpool_failed_computes_total",
        busy_contexts "graphpool_busy_contexts_total",
        panics "graphpool_panics_total",
        errors "graphpool_errors_total",
        limited "graphpool_limited_total",
        timeouts "graphpool_timeouts_total",
        cancelled "graphpool_cancelled_total",
    }
}

impl Counters {
    /// Adds one to a total.
    pub(crate) fn count(total: &Total) {
        total.count.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        metrics::counter!(total.name).increment(1);
    }

    /// Adds one to the calls that ended with an error.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "they are the labels of a metric"))]
    pub(crate) fn count_error(&self, call: &'static str, error: &Error) {
        self.errors.count.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        metrics::counter!(self.errors.name, "call" => call, "kind" => error.kind().name()).increment(1);
        if error.is_by_limit() {
            Self::count(&self.limited);
        }
    }

    /// Adds `amount` live objects.
    pub(crate) fn increment(alive: &Alive, amount: usize) {
        alive.count.fetch_add(amount, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        metrics::gauge!(alive.name).increment(amount as f64);
    }

    /// Removes `amount` live objects.
    pub(crate) fn decrement(alive: &Alive, amount: usize) {
        alive.count.fetch_sub(amount, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        metrics::gauge!(alive.name).decrement(amount as f64);
    }
}
