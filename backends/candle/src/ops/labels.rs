//! Labels and categories of ai.onnx.ml: LabelEncoder, OneHotEncoder, CategoryMapper, ZipMap.
//!
//! The tables are built at load. ZipMap makes a sequence of maps, which is not a tensor: here its output is the matrix
//! of scores, with a column for each class in the order of the labels.

use std::collections::HashMap;

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::format::messages::GraphProto;
use crate::format::ports::Port;
use crate::ops::broadcast::elements_like;
use crate::ops::cast::convert;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{ML, Operator, ml};
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::{Element, ElementType, with_elements};
use crate::tensor::string_table::StringId;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    ml(1, "LabelEncoder", (1, 1), label_encoder_of_classes).until(1),
    ml(2, "LabelEncoder", (1, 1), label_encoder),
    ml(1, "OneHotEncoder", (1, 1), one_hot),
    ml(1, "CategoryMapper", (1, 1), category_mapper),
    ml(1, "ZipMap", (1, 1), zip_map),
];

/// The key of an element in a table, from its bits, so that NaN has one too.
trait Key: Element {
    fn key(self) -> u64;
}

macro_rules! impl_integers {
    ($($ty:ty)*) => {$(
        impl Key for $ty {
            fn key(self) -> u64 { i64::from(self) as u64 }
        }
    )*};
}

impl_integers!(i64 i32 i16);

macro_rules! impl_floats {
    ($($ty:ty)*) => {$(
        impl Key for $ty {
            fn key(self) -> u64 {
                // All NaNs have one key, and 0.0 and -0.0 have one.
                if self.is_nan() { u64::MAX } else { u64::from((self + 0.0).to_bits()) }
            }
        }
    )*};
}

impl_floats!(f32 f64);

impl Key for StringId {
    fn key(self) -> u64 {
        u64::from(self.index())
    }
}

/// Runs a body with the elements of a value, whose type must be one of keys.
macro_rules! with_keys {
    ($value:expr, |$elements:ident| $body:expr) => {
        match $value.ty() {
            ElementType::I64 => with_keys!(@ i64, $value, $elements, $body),
            ElementType::I32 => with_keys!(@ i32, $value, $elements, $body),
            ElementType::I16 => with_keys!(@ i16, $value, $elements, $body),
            ElementType::F32 => with_keys!(@ f32, $value, $elements, $body),
            ElementType::F64 => with_keys!(@ f64, $value, $elements, $body),
            ElementType::String => with_keys!(@ StringId, $value, $elements, $body),
            _ => Err(no_type($value)),
        }
    };
    (@ $ty:ty, $value:expr, $elements:ident, $body:expr) => {{
        let $elements: &[$ty] = $value.elements::<$ty>()?;
        $body
    }};
}

/// A map from elements to the positions of their values.
struct Table {
    positions: HashMap<u64, u32>,
    ty: ElementType,
}

/// Approximate bytes of an entry of a table.
const ENTRY_BYTES: usize = 24;

impl Table {
    /// The table of `keys`. Of equal keys the last one counts if `last`, otherwise the first.
    fn new(keys: &Value, last: bool, node: &Node<'_>) -> Result<Self, Error> {
        node.charge(keys.len().saturating_mul(ENTRY_BYTES))?;
        let mut positions = HashMap::with_capacity(keys.len());
        with_keys!(keys, |keys| {
            for (position, key) in (0_u32..).zip(keys) {
                if last {
                    positions.insert(key.key(), position);
                } else {
                    positions.entry(key.key()).or_insert(position);
                }
            }
            Ok(())
        })?;
        Ok(Self { positions, ty: keys.ty() })
    }

    /// Calls `visit` with the position of each element's value; `None` for an element that is not a key.
    fn visit(&self, value: &Value, cx: &ExecContext<'_>, mut visit: impl FnMut(Option<usize>)) -> Result<(), Error> {
        if value.ty() != self.ty {
            return Err(no_type(value));
        }
        let mut checkpoint = Checkpoint::default();
        with_keys!(value, |elements| {
            for piece in elements.chunks(PIECE / 8) {
                checkpoint.step(piece.len() * 8, cx)?;
                piece.iter().for_each(|key| visit(self.positions.get(&key.key()).map(|&position| position as usize)));
            }
            Ok(())
        })
    }

