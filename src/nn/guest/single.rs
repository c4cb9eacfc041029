//! A guest's calls for one step at a time: how language models give their text as they make it.

use std::time::Duration;

use crate::GuestHandle;
use crate::backend::Step;
use crate::nn::guest::check;
use crate::nn::guest::check::TensorId;
use crate::nn::guest::claimed::Claimed;
use crate::nn::guest::compute::{COMPUTE_SINGLE, Run};
use crate::nn::{Compute, Error, Guest, TensorView};

/// Single steps.
///
/// A *run* of steps makes the outputs of one compute in pieces. The first [`compute_single`](Self::compute_single)
/// begins it from the context's inputs, and each call makes one piece, which
/// [`get_output_single`](Self::get_output_single) reads, until a step ends the run. The next step then begins another
/// run from the same inputs. [`fini_single`](Self::fini_single), an input that is set or cleared, and the drop of the
/// [stream](Self::stream) that made it end a run before its last step.
///
/// While a run is open, [`compute`](Self::compute) and [`infer`](Self::infer) give
/// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument): one context makes one text at a time. Steps wait for
/// their turns, have deadlines, are cancelled, counted and reported as computes are: [`Limits`](crate::nn::Limits)
/// apply to each step.
///
/// ```
/// # use graphpool::{GuestHandle, nn::{Error, Guest, Step}};
/// /// Prints a language model's answer as it is made.
/// fn answer(guest: &Guest, context: GuestHandle, prompt: &str) -> Result<Step, Error> {
///     guest.set_input_given(context, 0, &[prompt.len() as u32], graphpool::nn::TensorType::U8, prompt.as_bytes())?;
///     let end = loop {
///         match guest.compute_single(context)? {
///             Step::More => {}
///             end => break end,
///         }
///         guest.with_output_single(context, 0, |piece| Ok(print!("{}", String::from_utf8_lossy(piece.data()))))?;
///     };
///     guest.fini_single(context)?;
///     Ok(end)
/// }
/// ```
impl Guest {
    /// Makes the next piece of the outputs, and blocks until it is made. A step that ends the run has made none.
    ///
    /// # Errors
    ///
    /// Those of [`compute`](Self::compute), except that the ends of a run are outcomes here;
    /// [`UnsupportedOperation`](crate::nn::ErrorKind::UnsupportedOperation) if the model's outputs come as a whole;
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) while the run of a [stream](Self::stream) is open.
    /// After an error in a run the run is still open, and the next step does the work of the failed one. A first step
    /// that fails begins no run.
    pub fn compute_single(&self, context: GuestHandle) -> Result<Step, Error> {
        self.step(context, None)?.wait()
    }

    /// As [`compute_single`](Self::compute_single), with `time` as [`compute_within`](Self::compute_within).
    ///
    /// # Errors
    ///
    /// Those of [`compute_single`](Self::compute_single).
    pub fn compute_single_within(&self, context: GuestHandle, time: Duration) -> Result<Step, Error> {
        self.step(context, Some(time))?.wait()
    }

    /// As [`compute_single`](Self::compute_single), on a thread of the engine, as
    /// [`compute_async`](Self::compute_async).
    pub fn compute_single_async(&self, context: GuestHandle) -> Compute<Step> {
        COMPUTE_SINGLE.start(self.step(context, None))
    }

    /// [`compute_single_async`](Self::compute_single_async) with a time, as
    /// [`compute_within`](Self::compute_within).
    pub fn compute_single_async_within(&self, context: GuestHandle, time: Duration) -> Compute<Step> {
        COMPUTE_SINGLE.start(self.step(context, Some(time)))
    }

    /// Copies the newest piece of an output into `buffer`, and returns the number of bytes copied: what the last
    /// successful step has added, which may be no bytes, and is none after the end of a run. An output that is not made
    /// of pieces is copied as a whole.
    ///
    /// # Errors
    ///
    /// Those of [`get_output`](Self::get_output); [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if no
    /// step was made since the last run was ended.
    pub fn get_output_single<'a>(
        &self,
        context: GuestHandle,
        output: impl Into<TensorId<'a>>,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        self.with_output_single(context, output, |tensor| tensor.copy_to(buffer))
    }

    /// Calls `read` with the newest piece of an output, as [`with_output`](Self::with_output) does with a whole one.
    ///
    /// # Errors
    ///
    /// Those of [`get_output_single`](Self::get_output_single), whose name they carry, except for a short buffer; and
    /// those of `read`.
    ///
    /// # Panics
    ///
    /// If `read` panics. The context stays as it was.
    pub fn with_output_single<'a, R>(
        &self,
        context: GuestHandle,
        output: impl Into<TensorId<'a>>,
        read: impl FnOnce(TensorView<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let call = "get_output_single";
        let read = |output: TensorId<'_>| {
            let (handle, context) = (context, self.inner.context(call, context)?);
            let (index, _) = check::place(call, "output", output, context.outputs())?;
            Claimed::new(&*context, handle, None)?.read_step(call, index, read)
        };
        self.inner.report(call, read(output.into()))
    }

    /// Ends the context's run of steps, whoever has begun it, and frees what the backend keeps for it; the inputs stay.
    /// Its pieces cannot be read afterwards, and its outputs may be gone. Does nothing if there is no run, so that a
    /// guest may call it after any error.
    ///
    /// # Errors
    ///
    /// Those of every call on a context: [`Busy`](crate::nn::ErrorKind::Busy) while a step is made, which
    /// [`cancel`](Self::cancel) ends.
    pub fn fini_single(&self, context: GuestHandle) -> Result<(), Error> {
        let call = "fini_single";
        let end = || Claimed::new(&*self.inner.context(call, context)?, context, None)?.end_steps(call);
        self.inner.report(call, end())
    }

    fn step(&self, context: GuestHandle, time: Option<Duration>) -> Result<Run<Step>, Error> {
        let (call, inner) = (COMPUTE_SINGLE.call, &self.inner);
        let found = inner.context(call, context);
        inner.report(call, found.and_then(|found| Run::new(COMPUTE_SINGLE, inner, (found, context), time)))
    }
}
