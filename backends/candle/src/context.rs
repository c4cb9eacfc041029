//! One stream of inferences, and how tensors cross the boundary to a guest.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::compute::random::RandomStates;
use crate::format::ports::{Port, carrier};
use crate::model::{Model, fits};
use crate::quote::quote;
use crate::strings;
use crate::tensor::budget::ComputeBudget;
use crate::tensor::element::ElementType;
use crate::tensor::string_table::StringTable;
use crate::tensor::value::Value;
use graphpool::backend::{BackendContext, ComputeControl, Error, TensorType, TensorView};
use std::sync::Arc;

/// An output, as it crosses the boundary.
#[derive(Debug)]
struct Carried {
    dims: Vec<u32>,
    ty: TensorType,
    data: Vec<u8>,
}

/// One stream of inferences.
///
/// A tensor whose ONNX type wasi-nn lacks is carried by another: a boolean as U8 (0 or 1), a float of 8 or 4 bits and
/// an integer of 4 or 2 as U8 (its bits, the lowest of the byte), I8, I16 and U16 as I32, U32 and U64 as I64. An input
/// that its own type can't hold is refused, an output past `i64::MAX` is an error.
///
/// A tensor of strings is carried as U8 with one dimension more, the last: each string's bytes, in UTF-8, and after
/// them zeros up to that dimension's size, which for an output is that of the longest string and at least 1. An output
/// of `["yes", "no"]` has the dimensions 2×3 and the bytes `yesno\0`. So a string ends at its zeros.
pub struct CandleContext {
    model: Arc<Model>,
    inputs: Vec<Option<Value>>,
    outputs: Vec<Carried>,
    /// How far each node that draws numbers at random has come.
    random_states: RandomStates,
}

impl CandleContext {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let inputs = vec![None; model.inputs.len()];
        let random_states = RandomStates::new(model.random_nodes);
        Self { model, inputs, outputs: Vec::new(), random_states }
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
            return Err(Error::invalid_argument(format!("input {index} of {}", self.model.inputs.len())));
        };
        let wanted = carrier(port.ty);
        if tensor.ty() != wanted {
            let why = format!("input {} is carried as {wanted:?}, not {:?}", quote(&port.name), tensor.ty());
            return Err(Error::invalid_argument(why));
        }
        let mut dims: Vec<usize> = tensor.dimensions().iter().map(|&dim| dim as usize).collect();
        if port.ty == ElementType::String {
            let Some(width) = dims.pop() else {
                let why = format!("input {} has no dimension for its strings' bytes", quote(&port.name));
                return Err(Error::invalid_argument(why));
            };
            fits(port, &dims)?;
            *slot = Some(strings::from_wire(dims, width, tensor.data(), &self.model.string_table, &port.name)?);
            return Ok(());
        }
        fits(port, &dims)?;
        *slot = Some(receive(dims, port, tensor.data())?);
        Ok(())
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        let Model { inputs: ports, defaults, string_table, .. } = &*self.model;
        let least = ports.len() - defaults.len();
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (place, (port, input)) in ports.iter().zip(&self.inputs).enumerate() {
            let default = place.checked_sub(least).and_then(|place| defaults.get(place));
            let missing = || Error::invalid_argument(format!("input {} is not set", quote(&port.name)));
            inputs.push(input.as_ref().or(default).cloned().ok_or_else(missing)?);
        }
        let budget = ComputeBudget::new(control.memory_limit);
        let outputs = self.model.run(inputs, control, &budget, &self.random_states)?;
        let cx = ExecContext::new(control, &budget);
        // One value may be many outputs, each of which is a copy here.
        let bytes = outputs.iter().map(|value| {
            let each = match value.ty() {
                ElementType::String => strings::width(value, string_table, &cx)?,
                ty => carrier(ty).size(),
            };
            Ok(value.len().saturating_mul(each))
        });
        let bytes = bytes.collect::<Result<Vec<_>, Error>>()?;
        let _charge = budget.charge(bytes.into_iter().fold(0, usize::saturating_add))?;
        self.outputs = outputs.iter().map(|value| carry(value, string_table, &cx)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        let Some(output) = self.outputs.get(index) else {
            return Err(Error::invalid_argument(format!("output {index}: nothing computed yet")));
        };
        TensorView::new(&output.dims, output.ty, &output.data)
    }

    /// What lies between calls: the inputs as the model has them and the outputs as they cross the boundary. All else
    /// that a compute allocates is given back by its end.
    fn memory(&self) -> usize {
        let inputs = self.inputs.iter().flatten().map(Value::bytes).sum::<usize>();
        inputs + self.outputs.iter().map(|output| output.data.len()).sum::<usize>() + self.random_states.bytes()
    }
}

/// An input in the type that the model has for it.
fn receive(dims: Vec<usize>, port: &Port, data: &[u8]) -> Result<Value, Error> {
    fn narrow<T, const N: usize>(
        data: &[u8],
        from: impl Fn([u8; N]) -> Option<T>,
        port: &Port,
    ) -> Result<Vec<T>, Error> {
        let elements: Option<Vec<T>> = data.as_chunks::<N>().0.iter().map(|&bytes| from(bytes)).collect();
        let why = || format!("input {}: an element that {:?} can't hold", quote(&port.name), port.ty);
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

/// An output in the type that carries it.
fn carry(value: &Value, string_table: &StringTable, cx: &ExecContext<'_>) -> Result<Carried, Error> {
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
    let mut dims = dims.map_err(|_| Error::too_large("an output has a dimension past u32"))?;
    let data = match value.ty() {
        ElementType::String => {
            let width = strings::width(value, string_table, cx)?;
            dims.push(u32::try_from(width).map_err(|_| Error::too_large("an output has a string past u32"))?);
            strings::to_wire(value, width, string_table, cx)?
        }
        ElementType::I8 => widen(value.elements::<i8>()?, |element| i32::from(element).to_le_bytes(), cx)?,
        ElementType::I16 => widen(value.elements::<i16>()?, |element| i32::from(element).to_le_bytes(), cx)?,
        ElementType::U16 => widen(value.elements::<u16>()?, |element| i32::from(element).to_le_bytes(), cx)?,
        ElementType::U32 => widen(value.elements::<u32>()?, |element| i64::from(element).to_le_bytes(), cx)?,
        ElementType::U64 => {
            let elements = value.elements::<u64>()?;
            if elements.iter().any(|&element| i64::try_from(element).is_err()) {
                return Err(Error::runtime_error("an output of type U64 is past what I64 carries"));
            }
            widen(elements, u64::to_le_bytes, cx)?
        }
        _ => value.to_bytes(),
    };
    Ok(Carried { dims, ty: carrier(value.ty()), data })
}
