//! The claim of the one call that uses a context, and what it does with the backend under it.
//!
//! The invariants are those of the [context](super::context) (X1 to X6) and of its [run of steps](super::steps) (R1 to
//! R4).

use std::ops::Deref;
use std::sync::Arc as StdArc;

use crate::GuestHandle;
use crate::backend::{BackendContext, CancelToken, ComputeControl, Step};
use crate::nn::guest::context::{BackendState, Context};
use crate::nn::guest::steps::{StepOf, StreamOwner};
use crate::nn::guest::use_lock::{Refused, Released};
use crate::nn::panics::shield;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Error, ErrorKind, Tensor, TensorView};

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

    /// Ends the run of a stream that is dropped, here or in the call that is inside the context.
    pub(crate) fn abandon(context: C, stream: &StreamOwner) {
        // R4: in this order, so that whoever finds the mark finds the stream dropped.
        stream.set_dropped();
        if context.use_lock.mark() {
            // The claim is this call's, and its release finds the mark.
            let backend_state = context.lock().backend_state.take();
            drop(Self { context, backend_state });
        }
    }

    /// Sets in `control` the bytes that the context may hold, and what it reserves more from.
    pub(crate) fn limit(&self, control: &mut ComputeControl) {
        if let Some(backend_state) = &self.backend_state {
            backend_state.charge.limit_in(control);
        }
    }

    /// R1: whether a compute may begin now, as far as the context's run of steps is concerned.
    pub(crate) fn check_compute(&self) -> Result<(), Error> {
        self.backend_state.as_ref().map_or(Ok(()), |backend_state| backend_state.steps.check_compute())
    }

    /// R3: whether the step may be made now.
    pub(crate) fn check_step(&self, of: &StepOf) -> Result<(), Error> {
        self.backend_state.as_ref().map_or(Ok(()), |backend_state| backend_state.steps.check_step(of))
    }

    /// Counts the memory that the backend holds now.
    pub(crate) fn count_memory(&mut self, call: &str) -> Result<(), Error> {
        self.run(call, |_| Ok(()))
    }

    /// Called before a compute enters the backend; `false` if the context was closed meanwhile.
    pub(crate) fn begin(&self) -> bool {
        // X4: under the lock, so that a close either sees that the compute has begun, or is seen here.
        let mut state = self.context.lock();
        state.begun = true;
        !self.context.use_lock.is_closed()
    }

    /// Passes inputs to the backend, each with its index, up to the first that it refuses. They end a run of steps.
    pub(crate) fn set_inputs(
        &mut self,
        call: &str,
        inputs: &[(usize, TensorView<'_>)],
        control: &mut ComputeControl,
    ) -> Result<(), Error> {
        self.run(call, |state| {
            state.end_steps();
            let BackendState { backend, charge, .. } = state;
            inputs.iter().try_for_each(|&(index, tensor)| {
                charge.limit_in(control);
                charge.with(index, tensor.data().len(), || backend.set_input_within(index, tensor, control))
            })
        })
    }

    /// Unsets the inputs. It ends a run of steps.
    pub(crate) fn clear_inputs(&mut self, call: &str) -> Result<(), Error> {
        self.run(call, |state| {
            state.end_steps();
            state.backend.clear_inputs();
            state.charge.clear_inputs();
            Ok(())
        })
    }

    /// Runs `compute` with the backend's context. No run of steps is open, and one that is over ends.
    pub(crate) fn compute(
        &mut self,
        call: &str,
        compute: impl FnOnce(&mut dyn BackendContext) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.run(call, |state| {
            state.end_steps();
            let result = compute(&mut *state.backend);
            // A full context leaves what was made until then.
            if result.as_ref().map_or_else(|error| error.kind() == ErrorKind::ContextFull, |()| true) {
                state.steps.taken = false;
            }
            result
        })
    }

    /// Makes the next step of the run with `step`.
    pub(crate) fn step(
        &mut self,
        call: &str,
        of: &StepOf,
        step: impl FnOnce(&mut dyn BackendContext) -> Result<Step, Error>,
    ) -> Result<Step, Error> {
        self.run(call, |BackendState { backend, steps, .. }| steps.step(&mut **backend, of, step))
    }

    /// Ends the run of steps, if there is one.
    pub(crate) fn end_steps(&mut self, call: &str) -> Result<(), Error> {
        self.run(call, |state| {
            state.end_steps();
            Ok(())
        })
    }

    /// Moves every output out of the context.
    pub(crate) fn take_outputs(&mut self, call: &str) -> Result<Vec<Tensor>, Error> {
        if let Some(backend_state) = &mut self.backend_state {
            backend_state.steps.taken = true;
        }
        let described = StdArc::clone(self.context.outputs());
        self.run(call, |BackendState { backend, .. }| {
            let mut outputs = Vec::with_capacity(described.len());
            for (index, described) in described.iter().enumerate() {
                let output = if described.before_compute {
                    // It is the inputs', which stay.
                    backend.output(index).map(|output| output.to_owned())
                } else {
                    backend.take_output(index)
                };
                match output {
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
        let taken = self.backend_state.as_ref().is_some_and(|backend_state| backend_state.steps.taken);
        if taken && self.context.outputs().get(index).is_none_or(|output| !output.before_compute) {
            return Err(Error::invalid_argument("infer has moved the outputs of the last compute out of the context"));
        }
        self.show(call, |backend| backend.output(index), read)
    }

    /// Runs `read` with the newest piece of an output, as [`read`](Self::read).
    pub(crate) fn read_step<R>(
        &mut self,
        call: &str,
        index: usize,
        read: impl FnOnce(TensorView<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.backend_state.as_ref().map_or(Ok(()), |backend_state| backend_state.steps.check_read())?;
        self.show(call, |backend| backend.step_output(index), read)
    }

    fn show<R>(
        &mut self,
        call: &str,
        output: impl FnOnce(&dyn BackendContext) -> Result<TensorView<'_>, Error>,
        read: impl FnOnce(TensorView<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let backend_state = self.backend_state.as_ref().ok_or_else(poisoned)?;
        match shield(&self.context.counters, || output(&*backend_state.backend)) {
            Ok(output) => read(output?),
            Err(error) => {
                let backend_state = self.backend_state.take();
                Err(self.lose(backend_state, error.of(call)))
            }
        }
    }

    /// Runs `f` with the backend's context, and counts the memory that it holds then.
    fn run<R>(&mut self, call: &str, f: impl FnOnce(&mut BackendState) -> Result<R, Error>) -> Result<R, Error> {
        let mut backend_state = self.backend_state.take().ok_or_else(poisoned)?;
        let counters = &self.context.counters;
        let ran = shield(counters, || {
            let result = f(&mut backend_state);
            (result, backend_state.backend.memory(), backend_state.backend.shared_memory())
        });
        let settled =
            ran.and_then(|(result, bytes, shared)| backend_state.charge.settle(bytes, shared).map(|()| result));
        match settled {
            Ok(result) => {
                let bytes = backend_state.charge.counted();
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

impl BackendState {
    fn end_steps(&mut self) {
        self.steps.end(&mut *self.backend);
    }
}

impl Context {
    /// Counts the backend's initial memory. Called once, by the creator of the context.
    pub(crate) fn open(&self, call: &str) -> Result<(), Error> {
        Claimed::new(self, GuestHandle::from_bits(0), None)?.count_memory(call)
    }
}

impl<C: Deref<Target = Context>> Drop for Claimed<C> {
    fn drop(&mut self) {
        loop {
            {
                let mut state = self.context.lock();
                state.backend_state = self.backend_state.take();
                state.cancel = None;
            }
            match self.context.use_lock.release() {
                Released::Free => return,
                Released::Closed => return self.context.tear_down(),
                Released::Marked => {
                    self.backend_state = self.context.lock().backend_state.take();
                    // R4. A panic has lost the context, and there is no call that could get the error.
                    if self.backend_state.as_ref().is_some_and(|backend_state| backend_state.steps.is_abandoned()) {
                        let _ = self.end_steps("stream");
                    }
                }
            }
        }
    }
}
