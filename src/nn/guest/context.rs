//! A context: one stream of inferences, used by one call at a time.
//!
//! * X1: while a call is inside the backend no other call is, and none waits for it: it meets
//!   [`Busy`](super::ErrorKind::Busy).
//! * X2: no lock is held inside the backend.
//! * X3: a context whose backend has panicked, or holds more than a limit lets it, is never used again; its guest still
//!   holds the handle.
//! * X4: of a context that was closed no compute begins: one that waits for its turn is cancelled.
//! * X5: what a context holds (its backend's memory, its graph, its share of the guest's limits) goes when it is
//!   closed and no call is inside, at whichever comes last, and does not wait for the end of a grace period.

use std::ops::Deref;
use std::sync::{Arc as StdArc, PoisonError};

use crate::GuestHandle;
use crate::backend::{BackendContext, CancelToken};
use crate::nn::graphs::configured::Configured;
use crate::nn::graphs::graph::{Graph, GraphUse};
use crate::nn::guest::use_lock::{Refused, Teardown, UseLock};
use crate::nn::limits::usage::{Hold, Reservation};
use crate::nn::panics::shield;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Error, TensorDescription};
use crate::sync::{Mutex, MutexGuard};

/// What a context holds only so that it is released at the context's end.
pub(crate) struct ContextResources {
    pub(crate) _graph: GraphUse,
    pub(crate) _configured: Option<StdArc<Configured>>,
    pub(crate) _slot: Reservation,
    pub(crate) _engine_slot: Reservation,
    pub(crate) _bytes: Hold,
}

/// A graph-execution-context.
pub(crate) struct Context {
    use_lock: UseLock,
    /// Contended by a cancel only, and locked for no longer than it takes to move a few words: only whoever
    /// has the claim, or is told to tear the context down, touches what is not for cancelling.
    state: Mutex<ContextState>,
    inputs: StdArc<[TensorDescription]>,
    outputs: StdArc<[TensorDescription]>,
    graph: u64,
    counters: StdArc<Counters>,
}

struct ContextState {
    /// `None` while a call uses it, once it is lost, and at the end.
    backend_state: Option<BackendState>,
    /// What the call was told with which it was lost.
    lost: Option<Error>,
    /// `None` at the end.
    resources: Option<ContextResources>,
    /// Of the compute that runs or waits.
    cancel: Option<CancelToken>,
    /// Whether that has begun.
    begun: bool,
}

/// What the backend has, and what is counted for it.
struct BackendState {
    backend: Box<dyn BackendContext>,
    charge: MemoryCharge,
    /// What the statistics count for this context.
    reported: usize,
}

/// The most bytes of a context's table of inputs that do not count: as with the context itself, their number has a
/// bound.
const UNCOUNTED: usize = 1 << 10;

/// What a context holds, counted against the limits of its guest and of the engine.
pub(crate) struct MemoryCharge {
    /// Bytes of each input that is set; made for all of them with the first.
    inputs: Vec<usize>,
    /// How many inputs the graph has.
    count: usize,
    /// What that takes, where it is more than a little.
    table: usize,
    /// Their sum: what a backend holds at least, whatever it says.
    total: usize,
    reserved: usize,
    of_guest: Reservation,
    of_engine: Reservation,
}

impl MemoryCharge {
    /// Of a context of so many inputs that holds nothing yet, by reservations of nothing.
    pub(crate) fn new(count: usize, of_guest: Reservation, of_engine: Reservation) -> Self {
        let bytes = count.saturating_mul(size_of::<usize>());
        let table = if bytes > UNCOUNTED { bytes } else { 0 };
        Self { inputs: Vec::new(), count, table, total: 0, reserved: 0, of_guest, of_engine }
    }

    /// Counts `bytes` for the input at `index`, where `set` succeeds and there is room for them.
    fn with(&mut self, index: usize, bytes: usize, set: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        if self.inputs.is_empty() {
            self.inputs.resize(self.count, 0);
        }
        let before = self.inputs.get(index).copied().unwrap_or_default();
        self.reserve(self.reserved.saturating_add(bytes.saturating_sub(before)))?;
        let result = set();
        if let (Ok(()), Some(input)) = (&result, self.inputs.get_mut(index)) {
            *input = bytes;
            self.total = (self.total - before).saturating_add(bytes);
        }
        result
    }

    /// Counts what the backend holds now, by its own account.
    fn settle(&mut self, bytes: usize) -> Result<(), Error> {
        self.reserve(bytes.max(self.total).saturating_add(self.table))
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes != self.reserved {
            self.of_guest.resize(bytes)?;
            if let Err(error) = self.of_engine.resize(bytes) {
                // Less than now, and so not refused.
                return self.of_guest.resize(self.reserved).and(Err(error));
            }
            self.reserved = bytes;
        }
        Ok(())
    }
}

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
        let backend_state = BackendState { backend, charge, reported: 0 };
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

    /// Counts what the backend holds from the beginning. For whoever has just made the context.
    pub(crate) fn open(&self, call: &str) -> Result<(), Error> {
        Claimed::new(self, GuestHandle::from_bits(0), None)?.run(call, |_, _| Ok(()), true)
    }

    /// Cancels the compute that runs or waits, if there is one.
    pub(crate) fn cancel(&self) -> bool {
        // A statement of its own: whoever hears of it may end the compute here, and take the lock.
        let cancel = self.lock().cancel.clone();
        cancel.inspect(CancelToken::cancel).is_some()
    }

    /// Ends the context: at once, or when the call that is inside leaves, if there is one; `true` then. A compute that
    /// has not begun is cancelled.
    pub(crate) fn close(&self) -> bool {
        if self.use_lock.close() == Teardown::ByCaller {
            self.tear_down();
            return false;
        }
        let waiting = {
            let state = self.lock();
            state.cancel.clone().filter(|_| !state.begun)
        };
        // Without the lock: the compute may end here.
        if let Some(cancel) = waiting {
            cancel.cancel();
        }
        true
    }

    /// Whether nothing of it is left but its name.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().resources.is_none()
    }

    fn tear_down(&self) {
        let (backend_state, resources) = {
            let mut state = self.lock();
            (state.backend_state.take(), state.resources.take())
        };
        // The backend's context goes before the graph that it came from.
        if let Some(backend_state) = backend_state {
            self.drop_backend(backend_state);
        }
        drop(resources);
    }

    fn drop_backend(&self, backend_state: BackendState) {
        let BackendState { backend, charge, reported } = backend_state;
        // The error has nobody to go to: the panic is counted.
        let _ = shield(&self.counters, || drop(backend));
        drop(charge);
        Counters::decrement(&self.counters.context_bytes, reported);
        Counters::decrement(&self.counters.contexts, 1);
    }

    fn lock(&self) -> MutexGuard<'_, ContextState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Whoever removes a context from its table closes it, so this finds something only where it never got there.
        self.tear_down();
    }
}

