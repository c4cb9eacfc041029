//! Decodes the bytes of a model into protobuf messages, within the budget of the load.

use crate::format::messages::ModelProto;
use crate::format::scan;
use crate::tensor::budget::LoadBudget;
use graphpool::backend::Error;
use prost::Message;

/// Decodes a model. The size of its decoded form is charged to the budget first.
pub(crate) fn decode(bytes: &[u8], budget: &mut LoadBudget) -> Result<ModelProto, Error> {
    for (magic, name) in [(&b"GGUF"[..], "GGUF"), (b"PK\x03\x04", "a ZIP archive (PyTorch?)"), (b"\x89HDF", "HDF5")] {
        if bytes.starts_with(magic) {
            return Err(Error::invalid_encoding(format!("the bytes are {name}, not ONNX")));
        }
    }
    // A safetensors file begins with the length of its JSON header and the header's brace.
    if let [header @ .., b'{'] = bytes.get(..9).unwrap_or_default()
        && header.get(4..) == Some(&[0; 4])
    {
        return Err(Error::invalid_encoding("the bytes are safetensors, not ONNX"));
    }
    let (size, transient) = scan::decoded_size(bytes)?;
    budget.charge(size.saturating_add(transient))?;
    budget.release(transient);
    ModelProto::decode(bytes)
        .map_err(|error| Error::invalid_encoding(format!("the bytes are not an ONNX model: {error}")))
}
