//! Attention of a run of rows of one sequence to the pages of its cache.
//!
//! The pages are visited once for each head of keys, for all rows and all heads of queries that share it. Each row
//! keeps its highest score, the sum of its weights and the weighted values of the pages so far (Milakov and Gimelshein,
//! [Online normalizer calculation for softmax](https://arxiv.org/abs/1805.02867)), so no scores are stored.
//!
//! Up to four queries are computed together, in registers. Each of them has its sums in the same order as alone, so a
//! row's result does not depend on the rows beside it.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use super::cache::{Cache, PAGE};
use crate::math::functions::exp;
use graphpool::backend::{ComputeControl, Error};
use pulp::{Arch, Simd, WithSimd};
use std::array::from_fn;

/// Multiplications between two checks of deadline and cancel token.
const CHECK_INTERVAL: usize = 1 << 23;

/// The sizes of attention in a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Scores are multiplied by it.
    pub(super) scale: f32,
    /// Positions that a row attends to, its own included; `None` for all that came before.
    pub(super) window: Option<usize>,
}

/// Memory of attention: the tiles of a page in f32, and the state of each row and head.
#[derive(Debug, Default)]
pub(super) struct AttentionScratch {
    tiles: Vec<f32>,
    states: Vec<State>,
}

/// What a row knows of the pages that it has seen, for a head of queries.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The highest score.
    highest: f32,
    /// The sum of the weights, each of which is e to the power of its score minus the highest.
    sum: f32,
}

impl AttentionScratch {
    /// Bytes that it holds.
    pub(super) const fn held(&self) -> usize {
        self.tiles.capacity() * size_of::<f32>() + self.states.capacity() * size_of::<State>()
    }

    /// Bytes for a step of `rows` rows.
    pub(super) const fn bytes(rows: usize, sizes: &Sizes) -> usize {
        2 * PAGE * sizes.head_dim * size_of::<f32>() + rows * sizes.heads / sizes.kv_heads * size_of::<State>()
    }
}

/// Writes the attention of the rows that follow what the cache has to `out`. Their keys and values are written there.
///
/// `queries` and `out` have `heads` × `head_dim` elements for each row.
pub(super) fn attend(
    cache: &Cache,
    layer: usize,
    queries: &[f32],
    out: &mut [f32],
    sizes: &Sizes,
    scratch: &mut AttentionScratch,
    control: &ComputeControl,
) -> Result<(), Error> {
    let Sizes { heads, kv_heads, head_dim, .. } = *sizes;
    let (first, group, width) = (cache.len(), heads / kv_heads, heads * head_dim);
    let rows = queries.len() / width;
    let last = first + rows - 1;
    let oldest = sizes.window.map_or(0, |window| (first + 1).saturating_sub(window));
    let mut done = 0;
    out.fill(0.0);
    scratch.tiles.resize(2 * PAGE * head_dim, 0.0);
    for kv_head in 0..kv_heads {
        scratch.states.clear();
        scratch.states.resize(rows * group, State { highest: f32::NEG_INFINITY, sum: 0.0 });
        for page in oldest / PAGE..=last / PAGE {
            done += rows * group * 2 * PAGE * head_dim;
            if done > CHECK_INTERVAL {
                done = 0;
                control.check()?;
            }
            cache.read(page, layer, kv_head, &mut scratch.tiles);
            // While this page is computed, the next one comes.
            let (next, head) = if page < last / PAGE { (page + 1, kv_head) } else { (oldest / PAGE, kv_head + 1) };
            if head < kv_heads {
                cache.fetch(next, layer, head);
            }
            let (keys, values) = scratch.tiles.split_at(PAGE * head_dim);
            Arch::new().dispatch(PageOfRows {
                keys,
                values,
                queries: &queries[kv_head * group * head_dim..],
                out: &mut out[kv_head * group * head_dim..],
                states: &mut scratch.states,
                start: page * PAGE,
                first,
                sizes,
            });
        }
        for (row, states) in scratch.states.chunks_exact(group).enumerate() {
            let at = row * width + kv_head * group * head_dim;
            for (out, state) in out[at..at + group * head_dim].chunks_exact_mut(head_dim).zip(states) {
                let inverse = 1.0 / state.sum;
                for out in out {
                    *out *= inverse;
                }
            }
        }
    }
    Ok(())
}