    /// Maps each element to its value in `values`, or to `default`.
    fn map(&self, value: &Value, values: &Value, default: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
        with_elements!(values, |values| {
            let &[default] = elements_like(values, default)? else {
                return Err(Error::invalid_argument("the default must have one element"));
            };
            cx.output(value.dims())?.append(|out| {
                self.visit(value, cx, |position| {
                    out.push(position.and_then(|position| values.get(position)).copied().unwrap_or(default));
                })
            })
        })
    }
}

/// The list in one of several attributes, which differ by type.
fn list(node: &Node<'_>, prefix: &str) -> Result<Option<Value>, Error> {
    let mut lists = Vec::new();
    if let Some(floats) = node.floats(&format!("{prefix}_floats"))? {
        lists.push(Value::new(vec![floats.len()], floats.to_vec())?);
    }
    if let Some(ints) = node.ints(&format!("{prefix}_int64s"))? {
        lists.push(Value::new(vec![ints.len()], ints.to_vec())?);
    }
    if let Some(texts) = node.string_ids(&format!("{prefix}_strings"))? {
        lists.push(Value::new(vec![texts.len()], texts)?);
    }
    // From version 4 on.
    if let Some(tensor) = node.tensor(&format!("{prefix}_tensor"))? {
        lists.push(tensor);
    }
    if lists.len() > 1 {
        return Err(Error::invalid_encoding(format!("more than one list of {prefix} is given")));
    }
    Ok(lists.pop())
}

fn label_encoder(node: &Node<'_>) -> Result<OpFn, Error> {
    let (Some(keys), Some(values)) = (list(node, "keys")?, list(node, "values")?) else {
        return Err(Error::invalid_encoding("keys or values are missing"));
    };
    if keys.len() != values.len() {
        return Err(Error::invalid_encoding(format!("there are {} keys and {} values", keys.len(), values.len())));
    }
    let floating = node.float("default_float", -0.0)?;
    let (integer, text) = (node.int("default_int64")?.unwrap_or(-1), node.string_id("default_string", "_Unused")?);
    let default = match (node.tensor("default_tensor")?, values.ty()) {
        (Some(tensor), _) => tensor,
        (None, ElementType::F32) => Value::scalar(floating)?,
        (None, ElementType::F64) => Value::scalar(f64::from(floating))?,
        (None, ElementType::I64) => Value::scalar(integer)?,
        (None, ElementType::I32) => Value::scalar(i32::try_from(integer).unwrap_or(-1))?,
        (None, ElementType::I16) => Value::scalar(i16::try_from(integer).unwrap_or(-1))?,
        (None, ElementType::String) => Value::scalar(text)?,
        _ => return Err(no_type(&values)),
    };
    if default.ty() != values.ty() || default.len() != 1 {
        return Err(Error::invalid_encoding("attribute default_tensor is not one element of the values' type"));
    }
    node.charge(values.bytes())?;
    let table = Table::new(&keys, false, node)?;
    Ok(Box::new(move |args, cx| Ok(values![table.map(args.get(0)?, &values, &default, cx)?])))
}

/// Maps strings to integers and integers to strings, depending on the type of the input.
fn bidirectional(node: &Node<'_>, integers: &Value, strings: &Value) -> Result<OpFn, Error> {
    if integers.len() != strings.len() {
        return Err(Error::invalid_encoding(format!(
            "there are {} integers and {} strings",
            integers.len(),
            strings.len()
        )));
    }
    let integer = Value::scalar(node.int("default_int64")?.unwrap_or(-1))?;
    let text = Value::scalar(node.string_id("default_string", "_Unused")?)?;
    node.charge(integers.bytes() + strings.bytes())?;
    let (from_integers, from_strings) = (Table::new(integers, true, node)?, Table::new(strings, true, node)?);
    let (integers, strings) = (integers.clone(), strings.clone());
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        Ok(values![if value.ty() == ElementType::String {
            from_strings.map(value, &integers, &integer, cx)?
        } else {
            from_integers.map(value, &strings, &text, cx)?
        }])
    }))
}

