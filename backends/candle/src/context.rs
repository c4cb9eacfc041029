//! The execution context of a graph: its inputs and outputs, and their conversion to and from wasi-nn's tensor types.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::compute::random::RandomStates;
use crate::format::ports::{Port, wire_type};
use crate::model::{Model, check_dims};
use crate::quote::quote;
use crate::strings;
use crate::tensor::budget::{Block, Charge, ComputeBudget};
use crate::tensor::dim_list::DimVec;
use crate::tensor::element::ElementType;
use crate::tensor::string_table::StringTable;
use crate::tensor::value::Value;
use graphpool::backend::{BackendContext, ComputeControl, Error, Tensor, TensorView};
use std::sync::Arc;

/// A context keeps at most this part of its memory limit for its next compute, beside the bounds of its budget.
const KEPT_PART: usize = 16;

/// An execution context of a [`CandleGraph`](crate::CandleGraph): inputs are set, a compute runs, outputs are read.
///
/// A context shares the weights of its graph and has its own inputs, outputs and random number states. One call uses it
/// at a time; contexts of one graph run in parallel without waiting for each other.
///
/// # Element types
///
/// A tensor whose ONNX type wasi-nn lacks has another type for the guest:
///
/// | in the model | for the guest |
/// | --- | --- |
/// | boolean | U8, 0 or 1 |
/// | float of 8 or 4 bits, integer of 4 or 2 bits | U8, the bits in the lowest bits of the byte |
/// | I8, I16, U16 | I32 |
/// | U32, U64 | I64 |
/// | string | U8 with one more dimension, as below |
///
/// [`set_input`](BackendContext::set_input) refuses an element that is out of range for the model's type. An output
/// above `i64::MAX` is an error of [`compute`](BackendContext::compute).
///
/// # Strings
///
/// The last dimension of a tensor of strings is their width in bytes. Each row holds one string as UTF-8, padded with
/// zero bytes. The width of an output is that of its longest string, at least 1. An output of `["yes", "no"]` has the
/// dimensions 2×3 and the bytes `yesno\0`. A string therefore can't end with a zero byte.
pub struct CandleContext {
    model: Arc<Model>,
    inputs: Vec<Option<Value>>,
    /// The outputs of the last compute that succeeded; `None` for those that were taken out.
    outputs: Vec<Option<Tensor>>,
    /// What the next outputs are collected in; empty between computes.
    next: Vec<Option<Tensor>>,
    /// The states of the nodes that draw random numbers.
    random_states: RandomStates,
    /// Keeps what a compute frees for the next one.
    budget: Arc<ComputeBudget>,
}