/// The part of attention that a page takes in, for all rows and the heads of queries that share a head of keys.
struct PageOfRows<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    /// From the first of those heads in the first row.
    queries: &'a [f32],
    out: &'a mut [f32],
    /// For each row, and in it for each head.
    states: &'a mut [State],
    /// The first position of the page.
    start: usize,
    /// The first position of the rows.
    first: usize,
    sizes: &'a Sizes,
}

impl WithSimd for PageOfRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (group, count) = (self.sizes.heads / self.sizes.kv_heads, self.states.len());
        let mut done = 0;
        while done < count {
            let range = self.range(done / group);
            // The queries from here on whose rows attend to the same positions of the page.
            let rows = (done / group..count / group).take_while(|&row| self.range(row) == range).count();
            let end = (done / group + rows) * group;
            while done < end && range.0 < range.1 {
                done += match end - done {
                    4.. => self.queries::<S, 4>(simd, done, range),
                    3 => self.queries::<S, 3>(simd, done, range),
                    2 => self.queries::<S, 2>(simd, done, range),
                    _ => self.queries::<S, 1>(simd, done, range),
                };
            }
            done = end;
        }
    }
}

impl PageOfRows<'_> {
    /// The positions of the page that a row attends to: the first and the one after the last.
    #[inline(always)]
    fn range(&self, row: usize) -> (usize, usize) {
        let position = self.first + row;
        let to = (position + 1).saturating_sub(self.start).min(PAGE);
        let from = self.sizes.window.map_or(0, |window| (position + 1).saturating_sub(window + self.start));
        (from, to)
    }

    /// Computes `Q` queries from the one at `index` on, which attend to the same positions. Returns `Q`.
    #[inline(always)]
    fn queries<S: Simd, const Q: usize>(&mut self, simd: S, index: usize, (from, to): (usize, usize)) -> usize {
        let Sizes { heads, kv_heads, head_dim, scale, .. } = *self.sizes;
        let group = heads / kv_heads;
        let places: [usize; Q] = from_fn(|q| ((index + q) / group * heads + (index + q) % group) * head_dim);
        let mut weights = [[0.0; PAGE]; Q];
        scores(simd, places.map(|at| &self.queries[at..at + head_dim]), self.keys, &mut weights);
        let mut corrections = [0.0; Q];
        for ((weights, correction), state) in weights.iter_mut().zip(&mut corrections).zip(&mut self.states[index..]) {
            for (index, score) in weights.iter_mut().enumerate() {
                let seen = index >= from && index < to;
                *score = if seen { *score * scale } else { f32::NEG_INFINITY };
            }
            *correction = add_weights(weights, state);
        }
        Weighted { weights, corrections, places, values: &self.values[..to * head_dim], dim: head_dim }
            .add(simd, self.out);
        Q
    }
}

/// The scores of queries with the keys of a page.
#[inline(always)]
fn scores<S: Simd, const Q: usize>(simd: S, queries: [&[f32]; Q], keys: &[f32], out: &mut [[f32; PAGE]; Q]) {
    let keys = keys.as_chunks::<PAGE>().0;
    let queries = queries.map(|query| &query[..keys.len()]);
    // Two vectors of each query at a time, so that the sums stay in registers.
    let step = 2 * S::F32_LANES;
    for from in (0..PAGE).step_by(step) {
        let mut sums = [[simd.splat_f32s(0.0); 2]; Q];
        for (index, keys) in keys.iter().enumerate() {
            let [first, second] = S::as_simd_f32s(&keys[from..from + step]).0 else { return };
            for (sums, query) in sums.iter_mut().zip(queries) {
                let x = simd.splat_f32s(query[index]);
                *sums = [simd.mul_add_e_f32s(x, *first, sums[0]), simd.mul_add_e_f32s(x, *second, sums[1])];
            }
        }
        for (sums, out) in sums.into_iter().zip(&mut *out) {
            S::as_mut_simd_f32s(&mut out[from..from + step]).0.copy_from_slice(&sums);
        }
    }
}

