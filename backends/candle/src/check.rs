//! What a decoded model must satisfy before any of it is compiled.
//!
//! Dimensions are not negative, element counts don't overflow, a tensor's data is exactly as long as its dimensions
//! say, and nothing lies outside the file. Names, cycles and operators are checked as the plan is compiled.

use std::cell::RefCell;

use half::{bf16, f16};

use super::decode::{TensorProto, TypeProto, ValueInfoProto};
use super::footprint::allocation;
use super::narrow;
use super::texts::Texts;
use super::value::{Dims, ElementType, Value, count};
use graphpool::backend::{Error, TensorDescription, TensorType};

/// A name out of a model, fit for a message.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 40;
    let plain: String = name.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().nth(LONGEST).is_some() { format!("'{plain}…'") } else { format!("'{plain}'") }
}

/// The number that ONNX has for strings.
const STRINGS: i32 = 8;

/// The tensor that a `TensorProto` holds, whose own data is freed.
pub(crate) fn take_tensor(proto: &mut TensorProto, texts: &RefCell<Texts>) -> Result<Value, Error> {
    let value = tensor(proto, texts)?;
    let name = proto.name.take();
    *proto = TensorProto { name, ..TensorProto::default() };
    Ok(value)
}

/// The tensor that a `TensorProto` holds, whose strings go into `texts`.
pub(crate) fn tensor(proto: &TensorProto, texts: &RefCell<Texts>) -> Result<Value, Error> {
    let refuse =
        |why: String| Error::invalid_encoding(format!("tensor {}: {why}", shown(proto.name.as_deref().unwrap_or(""))));
    if proto.data_location.unwrap_or(0) != 0 || !proto.external_data.is_empty() {
        return Err(Error::unsupported(format!(
            "tensor {}: data outside the model's file",
            shown(proto.name.as_deref().unwrap_or(""))
        )));
    }
    let number = proto.data_type.unwrap_or(0);
    let Some(ty) = element_type(number) else {
        return Err(Error::unsupported(format!(
            "tensor {}: element type {number} is not supported",
            shown(proto.name.as_deref().unwrap_or(""))
        )));
    };
    let dims = proto
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| refuse(format!("a dimension of {dim}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let wanted = count(&dims).map_err(|error| refuse(error.message().to_owned()))?;
    let length = |found: usize| {
        if found == wanted {
            Ok(())
        } else {
            Err(refuse(format!("{found} elements of data where {} wants {wanted}", Dims(&dims))))
        }
    };
    if ty.bits() < 8 {
        // Several in a byte, the first the lowest; the last byte may be filled up.
        let packed = wanted.div_ceil(8 / ty.bits() as usize);
        let codes = match &proto.raw_data {
            Some(raw) if raw.len() == packed => narrow::unpack(raw.iter().copied(), ty.bits(), wanted),
            None if proto.int32_data.len() == packed => {
                let bytes: Option<Vec<u8>> = proto.int32_data.iter().map(|&byte| u8::try_from(byte).ok()).collect();
                let bytes = bytes.ok_or_else(|| refuse(format!("an element that is no {ty:?}")))?;
                narrow::unpack(bytes.into_iter(), ty.bits(), wanted)
            }
            _ => return Err(refuse(format!("data of another length than {packed} for {ty:?} in {}", Dims(&dims)))),
        };
        return Value::new(dims, codes)?.of_codes(ty);
    }
    if let Some(raw) = &proto.raw_data {
        if wanted.checked_mul(ty.size()) != Some(raw.len()) {
            return Err(refuse(format!("{} bytes of data for {ty:?} in {}", raw.len(), Dims(&dims))));
        }
        return Value::from_bytes(dims.clone(), ty, raw).map_err(|error| refuse(error.message().to_owned()));
    }
    macro_rules! from {
        ($field:ident, $convert:expr) => {{
            length(proto.$field.len())?;
            let elements = proto.$field.iter().map(|&element| $convert(element));
            let elements: Option<Vec<_>> = elements.collect();
            Value::new(dims, elements.ok_or_else(|| refuse(format!("an element that is no {ty:?}")))?)
        }};
    }
    match ty {
        ElementType::String => {
            length(proto.string_data.len())?;
            let mut texts = texts.borrow_mut();
            let elements = proto.string_data.iter().map(|bytes| str::from_utf8(bytes).map(|text| texts.number(text)));
            let elements: Result<Vec<_>, _> = elements.collect();
            Value::new(dims, elements.map_err(|_| refuse("a string that is no UTF-8".to_owned()))?)
        }
        ElementType::F32 => from!(float_data, Some),
        ElementType::F64 => from!(double_data, Some),
        ElementType::I64 => from!(int64_data, Some),
        ElementType::U64 => from!(uint64_data, Some),
        ElementType::U32 => from!(uint64_data, |element| u32::try_from(element).ok()),
        ElementType::I32 => from!(int32_data, Some),
        ElementType::I16 => from!(int32_data, |element| i16::try_from(element).ok()),
        ElementType::I8 => from!(int32_data, |element| i8::try_from(element).ok()),
        ElementType::U16 => from!(int32_data, |element| u16::try_from(element).ok()),
        ElementType::U8 => from!(int32_data, |element| u8::try_from(element).ok()),
        ElementType::Bool => from!(int32_data, |element| match element {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }),
        ElementType::F16 => from!(int32_data, |element| u16::try_from(element).ok().map(f16::from_bits)),
        ElementType::Bf16 => from!(int32_data, |element| u16::try_from(element).ok().map(bf16::from_bits)),
        _ => from!(int32_data, |element| u8::try_from(element).ok())?.of_codes(ty),
    }
}

/// The type of a number that ONNX has for element types, strings among them.
fn element_type(number: i32) -> Option<ElementType> {
    if number == STRINGS { Some(ElementType::String) } else { ElementType::from_onnx(number) }
}

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
        TensorDescription {
            name: self.name.clone(),
            ty: carrier(self.ty),
            dimensions: self.dims.as_ref().map(|dims| dims.iter().map(size).chain(bytes).collect()),
        }
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
        return Err(Error::unsupported(format!("{}: an input or output that is no tensor", shown(&name))));
    };
    let number = tensor.elem_type.unwrap_or(0);
    let Some(ty) = element_type(number) else {
        return Err(Error::unsupported(format!("{}: element type {number} is not supported", shown(&name))));
    };
    // Exporters write an open size as 0, as -1 or as no number at all; a fixed one is positive.
    let open = |dim: Option<i64>| dim.and_then(|dim| usize::try_from(dim).ok()).filter(|&dim| dim > 0);
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(|dim| open(dim.dim_value)).collect());
    if dims.as_ref().is_some_and(|dims: &Vec<_>| dims.len() > super::value::MAX_RANK) {
        return Err(Error::too_large(format!("{}: too many dimensions", shown(&name))));
    }
    Ok(Port { name, ty, dims })
}
