//! An execution context: one stream of inferences, used by one call at a time.
//!
//! * X1: at most one call is inside the backend. A concurrent call gets [`Busy`](crate::nn::ErrorKind::Busy) without
//!   waiting.
//! * X2: no lock is held inside the backend.
//! * X3: a context whose backend has panicked, or that exceeds a limit, is never used again; its guest still holds the
//!   handle.
//! * X4: no compute begins in a closed context: a compute that waits for its turn is cancelled.
//! * X5: the resources of a context (its backend's memory, its graph, its share of the guest's limits) are released
//!   when it is closed and the last call has left, without waiting for a grace period.
//! * X6: when [`end`](Context::end) has returned, every compute of the context is cancelled or has ended.
//!
//! A "compute" is here a step of a run, too.

use std::sync::{Arc as StdArc, PoisonError};

use crate::backend::{BackendContext, CancelToken};
use crate::nn::graphs::configured::Configured;
use crate::nn::graphs::graph::{Graph, GraphUse};
use crate::nn::graphs::pace::Pace;
use crate::nn::graphs::resolved::Resolved;
use crate::nn::guest::memory_charge::MemoryCharge;
use crate::nn::guest::steps::Steps;
use crate::nn::guest::use_lock::{Teardown, UseLock};
use crate::nn::limits::usage::{Hold, Reservation};
use crate::nn::panics::shield;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Error, TensorDescription};
use crate::sync::{Mutex, MutexGuard};

/// Values that a context owns only to release them at its end.
pub(crate) struct ContextResources {
    pub(crate) _graph: GraphUse,
    pub(crate) _configured: Option<StdArc<Configured>>,
    pub(crate) _resolved: Option<StdArc<Resolved>>,
    pub(crate) _slot: Reservation,
    pub(crate) _engine_slot: Reservation,
    pub(crate) _bytes: Hold,
}

/// A graph-execution-context of wasi-nn.
pub(crate) struct Context {
    pub(super) use_lock: UseLock,
    /// Locked only to move a few words; only a cancel contends for it. Except for the parts that a cancel uses, only
    /// the holder of the claim, or the call that tears the context down, may touch the content.
    state: Mutex<ContextState>,
    inputs: StdArc<[TensorDescription]>,
    outputs: StdArc<[TensorDescription]>,
    graph: u64,
    pace: StdArc<Pace>,
    pub(super) counters: StdArc<Counters>,
}

pub(super) struct ContextState {
    /// `None` during a call, once the context is lost, and at the end.
    pub(super) backend_state: Option<BackendState>,
    /// The error of the call that lost the context.
    pub(super) lost: Option<Error>,
    /// `None` at the end.
    resources: Option<ContextResources>,
    /// The token of the compute that runs or waits.
    pub(super) cancel: Option<CancelToken>,
    /// Whether that compute has begun.
    pub(super) begun: bool,
}

/// The backend's context, and its accounting.
pub(super) struct BackendState {
    pub(super) backend: Box<dyn BackendContext>,
    pub(super) charge: MemoryCharge,
    /// The bytes that the statistics count for this context.
    pub(super) reported: usize,
    pub(super) steps: Steps,
}

// A call moves it several times, which takes a call of memcpy each if it is larger.
const _: () = assert!(cfg!(any(loom, shuttle)) || size_of::<BackendState>() <= 128);

impl Context {
    pub(crate) fn new(
        graph: &Graph,
        backend: Box<dyn BackendContext>,
        charge: MemoryCharge,
        resources: ContextResources,
    ) -> Self {
        let counters = StdArc::clone(graph.counters());
        Counters::count(&counters.contexts_opened);
        Counters::increment(&counters.contexts, 1);
        let backend_state = BackendState { backend, charge, reported: 0, steps: Steps::default() };
        Self {
            use_lock: UseLock::new(),
            state: Mutex::new(ContextState {
                backend_state: Some(backend_state),
                lost: None,
                resources: Some(resources),
                cancel: None,
                begun: false,
            }),
            inputs: StdArc::clone(graph.inputs()),
            outputs: StdArc::clone(graph.outputs()),
            graph: graph.origin().id,
            pace: StdArc::clone(graph.pace()),
            counters,
        }
    }

    pub(crate) fn inputs(&self) -> &StdArc<[TensorDescription]> {
        &self.inputs
    }

    pub(crate) fn outputs(&self) -> &StdArc<[TensorDescription]> {
        &self.outputs
    }

    /// The graph's number in events and listings.
    pub(crate) fn graph(&self) -> u64 {
        self.graph
    }

    /// How quick the computes of the graph were.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Cancels the compute that runs or waits, if there is one.
    pub(crate) fn cancel(&self) -> bool {
        // A separate statement: a cancelled compute may end in this call, and take the lock.
        let cancel = self.lock().cancel.clone();
        cancel.inspect(CancelToken::cancel).is_some()
    }

    /// Closes the context: no call enters it from now on, and no compute begins. The caller must
    /// [`release`](Self::release) it then, with what this has returned.
    pub(crate) fn shut(&self) -> Teardown {
        self.use_lock.close()
    }

    /// Releases the resources of a context that was shut, at once or, if a call is inside, when it leaves. A compute
    /// that has not begun is cancelled.
    pub(crate) fn release(&self, teardown: Teardown) {
        if teardown == Teardown::ByCaller {
            return self.tear_down();
        }
        let waiting = {
            let state = self.lock();
            state.cancel.clone().filter(|_| !state.begun)
        };
        // Without the lock, because the compute may end in this call.
        if let Some(cancel) = waiting {
            cancel.cancel();
        }
    }

    /// Closes the context, and cancels its compute even if it has begun.
    pub(crate) fn end(&self) {
        // X6: in this order, because a call that holds the claim already may only now become a compute that has begun.
        self.release(self.shut());
        self.cancel();
    }

    /// Whether the resources of the context are released.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().resources.is_none()
    }

    pub(super) fn tear_down(&self) {
        let (backend_state, resources) = {
            let mut state = self.lock();
            (state.backend_state.take(), state.resources.take())
        };
        // The backend's context is dropped before the graph that it came from.
        if let Some(backend_state) = backend_state {
            self.drop_backend(backend_state);
        }
        drop(resources);
    }

    pub(super) fn drop_backend(&self, backend_state: BackendState) {
        let BackendState { backend, charge, reported, .. } = backend_state;
        // No guest call is running that could get the error: the panic is only counted.
        let _ = shield(&self.counters, || drop(backend));
        drop(charge);
        Counters::decrement(&self.counters.context_bytes, reported);
        Counters::decrement(&self.counters.contexts, 1);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ContextState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // The removal from the table closes a context, so this only finds resources if it never was in the table.
        self.tear_down();
    }
}

#[cfg(all(test, loom))]
mod models;
