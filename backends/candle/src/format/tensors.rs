//! Checks the tensors of a decoded model and converts them to values.
//!
//! Dimensions must not be negative, the element count must not overflow, and the data must have exactly the length that
//! the dimensions require. Names, cycles and operators are checked later, when the graph is compiled.

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

/// ONNX's number of the element type string.
const STRINGS: i32 = 8;

/// Converts a tensor's message and frees its data.
pub(crate) fn take_tensor(proto: &mut TensorProto, table: &RefCell<StringTable>) -> Result<Value, Error> {
    let value = tensor(proto, table)?;
    let name = proto.name.take();
    *proto = TensorProto { name, ..TensorProto::default() };
    Ok(value)
}

/// Converts a tensor's message. Its strings are added to `table`.
pub(crate) fn tensor(proto: &TensorProto, table: &RefCell<StringTable>) -> Result<Value, Error> {
    let name = quote(proto.name.as_deref().unwrap_or(""));
    let refuse = |why: String| Error::invalid_encoding(format!("tensor {name}: {why}"));
    if proto.data_location.unwrap_or(0) != 0 || !proto.external_data.is_empty() {
        return Err(Error::unsupported(format!(
            "tensor {name} has external data, which is read only as part of a model"
        )));
    }
    let number = proto.data_type.unwrap_or(0);
    let Some(ty) = element_type(number) else {
        return Err(Error::unsupported(format!("tensor {name} has the element type {number}, which is not supported")));
    };
    let dims = proto
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| refuse(format!("dimension {dim} is negative"))))
        .collect::<Result<Vec<_>, _>>()?;
    let expected = count(&dims).map_err(|error| refuse(error.message().to_owned()))?;
    let length = |found: usize| {
        if found == expected {
            Ok(())
        } else {
            Err(refuse(format!("it has {found} elements, but {} needs {expected}", Dims(&dims))))
        }
    };
    if ty.bits() < 8 {
        // Several elements share a byte, the first in the lowest bits. The last byte may be padded.
        let packed = expected.div_ceil(8 / ty.bits() as usize);
        let codes = match &proto.raw_data {
            Some(raw) if raw.len() == packed => narrow::unpack(raw.iter().copied(), ty.bits(), expected),
            None if proto.int32_data.len() == packed => {
                let bytes: Option<Vec<u8>> = proto.int32_data.iter().map(|&byte| u8::try_from(byte).ok()).collect();
                let bytes = bytes.ok_or_else(|| refuse(format!("an element is out of range for {ty:?}")))?;
                narrow::unpack(bytes.into_iter(), ty.bits(), expected)
            }
            _ => return Err(refuse(format!("{ty:?} in {} needs {packed} bytes of packed data", Dims(&dims)))),
        };
        return Value::new(dims, codes)?.of_codes(ty);
    }
    if let Some(raw) = &proto.raw_data {
        if expected.checked_mul(ty.size()) != Some(raw.len()) {
            return Err(refuse(format!("{} bytes of data don't fit {ty:?} in {}", raw.len(), Dims(&dims))));
        }
        return Value::from_bytes(dims.clone(), ty, raw).map_err(|error| refuse(error.message().to_owned()));
    }
    macro_rules! from {
        ($field:ident, $convert:expr) => {{
            length(proto.$field.len())?;
            let elements = proto.$field.iter().map(|&element| $convert(element));
            let elements: Option<Vec<_>> = elements.collect();
            Value::new(dims, elements.ok_or_else(|| refuse(format!("an element is out of range for {ty:?}")))?)
        }};
    }
    match ty {
        ElementType::String => {
            length(proto.string_data.len())?;
            let mut table = table.borrow_mut();
            let elements =
                proto.string_data.iter().map(|bytes| str::from_utf8(bytes).map(|string| table.intern(string)));
            let elements: Result<Vec<_>, _> = elements.collect();
            Value::new(dims, elements.map_err(|_| refuse("a string is not valid UTF-8".to_owned()))?)
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

/// The element type of ONNX's number, including string, which [`ElementType::from_onnx`] leaves out.
pub(crate) fn element_type(number: i32) -> Option<ElementType> {
    if number == STRINGS { Some(ElementType::String) } else { ElementType::from_onnx(number) }
}

/// Bytes by which a graph's tensors of 4-bit and 2-bit elements grow in memory, where each element takes a byte.
pub(crate) fn unpacked_growth(graph: &GraphProto) -> usize {
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
    let inside = attributes().filter_map(|attribute| attribute.g.as_ref()).map(unpacked_growth);
    inside.fold(growth, usize::saturating_add)
}