impl CandleContext {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let inputs = vec![None; model.inputs.len()];
        let random_states = RandomStates::new(model.random_nodes);
        Self { model, inputs, outputs: Vec::new(), next: Vec::new(), random_states, budget: ComputeBudget::recycling() }
    }

    /// A compute, from the inputs to the outputs in the guest's types.
    fn compute_now(&mut self, control: &ComputeControl) -> Result<(), Error> {
        self.budget.begin(control.memory_limit);
        let result = self.compute_outputs(control);
        if result.is_ok() {
            std::mem::swap(&mut self.outputs, &mut self.next);
        }
        for (dims, _, data) in self.next.drain(..).flatten().map(Tensor::into_parts) {
            self.budget.keep(dims);
            self.budget.keep(data);
        }
        if result.is_err() {
            self.budget.clear();
            return result;
        }
        let limit = control.context_memory_limit.min(control.own_memory_limit);
        self.budget.end(limit / KEPT_PART);
        // A context that would exceed its limits with it keeps nothing.
        if control.reserve_context_memory(self.memory(), 0).is_err() {
            self.budget.clear();
        }
        Ok(())
    }

    /// Computes the outputs and converts them to `next`.
    fn compute_outputs(&mut self, control: &ComputeControl) -> Result<(), Error> {
        let Model { inputs: ports, outputs: output_ports, defaults, string_table, .. } = &*self.model;
        let (budget, required) = (&self.budget, ports.len() - defaults.len());
        let cx = ExecContext::new(control, budget);
        // The lists of ports are the model's, not the compute's: they are not charged.
        let list = |count: usize| Ok::<_, Error>(Block::new(budget.spare::<Value>(count)?, Charge::nothing(budget)));
        let mut inputs = list(ports.len())?;
        for (place, (port, input)) in ports.iter().zip(&self.inputs).enumerate() {
            let default = place.checked_sub(required).and_then(|place| defaults.get(place));
            let missing = || Error::invalid_argument(format!("input {} is not set", quote(&port.name)));
            inputs.push(input.as_ref().or(default).cloned().ok_or_else(missing)?);
        }
        let mut outputs = list(output_ports.len())?;
        self.model.run(inputs.drain(..), &mut outputs, control, budget, &self.random_states)?;
        // One value may be several outputs, and each of them is a separate copy.
        let mut bytes = 0_usize;
        for value in &*outputs {
            let each = match value.ty() {
                ElementType::String => strings::width(value, string_table, &cx)?,
                ty => wire_type(ty).size(),
            };
            bytes = bytes.saturating_add(value.len().saturating_mul(each));
        }
        let _charge = budget.charge(bytes)?;
        for value in &*outputs {
            self.next.push(Some(to_wire(value, string_table, &cx)?));
        }
        Ok(())
    }

    /// Frees the memory of an input, instead of keeping it.
    fn free(input: &mut Option<Value>) {
        drop(input.take().map(|value| value.with_charge(Charge::none())));
    }

    /// The error for an output that is not there.
    fn no_output(&self, index: usize) -> Error {
        let outputs = self.model.outputs.len();
        Error::invalid_argument(if index >= outputs {
            format!("output {index} does not exist; the model has {outputs} outputs")
        } else if self.outputs.is_empty() {
            format!("output {index} is not computed yet")
        } else {
            format!("output {index} of the last compute was taken out")
        })
    }
}

impl std::fmt::Debug for CandleContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandleContext").field("inputs", &self.inputs.len()).finish_non_exhaustive()
    }
}

impl BackendContext for CandleContext {
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        let (Some(port), Some(slot)) = (self.model.inputs.get(index), self.inputs.get_mut(index)) else {
            let why = format!("input {index} does not exist; the model has {} inputs", self.model.inputs.len());
            return Err(Error::invalid_argument(why));
        };
        let wanted = wire_type(port.ty);
        if tensor.ty() != wanted {
            let why = format!("input {} has the type {wanted:?}, not {:?}", quote(&port.name), tensor.ty());
            return Err(Error::invalid_argument(why));
        }
        let mut dims: DimVec = tensor.dimensions().iter().map(|&dim| dim as usize).collect();
        if port.ty == ElementType::String {
            let Some(width) = dims.pop() else {
                let why = format!("input {} needs a last dimension, the width of its strings", quote(&port.name));
                return Err(Error::invalid_argument(why));
            };
            check_dims(port, &dims)?;
            *slot =
                Some(strings::from_wire(dims.into_vec(), width, tensor.data(), &self.model.string_table, &port.name)?);
            return Ok(());
        }
        check_dims(port, &dims)?;
        // The memory of an input of the same dimensions is used again.
        let same = slot.as_mut().filter(|value| value.ty() == port.ty && value.dims() == &*dims);
        if !same.is_some_and(|value| value.overwrite(tensor.data())) {
            let value = from_wire(dims.into_vec(), port, tensor.data())?;
            Self::free(slot);
            *slot = Some(value.with_charge(Charge::nothing(&self.budget)));
        }
        Ok(())
    }

    fn clear_inputs(&mut self) {
        for input in &mut self.inputs {
            Self::free(input);
        }
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        match self.model.probe.clone() {
            None => self.compute_now(control),
            Some(probe) => probe.compute(|| self.compute_now(control)),
        }
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        let output = self.outputs.get(index).and_then(Option::as_ref);
        output.map(Tensor::view).ok_or_else(|| self.no_output(index))
    }

    fn take_output(&mut self, index: usize) -> Result<Tensor, Error> {
        let output = self.outputs.get_mut(index).and_then(Option::take);
        output.ok_or_else(|| self.no_output(index))
    }

    /// Bytes of what is stored between calls: the inputs in the model's types, the outputs in the guest's types, the
    /// random number states, and what the last compute used and the next one will. That is at most four times what the
    /// compute had in use at one time, or 64 KiB if that is more, and at most a sixteenth of the context's limit.
    fn memory(&self) -> usize {
        let inputs = self.inputs.iter().flatten().map(Value::bytes).sum::<usize>();
        inputs
            + self.outputs.iter().flatten().map(|output| output.data().len()).sum::<usize>()
            + self.random_states.bytes()
            + self.budget.kept()
    }
}