fn label_encoder_of_classes(node: &Node<'_>) -> Result<OpFn, Error> {
    let classes = node.string_ids("classes_strings")?.unwrap_or_default();
    let numbers = Value::new(vec![classes.len()], (0..classes.len() as i64).collect())?;
    bidirectional(node, &numbers, &Value::new(vec![classes.len()], classes)?)
}

fn category_mapper(node: &Node<'_>) -> Result<OpFn, Error> {
    let (integers, strings) =
        (node.ints("cats_int64s")?.unwrap_or_default(), node.string_ids("cats_strings")?.unwrap_or_default());
    let integers = Value::new(vec![integers.len()], integers.to_vec())?;
    bidirectional(node, &integers, &Value::new(vec![strings.len()], strings)?)
}

fn one_hot(node: &Node<'_>) -> Result<OpFn, Error> {
    let (ints, texts) =
        (node.ints("cats_int64s")?.unwrap_or_default(), node.string_ids("cats_strings")?.unwrap_or_default());
    if ints.is_empty() == texts.is_empty() {
        return Err(Error::invalid_encoding("exactly one of cats_int64s and cats_strings must be given"));
    }
    let zeros = node.flag("zeros", true)?;
    let keys = if texts.is_empty() {
        Value::new(vec![ints.len()], ints.to_vec())?
    } else {
        Value::new(vec![texts.len()], texts)?
    };
    let (table, width) = (Table::new(&keys, true, node)?, keys.len());
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let value = if table.ty == ElementType::I64 { convert(value, ElementType::I64, cx)? } else { value };
        let dims = [value.dims(), &[width]].concat();
        count(&dims)?;
        let (mut start, mut unknown) = (0, false);
        let result = cx.output::<f32>(&dims)?.write(0.0, |out| {
            table.visit(&value, cx, |position| {
                match position {
                    Some(position) => out[start + position] = 1.0,
                    None => unknown = true,
                }
                start += width;
            })
        })?;
        if unknown && !zeros {
            return Err(Error::invalid_argument("the input has an unknown category, and attribute zeros is 0"));
        }
        Ok(values![result])
    }))
}

/// The number of labels of a ZipMap.
fn labels(node: &Node<'_>) -> Result<usize, Error> {
    let integers = node.ints("classlabels_int64s")?.map_or(0, <[i64]>::len);
    let strings = node.strings("classlabels_strings")?.map_or(0, |labels| labels.len());
    if (integers == 0) == (strings == 0) {
        return Err(Error::invalid_encoding("exactly one of classlabels_int64s and classlabels_strings must be given"));
    }
    Ok(integers.max(strings))
}

fn zip_map(node: &Node<'_>) -> Result<OpFn, Error> {
    let width = labels(node)?;
    Ok(Box::new(move |mut args, cx| {
        let scores = convert(args.take(0)?, ElementType::F32, cx)?;
        match *scores.dims() {
            [columns] if columns == width => Ok(values![scores.reshaped(vec![1, width])?]),
            [_, columns] if columns == width => Ok(values![scores]),
            _ => Err(Error::invalid_argument(format!("the scores {} do not fit {width} labels", Dims(scores.dims())))),
        }
    }))
}

/// The outputs of ZipMap, described as the matrices that this backend returns for them.
pub(crate) fn maps(graph: &GraphProto) -> HashMap<String, Port> {
    let maps = graph
        .node
        .iter()
        .filter(|node| node.op_type.as_deref() == Some("ZipMap") && node.domain.as_deref() == Some(ML));
    let port = |node: &crate::format::messages::NodeProto| {
        let name = node.output.first()?.clone();
        let width = node.attribute.iter().map(|attribute| attribute.ints.len().max(attribute.strings.len())).max();
        Some((name.clone(), Port { name, ty: ElementType::F32, dims: Some(vec![None, width]) }))
    };
    maps.filter_map(port).collect()
}
