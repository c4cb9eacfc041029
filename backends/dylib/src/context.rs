//! A context: a guest's inputs and outputs, and the library's execution context.

use std::collections::BTreeMap;
use std::sync::Arc;

use graphpool::backend::{BackendContext, ComputeControl, Error, ErrorKind, Tensor, TensorView};

use crate::loaded::Loaded;
use crate::output::{self, Output};
use crate::session::Session;

/// A context of a graph.
///
/// * D1: the session is used only as long as each tensor that it was given is in `inputs`, or another has taken its
///   place in the session.
/// * D2: no compute runs in a session that has an input which the guest has cleared, or whose library has broken the
///   rules: then a new session gets the guest's inputs first.
pub(crate) struct DylibContext {
    /// Dropped before `inputs`.
    session: Session,
    inputs: BTreeMap<u32, Input>,
    outputs: Option<Vec<Tensor>>,
    /// The bytes of each output of the last compute, as the first guess at the next one's.
    sizes: Vec<usize>,
    /// D2: the library has broken the rules.
    broken: bool,
    graph: Arc<Loaded>,
}

struct Input {
    tensor: Tensor,
    /// The guest has cleared it. The library cannot clear it, and may still have the pointers.
    cleared: bool,
}

impl DylibContext {
    pub(crate) fn new(graph: Arc<Loaded>) -> Result<Self, Error> {
        let session = graph.open_session()?;
        Ok(Self { session, inputs: BTreeMap::new(), outputs: None, sizes: Vec::new(), broken: false, graph })
    }

    /// D2: replaces the session with a new one that has the guest's inputs.
    fn restart(&mut self) -> Result<(), Error> {
        let session = self.graph.open_session()?;
        {
            let turn = session.turn(&self.graph.settings, None)?;
            for (index, input) in self.inputs.iter().filter(|(_, input)| !input.cleared) {
                // SAFETY: D1, for the new session.
                unsafe { session.set_input(*index, &input.tensor, &turn) }?;
            }
        }
        self.session = session;
        self.inputs.retain(|_, input| !input.cleared);
        self.broken = false;
        Ok(())
    }

    fn bytes_of_inputs(&self) -> usize {
        self.inputs.values().filter(|input| !input.cleared).map(|input| input.tensor.data().len()).sum()
    }
}

impl BackendContext for DylibContext {
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        if self.broken {
            self.restart()?;
        }
        let index = u32::try_from(index).map_err(|_| Error::invalid_argument(format!("there is no input {index}")))?;
        let tensor = tensor.to_owned();
        {
            let turn = self.session.turn(&self.graph.settings, None)?;
            // SAFETY: D1: on success it is put into `inputs`. The interface's rules are that a library that refuses an
            // input keeps no pointer to it.
            unsafe { self.session.set_input(index, &tensor, &turn) }?;
        }
        self.inputs.insert(index, Input { tensor, cleared: false });
        Ok(())
    }

    /// The interface cannot clear an input. A compute in which the guest has set the same inputs anew uses the session
    /// that has the old ones; another compute needs a new session. Until then the tensors stay in memory, as the
    /// library may have pointers to them.
    fn clear_inputs(&mut self) {
        self.inputs.values_mut().for_each(|input| input.cleared = true);
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        control.check()?;
        let used = self.bytes_of_inputs();
        let Some(mut room) = control.memory_limit.checked_sub(used).filter(|room| *room > 0) else {
            let limit = control.memory_limit;
            return Err(Error::too_large(format!("the inputs have {used} bytes; the compute may take {limit}")));
        };
        if self.broken || self.inputs.values().any(|input| input.cleared) {
            self.restart()?;
        }
        let settings = &self.graph.settings;
        let turn = self.session.turn(settings, Some(control))?;
        control.check()?;
        self.session.compute(&turn)?;
        let mut outputs = Vec::new();
        for (index, described) in settings.outputs.iter().enumerate() {
            let expected = self.sizes.get(index).copied().unwrap_or_default();
            let bound = room.min(settings.max_output_bytes);
            let data = match output::read(&self.session, index as u32, expected, bound, &turn) {
                Output::Data(data) => data,
                // Past the last. Libraries give several errors for it.
                Output::Refused(error) if described.optional && error.kind() != ErrorKind::TooLarge => break,
                Output::Refused(error) => return Err(error),
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
        Ok(())
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
            Ok(std::mem::replace(output, empty))
        });
        taken.unwrap_or_else(|| Err(Error::invalid_argument("nothing was computed yet")))
    }

    fn memory(&self) -> usize {
        let outputs: usize = self.outputs.iter().flatten().map(|output| output.data().len()).sum();
        self.graph.bytes_of_context() + self.bytes_of_inputs() + outputs
    }
}