/// Converts an input to the type that the model has for it.
fn from_wire(dims: Vec<usize>, port: &Port, data: &[u8]) -> Result<Value, Error> {
    fn narrow<T, const N: usize>(
        data: &[u8],
        from: impl Fn([u8; N]) -> Option<T>,
        port: &Port,
    ) -> Result<Vec<T>, Error> {
        let elements: Option<Vec<T>> = data.as_chunks::<N>().0.iter().map(|&bytes| from(bytes)).collect();
        let why = || format!("input {} has an element out of range for {:?}", quote(&port.name), port.ty);
        elements.ok_or_else(|| Error::invalid_argument(why()))
    }
    match port.ty {
        ElementType::I8 => Value::new(dims, narrow(data, |b| i8::try_from(i32::from_le_bytes(b)).ok(), port)?),
        ElementType::I16 => Value::new(dims, narrow(data, |b| i16::try_from(i32::from_le_bytes(b)).ok(), port)?),
        ElementType::U16 => Value::new(dims, narrow(data, |b| u16::try_from(i32::from_le_bytes(b)).ok(), port)?),
        ElementType::U32 => Value::new(dims, narrow(data, |b| u32::try_from(i64::from_le_bytes(b)).ok(), port)?),
        ElementType::U64 => Value::new(dims, narrow(data, |b| u64::try_from(i64::from_le_bytes(b)).ok(), port)?),
        ty => Value::from_bytes(dims, ty, data),
    }
}

/// Converts an output to the type that the guest reads.
fn to_wire(value: &Value, string_table: &StringTable, cx: &ExecContext<'_>) -> Result<Tensor, Error> {
    fn widen<T: Copy, const N: usize>(
        elements: &[T],
        to: impl Fn(T) -> [u8; N],
        bytes: &mut Vec<u8>,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let mut checkpoint = Checkpoint::default();
        for piece in elements.chunks(PIECE) {
            checkpoint.step(piece.len(), cx)?;
            bytes.extend(piece.iter().flat_map(|&element| to(element)));
        }
        Ok(())
    }
    cx.control.check()?;
    let is_string = value.ty() == ElementType::String;
    let mut dims = cx.budget.spare(value.rank() + usize::from(is_string))?;
    for &dim in value.dims() {
        let too_large = |_| Error::too_large("an output has a dimension of more than 4294967295");
        dims.push(u32::try_from(dim).map_err(too_large)?);
    }
    let ty = wire_type(value.ty());
    if is_string {
        let width = strings::width(value, string_table, cx)?;
        let too_large = |_| Error::too_large("an output has a string of more than 4294967295 bytes");
        dims.push(u32::try_from(width).map_err(too_large)?);
        return Tensor::new(dims, ty, strings::to_wire(value, width, string_table, cx)?);
    }
    let mut bytes = cx.budget.spare(value.len() * ty.size())?;
    let out = &mut bytes;
    match value.ty() {
        ElementType::I8 => widen(value.elements::<i8>()?, |element| i32::from(element).to_le_bytes(), out, cx)?,
        ElementType::I16 => widen(value.elements::<i16>()?, |element| i32::from(element).to_le_bytes(), out, cx)?,
        ElementType::U16 => widen(value.elements::<u16>()?, |element| i32::from(element).to_le_bytes(), out, cx)?,
        ElementType::U32 => widen(value.elements::<u32>()?, |element| i64::from(element).to_le_bytes(), out, cx)?,
        ElementType::U64 => {
            let elements = value.elements::<u64>()?;
            if elements.iter().any(|&element| i64::try_from(element).is_err()) {
                return Err(Error::runtime_error("an output of type U64 has an element above the largest I64"));
            }
            widen(elements, u64::to_le_bytes, out, cx)?;
        }
        _ => value.append_bytes(out),
    }
    Tensor::new(dims, ty, bytes)
}
