//! Checks of contexts that make their outputs in steps.

use std::time::Instant;

use crate::backend::conformance::report::{ensure, kind};
use crate::backend::conformance::sample::Sample;
use crate::backend::{Backend, BackendContext, CancelToken, ComputeControl, ErrorKind, Step};

/// The most steps of a run in the checks.
const MOST_STEPS: usize = 1 << 16;

/// A context with its inputs, and output 0 of its compute.
type Stepping = (Box<dyn BackendContext>, Vec<u8>);

impl Sample {
    /// `None` if the backend has no steps and need not have any.
    fn stepping(&self, backend: &dyn Backend) -> Result<Option<Stepping>, String> {
        let mut context = self.open(backend)?;
        let output = self.infer(&mut *context, 1)?.swap_remove(0).into_data();
        let first = context.step(&ComputeControl::default());
        context.end_steps();
        match first {
            Ok(_) => Ok(Some((context, output))),
            Err(error) if !self.steps && error.kind() == ErrorKind::UnsupportedOperation => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn in_steps(&self, backend: &dyn Backend) -> Result<(), String> {
        let Some((mut context, output)) = self.stepping(backend)? else { return Ok(()) };
        for _ in 0..2 {
            ensure(rest(&mut *context, &mut Vec::new())? == output, "the pieces are not what a compute gives")?;
            let whole = context.output(0).is_ok_and(|whole| whole.data() == output);
            ensure(whole, "after a run, the output is not its pieces")?;
            context.end_steps();
        }
        step(&mut *context)?;
        context.end_steps();
        ensure(rest(&mut *context, &mut Vec::new())? == output, "a run that was ended early goes on in the next")?;
        context.end_steps();
        step(&mut *context)?;
        context.end_steps();
        context.compute(&ComputeControl::default()).map_err(|error| format!("after a run it does not: {error}"))?;
        let same = context.output(0).is_ok_and(|whole| whole.data() == output);
        ensure(same, "a compute after a run gives other outputs")
    }

    pub(super) fn failed_steps(&self, backend: &dyn Backend) -> Result<(), String> {
        let Some((mut context, output)) = self.stepping(backend)? else { return Ok(()) };
        let cancel = CancelToken::default();
        cancel.cancel();
        let control = ComputeControl::default;
        let fail = |context: &mut dyn BackendContext| {
            let (cancelled, late) = (control().with_cancel(cancel.clone()), control().with_deadline(Instant::now()));
            ensure(kind(context.step(&cancelled)) == Some(ErrorKind::RuntimeError), "cancelled, it goes on")?;
            ensure(kind(context.step(&late)) == Some(ErrorKind::Timeout), "late, it goes on")?;
            let none = control().with_memory_limit(0);
            ensure(kind(context.step(&none)) == Some(ErrorKind::TooLarge), "with no room for it, it goes on")
        };
        fail(&mut *context)?;
        // As the engine does, where no step of the run has succeeded.
        context.end_steps();
        let mut pieces = Vec::new();
        if !piece(&mut *context, &mut pieces)?.is_end() {
            fail(&mut *context)?;
            ensure(rest(&mut *context, &mut pieces)? == output, "the failed steps have changed the outputs")?;
        }
        if !self.inputs.is_empty() {
            let empty = self.open(backend)?.step(&control());
            ensure(kind(empty) == Some(ErrorKind::InvalidArgument), "a step without its inputs")?;
        }
        Ok(())
    }

    pub(super) fn runs_apart(&self, backend: &dyn Backend) -> Result<(), String> {
        let Some((mut one, output)) = self.stepping(backend)? else { return Ok(()) };
        let mut two = self.open(backend)?;
        self.fill(&mut *two)?;
        let mut pieces = Vec::new();
        step(&mut *two)?;
        two.end_steps();
        for _ in 0..MOST_STEPS {
            step(&mut *two)?;
            two.end_steps();
            if piece(&mut *one, &mut pieces)?.is_end() {
                break;
            }
        }
        ensure(pieces == output, "they are not")
    }
}

fn step(context: &mut dyn BackendContext) -> Result<Step, String> {
    context.step(&ComputeControl::default()).map_err(|error| error.to_string())
}

/// Makes a step, and adds its piece of output 0 to `pieces`.
fn piece(context: &mut dyn BackendContext, pieces: &mut Vec<u8>) -> Result<Step, String> {
    let step = step(context)?;
    let piece = context.step_output(0).map_err(|error| error.to_string())?;
    ensure(!step.is_end() || piece.data().is_empty(), "the step that ends a run has made a piece")?;
    pieces.extend_from_slice(piece.data());
    Ok(step)
}

/// Makes the steps that are left of a run, and returns all of its pieces.
fn rest(context: &mut dyn BackendContext, pieces: &mut Vec<u8>) -> Result<Vec<u8>, String> {
    for _ in 0..MOST_STEPS {
        if piece(context, pieces)?.is_end() {
            return Ok(std::mem::take(pieces));
        }
    }
    Err("the run does not end".to_owned())
}
