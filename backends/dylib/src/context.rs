//! A context: a guest's inputs and outputs, and the library's execution context.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use graphpool::backend::{BackendContext, ComputeControl, Error, ErrorKind, Tensor, TensorView};

use crate::loaded::Loaded;
use crate::output::{self, Output};
use crate::session::Session;
use crate::turn::Patience;

/// A context of a graph.
///
/// * D1: the index of each tensor that the session was given and has is in `inputs`, with the tensor, or in `stale`, if
///   the guest has cleared it: then the tensor is freed, and the library may have pointers to it.
/// * D2: no compute runs in a session that has a stale input, or whose library has broken the rules: then a new session
///   gets the guest's inputs first.
pub(crate) struct DylibContext {
    /// Dropped before `inputs`.
    session: Session,
    inputs: BTreeMap<u32, Tensor>,
    /// D1: cleared by the guest. The library cannot clear them.
    stale: BTreeSet<u32>,
    outputs: Option<Vec<Tensor>>,
    /// The bytes of each output of the last compute, as the first guess at the next one's.
    sizes: Vec<usize>,
    /// D2: the library has broken the rules.
    broken: bool,
    graph: Arc<Loaded>,
}

impl DylibContext {
    pub(crate) fn new(graph: Arc<Loaded>) -> Result<Self, Error> {
        let session = graph.open_session(&Patience::new(graph.settings.max_wait, None))?;
        let (inputs, stale) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { session, inputs, stale, outputs: None, sizes: Vec::new(), broken: false, graph })
    }

    /// D2: replaces the session with a new one that has the guest's inputs.
    fn restart(&mut self, patience: &Patience<'_>) -> Result<(), Error> {
        let session = self.graph.open_session(patience)?;
        {
            let turn = session.turn(patience)?;
            for (index, tensor) in &self.inputs {
                patience.check()?;
                // SAFETY: D1 and D2, for the new session.
                unsafe { session.set_input(*index, tensor, &turn) }?;
            }
        }
        self.session = session;
        self.stale.clear();
        self.broken = false;
        Ok(())
    }

    fn bytes_of_inputs(&self) -> usize {
        self.inputs.values().map(|tensor| tensor.data().len()).sum()
    }
}

fn is_too_large(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::TooLarge | ErrorKind::ContextFull | ErrorKind::PromptTooLong)
}

impl BackendContext for DylibContext {
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        let patience = Patience::new(self.graph.settings.max_wait, None);
        if self.broken {
            self.restart(&patience)?;
        }
        let index = u32::try_from(index).map_err(|_| Error::invalid_argument(format!("there is no input {index}")))?;
        let tensor = tensor.to_owned();
        {
            let turn = self.session.turn(&patience)?;
            // SAFETY: D1 and D2: on success it is put into `inputs`. The interface's rules are that a library that
            // refuses an input keeps no pointer to it.
            unsafe { self.session.set_input(index, &tensor, &turn) }?;
        }
        self.inputs.insert(index, tensor);
        self.stale.remove(&index);
        Ok(())
    }

    /// The interface cannot clear an input. A compute in which the guest has set the same inputs anew uses the session
    /// that has the old ones; another compute needs a new session.
    fn clear_inputs(&mut self) {
        self.stale.extend(mem::take(&mut self.inputs).into_keys());
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        control.check()?;
        let used = self.bytes_of_inputs();
        let Some(mut room) = control.memory_limit.checked_sub(used).filter(|room| *room > 0) else {
            let limit = control.memory_limit;
            return Err(Error::too_large(format!("the inputs have {used} bytes; the compute may take {limit}")));
        };
        let patience = Patience::new(self.graph.settings.max_wait, Some(control));
        if self.broken || !self.stale.is_empty() {
            self.restart(&patience)?;
        }
        let settings = &self.graph.settings;
        let turn = self.session.turn(&patience)?;
        // A context that is full has the text until then as its outputs.
        let full = match self.session.compute(&turn) {
            Err(error) if error.kind() == ErrorKind::ContextFull => Some(error),
            computed => {
                computed?;
                None
            }
        };
        let mut outputs = Vec::new();
        for (index, described) in settings.outputs.iter().enumerate() {
            let expected = self.sizes.get(index).copied().unwrap_or_default();
            let bound = room.min(settings.max_output_bytes);
            let data = match output::read(&self.session, index as u32, expected, bound, &turn) {
                Output::Data(data) => data,
                // Past the last. Libraries give several errors for it.
                Output::Refused(error) if described.optional && !is_too_large(error.kind()) => break,
                Output::Refused(error) => return Err(full.unwrap_or(error)),
                Output::Misused(error) => {
                    self.broken = true;
                    return Err(error);
                }
            };
            room -= data.len();
            outputs.push(output::tensor(index, described, data)?);
        }
        drop(turn);
        // The library cannot be interrupted: a compute that is late, or was cancelled, is an error at its end.
        control.check()?;
        self.sizes = outputs.iter().map(|output| output.data().len()).collect();
        self.outputs = Some(outputs);
        full.map_or(Ok(()), Err)
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        let outputs = self.outputs.as_ref().ok_or_else(|| Error::invalid_argument("nothing was computed yet"))?;
        let output = outputs.get(index).ok_or_else(|| {
            Error::invalid_argument(format!("there is no output {index}; the model has {}", outputs.len()))
        })?;
        Ok(output.view())
    }

    fn take_output(&mut self, index: usize) -> Result<Tensor, Error> {
        self.output(index)?;
        let taken = self.outputs.as_mut().and_then(|outputs| outputs.get_mut(index)).map(|output| {
            let empty = Tensor::from_slice::<u8>([0], &[])?;
            Ok(mem::replace(output, empty))
        });
        taken.unwrap_or_else(|| Err(Error::invalid_argument("nothing was computed yet")))
    }

    fn memory(&self) -> usize {
        let outputs: usize = self.outputs.iter().flatten().map(|output| output.data().len()).sum();
        self.graph.bytes_of_context() + self.bytes_of_inputs() + outputs
    }
}
