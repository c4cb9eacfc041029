//! What a host asks of a guest beside wasi-nn's calls: who it is, what it has used, and its end.

use std::time::Duration;

use crate::nn::guest::host_bytes::HostBytes;
use crate::nn::{Encoding, Error, Guest, Limits, Target};

/// What a guest holds now, and what its computes have cost; from [`Guest::usage`].
///
/// Each number was right at some moment during the call; the moments may differ between numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GuestUsage {
    /// Graph handles, as [`Limits::max_graphs`] counts them.
    pub graphs: usize,
    /// Contexts, as [`Limits::max_contexts`] counts them.
    pub contexts: usize,
    /// Bytes of the models that the guest has loaded from bytes, as [`Limits::max_graph_bytes`] counts them.
    pub graph_bytes: usize,
    /// Bytes of the contexts and those that the host has [reserved](Guest::reserve), as [`Limits::max_context_bytes`]
    /// counts them.
    pub context_bytes: usize,
    /// Computes that have entered the backend and left it, failed ones included.
    pub computes: u64,
    /// The time that they were inside, without their wait for a turn: the sum over all threads. A compute is inside
    /// while it [sleeps](crate::backend::ComputeControl::suspend) in its backend, too, until it goes on.
    pub compute_time: Duration,
}

/// For the host.
impl Guest {
    /// The number of the guest, unique in the process: the field `guest` of its spans and events.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.account.id()
    }

    /// The label that the host has given the guest: the field `label` of its spans and events.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.inner.account.label()
    }

    /// The guest's limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Whether the engine has a backend for models of this encoding on this target: for a host that chooses another
    /// target where there is none. A load may still be refused.
    #[must_use]
    pub fn supports(&self, encoding: Encoding, target: Target) -> bool {
        let engine = &self.inner.engine;
        engine.backends.support(encoding, target)
    }

    /// What the guest holds, and what its computes have cost, as for a bill. A compute counts when it ends. Costs a few
    /// atomic loads.
    #[must_use]
    pub fn usage(&self) -> GuestUsage {
        let usage = &self.inner.usage;
        let (computes, compute_time) = self.inner.account.computes();
        GuestUsage {
            graphs: usage.graphs.used(),
            contexts: usage.contexts.used(),
            graph_bytes: usage.graph_bytes.used(),
            context_bytes: usage.context_bytes.used(),
            computes,
            compute_time,
        }
    }

    /// Reserves bytes that the host keeps for the guest between its calls, such as the tensors of a component, until
    /// the [`HostBytes`] are dropped. They count as bytes of the guest's contexts. A host reserves before it allocates.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::nn::ErrorKind::TooLarge) past [`Limits::max_context_bytes`];
    /// [`Busy`](crate::nn::ErrorKind::Busy) past
    /// [`EngineLimits::max_context_bytes`](crate::nn::EngineLimits::max_context_bytes), or `TooLarge` if it is more
    /// than that in any case; [`RuntimeError`](crate::nn::ErrorKind::RuntimeError) if the guest is closed.
    pub fn reserve(&self, bytes: usize) -> Result<HostBytes, Error> {
        self.inner.report("reserve", HostBytes::new(&self.inner, bytes))
    }

    /// Reports a refusal of the host's own, such as a pointer outside of the guest's memory, and returns it as the
    /// guest gets it: with the name of its call. It then counts in the event `refused`, in
    /// [`Stats::errors`](crate::nn::Stats::errors) and in the metric `graphpool_errors_total` like the engine's own;
    /// and in [`Stats::limited`](crate::nn::Stats::limited) if it is [`by_limit`](Error::by_limit). The engine has
    /// reported the errors that its own calls return.
    ///
    /// ```
    /// # use graphpool::nn::{Error, Guest};
    /// fn check_parts(guest: &Guest, parts: u32) -> Result<(), Error> {
    ///     if parts > 8 {
    ///         let error = Error::too_large(format!("the model has {parts} parts; the limit is 8"));
    ///         return Err(guest.refuse("load", error.by_limit()));
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn refuse(&self, call: &'static str, error: Error) -> Error {
        self.inner.refused(call, error)
    }

    /// Ends the guest, from any thread and for all clones: cancels every compute and asynchronous load, releases every
    /// graph and context as [`unload`](Self::unload) and [`drop_context`](Self::drop_context) do, and refuses later
    /// calls with [`RuntimeError`](crate::nn::ErrorKind::RuntimeError) and the message `the guest is closed`. This is
    /// for a watchdog that ends an instance whose threads are still inside calls, and that knows none of its handles.
    ///
    /// When this has returned, no compute of the guest begins any more, and those that had begun are cancelled. A load
    /// that is in progress gives the same error as a later one, at the end of its build. Other calls in progress
    /// complete. The drop of the last clone does the same. A second call has no effect, and may return before the
    /// first.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Whether [`close`](Self::close) was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.closing.is_closed()
    }
}
