//! The weights of a language model: immutable, and shared by all of its sessions.

use super::hyper::Hyperparameters;
use super::shapes::{is_fused, layer_name, quant_type};
use crate::gguf::file::{FileTensor, Gguf};
use crate::gguf::source::{Reader, Source};
use crate::quant::{QuantMatrix, RowSource};
use crate::quote::quote;
use crate::tensor::budget::{LoadBudget, allocation};
use graphpool::backend::Error;
use std::ops::Range;

/// A matrix with a bias that is added to its products.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: QuantMatrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The weights of a layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) query_norm: Option<Vec<f32>>,
    pub(crate) key_norm: Option<Vec<f32>>,
    pub(crate) output: Linear,
    pub(crate) attention_output_norm: Option<Vec<f32>>,
    pub(crate) feed_norm: Vec<f32>,
    pub(crate) gate: QuantMatrix,
    pub(crate) up: QuantMatrix,
    pub(crate) down: QuantMatrix,
    pub(crate) feed_output_norm: Option<Vec<f32>>,
}

/// The weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: QuantMatrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    /// `None` where logits come from the matrix of embeddings.
    pub(crate) output: Option<QuantMatrix>,
    /// What each rotation's frequency is divided by.
    pub(crate) rope_factors: Option<Vec<f32>>,
    /// Bytes of all weights.
    bytes: usize,
}

impl Weights {
    /// Copies the weights of a file that [`check`](super::shapes::check) has accepted, some rows at a time. All of them
    /// are charged.
    ///
    /// # Errors
    ///
    /// `TooLarge` past the budget, `InvalidEncoding` for factors of a rotation that are no positive numbers, and
    /// `RuntimeError` if the file can't be read.
    pub(crate) fn load(
        file: &Gguf<'_>,
        source: Source<'_>,
        hyper: &Hyperparameters,
        budget: &mut LoadBudget,
    ) -> Result<Self, Error> {
        let mut loader = Loader { file, reader: Reader::new(source), budget, bytes: 0 };
        let embedding = loader.matrix("token_embd.weight")?;
        let output = file.tensor("output.weight").map(|_| loader.matrix("output.weight")).transpose()?;
        let output_norm = loader.vector("output_norm.weight")?;
        let rope_factors = loader.optional("rope_freqs.weight")?;
        if rope_factors.iter().flatten().any(|factor| !(factor.is_finite() && *factor > 0.0)) {
            let why = "the tensor 'rope_freqs.weight' has an element that is no positive number";
            return Err(Error::invalid_encoding(why));
        }
        let list = allocation(hyper.layers * size_of::<Layer>());
        loader.charge(list)?;
        let mut layers = Vec::with_capacity(hyper.layers);
        for index in 0..hyper.layers {
            layers.push(loader.layer(index, hyper)?);
        }
        let bytes = loader.bytes;
        loader.reader.end(loader.budget);
        Ok(Self { embedding, layers, output_norm, output, rope_factors, bytes })
    }

    /// Bytes of all weights.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The matrix that gives logits.
    pub(crate) const fn logits(&self) -> &QuantMatrix {
        match &self.output {
            Some(output) => output,
            None => &self.embedding,
        }
    }
}

struct Loader<'l, 'a> {
    file: &'l Gguf<'a>,
    reader: Reader<'l>,
    budget: &'l mut LoadBudget,
    bytes: usize,
}

/// The rows of a tensor, from one of them on.
struct TensorRows<'l, 'a> {
    reader: &'l mut Reader<'a>,
    /// Where the first one is in the file, and where the tensor ends.
    start: usize,
    end: usize,
    row: usize,
}

impl RowSource for TensorRows<'_, '_> {
    fn rows(&mut self, rows: Range<usize>) -> Result<&[u8], Error> {
        self.reader.bytes(self.start + rows.start * self.row..self.start + rows.end * self.row, self.end)
    }
}

/// Rows that a matrix asks for together.
const ROWS: usize = 16;