/// The one call that uses a context, until this is dropped.
pub(crate) struct Claimed<C: Deref<Target = Context>> {
    context: C,
    /// `None` once it is lost.
    backend_state: Option<BackendState>,
}

impl<C: Deref<Target = Context>> Claimed<C> {
    /// The use of the context that its guest calls `handle`, if no other call has it. A compute comes with what cancels
    /// it.
    pub(crate) fn new(context: C, handle: GuestHandle, cancel: Option<&CancelToken>) -> Result<Self, Error> {
        let bits = handle.to_bits();
        let dropped = || Error::invalid_argument(format!("the context {bits:#010x} was dropped meanwhile"));
        context.use_lock.claim().map_err(|refused| match refused {
            Refused::Busy => {
                Counters::count(&context.counters.busy_contexts);
                Error::busy(format!("another call uses the context {bits:#010x}, which takes one at a time"))
            }
            Refused::Closed => dropped(),
        })?;
        let (backend_state, lost, closed) = {
            let mut state = context.lock();
            state.cancel = cancel.cloned();
            state.begun = false;
            // X4: whoever closes it from now on finds what cancels the compute.
            let closed = cancel.is_some() && context.use_lock.is_closed();
            (state.backend_state.take(), state.lost.clone(), closed)
        };
        let claimed = Self { context, backend_state };
        if closed {
            return Err(dropped());
        }
        if let Some(lost) = lost {
            let why = lost.message();
            return Err(Error::runtime_error(format!(
                "the context {bits:#010x} is poisoned by an earlier call: {why}"
            )));
        }
        Ok(claimed)
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// To be called before a compute enters the backend; `false` where the context was closed while it waited.
    pub(crate) fn begin(&self) -> bool {
        // X4: under the lock, so that whoever closes the context finds it begun, or is found here to have closed it.
        let mut state = self.context.lock();
        state.begun = true;
        !self.context.use_lock.is_closed()
    }

    /// Gives the backend an input of `bytes` by way of `set`.
    pub(crate) fn set_input(
        &mut self,
        call: &str,
        index: usize,
        bytes: usize,
        set: impl FnOnce(&mut dyn BackendContext) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.run(call, |backend, charge| charge.with(index, bytes, || set(backend)), true)
    }

    /// Runs `compute` with the backend's context.
    pub(crate) fn compute(
        &mut self,
        call: &str,
        compute: impl FnOnce(&mut dyn BackendContext) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.run(call, |backend, _| compute(backend), true)
    }

    /// Runs `read` with the backend's context, which that leaves as it is.
    pub(crate) fn read<R>(
        &mut self,
        call: &str,
        read: impl FnOnce(&mut dyn BackendContext) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.run(call, |backend, _| read(backend), false)
    }

    fn run<R>(
        &mut self,
        call: &str,
        f: impl FnOnce(&mut dyn BackendContext, &mut MemoryCharge) -> Result<R, Error>,
        changes: bool,
    ) -> Result<R, Error> {
        let mut backend_state = self
            .backend_state
            .take()
            .ok_or_else(|| Error::runtime_error("the context is poisoned by an earlier call"))?;
        let counters = &self.context.counters;
        let ran = shield(counters, || {
            let result = f(&mut *backend_state.backend, &mut backend_state.charge);
            (result, changes.then(|| backend_state.backend.memory()))
        });
        let ran = ran.and_then(|(result, bytes)| {
            let settled = bytes.map_or(Ok(()), |bytes| backend_state.charge.settle(bytes));
            settled.map(|()| result)
        });
        match ran {
            Ok(result) => {
                let bytes = backend_state.charge.reserved;
                if bytes > backend_state.reported {
                    Counters::increment(&counters.context_bytes, bytes - backend_state.reported);
                } else if bytes < backend_state.reported {
                    Counters::decrement(&counters.context_bytes, backend_state.reported - bytes);
                }
                backend_state.reported = bytes;
                self.backend_state = Some(backend_state);
                result
            }
            // X3.
            Err(error) => {
                let error = error.of(call);
                self.context.lock().lost = Some(error.clone());
                self.context.drop_backend(backend_state);
                Err(error)
            }
        }
    }
}

impl<C: Deref<Target = Context>> Drop for Claimed<C> {
    fn drop(&mut self) {
        {
            let mut state = self.context.lock();
            state.backend_state = self.backend_state.take();
            state.cancel = None;
        }
        if self.context.use_lock.release() == Teardown::ByCaller {
            self.context.tear_down();
        }
    }
}

#[cfg(all(test, loom))]
mod models;
