//! Computes how much memory the decoded form of a model takes, without decoding it.
//!
//! One byte of protobuf can become a hundred bytes of Rust structs. This pass over the wire format allocates nothing
//! and adds up what the decoder would allocate, so that a hostile model is refused before any of it is allocated.

use crate::format::messages::{
    AttributeProto, DimensionProto, EmptyProto, FunctionProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, ValueInfoProto,
};
use crate::tensor::budget::allocation;
use graphpool::backend::Error;

/// The deepest nesting of messages that the scan follows. The decoder's own limit is lower.
const MAX_DEPTH: usize = 128;

/// What a length-delimited field holds.
#[derive(Clone, Copy)]
enum Field {
    /// A message: the size of its struct, and its fields.
    Message(usize, Fields),
    /// Bytes or a string: the size of its struct.
    Bytes(usize),
    /// Packed numbers: the most bytes that they take for each byte of input.
    Packed(usize),
}

/// The length-delimited fields of a message that are decoded, by field number.
type Fields = fn(u64) -> Option<Field>;

fn model(field: u64) -> Option<Field> {
    Some(match field {
        7 => Field::Message(0, graph),
        8 => Field::Message(size_of::<OperatorSetIdProto>(), leaf),
        25 => Field::Message(size_of::<FunctionProto>(), function),
        _ => return None,
    })
}

fn function(field: u64) -> Option<Field> {
    Some(match field {
        1 | 10 | 13 => Field::Bytes(0),
        4..=6 => Field::Bytes(size_of::<String>()),
        7 => Field::Message(size_of::<NodeProto>(), node),
        9 => Field::Message(size_of::<OperatorSetIdProto>(), leaf),
        11 => Field::Message(size_of::<AttributeProto>(), attribute),
        _ => return None,
    })
}

fn graph(field: u64) -> Option<Field> {
    Some(match field {
        1 => Field::Message(size_of::<NodeProto>(), node),
        2 => Field::Bytes(0),
        5 => Field::Message(size_of::<TensorProto>(), tensor),
        11 | 12 => Field::Message(size_of::<ValueInfoProto>(), value_info),
        15 => Field::Message(size_of::<EmptyProto>(), nothing),
        _ => return None,
    })
}

fn node(field: u64) -> Option<Field> {
    Some(match field {
        1 | 2 => Field::Bytes(size_of::<String>()),
        3 | 4 | 7 | 8 => Field::Bytes(0),
        5 => Field::Message(size_of::<AttributeProto>(), attribute),
        _ => return None,
    })
}

fn attribute(field: u64) -> Option<Field> {
    Some(match field {
        1 | 4 | 21 => Field::Bytes(0),
        5 => Field::Message(0, tensor),
        6 => Field::Message(0, graph),
        7 => Field::Packed(1),
        8 => Field::Packed(size_of::<i64>()),
        9 => Field::Bytes(size_of::<Vec<u8>>()),
        _ => return None,
    })
}

fn tensor(field: u64) -> Option<Field> {
    Some(match field {
        1 | 7 | 11 => Field::Packed(size_of::<i64>()),
        4 | 10 => Field::Packed(1),
        5 => Field::Packed(size_of::<i32>()),
        6 => Field::Bytes(size_of::<Vec<u8>>()),
        8 | 9 => Field::Bytes(0),
        13 => Field::Message(size_of::<StringStringEntryProto>(), entry),
        _ => return None,
    })
}

fn entry(field: u64) -> Option<Field> {
    matches!(field, 1 | 2).then_some(Field::Bytes(0))
}

fn value_info(field: u64) -> Option<Field> {
    Some(match field {
        1 => Field::Bytes(0),
        2 => Field::Message(0, type_),
        _ => return None,
    })
}

fn type_(field: u64) -> Option<Field> {
    (field == 1).then_some(Field::Message(0, tensor_type))
}

fn tensor_type(field: u64) -> Option<Field> {
    (field == 2).then_some(Field::Message(0, shape))
}

fn shape(field: u64) -> Option<Field> {
    (field == 1).then_some(Field::Message(size_of::<DimensionProto>(), leaf))
}

fn leaf(field: u64) -> Option<Field> {
    (field == 1).then_some(Field::Bytes(0))
}

fn nothing(_: u64) -> Option<Field> {
    None
}

/// Field numbers for which list lengths are counted. Every field that is decoded has a lower number.
const FIELDS: usize = 32;

/// For each field number: the elements of its list, and the largest size of an element.
type Lists = [(usize, usize); FIELDS];

/// Counts one more element of a field's list.
fn count(lists: &mut Lists, field: u64, each: usize) {
    let list = usize::try_from(field).ok().and_then(|field| lists.get_mut(field));
    if let Some((count, bytes)) = list {
        *count += 1;
        *bytes = each.max(*bytes);
    }
}

/// Bytes of a vector that grew to `count` elements of `each` bytes: its capacity starts at 4 and doubles.
fn grown((count, each): (usize, usize)) -> usize {
    if count == 0 { 0 } else { allocation(count.next_power_of_two().max(4).saturating_mul(each)) }
}

/// The most bytes that the decoded form of a model takes, and the most that decoding needs in addition.
///
/// The decoder copies the content of a field into a buffer before it stores it, so the longest field counts again.
pub(crate) fn decoded_size(bytes: &[u8]) -> Result<(usize, usize), Error> {
    let mut longest = 0;
    let size = message(bytes, model, MAX_DEPTH, &mut longest).ok_or_else(|| {
        Error::invalid_encoding("the bytes are not an ONNX model: they are not a complete protobuf message")
    })?;
    Ok((size, allocation(longest)))
}

/// The size of one message without its struct; `None` where the bytes are malformed or nested too deeply.
fn message(mut bytes: &[u8], fields: Fields, depth: usize, longest: &mut usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    let (mut size, mut lists) = (0_usize, [(0, 0); FIELDS]);
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            // An unpacked number. It may be one of a list, so it counts as an element of the largest size.
            0 => {
                varint(&mut bytes)?;
                count(&mut lists, key >> 3, size_of::<u64>());
            }
            1 => {
                take(&mut bytes, 8)?;
                count(&mut lists, key >> 3, size_of::<f64>());
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let content = take(&mut bytes, length)?;
                size = size.saturating_add(match fields(key >> 3) {
                    Some(Field::Message(own, fields)) => {
                        count(&mut lists, key >> 3, own);
                        message(content, fields, depth, longest)?
                    }
                    Some(Field::Bytes(own)) => {
                        count(&mut lists, key >> 3, own);
                        *longest = length.max(*longest);
                        allocation(if length == 0 { 0 } else { length.max(8) })
                    }
                    Some(Field::Packed(each)) => allocation(length.saturating_mul(2 * each).max(4 * size_of::<u64>())),
                    None => 0,
                });
            }
            5 => {
                take(&mut bytes, 4)?;
                count(&mut lists, key >> 3, size_of::<f32>());
            }
            // ONNX messages have no groups (wire types 3 and 4), and 6 and 7 are no wire types.
            _ => return None,
        }
    }
    Some(lists.into_iter().map(grown).fold(size, usize::saturating_add))
}

/// Removes `length` bytes from the front and returns them; `None` if there are fewer.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// Removes a variable-length integer from the front and returns it; `None` if it is incomplete or too long.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