impl<'a> Loader<'_, 'a> {
    fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        self.budget.charge(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    fn tensor(&self, name: &str) -> Result<FileTensor<'a>, Error> {
        let tensor = self.file.tensor(name).copied();
        tensor.ok_or_else(|| Error::invalid_encoding(format!("the GGUF file has no tensor {}", quote(name))))
    }

    fn matrix(&mut self, name: &str) -> Result<QuantMatrix, Error> {
        let tensor = self.tensor(name)?;
        self.rows(&tensor, 0..tensor.dims().get(1).copied().unwrap_or(1))
    }

    /// Some rows of a matrix, as one of their own.
    fn rows(&mut self, tensor: &FileTensor<'_>, rows: Range<usize>) -> Result<QuantMatrix, Error> {
        let ty = quant_type(tensor.kind, tensor.name)?;
        let cols = tensor.dims().first().copied().unwrap_or(1);
        let Range { start, end } = tensor.place();
        let row =
            tensor.kind.bytes(1, cols).filter(|row| row.checked_mul(rows.end).is_some_and(|len| len <= end - start));
        let Some(row) = row else {
            let why = format!("the tensor {} has no rows {rows:?}", quote(tensor.name));
            return Err(Error::invalid_encoding(why));
        };
        self.charge(allocation(QuantMatrix::resident_bytes(ty, rows.len(), cols)?))?;
        self.reader.prepare(row.saturating_mul(ROWS), end - start, self.budget)?;
        let mut source = TensorRows { reader: &mut self.reader, start: start + rows.start * row, end, row };
        QuantMatrix::read(ty, rows.len(), cols, &mut source)
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(name)?;
        self.elements(&tensor, 0..tensor.place().len() / 4)
    }

    /// Some elements of a vector of f32.
    fn elements(&mut self, tensor: &FileTensor<'_>, elements: Range<usize>) -> Result<Vec<f32>, Error> {
        let Range { start, end } = tensor.place();
        if elements.end > (end - start) / 4 {
            let why = format!("the tensor {} has no elements {elements:?}", quote(tensor.name));
            return Err(Error::invalid_encoding(why));
        }
        self.charge(allocation(elements.len() * 4))?;
        self.reader.prepare(elements.len() * 4, end - start, self.budget)?;
        let bytes = self.reader.bytes(start + elements.start * 4..start + elements.end * 4, end)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }

    fn optional(&mut self, name: &str) -> Result<Option<Vec<f32>>, Error> {
        self.file.tensor(name).map(|_| self.vector(name)).transpose()
    }

    fn linear(&mut self, layer: usize, name: &str) -> Result<Linear, Error> {
        let matrix = self.matrix(&layer_name(layer, &format!("{name}.weight")))?;
        let bias = self.optional(&layer_name(layer, &format!("{name}.bias")))?;
        Ok(Linear { matrix, bias })
    }

    /// Queries, keys and values from one matrix, of which each has some rows.
    fn fused(&mut self, layer: usize, hyper: &Hyperparameters) -> Result<[Linear; 3], Error> {
        let tensor = self.tensor(&layer_name(layer, "attn_qkv.weight"))?;
        let bias = self.file.tensor(&layer_name(layer, "attn_qkv.bias")).copied();
        let (queries, keys) = (hyper.query_width(), hyper.kv_width());
        let mut part = |rows: Range<usize>| {
            let matrix = self.rows(&tensor, rows.clone())?;
            let bias = bias.map(|bias| self.elements(&bias, rows)).transpose()?;
            Ok::<_, Error>(Linear { matrix, bias })
        };
        Ok([part(0..queries)?, part(queries..queries + keys)?, part(queries + keys..queries + 2 * keys)?])
    }

    fn layer(&mut self, index: usize, hyper: &Hyperparameters) -> Result<Layer, Error> {
        let [query, key, value] = if is_fused(self.file) {
            self.fused(index, hyper)?
        } else {
            [self.linear(index, "attn_q")?, self.linear(index, "attn_k")?, self.linear(index, "attn_v")?]
        };
        let up = layer_name(index, "ffn_up.weight");
        let (gate, up) = if hyper.family.fuses_gate() {
            let tensor = self.tensor(&up)?;
            (self.rows(&tensor, 0..hyper.hidden)?, self.rows(&tensor, hyper.hidden..2 * hyper.hidden)?)
        } else {
            (self.matrix(&layer_name(index, "ffn_gate.weight"))?, self.matrix(&up)?)
        };
        Ok(Layer {
            attention_norm: self.vector(&layer_name(index, "attn_norm.weight"))?,
            query,
            key,
            value,
            query_norm: self.optional(&layer_name(index, "attn_q_norm.weight"))?,
            key_norm: self.optional(&layer_name(index, "attn_k_norm.weight"))?,
            output: self.linear(index, "attn_output")?,
            attention_output_norm: self.optional(&layer_name(index, "post_attention_norm.weight"))?,
            feed_norm: self.vector(&layer_name(index, "ffn_norm.weight"))?,
            gate,
            up,
            down: self.matrix(&layer_name(index, "ffn_down.weight"))?,
            feed_output_norm: self.optional(&layer_name(index, "post_ffw_norm.weight"))?,
        })
    }
}
