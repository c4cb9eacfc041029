//! Tensors of strings as they cross the boundary: bytes, each string's in a row of its own, filled up with zeros.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::quote::quote;
use crate::tensor::dims::count;
use crate::tensor::texts::{Text, Texts};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// What a string in an output that the model doesn't name is answered with.
pub(crate) fn foreign() -> Error {
    Error::runtime_error("an output has a string of an input that the model doesn't name, of which nothing is kept")
}

/// The strings of rows of `width` bytes.
pub(crate) fn receive(dims: Vec<usize>, width: usize, data: &[u8], texts: &Texts, name: &str) -> Result<Value, Error> {
    let rows = count(&dims)?;
    if rows.checked_mul(width) != Some(data.len()) {
        return Err(Error::invalid_argument(format!("input {}: {} bytes of strings", quote(name), data.len())));
    }
    let find = |row: &[u8]| {
        let end = row.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        str::from_utf8(&row[..end]).map(|text| texts.find(text))
    };
    let texts: Vec<Text> = match width {
        0 if rows > 0 => return Err(Error::invalid_argument(format!("input {}: strings of 0 bytes", quote(name)))),
        0 => Vec::new(),
        _ => data
            .chunks_exact(width)
            .map(find)
            .collect::<Result<_, _>>()
            .map_err(|_| Error::invalid_argument(format!("input {}: a string that is no UTF-8", quote(name))))?,
    };
    Value::new(dims, texts)
}

/// Bytes of the longest string, at least 1.
pub(crate) fn width(value: &Value, texts: &Texts, cx: &ExecContext<'_>) -> Result<usize, Error> {
    let (mut width, mut checkpoint) = (1, Checkpoint::default());
    for piece in value.elements::<Text>()?.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        for &text in piece {
            width = width.max(texts.get(text).ok_or_else(foreign)?.len());
        }
    }
    Ok(width)
}

/// Rows of `width` bytes, for which the caller has charged.
pub(crate) fn carry(value: &Value, width: usize, texts: &Texts, cx: &ExecContext<'_>) -> Result<Vec<u8>, Error> {
    let mut checkpoint = Checkpoint::default();
    let elements = value.elements::<Text>()?;
    let mut bytes = Vec::new();
    let len = elements.len().saturating_mul(width);
    bytes.try_reserve_exact(len).map_err(|_| Error::too_large(format!("no memory for {len} bytes of strings")))?;
    for (row, &text) in elements.iter().enumerate() {
        checkpoint.step(width, cx)?;
        bytes.extend_from_slice(texts.get(text).ok_or_else(foreign)?.as_bytes());
        bytes.resize((row + 1) * width, 0);
    }
    Ok(bytes)
}
