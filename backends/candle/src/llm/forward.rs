//! One pass of tokens through the layers of a model.
//!
//! A step takes runs of tokens, each of one sequence and following what its cache has: a part of a prompt, or the one
//! token that was chosen last. The runs of all sequences are rows of the same products, so the weights are read once
//! for all of them. What a row computes does not depend on the rows beside it.

use super::attention::{AttentionScratch, Sizes, attend};
use super::cache::Cache;
use super::hyper::Hyperparameters;
use super::norm::{add, add_bias, gate_by_gelu, gate_by_silu, rms_norm, rms_norm_in_place};
use super::rope::Rope;
use super::weights::{Layer, Weights};
use crate::quant::{QuantMatrix, Scratch};
use graphpool::backend::{ComputeControl, Error};
use std::sync::Arc;

/// A model: its hyperparameters and weights, and the frequencies of its rotations.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) hyper: Hyperparameters,
    /// Shared with models that differ in the rotation alone.
    pub(crate) weights: Arc<Weights>,
    rope: Rope,
    /// The rotation in layers with a window.
    local_rope: Rope,
}

/// A run of tokens of one sequence, which follows what its cache has.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// Has room for the tokens ([`Cache::reserve`]).
    pub(crate) cache: &'a mut Cache,
    pub(crate) tokens: &'a [u32],
    /// Of how many tokens, from the end, the results are wanted.
    pub(crate) wanted: usize,
}

/// What a step computes for the rows that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    /// A number for each token of the vocabulary.
    Logits,
    /// The state after the last norm.
    States,
}

/// The memory of a step, which the next step uses again.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    states: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    angles: Vec<f32>,
    results: Vec<f32>,
    attention: AttentionScratch,
    scratch: Scratch,
}

impl Buffers {
    /// The results of the last step, in the order of the rows that were wanted.
    pub(crate) fn results(&mut self) -> &mut [f32] {
        &mut self.results
    }

    /// Sets the results, to those that a step with other buffers has computed.
    pub(crate) fn set_results(&mut self, results: &[f32]) {
        resize(&mut self.results, results.len());
        self.results.copy_from_slice(results);
    }

    /// Frees what the rows of a long step have left, except for the results.
    pub(crate) fn shrink(&mut self) {
        *self = Self { results: std::mem::take(&mut self.results), ..Self::default() };
    }

    /// Bytes that the buffers hold.
    pub(crate) fn held(&self) -> usize {
        let buffers = [
            &self.states,
            &self.normed,
            &self.queries,
            &self.keys,
            &self.values,
            &self.attended,
            &self.gate,
            &self.up,
            &self.angles,
            &self.results,
        ];
        let floats: usize = buffers.iter().map(|buffer| buffer.capacity() * size_of::<f32>()).sum();
        floats + self.scratch.bytes() + self.attention.held()
    }

    /// Bytes of steps of up to `rows` rows, of which the results of `wanted` are asked for.
    pub(crate) fn bytes(model: &Model, rows: usize, wanted: usize) -> usize {
        let hyper = &model.hyper;
        let row = 2 * hyper.width
            + 2 * hyper.query_width()
            + 2 * hyper.kv_width()
            + 2 * hyper.hidden
            + model.rope.angles_len()
            + model.local_rope.angles_len();
        let results = wanted.saturating_mul(hyper.vocabulary.max(hyper.width));
        let floats = rows.saturating_mul(row).saturating_add(results).saturating_mul(size_of::<f32>());
        let scratch = model.weights.layers.first().map_or(0, |layer| {
            [&layer.query.matrix, &layer.output.matrix, &layer.gate, &layer.down]
                .map(|matrix| matrix.scratch_bytes(rows))
                .into_iter()
                .fold(model.weights.logits().scratch_bytes(wanted), usize::max)
        });
        floats.saturating_add(scratch).saturating_add(AttentionScratch::bytes(rows, &model.sizes(0)))
    }
}

impl Model {
    pub(crate) fn new(hyper: Hyperparameters, weights: Arc<Weights>) -> Self {
        let halves = hyper.family.rotates_halves();
        let rope = Rope::new(hyper.rope, weights.rope_factors.as_deref(), halves);
        let local_rope = Rope::new(hyper.local_rope, None, halves);
        Self { hyper, weights, rope, local_rope }
    }

