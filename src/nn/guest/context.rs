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

use std::ops::Deref;
use std::sync::{Arc as StdArc, PoisonError};

use crate::GuestHandle;
use crate::backend::{BackendContext, CancelToken};
use crate::nn::graphs::configured::Configured;
use crate::nn::graphs::graph::{Graph, GraphUse};
use crate::nn::graphs::pace::Pace;
use crate::nn::graphs::resolved::Resolved;
use crate::nn::guest::memory_charge::MemoryCharge;
use crate::nn::guest::use_lock::{Refused, Teardown, UseLock};
use crate::nn::limits::usage::{Hold, Reservation};
use crate::nn::panics::shield;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Error, ErrorKind, Tensor, TensorDescription, TensorView};
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
    use_lock: UseLock,
    /// Locked only to move a few words; only a cancel contends for it. Except for the parts that a cancel uses, only
    /// the holder of the claim, or the call that tears the context down, may touch the content.
    state: Mutex<ContextState>,
    inputs: StdArc<[TensorDescription]>,
    outputs: StdArc<[TensorDescription]>,
    graph: u64,
    pace: StdArc<Pace>,
    counters: StdArc<Counters>,
}

struct ContextState {
    /// `None` during a call, once the context is lost, and at the end.
    backend_state: Option<BackendState>,
    /// The error of the call that lost the context.
    lost: Option<Error>,
    /// `None` at the end.
    resources: Option<ContextResources>,
    /// The token of the compute that runs or waits.
    cancel: Option<CancelToken>,
    /// Whether that compute has begun.
    begun: bool,
}

/// The backend's context, and its accounting.
struct BackendState {
    backend: Box<dyn BackendContext>,
    charge: MemoryCharge,
    /// The bytes that the statistics count for this context.
    reported: usize,
    /// Whether the outputs of the last compute were moved out.
    taken: bool,
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
        let backend_state = BackendState { backend, charge, reported: 0, taken: false };
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

    /// Counts the backend's initial memory. Called once, by the creator of the context.
    pub(crate) fn open(&self, call: &str) -> Result<(), Error> {
        Claimed::new(self, GuestHandle::from_bits(0), None)?.run(call, |_, _| Ok(()))
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

    fn tear_down(&self) {
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

    fn drop_backend(&self, backend_state: BackendState) {
        let BackendState { backend, charge, reported, .. } = backend_state;
        // No guest call is running that could get the error: the panic is only counted.
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
        // The removal from the table closes a context, so this only finds resources if it never was in the table.
        self.tear_down();
    }
}

/// The claim of the one call that uses a context; the drop gives it back.
pub(crate) struct Claimed<C: Deref<Target = Context>> {
    context: C,
    /// `None` once the context is lost.
    backend_state: Option<BackendState>,
}

impl<C: Deref<Target = Context>> Claimed<C> {
    /// Claims the context that its guest calls `handle`; fails if another call holds the claim. A compute passes its
    /// cancellation token.
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
            // X4: a close from now on finds the token.
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

    /// Called before a compute enters the backend; `false` if the context was closed meanwhile.
    pub(crate) fn begin(&self) -> bool {
        // X4: under the lock, so that a close either sees that the compute has begun, or is seen here.
        let mut state = self.context.lock();
        state.begun = true;
        !self.context.use_lock.is_closed()
    }

    /// Passes an input to the backend.
    pub(crate) fn set_input(&mut self, call: &str, index: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        self.set_inputs(call, &[(index, tensor)])
    }

    /// Passes inputs to the backend, each with its index, up to the first that it refuses.
    pub(crate) fn set_inputs(&mut self, call: &str, inputs: &[(usize, TensorView<'_>)]) -> Result<(), Error> {
        self.run(call, |backend, charge| {
            inputs.iter().try_for_each(|&(index, tensor)| {
                charge.with(index, tensor.data().len(), || backend.set_input(index, tensor))
            })
        })
    }

    pub(crate) fn clear_inputs(&mut self, call: &str) -> Result<(), Error> {
        self.run(call, |backend, charge| {
            backend.clear_inputs();
            charge.clear_inputs();
            Ok(())
        })
    }

    /// Runs `compute` with the backend's context.
    pub(crate) fn compute(
        &mut self,
        call: &str,
        compute: impl FnOnce(&mut dyn BackendContext) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.run(call, |backend, _| compute(backend))?;
        if let Some(backend_state) = &mut self.backend_state {
            backend_state.taken = false;
        }
        Ok(())
    }

    /// Moves every output out of the context.
    pub(crate) fn take_outputs(&mut self, call: &str) -> Result<Vec<Tensor>, Error> {
        if let Some(backend_state) = &mut self.backend_state {
            backend_state.taken = true;
        }
        let described = StdArc::clone(&self.context.outputs);
        self.run(call, |backend, _| {
            let mut outputs = Vec::with_capacity(described.len());
            for (index, described) in described.iter().enumerate() {
                match backend.take_output(index) {
                    // Past the last output of this model.
                    Err(error) if described.optional && error.kind() == ErrorKind::InvalidArgument => break,
                    output => outputs.push(output?),
                }
            }
            Ok(outputs)
        })
    }

    /// Runs `read` with an output. A panic of `read`, which belongs to the host, passes through and leaves the context
    /// as it is.
    pub(crate) fn read<R>(
        &mut self,
        call: &str,
        index: usize,
        read: impl FnOnce(TensorView<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let BackendState { backend, taken, .. } = self.backend_state.as_ref().ok_or_else(poisoned)?;
        if *taken {
            return Err(Error::invalid_argument("infer has moved the outputs of the last compute out of the context"));
        }
        match shield(&self.context.counters, || backend.output(index)) {
            Ok(output) => read(output?),
            Err(error) => {
                let backend_state = self.backend_state.take();
                Err(self.lose(backend_state, error.of(call)))
            }
        }
    }

    /// Runs `f` with the backend's context, and counts the memory that it holds then.
    fn run<R>(
        &mut self,
        call: &str,
        f: impl FnOnce(&mut dyn BackendContext, &mut MemoryCharge) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut backend_state = self.backend_state.take().ok_or_else(poisoned)?;
        let counters = &self.context.counters;
        let ran = shield(counters, || {
            let result = f(&mut *backend_state.backend, &mut backend_state.charge);
            (result, backend_state.backend.memory())
        });
        match ran.and_then(|(result, bytes)| backend_state.charge.settle(bytes).map(|()| result)) {
            Ok(result) => {
                let bytes = backend_state.charge.reserved();
                if bytes > backend_state.reported {
                    Counters::increment(&counters.context_bytes, bytes - backend_state.reported);
                } else if bytes < backend_state.reported {
                    Counters::decrement(&counters.context_bytes, backend_state.reported - bytes);
                }
                backend_state.reported = bytes;
                self.backend_state = Some(backend_state);
                result
            }
            Err(error) => Err(self.lose(Some(backend_state), error.of(call))),
        }
    }

    /// X3: drops the backend's context, and keeps the error for later calls.
    fn lose(&self, backend_state: Option<BackendState>, error: Error) -> Error {
        self.context.lock().lost = Some(error.clone());
        if let Some(backend_state) = backend_state {
            self.context.drop_backend(backend_state);
        }
        error
    }
}

fn poisoned() -> Error {
    Error::runtime_error("the context is poisoned by an earlier call")
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
