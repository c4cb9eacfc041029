//! Tensors from ONNX's test data.

use graphpool::backend::Error;

use crate::format::messages::TensorProto;
use crate::format::tensors;
use crate::tensor::string_table::StringTable;
use crate::tensor::value::Value;

/// Decodes a tensor from the bytes of one `TensorProto` message, the format of ONNX's test data files.
///
/// The memory for it is not limited, so the bytes must come from a trusted source.
///
/// # Errors
///
/// [`InvalidEncoding`](graphpool::backend::ErrorKind::InvalidEncoding) for bytes that are not a valid tensor,
/// [`UnsupportedOperation`](graphpool::backend::ErrorKind::UnsupportedOperation) for strings, other unsupported element
/// types, and data in another file.
pub fn decode_tensor(bytes: &[u8]) -> Result<Value, Error> {
    let tensor = <TensorProto as prost::Message>::decode(bytes);
    let tensor =
        tensor.map_err(|error| Error::invalid_encoding(format!("the bytes are not an ONNX tensor: {error}")))?;
    // Strings are ids in a model's string table, and there is no model here.
    if tensor.data_type == Some(8) {
        return Err(Error::unsupported("a tensor of strings is supported only as part of a model"));
    }
    tensors::tensor(&tensor, &std::cell::RefCell::new(StringTable::new()))
}