    /// Bytes of the model, beside its weights.
    pub(crate) const fn own_bytes(&self) -> usize {
        self.rope.bytes() + self.local_rope.bytes()
    }

    /// The numbers that a row has as its results.
    pub(crate) const fn result_len(&self, results: Results) -> usize {
        match results {
            Results::Logits => self.hyper.vocabulary,
            Results::States => self.hyper.width,
        }
    }

    fn sizes(&self, layer: usize) -> Sizes {
        let Hyperparameters { heads, kv_heads, head_dim, score_scale, .. } = self.hyper;
        Sizes { heads, kv_heads, head_dim, scale: score_scale, window: self.hyper.window_of(layer) }
    }

    /// Takes the tokens of `runs` through the layers, and leaves the results of those that are wanted in `buffers`.
    ///
    /// After an error no cache has become longer.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a token that the model does not have, and those of [`ComputeControl::check`].
    pub(crate) fn step(
        &self,
        runs: &mut [Run<'_>],
        results: Results,
        buffers: &mut Buffers,
        control: &ComputeControl,
    ) -> Result<(), Error> {
        let rows = runs.iter().map(|run| run.tokens.len()).sum();
        self.embed(runs, rows, buffers)?;
        for (index, layer) in self.weights.layers.iter().enumerate() {
            control.check()?;
            self.attention(index, layer, runs, buffers, control)?;
            self.feed_forward(layer, rows, buffers, control)?;
        }
        self.results(runs, results, buffers, control)?;
        for run in runs {
            run.cache.advance(run.tokens.len());
        }
        Ok(())
    }

    /// The states of the tokens before the first layer, and the angles of their positions.
    fn embed(&self, runs: &[Run<'_>], rows: usize, buffers: &mut Buffers) -> Result<(), Error> {
        let Hyperparameters { width, vocabulary, embedding_scale, .. } = self.hyper;
        resize(&mut buffers.states, rows * width);
        let (global, local) = (self.rope.angles_len(), self.local_rope.angles_len());
        resize(&mut buffers.angles, rows * (global + local));
        let mut states = buffers.states.chunks_exact_mut(width);
        let mut angles = buffers.angles.chunks_exact_mut(global + local);
        for run in runs {
            for ((index, &token), (state, angles)) in
                run.tokens.iter().enumerate().zip(states.by_ref().zip(&mut angles))
            {
                if token as usize >= vocabulary {
                    let why = format!("the token {token} is not one of the model's {vocabulary}");
                    return Err(Error::invalid_argument(why));
                }
                self.weights.embedding.row(token as usize, state)?;
                if let Some(scale) = embedding_scale {
                    for x in &mut *state {
                        *x *= scale;
                    }
                }
                let (global, local) = angles.split_at_mut(global);
                self.rope.angles(run.cache.len() + index, global);
                self.local_rope.angles(run.cache.len() + index, local);
            }
        }
        Ok(())
    }

    /// Adds to the states what they attend to.
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        runs: &mut [Run<'_>],
        buffers: &mut Buffers,
        control: &ComputeControl,
    ) -> Result<(), Error> {
        let Hyperparameters { width, head_dim, epsilon, .. } = self.hyper;
        let (query_width, kv_width) = (self.hyper.query_width(), self.hyper.kv_width());
        let Buffers { states, normed, queries, keys, values, attended, angles, attention, scratch, .. } = buffers;
        resize(normed, states.len());
        rms_norm(states, &layer.attention_norm, epsilon, normed);
        let rows = states.len() / width;
        let linears = [(&layer.query, &mut *queries), (&layer.key, &mut *keys), (&layer.value, &mut *values)];
        products(linears.map(|(linear, out)| (&linear.matrix, out)), normed, rows, scratch, control)?;
        add_bias(queries, layer.query.bias.as_deref());
        add_bias(keys, layer.key.bias.as_deref());
        add_bias(values, layer.value.bias.as_deref());
        if let Some(norm) = &layer.query_norm {
            rms_norm_in_place(queries, norm, epsilon);
        }
        if let Some(norm) = &layer.key_norm {
            rms_norm_in_place(keys, norm, epsilon);
        }
        let sizes = self.sizes(index);
        let global = self.rope.angles_len();
        let angles_len = global + self.local_rope.angles_len();
        for ((queries, keys), angles) in queries
            .chunks_exact_mut(query_width)
            .zip(keys.chunks_exact_mut(kv_width))
            .zip(angles.chunks_exact(angles_len))
        {
            let (rope, angles) = match sizes.window {
                None => (&self.rope, &angles[..global]),
                Some(_) => (&self.local_rope, &angles[global..]),
            };
            rope.rotate(queries, head_dim, angles);
            rope.rotate(keys, head_dim, angles);
        }
        resize(attended, queries.len());
        let mut row = 0;
        for run in runs {
            let first = run.cache.len();
            for position in first..first + run.tokens.len() {
                let at = (row + position - first) * kv_width;
                run.cache.write(index, position, &keys[at..at + kv_width], &values[at..at + kv_width]);
            }
            let range = row * query_width..(row + run.tokens.len()) * query_width;
            row += run.tokens.len();
            if !range.is_empty() {
                let (queries, out) = (&queries[range.clone()], &mut attended[range]);
                attend(run.cache, index, queries, out, &sizes, attention, control)?;
            }
        }
        products([(&layer.output.matrix, &mut *normed)], attended, rows, scratch, control)?;
        add_bias(normed, layer.output.bias.as_deref());
        if let Some(norm) = &layer.attention_output_norm {
            rms_norm_in_place(normed, norm, epsilon);
        }
        add(states, normed);
        Ok(())
    }

    /// Adds to the states what the feed-forward makes of them.
    fn feed_forward(
        &self,
        layer: &Layer,
        rows: usize,
        buffers: &mut Buffers,
        control: &ComputeControl,
    ) -> Result<(), Error> {
        let Buffers { states, normed, gate, up, scratch, .. } = buffers;
        rms_norm(states, &layer.feed_norm, self.hyper.epsilon, normed);
        products([(&layer.gate, &mut *gate), (&layer.up, &mut *up)], normed, rows, scratch, control)?;
        if self.hyper.family.gates_by_gelu() {
            gate_by_gelu(gate, up);
        } else {
            gate_by_silu(gate, up);
        }
        products([(&layer.down, &mut *normed)], gate, rows, scratch, control)?;
        if let Some(norm) = &layer.feed_output_norm {
            rms_norm_in_place(normed, norm, self.hyper.epsilon);
        }
        add(states, normed);
        Ok(())
    }

    /// The results of the rows that are wanted.
    fn results(
        &self,
        runs: &[Run<'_>],
        wanted: Results,
        buffers: &mut Buffers,
        control: &ComputeControl,
    ) -> Result<(), Error> {
        let Buffers { states, normed, results, scratch, .. } = buffers;
        let width = self.hyper.width;
        let (mut row, mut count) = (0, 0);
        for run in runs {
            let len = run.tokens.len();
            let kept = run.wanted.min(len);
            states.copy_within((row + len - kept) * width..(row + len) * width, count * width);
            row += len;
            count += kept;
        }
        let states = &states[..count * width];
        match wanted {
            Results::Logits => {
                resize(normed, states.len());
                rms_norm(states, &self.weights.output_norm, self.hyper.epsilon, normed);
                products([(self.weights.logits(), results)], normed, count, scratch, control)
            }
            Results::States => {
                resize(results, states.len());
                rms_norm(states, &self.weights.output_norm, self.hyper.epsilon, results);
                Ok(())
            }
        }
    }
}

/// Makes a buffer `len` elements long, of any numbers.
fn resize(buffer: &mut Vec<f32>, len: usize) {
    if buffer.capacity() < len {
        // Exactly, as it was charged.
        buffer.clear();
        buffer.reserve_exact(len);
    }
    buffer.resize(len, 0.0);
}

/// Writes the products of `rows` rows with each matrix to its buffer.
fn products<const N: usize>(
    products: [(&QuantMatrix, &mut Vec<f32>); N],
    x: &[f32],
    rows: usize,
    scratch: &mut Scratch,
    control: &ComputeControl,
) -> Result<(), Error> {
    let products = products.map(|(matrix, out)| {
        resize(out, rows * matrix.rows());
        (matrix, out.as_mut_slice())
    });
    if rows == 0 {
        return Ok(());
    }
    QuantMatrix::products(products, x, rows, scratch, control)
}
