//! The inputs and outputs of a model: names, types and shapes, in the model and for a guest.

use crate::format::messages::{TypeProto, ValueInfoProto};
use crate::format::tensors::element_type;
use crate::quote::quote;
use crate::tensor::budget::allocation;
use crate::tensor::dims::MAX_RANK;
use crate::tensor::element::ElementType;
use graphpool::backend::{Error, TensorDescription, TensorType};

/// The name, element type and shape that a model declares for an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// The name.
    pub name: String,
    /// The element type in the model.
    pub ty: ElementType,
    /// The sizes, outermost first, `None` for an open size. `None` instead of the list where the rank is open.
    pub dims: Option<Vec<Option<usize>>>,
}

impl Port {
    /// Bytes that the port and its description take in memory.
    pub(crate) fn bytes(&self) -> usize {
        let rank = self.dims.as_ref().map_or(0, Vec::len);
        let own = size_of::<Self>() + allocation(self.name.len()) + allocation(rank * size_of::<Option<usize>>());
        let described = allocation(self.name.len()) + allocation(rank * size_of::<Option<u32>>());
        own + size_of::<TensorDescription>() + described
    }

    /// The port as a guest sees it: the wasi-nn type of [`CandleContext`](crate::CandleContext)'s table, and sizes as
    /// u32. A size above `u32::MAX` is given as open.
    #[must_use]
    pub fn description(&self) -> TensorDescription {
        let size = |dim: &Option<usize>| dim.and_then(|dim| u32::try_from(dim).ok());
        // For a guest, a tensor of strings has one more dimension: the width of its strings.
        let width = (self.ty == ElementType::String).then_some(None);
        let dimensions = self.dims.as_ref().map(|dims| dims.iter().map(size).chain(width).collect());
        TensorDescription::new(self.name.clone(), wire_type(self.ty), dimensions)
    }
}

/// The wasi-nn type that a guest sees for elements of `ty`.
///
/// This is the same type where wasi-nn has it. It is U8 for booleans, strings and the types of at most 8 bits that Rust
/// lacks, and the next wider signed type for the other integers; U64 becomes I64, with a check of each element.
pub(crate) const fn wire_type(ty: ElementType) -> TensorType {
    match ty {
        ElementType::F16 => TensorType::F16,
        ElementType::Bf16 => TensorType::Bf16,
        ElementType::F32 => TensorType::F32,
        ElementType::F64 => TensorType::F64,
        ElementType::U8 | ElementType::Bool | ElementType::String => TensorType::U8,
        ty if ty.is_narrow() => TensorType::U8,
        ElementType::I8 | ElementType::I16 | ElementType::U16 | ElementType::I32 => TensorType::I32,
        _ => TensorType::I64,
    }
}

/// Whether an input or output is declared to be a tensor.
pub(crate) fn is_tensor(info: &ValueInfoProto) -> bool {
    info.r#type.as_ref().is_some_and(|ty| ty.tensor_type.is_some())
}

/// Checks an input or output of a graph. Sequences, maps and optional values are refused.
pub(crate) fn port(info: &ValueInfoProto) -> Result<Port, Error> {
    let name = info.name.clone().unwrap_or_default();
    if name.is_empty() {
        return Err(Error::invalid_encoding("an input or output has no name"));
    }
    let Some(TypeProto { tensor_type: Some(tensor) }) = &info.r#type else {
        return Err(Error::unsupported(format!("input or output {} is not a tensor", quote(&name))));
    };
    let number = tensor.elem_type.unwrap_or(0);
    let Some(ty) = element_type(number) else {
        return Err(Error::unsupported(format!(
            "input or output {} has the element type {number}, which is not supported",
            quote(&name)
        )));
    };
    // Exporters write an open size as 0, as -1 or without a number. A fixed size is positive.
    let open = |dim: Option<i64>| dim.and_then(|dim| usize::try_from(dim).ok()).filter(|&dim| dim > 0);
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(|dim| open(dim.dim_value)).collect());
    if dims.as_ref().is_some_and(|dims: &Vec<_>| dims.len() > MAX_RANK) {
        let why = format!(
            "input or output {} has more than {MAX_RANK} dimensions, the most that are supported",
            quote(&name)
        );
        return Err(Error::too_large(why));
    }
    Ok(Port { name, ty, dims })
}
