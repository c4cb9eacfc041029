//! A guest's compute calls: compute, infer, their asynchronous forms, and cancel.

use std::time::Duration;

use crate::GuestHandle;
use crate::nn::guest::check;
use crate::nn::guest::check::TensorId;
use crate::nn::guest::compute::{COMPUTE, INFER, Run};
use crate::nn::{Compute, Error, Guest, Tensor, TensorView};

/// Computes.
///
/// Their errors are those of every call on a context, and those that each method lists.
impl Guest {
    /// Computes every output from the inputs, which stay: a second call computes from the same ones. Blocks until the
    /// compute is done. If the engine already runs its maximum of computes, it first waits for its turn.
    ///
    /// # Errors
    ///
    /// Those of every call on a context; [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if an input is
    /// missing, or while a run of [single steps](Self::compute_single) is open;
    /// [`TooLarge`](crate::nn::ErrorKind::TooLarge) past
    /// [`Limits::max_compute_bytes`](crate::nn::Limits::max_compute_bytes) or
    /// [`Limits::max_context_bytes`](crate::nn::Limits::max_context_bytes); [`Busy`](crate::nn::ErrorKind::Busy) past
    /// [`Limits::max_computes`](crate::nn::Limits::max_computes), if the engine's queue is full, if this compute lost
    /// its place in the full queue to a guest with fewer computes waiting (see
    /// [`EngineLimits::max_queued`](crate::nn::EngineLimits::max_queued)), and if it would have to wait inside a
    /// compute of the same engine on the same thread; [`Timeout`](crate::nn::ErrorKind::Timeout) past
    /// [`Limits::max_compute_time`](crate::nn::Limits::max_compute_time);
    /// [`RuntimeError`](crate::nn::ErrorKind::RuntimeError) if it is [cancelled](Self::cancel) or the context is closed
    /// before it begins; and the errors of the backend. A language model gives
    /// [`ContextFull`](crate::nn::ErrorKind::ContextFull), after which its text until then can be read, and
    /// [`PromptTooLong`](crate::nn::ErrorKind::PromptTooLong).
    pub fn compute(&self, context: GuestHandle) -> Result<(), Error> {
        self.run(context, None)?.wait()
    }

    /// As [`compute`](Self::compute), with at most `time` for the wait and the compute together. The guest's own limit
    /// still applies if it is shorter.
    ///
    /// # Errors
    ///
    /// Those of [`compute`](Self::compute).
    pub fn compute_within(&self, context: GuestHandle, time: Duration) -> Result<(), Error> {
        self.run(context, Some(time))?.wait()
    }

    /// As [`compute`](Self::compute), on a thread of the engine: returns at once, and the future completes with the
    /// compute. The compute runs, or waits for its turn, before the first poll; if the engine allows it, a quick one
    /// runs [inside of the first poll](crate::nn::EngineBuilder::with_inline_computes). It is cancelled by the drop of
    /// the future, the drop of the guest, and [`cancel`](Self::cancel). The future keeps the context alive, but not the
    /// guest. [`Busy`](crate::nn::ErrorKind::Busy) if no thread can be started for it.
    pub fn compute_async(&self, context: GuestHandle) -> Compute {
        COMPUTE.start(self.run(context, None))
    }

    /// [`compute_async`](Self::compute_async) with a time, as [`compute_within`](Self::compute_within).
    pub fn compute_async_within(&self, context: GuestHandle, time: Duration) -> Compute {
        COMPUTE.start(self.run(context, Some(time)))
    }

