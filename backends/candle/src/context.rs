//! The execution context of a graph: its inputs and outputs, and their conversion to and from wasi-nn's tensor types.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::compute::random::RandomStates;
use crate::format::ports::{Port, wire_type};
use crate::model::{Model, check_dims};
use crate::quote::quote;
use crate::strings;
use crate::tensor::budget::ComputeBudget;
use crate::tensor::element::ElementType;
use crate::tensor::string_table::StringTable;
use crate::tensor::value::Value;
use graphpool::backend::{BackendContext, ComputeControl, Error, Tensor, TensorView};
use std::sync::Arc;

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
    /// The states of the nodes that draw random numbers.
    random_states: RandomStates,
}

impl CandleContext {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let inputs = vec![None; model.inputs.len()];
        let random_states = RandomStates::new(model.random_nodes);
        Self { model, inputs, outputs: Vec::new(), random_states }
    }

    /// A compute, from the inputs to the outputs in the guest's types.
    fn compute_now(&mut self, control: &ComputeControl) -> Result<(), Error> {
        let Model { inputs: ports, defaults, string_table, .. } = &*self.model;
        let required = ports.len() - defaults.len();
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (place, (port, input)) in ports.iter().zip(&self.inputs).enumerate() {
            let default = place.checked_sub(required).and_then(|place| defaults.get(place));
            let missing = || Error::invalid_argument(format!("input {} is not set", quote(&port.name)));
            inputs.push(input.as_ref().or(default).cloned().ok_or_else(missing)?);
        }
        let budget = ComputeBudget::new(control.memory_limit);
        let outputs = self.model.run(inputs, control, &budget, &self.random_states)?;
        let cx = ExecContext::new(control, &budget);
        // One value may be several outputs, and each of them is a separate copy.
        let bytes = outputs.iter().map(|value| {
            let each = match value.ty() {
                ElementType::String => strings::width(value, string_table, &cx)?,
                ty => wire_type(ty).size(),
            };
            Ok(value.len().saturating_mul(each))
        });
        let bytes = bytes.collect::<Result<Vec<_>, Error>>()?;
        let _charge = budget.charge(bytes.into_iter().fold(0, usize::saturating_add))?;
        self.outputs =
            outputs.iter().map(|value| to_wire(value, string_table, &cx).map(Some)).collect::<Result<_, _>>()?;
        Ok(())
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
        let mut dims: Vec<usize> = tensor.dimensions().iter().map(|&dim| dim as usize).collect();
        if port.ty == ElementType::String {
            let Some(width) = dims.pop() else {
                let why = format!("input {} needs a last dimension, the width of its strings", quote(&port.name));
                return Err(Error::invalid_argument(why));
            };
            check_dims(port, &dims)?;
            *slot = Some(strings::from_wire(dims, width, tensor.data(), &self.model.string_table, &port.name)?);
            return Ok(());
        }
        check_dims(port, &dims)?;
        *slot = Some(from_wire(dims, port, tensor.data())?);
        Ok(())
    }

    fn clear_inputs(&mut self) {
        self.inputs.fill(None);
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

    /// Bytes of what is stored between calls: the inputs in the model's types, the outputs in the guest's types, and
    /// the random number states. A compute frees everything else that it allocates.
    fn memory(&self) -> usize {
        let inputs = self.inputs.iter().flatten().map(Value::bytes).sum::<usize>();
        inputs
            + self.outputs.iter().flatten().map(|output| output.data().len()).sum::<usize>()
            + self.random_states.bytes()
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
        cx: &ExecContext<'_>,
    ) -> Result<Vec<u8>, Error> {
        let (mut bytes, mut checkpoint) = (Vec::with_capacity(elements.len() * N), Checkpoint::default());
        for piece in elements.chunks(PIECE) {
            checkpoint.step(piece.len(), cx)?;
            bytes.extend(piece.iter().flat_map(|&element| to(element)));
        }
        Ok(bytes)
    }
    cx.control.check()?;
    let dims = value.dims().iter().map(|&dim| u32::try_from(dim)).collect::<Result<Vec<_>, _>>();
    let mut dims = dims.map_err(|_| Error::too_large("an output has a dimension of more than 4294967295"))?;
    let data = match value.ty() {
        ElementType::String => {
            let width = strings::width(value, string_table, cx)?;
            dims.push(
                u32::try_from(width)
                    .map_err(|_| Error::too_large("an output has a string of more than 4294967295 bytes"))?,
            );
            strings::to_wire(value, width, string_table, cx)?
        }
        ElementType::I8 => widen(value.elements::<i8>()?, |element| i32::from(element).to_le_bytes(), cx)?,
        ElementType::I16 => widen(value.elements::<i16>()?, |element| i32::from(element).to_le_bytes(), cx)?,
        ElementType::U16 => widen(value.elements::<u16>()?, |element| i32::from(element).to_le_bytes(), cx)?,
        ElementType::U32 => widen(value.elements::<u32>()?, |element| i64::from(element).to_le_bytes(), cx)?,
        ElementType::U64 => {
            let elements = value.elements::<u64>()?;
            if elements.iter().any(|&element| i64::try_from(element).is_err()) {
                return Err(Error::runtime_error("an output of type U64 has an element above the largest I64"));
            }
            widen(elements, u64::to_le_bytes, cx)?
        }
        _ => value.to_bytes(),
    };
    Tensor::new(dims, wire_type(value.ty()), data)
}
