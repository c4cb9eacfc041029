//! The tensors that a model must have and may have, with the shapes that follow from its hyperparameters.
//!
//! A file is compared with them before anything is allocated for its weights. A tensor that is not among them would
//! change what the model computes, so it is refused.

use super::hyper::Hyperparameters;
use crate::gguf::file::{FileTensor, Gguf};
use crate::gguf::kind::TensorKind;
use crate::quant::QuantType;
use crate::quote::quote;
use crate::tensor::dims::Dims;
use graphpool::backend::Error;

/// A tensor of a model: a vector of `cols` f32, or a matrix of `rows` rows.
struct Spec {
    name: &'static str,
    cols: usize,
    /// `None` for a vector.
    rows: Option<usize>,
    required: bool,
}

const fn matrix(name: &'static str, rows: usize, cols: usize) -> Spec {
    Spec { name, cols, rows: Some(rows), required: true }
}

const fn vector(name: &'static str, cols: usize) -> Spec {
    Spec { name, cols, rows: None, required: true }
}

impl Spec {
    const fn optional(self) -> Self {
        Self { required: false, ..self }
    }

    /// Refuses a tensor of another shape, and one of a type that can't be computed with.
    fn check(&self, tensor: &FileTensor<'_>) -> Result<(), Error> {
        let wanted: &[usize] = match self.rows {
            Some(rows) => &[self.cols, rows],
            None => &[self.cols],
        };
        let name = quote(tensor.name);
        if tensor.dims() != wanted {
            let why = format!(
                "the tensor {name} has the dimensions {}, and the hyperparameters need {}",
                Dims(tensor.dims()),
                Dims(wanted)
            );
            return Err(Error::invalid_encoding(why));
        }
        if self.rows.is_none() && tensor.kind.number != F32 {
            let why = format!("the vector {name} has the type {}, and only F32 is supported", tensor.kind.name);
            return Err(Error::unsupported(why));
        }
        quant_type(tensor.kind, tensor.name).map(|_| ())
    }
}

/// The number of the type F32 in a file.
const F32: u32 = 0;

/// The type of a tensor's blocks, for products.
pub(crate) fn quant_type(kind: TensorKind, name: &str) -> Result<QuantType, Error> {
    QuantType::from_ggml(kind.number).map_err(|error| {
        Error::new(
            error.kind(),
            format!("the tensor {} has the type {}, which is not supported", quote(name), kind.name),
        )
    })
}

/// The tensors outside of layers.
fn global(hyper: &Hyperparameters) -> [Spec; 4] {
    [
        matrix("token_embd.weight", hyper.vocabulary, hyper.width),
        vector("output_norm.weight", hyper.width),
        // Without it, logits come from the matrix of embeddings.
        matrix("output.weight", hyper.vocabulary, hyper.width).optional(),
        vector("rope_freqs.weight", hyper.rope.dims / 2).optional(),
    ]
}

/// The tensors of a layer, whose names `blk.N.` is in front of. `fused`: queries, keys and values are one matrix.
fn layer(hyper: &Hyperparameters, fused: bool) -> Vec<Spec> {
    let Hyperparameters { family, width, hidden, head_dim, .. } = *hyper;
    let (queries, keys) = (hyper.query_width(), hyper.kv_width());
    let mut specs = vec![
        vector("attn_norm.weight", width),
        matrix("attn_output.weight", width, queries),
        vector("attn_output.bias", width).optional(),
        vector("ffn_norm.weight", width),
        matrix("ffn_down.weight", width, hidden),
    ];
    if fused {
        specs.push(matrix("attn_qkv.weight", queries + 2 * keys, width));
        specs.push(vector("attn_qkv.bias", queries + 2 * keys).optional());
    } else {
        for (weight, bias, rows) in [
            ("attn_q.weight", "attn_q.bias", queries),
            ("attn_k.weight", "attn_k.bias", keys),
            ("attn_v.weight", "attn_v.bias", keys),
        ] {
            specs.push(matrix(weight, rows, width));
            specs.push(vector(bias, rows).optional());
        }
    }
    if family.fuses_gate() {
        specs.push(matrix("ffn_up.weight", 2 * hidden, width));
    } else {
        specs.push(matrix("ffn_gate.weight", hidden, width));
        specs.push(matrix("ffn_up.weight", hidden, width));
    }
    if family.normalizes_heads() {
        specs.push(vector("attn_q_norm.weight", head_dim));
        specs.push(vector("attn_k_norm.weight", head_dim));
    }
    if family.normalizes_outputs() {
        specs.push(vector("post_attention_norm.weight", width));
        specs.push(vector("post_ffw_norm.weight", width));
    }
    specs
}

/// Whether queries, keys and values are one matrix in the file.
pub(crate) fn is_fused(file: &Gguf<'_>) -> bool {
    file.tensor("blk.0.attn_qkv.weight").is_some()
}

/// Refuses a file whose tensors are not those of its hyperparameters.
///
/// # Errors
///
/// * `InvalidEncoding` for a tensor that is missing or has another shape.
/// * `UnsupportedOperation` for a tensor that these models don't have, and for a type without products.
pub(crate) fn check(file: &Gguf<'_>, hyper: &Hyperparameters) -> Result<(), Error> {
    let (global, layer) = (global(hyper), layer(hyper, is_fused(file)));
    let mut found = vec![0_usize; layer.len()];
    for tensor in file.tensors() {
        let in_layer = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let in_layer = in_layer.and_then(|(index, name)| {
            // `blk.01` is no layer, so the names of a kind are as many as its layers.
            let layer = index.parse::<usize>().ok().filter(|layer| layer.to_string() == index)?;
            Some((layer, name))
        });
        let spec = match in_layer {
            Some((index, name)) => layer.iter().position(|spec| spec.name == name && index < hyper.layers).map(|at| {
                found[at] += 1;
                &layer[at]
            }),
            None => global.iter().find(|spec| spec.name == tensor.name),
        };
        let Some(spec) = spec else {
            let why = format!("the tensor {} is not one of this architecture's, or of no layer", quote(tensor.name));
            return Err(Error::unsupported(why));
        };
        spec.check(tensor)?;
    }
    let missing = |name: String| Error::invalid_encoding(format!("the GGUF file has no tensor {}", quote(&name)));
    for spec in &global {
        if spec.required && file.tensor(spec.name).is_none() {
            return Err(missing(spec.name.to_owned()));
        }
    }
    for (spec, found) in layer.iter().zip(found) {
        if spec.required && found < hyper.layers {
            let mut names = (0..hyper.layers).map(|index| layer_name(index, spec.name));
            return Err(missing(names.find(|name| file.tensor(name).is_none()).unwrap_or_default()));
        }
    }
    Ok(())
}

/// The name of a layer's tensor.
pub(crate) fn layer_name(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}")
}
