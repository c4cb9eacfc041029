//! What a decoded model must satisfy before any of it is compiled.
//!
//! Dimensions are not negative, element counts don't overflow, a tensor's data is exactly as long as its dimensions
//! say, and nothing lies outside the file. Names, cycles and operators are checked as the plan is compiled.

use crate::format::messages::GraphProto;
use crate::quote::quote;
use std::cell::RefCell;

use half::{bf16, f16};

use crate::format::messages::TensorProto;
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::ElementType;
use crate::tensor::narrow;
use crate::tensor::string_table::StringTable;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The number that ONNX has for strings.
const STRINGS: i32 = 8;

/// The tensor that a `TensorProto` holds, whose own data is freed.
pub(crate) fn take_tensor(proto: &mut TensorProto, table: &RefCell<StringTable>) -> Result<Value, Error> {
    let value = tensor(proto, table)?;
    let name = proto.name.take();
    *proto = TensorProto { name, ..TensorProto::default() };
    Ok(value)
}

/// The tensor that a `TensorProto` holds, whose strings go into `table`.
pub(crate) fn tensor(proto: &TensorProto, table: &RefCell<StringTable>) -> Result<Value, Error> {
    let refuse =
        |why: String| Error::invalid_encoding(format!("tensor {}: {why}", quote(proto.name.as_deref().unwrap_or(""))));
    if proto.data_location.unwrap_or(0) != 0 || !proto.external_data.is_empty() {
        return Err(Error::unsupported(format!(
            "tensor {}: data outside the model's file",
            quote(proto.name.as_deref().unwrap_or(""))
        )));
    }
    let number = proto.data_type.unwrap_or(0);
    let Some(ty) = element_type(number) else {
        return Err(Error::unsupported(format!(
            "tensor {}: element type {number} is not supported",
            quote(proto.name.as_deref().unwrap_or(""))
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
            let mut table = table.borrow_mut();
            let elements =
                proto.string_data.iter().map(|bytes| str::from_utf8(bytes).map(|string| table.intern(string)));
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
pub(crate) fn element_type(number: i32) -> Option<ElementType> {
    if number == STRINGS { Some(ElementType::String) } else { ElementType::from_onnx(number) }
}

/// Bytes by which the tensors of a graph outgrow those of the file where each element gets a byte of its own.
pub(crate) fn growth(graph: &GraphProto) -> usize {
    let mut growth = 0_usize;
    let mut add = |tensor: &crate::format::messages::TensorProto| {
        let ty = ElementType::from_onnx(tensor.data_type.unwrap_or(0));
        if ty.is_some_and(|ty| ty.bits() < 8) {
            let bytes = tensor.raw_data.as_ref().map_or(0, Vec::len).max(tensor.int32_data.len());
            growth = growth.saturating_add(bytes.saturating_mul(4));
        }
    };
    graph.initializer.iter().for_each(&mut add);
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    attributes().filter_map(|attribute| attribute.t.as_ref()).for_each(&mut add);
    let inside = attributes().filter_map(|attribute| attribute.g.as_ref()).map(self::growth);
    inside.fold(growth, usize::saturating_add)
}
