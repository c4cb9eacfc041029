//! Converts tensors of strings between the model's string ids and the bytes that a guest reads and writes.
//!
//! A guest sees one row of bytes for each string. All rows of a tensor have the same width; shorter strings are padded
//! with zero bytes.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::quote::quote;
use crate::tensor::dims::count;
use crate::tensor::string_table::{StringId, StringTable};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The error for an output that has a string which the model does not contain.
pub(crate) fn unknown_string() -> Error {
    Error::runtime_error("an output has a string that the model does not contain, and such a string is not stored")
}

/// The tensor of strings of `dims` that `data` holds in rows of `width` bytes; `name` is the input's, for messages.
pub(crate) fn from_wire(
    dims: Vec<usize>,
    width: usize,
    data: &[u8],
    table: &StringTable,
    name: &str,
) -> Result<Value, Error> {
    let name = quote(name);
    let rows = count(&dims)?;
    if rows.checked_mul(width) != Some(data.len()) {
        let why =
            format!("input {name} needs {rows} strings of {width} bytes each, but {} bytes were given", data.len());
        return Err(Error::invalid_argument(why));
    }
    let find = |row: &[u8]| {
        let end = row.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        str::from_utf8(&row[..end]).map(|string| table.find(string))
    };
    let ids: Vec<StringId> = match width {
        0 if rows > 0 => {
            let why = format!("input {name} has strings of width 0, and the least width is 1 byte");
            return Err(Error::invalid_argument(why));
        }
        0 => Vec::new(),
        _ => data
            .chunks_exact(width)
            .map(find)
            .collect::<Result<_, _>>()
            .map_err(|_| Error::invalid_argument(format!("input {name} has a string that is not valid UTF-8")))?,
    };
    Value::new(dims, ids)
}

/// The width of a tensor's rows: the bytes of its longest string, at least 1.
pub(crate) fn width(value: &Value, table: &StringTable, cx: &ExecContext<'_>) -> Result<usize, Error> {
    let (mut width, mut checkpoint) = (1, Checkpoint::default());
    for piece in value.elements::<StringId>()?.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        for &id in piece {
            width = width.max(table.get(id).ok_or_else(unknown_string)?.len());
        }
    }
    Ok(width)
}

/// The strings of a tensor in rows of `width` bytes. The caller has charged these bytes.
pub(crate) fn to_wire(
    value: &Value,
    width: usize,
    table: &StringTable,
    cx: &ExecContext<'_>,
) -> Result<Vec<u8>, Error> {
    let mut checkpoint = Checkpoint::default();
    let elements = value.elements::<StringId>()?;
    let mut bytes = Vec::new();
    let len = elements.len().saturating_mul(width);
    let failed = |_| Error::too_large(format!("the allocation of {len} bytes for an output of strings failed"));
    bytes.try_reserve_exact(len).map_err(failed)?;
    for (row, &id) in elements.iter().enumerate() {
        checkpoint.step(width, cx)?;
        bytes.extend_from_slice(table.get(id).ok_or_else(unknown_string)?.as_bytes());
        bytes.resize((row + 1) * width, 0);
    }
    Ok(bytes)
}
