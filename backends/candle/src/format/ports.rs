//! Inputs and outputs of a model, as its file describes them and as a guest sees them.

use crate::format::messages::{TypeProto, ValueInfoProto};
use crate::format::tensors::element_type;
use crate::quote::quote;
use crate::tensor::budget::allocation;
use crate::tensor::element::ElementType;
use graphpool::backend::{Error, TensorDescription, TensorType};

/// What a model says of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The name.
    pub name: String,
    /// The element type in the model.
    pub ty: ElementType,
    /// The sizes, `None` for one that is open; `None` for the whole where the rank is open.
    pub dims: Option<Vec<Option<usize>>>,
}

impl Port {
    /// Bytes that the port takes with its description.
    pub(crate) fn bytes(&self) -> usize {
        let rank = self.dims.as_ref().map_or(0, Vec::len);
        let own = size_of::<Self>() + allocation(self.name.len()) + allocation(rank * size_of::<Option<usize>>());
        let described = allocation(self.name.len()) + allocation(rank * size_of::<Option<u32>>());
        own + size_of::<TensorDescription>() + described
    }

    /// How the port looks from outside: the type that carries it and the sizes that wasi-nn can say.
    #[must_use]
    pub fn description(&self) -> TensorDescription {
        let size = |dim: &Option<usize>| dim.and_then(|dim| u32::try_from(dim).ok());
        // Strings have one dimension more than their tensor: the bytes of each.
        let bytes = (self.ty == ElementType::String).then_some(None);
        let dimensions = self.dims.as_ref().map(|dims| dims.iter().map(size).chain(bytes).collect());
        TensorDescription::new(self.name.clone(), carrier(self.ty), dimensions)
    }
}

/// The wasi-nn type that carries elements of `ty`: the same where wasi-nn has it, U8 for a boolean, for a string's
/// bytes and for the bits of a type of at most 8 that Rust lacks, and the next wider signed integer for the integers
/// that it lacks (U64 as I64, checked).
pub(crate) const fn carrier(ty: ElementType) -> TensorType {
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

/// Whether an input or output says that it is a tensor.
pub(crate) fn is_tensor(info: &ValueInfoProto) -> bool {
    info.r#type.as_ref().is_some_and(|ty| ty.tensor_type.is_some())
}

/// An input or output of a graph; one that is no tensor is refused.
pub(crate) fn port(info: &ValueInfoProto) -> Result<Port, Error> {
    let name = info.name.clone().unwrap_or_default();
    if name.is_empty() {
        return Err(Error::invalid_encoding("an input or output without a name"));
    }
    let Some(TypeProto { tensor_type: Some(tensor) }) = &info.r#type else {
        return Err(Error::unsupported(format!("{}: an input or output that is no tensor", quote(&name))));
    };
    let number = tensor.elem_type.unwrap_or(0);
    let Some(ty) = element_type(number) else {
        return Err(Error::unsupported(format!("{}: element type {number} is not supported", quote(&name))));
    };
    // Exporters write an open size as 0, as -1 or as no number at all; a fixed one is positive.
    let open = |dim: Option<i64>| dim.and_then(|dim| usize::try_from(dim).ok()).filter(|&dim| dim > 0);
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(|dim| open(dim.dim_value)).collect());
    if dims.as_ref().is_some_and(|dims: &Vec<_>| dims.len() > crate::tensor::dims::MAX_RANK) {
        return Err(Error::too_large(format!("{}: too many dimensions", quote(&name))));
    }
    Ok(Port { name, ty, dims })
}