    /// Sets exactly these inputs, computes, and returns every output in the order of its index, under one claim of the
    /// context: a concurrent call on the context gets [`Busy`](crate::nn::ErrorKind::Busy). This is `compute` of
    /// wasi-nn's component form.
    ///
    /// Each input is a pair as [`set_input`](Self::set_input) takes it, and is copied once. An input that is not given
    /// is unset, whatever an earlier call has set. The outputs are moved out of the context, without a copy where the
    /// backend can do that, so that they are in memory once: [`get_output`](Self::get_output) does not find them
    /// afterwards. The inputs stay, for a [`compute`](Self::compute) and until [`clear_inputs`](Self::clear_inputs).
    ///
    /// ```no_run
    /// # use graphpool::{GuestHandle, nn::{Error, Guest, Tensor}};
    /// # fn call(guest: &Guest, context: GuestHandle) -> Result<(), Error> {
    /// let outputs = guest.infer(context, [("x", &Tensor::from_f32([2], &[0.5, 1.0])?)])?;
    /// println!("{:?}", outputs[0].to_f32());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`set_input`](Self::set_input) and of [`compute`](Self::compute), and
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) for an input that is given twice. If an input is
    /// refused before the backend sees it, the context stays as it was. If the backend refuses an input, those before
    /// it are set and no others. After any other error the inputs are set, and the outputs are what a `compute` with
    /// that error leaves.
    pub fn infer<'a, I, T>(
        &self,
        context: GuestHandle,
        inputs: impl IntoIterator<Item = (I, T)>,
    ) -> Result<Vec<Tensor>, Error>
    where
        I: Into<TensorId<'a>>,
        T: Into<TensorView<'a>>,
    {
        self.run_with(context, inputs, None)?.wait()
    }

    /// As [`infer`](Self::infer), with `time` as [`compute_within`](Self::compute_within).
    ///
    /// # Errors
    ///
    /// Those of [`infer`](Self::infer).
    pub fn infer_within<'a, I, T>(
        &self,
        context: GuestHandle,
        inputs: impl IntoIterator<Item = (I, T)>,
        time: Duration,
    ) -> Result<Vec<Tensor>, Error>
    where
        I: Into<TensorId<'a>>,
        T: Into<TensorView<'a>>,
    {
        self.run_with(context, inputs, Some(time))?.wait()
    }

    /// As [`infer`](Self::infer), on a thread of the engine, as [`compute_async`](Self::compute_async). The inputs are
    /// set before this returns, so the future borrows none of them.
    pub fn infer_async<'a, I, T>(
        &self,
        context: GuestHandle,
        inputs: impl IntoIterator<Item = (I, T)>,
    ) -> Compute<Vec<Tensor>>
    where
        I: Into<TensorId<'a>>,
        T: Into<TensorView<'a>>,
    {
        INFER.start(self.run_with(context, inputs, None))
    }

    /// [`infer_async`](Self::infer_async) with a time, as [`compute_within`](Self::compute_within).
    pub fn infer_async_within<'a, I, T>(
        &self,
        context: GuestHandle,
        inputs: impl IntoIterator<Item = (I, T)>,
        time: Duration,
    ) -> Compute<Vec<Tensor>>
    where
        I: Into<TensorId<'a>>,
        T: Into<TensorView<'a>>,
    {
        INFER.start(self.run_with(context, inputs, Some(time)))
    }

    /// Cancels the compute of a context, from any thread. A waiting compute ends at once; a running one ends when its
    /// backend next checks its [`ComputeControl`](crate::backend::ComputeControl). Both end with
    /// [`RuntimeError`](crate::nn::ErrorKind::RuntimeError). Returns `false` if there is no compute; later computes are
    /// not affected. A single step, and a prompt that is being [set](Self::set_input), are computes here.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if the guest has no such context.
    pub fn cancel(&self, context: GuestHandle) -> Result<bool, Error> {
        self.inner.report("cancel", self.inner.context("cancel", context).map(|context| context.cancel()))
    }

    /// Cancels every compute of the guest that runs or waits, from any thread, as [`cancel`](Self::cancel) does; those
    /// of contexts that the guest has dropped meanwhile, too; and its asynchronous loads. Returns their number. Later
    /// calls are not affected.
    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn cancel_all(&self) -> usize {
        self.inner.cancel_all()
    }

    fn run(&self, context: GuestHandle, time: Option<Duration>) -> Result<Run<()>, Error> {
        let (call, inner) = (COMPUTE.call, &self.inner);
        let found = inner.context(call, context);
        inner.report(call, found.and_then(|found| Run::new(COMPUTE, inner, (found, context), time)))
    }

    fn run_with<'a, I: Into<TensorId<'a>>, T: Into<TensorView<'a>>>(
        &self,
        context: GuestHandle,
        inputs: impl IntoIterator<Item = (I, T)>,
        time: Option<Duration>,
    ) -> Result<Run<Vec<Tensor>>, Error> {
        let (call, inner) = (INFER.call, &self.inner);
        let run = || {
            let found = inner.context(call, context)?;
            let inputs = check::inputs(call, &inner.limits, found.inputs(), inputs)?;
            let mut run = Run::new(INFER, inner, (found, context), time)?;
            run.set_inputs(&inputs)?;
            Ok(run)
        };
        inner.report(call, run())
    }
}