/// Makes the scores of a page weights, and adds them to what a row has of the pages before. Returns what its values so
/// far are to be multiplied by.
#[inline(always)]
fn add_weights(scores: &mut [f32; PAGE], state: &mut State) -> f32 {
    let mut eight = [state.highest; 8];
    for scores in scores.as_chunks::<8>().0 {
        for (highest, score) in eight.iter_mut().zip(scores) {
            *highest = highest.max(*score);
        }
    }
    let highest = eight.into_iter().fold(f32::NEG_INFINITY, f32::max);
    // The scores may all be NaN, or so low that none is above the first.
    let highest = if highest == f32::NEG_INFINITY { f32::MIN } else { highest };
    let correction = exp(state.highest - highest);
    for score in scores.iter_mut() {
        *score = exp(*score - highest);
    }
    let mut sums = [0.0; 8];
    for scores in scores.as_chunks::<8>().0 {
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum += score;
        }
    }
    *state = State { highest, sum: state.sum * correction + sums.iter().sum::<f32>() };
    correction
}

/// The values of a page that queries attend to, and what they are multiplied by for each of them.
struct Weighted<'a, const Q: usize> {
    weights: [[f32; PAGE]; Q],
    /// What the queries have of the pages before is multiplied by them.
    corrections: [f32; Q],
    /// Where that is.
    places: [usize; Q],
    /// Rows of `dim` elements.
    values: &'a [f32],
    dim: usize,
}

impl<const Q: usize> Weighted<'_, Q> {
    /// Adds the weighted values.
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, out: &mut [f32]) {
        let mut from = 0;
        while from + 2 * S::F32_LANES <= self.dim {
            self.strip::<S, 2>(simd, from, out);
            from += 2 * S::F32_LANES;
        }
        while from + S::F32_LANES <= self.dim {
            self.strip::<S, 1>(simd, from, out);
            from += S::F32_LANES;
        }
        for element in from..self.dim {
            for ((weights, correction), at) in self.weights.iter().zip(self.corrections).zip(self.places) {
                let values = self.values.iter().skip(element).step_by(self.dim);
                let before = out[at + element] * correction;
                out[at + element] = values.zip(weights).fold(before, |sum, (value, weight)| sum + weight * value);
            }
        }
    }

    /// `N` vectors of each query, from the element `from` of the head on.
    #[inline(always)]
    fn strip<S: Simd, const N: usize>(&self, simd: S, from: usize, out: &mut [f32]) {
        let len = N * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); N]; Q];
        for ((sums, correction), at) in sums.iter_mut().zip(self.corrections).zip(self.places) {
            let before = S::as_simd_f32s(&out[at + from..at + from + len]).0;
            for (sum, before) in sums.iter_mut().zip(before) {
                *sum = simd.mul_f32s(*before, simd.splat_f32s(correction));
            }
        }
        for (index, values) in self.values.chunks_exact(self.dim).enumerate() {
            let values = S::as_simd_f32s(&values[from..from + len]).0;
            for (sums, weights) in sums.iter_mut().zip(&self.weights) {
                let weight = simd.splat_f32s(weights[index]);
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = simd.mul_add_e_f32s(weight, *value, *sum);
                }
            }
        }
        for (sums, at) in sums.iter().zip(self.places) {
            S::as_mut_simd_f32s(&mut out[at + from..at + from + len]).0.copy_from_slice(sums);
        }
    }
}
