//! The next token from a model's logits.
//!
//! The steps, in llama.cpp's order, after tokens that a grammar does not allow are left out: penalties, then top-k, typical-p, top-p, min-p and temperature, then a draw. With
//! mirostat, penalties and temperature, then mirostat and a draw. With a temperature of 0, penalties and the highest.
//!
//! No logits and no options make a step panic or give no token: NaN counts as negative infinity, infinities as the
//! largest numbers, and at least one candidate is always left.

mod candidates;
mod options;

use crate::compute::random::{Stream, unpredictable_seed};
use candidates::Candidates;
use graphpool::backend::Error;
pub(crate) use options::SamplerOptions;

/// Candidates from which mirostat estimates how fast probabilities fall.
const MIROSTAT_ESTIMATE: usize = 100;

/// More tokens end an answer in no vocabulary.
const MOST_ENDS: usize = 64;

/// Chooses tokens by [`SamplerOptions`]. Each session has its own.
///
/// The same seed gives the same tokens for the same logits, by a generator that is the same everywhere (Philox4x32-10).
/// They are not those of llama.cpp for that seed, which uses another one.
#[derive(Debug)]
pub(crate) struct Sampler {
    options: SamplerOptions,
    tokens: usize,
    /// Tokens that are never chosen.
    refused: Vec<u32>,
    /// The end of the sequence, sorted.
    window: Vec<u32>,
    candidates: Candidates,
    random: Stream,
    /// Mirostat's bound on surprise, in bits.
    mu: f32,
}

impl Sampler {
    /// Bytes that a sampler takes for logits of `tokens` tokens. It takes them when it is made, and no more later.
    pub(crate) fn memory(options: &SamplerOptions, tokens: usize) -> usize {
        Candidates::memory(options.candidates(tokens), options.typical_p < 1.0)
            .saturating_add((options.window() + MOST_ENDS) * size_of::<u32>())
    }

    /// A sampler for logits of `tokens` tokens, of which `ends` end an answer.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an option that is out of its range.
    pub(crate) fn new(options: SamplerOptions, tokens: usize, ends: &[u32]) -> Result<Self, Error> {
        options.check()?;
        Ok(Self {
            tokens,
            refused: ends.iter().copied().take(if options.ignore_end { MOST_ENDS } else { 0 }).collect(),
            window: Vec::with_capacity(options.window()),
            candidates: Candidates::with_capacity(options.candidates(tokens), options.typical_p < 1.0),
            random: Stream::seeded(options.seed.unwrap_or_else(unpredictable_seed)),
            mu: 2.0 * options.mirostat_tau,
            options,
        })
    }

    /// The next token. `history` is the sequence so far, prompt included; `logits` has one number for each token, and
    /// is changed.
    ///
    /// 0 for no logits at all.
    pub(crate) fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> u32 {
        let logits = self.prepare(logits, history);
        if logits.is_empty() { 0 } else { self.choose(logits) }
    }

    /// As [`sample`](Self::sample), of the tokens that have a bit in `allowed`, whose words have 32 each. `None` if there
    /// is no such token with a logit, or if the options refuse all of them.
    pub(crate) fn sample_from(&mut self, logits: &mut [f32], history: &[u32], allowed: &[u32]) -> Option<u32> {
        let logits = self.prepare(logits, history);
        let mut any = false;
        for (token, logit) in logits.iter_mut().enumerate() {
            let has_bit = allowed.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
            if has_bit && !self.refused.contains(&(token as u32)) {
                any = true;
                // Above all that are not allowed, whatever the model and the penalties say.
                *logit = logit.max(f32::MIN);
            } else {
                *logit = f32::NEG_INFINITY;
            }
        }
        any.then(|| self.choose(logits))
    }

    /// The logits of tokens, after refused tokens and penalties, none of which is NaN or positive infinity.
    fn prepare<'a>(&mut self, logits: &'a mut [f32], history: &[u32]) -> &'a mut [f32] {
        let count = logits.len().min(self.tokens);
        let logits = &mut logits[..count];
        for &token in &self.refused {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        self.penalize(logits, history);
        for logit in &mut *logits {
            // All the order and the differences of logits are defined below.
            *logit = if logit.is_nan() { f32::NEG_INFINITY } else { logit.min(f32::MAX) };
        }
        logits
    }

    /// The next token, of at least one logit.
    fn choose(&mut self, logits: &[f32]) -> u32 {
        if self.options.temperature <= 0.0 {
            return highest(logits);
        }
        self.candidates.fill(logits, self.options.candidates(logits.len()));
        self.candidates.sort(1);
        if self.candidates.get(0).1 == f32::NEG_INFINITY {
            return self.candidates.get(0).0;
        }
        match self.options.mirostat {
            0 => {
                self.keep_typical();
                self.keep_top_p();
                self.keep_min_p();
                let at = self.draw();
                self.candidates.get(at).0
            }
            1 => self.mirostat_1(),
            _ => self.mirostat_2(),
        }
    }

    /// Lowers the logits of tokens in the window (N. Keskar et al.: "CTRL", 2019; negative logits are multiplied, since
    /// division would raise them).
    fn penalize(&mut self, logits: &mut [f32], history: &[u32]) {
        let window = self.options.window();
        self.window.clear();
        self.window.extend_from_slice(&history[history.len().saturating_sub(window)..]);
        self.window.sort_unstable();
        for same in self.window.chunk_by(|a, b| a == b) {
            let Some(logit) = logits.get_mut(same[0] as usize) else { continue };
            let repeat = self.options.repeat_penalty;
            *logit = if *logit <= 0.0 { *logit * repeat } else { *logit / repeat };
            *logit -= same.len() as f32 * self.options.frequency_penalty + self.options.presence_penalty;
        }
    }

    /// Keeps the most typical candidates (C. Meister, T. Pimentel, G. Wiher, R. Cotterell: "Locally typical sampling",
    /// 2023): those whose surprise is nearest to the entropy.
    fn keep_typical(&mut self) {
        if self.options.typical_p >= 1.0 {
            return;
        }
        self.candidates.sort(1);
        let (most, sum) = self.weights(1.0);
        let surprise = move |logit: f32| sum.ln() - (logit - most);
        // The weight of negative infinity is 0, and so is its part in the entropy.
        let part = |logit: f32| {
            let weight = (logit - most).exp();
            if weight > 0.0 { weight / sum * surprise(logit) } else { 0.0 }
        };
        let entropy: f32 = (0..self.candidates.len()).map(|at| part(self.candidates.get(at).1)).sum();
        self.candidates.sort_by(|logit| (surprise(logit) - entropy).abs());
        let (mut total, mut count) = (0.0, 0);
        while count < self.candidates.len() && total <= self.options.typical_p * sum {
            total += (self.candidates.get(count).1 - most).exp();
            count += 1;
        }
        self.candidates.truncate(count);
        self.candidates.sort(1);
    }

    /// Keeps the candidates of the highest probabilities (A. Holtzman, J. Buys, L. Du, M. Forbes, Y. Choi: "The curious
    /// case of neural text degeneration", 2020).
    fn keep_top_p(&mut self) {
        if self.options.top_p >= 1.0 {
            return;
        }
        let (most, sum) = self.weights(1.0);
        let (mut total, mut count) = (0.0, 0);
        while count < self.candidates.len() && (count == 0 || total < self.options.top_p * sum) {
            // In steps: most of the candidates of a whole vocabulary are never looked at.
            if count == self.candidates.sorted() {
                self.candidates.sort((16 * count).max(64));
            }
            total += (self.candidates.get(count).1 - most).exp();
            count += 1;
        }
        self.candidates.keep(count);
    }

    /// Keeps the candidates with a part of the highest probability (M. Nguyen et al.: "Turning up the heat: min-p
    /// sampling for creative and coherent LLM outputs", 2025).
    fn keep_min_p(&mut self) {
        if self.options.min_p <= 0.0 {
            return;
        }
        let least = self.candidates.get(0).1 + self.options.min_p.ln();
        let count = (0..self.candidates.len()).filter(|&at| self.candidates.get(at).1 >= least).count();
        self.candidates.keep(count);
    }

    /// Mirostat (S. Basu et al.: "Mirostat: a neural text decoding algorithm that directly controls perplexity", 2021):
    /// the number of candidates follows from an estimate of how fast their probabilities fall.
    fn mirostat_1(&mut self) -> u32 {
        self.candidates.sort(MIROSTAT_ESTIMATE);
        let temperature = self.options.temperature;
        let (mut products, mut squares) = (0.0, 0.0);
        for at in 0..self.candidates.len().min(MIROSTAT_ESTIMATE) - 1 {
            let step = ((at + 2) as f32 / (at + 1) as f32).ln();
            let fall = (self.candidates.get(at).1 - self.candidates.get(at + 1).1) / temperature;
            // An infinite one says nothing about those before it.
            if !fall.is_finite() {
                break;
            }
            products += step * fall;
            squares += step * step;
        }
        let exponent = products / squares;
        let epsilon = exponent - 1.0;
        let tokens = self.tokens as f32;
        let count = (epsilon * self.mu.exp2() / (1.0 - tokens.powf(-epsilon))).powf(1.0 / exponent);
        // A conversion of NaN gives 0, one of too large a number the largest.
        self.candidates.keep((count as usize).max(1));
        self.surprise_controlled()
    }

    /// Mirostat 2.0, of the same authors: candidates are those of less surprise than the bound.
    fn mirostat_2(&mut self) -> u32 {
        let (most, sum) = self.weights(self.options.temperature);
        let surprise = |logit: f32| sum.log2() - (logit - most) / self.options.temperature * std::f32::consts::LOG2_E;
        let count = (0..self.candidates.len()).filter(|&at| surprise(self.candidates.get(at).1) <= self.mu).count();
        self.candidates.keep(count);
        self.surprise_controlled()
    }

    /// Draws a candidate and moves mirostat's bound by its surprise.
    fn surprise_controlled(&mut self) -> u32 {
        let at = self.draw();
        let (most, sum) = self.weights(self.options.temperature);
        let (token, logit) = self.candidates.get(at);
        let surprise = sum.log2() - (logit - most) / self.options.temperature * std::f32::consts::LOG2_E;
        let mu = self.mu - self.options.mirostat_eta * (surprise - self.options.mirostat_tau);
        self.mu = if mu.is_finite() { mu } else { 2.0 * self.options.mirostat_tau };
        token
    }

    /// The position of a candidate that is drawn by the probabilities at the temperature.
    fn draw(&mut self) -> usize {
        let (most, sum) = self.weights(self.options.temperature);
        let mut left = self.random.uniform() * f64::from(sum);
        for at in 0..self.candidates.len() {
            let weight = ((self.candidates.get(at).1 - most) / self.options.temperature).exp();
            left -= f64::from(weight);
            if left < 0.0 {
                return at;
            }
        }
        // By rounding. The first is the highest.
        0
    }

    /// The highest logit, and the sum of the weights e^((logit - highest) / temperature), which is at least 1. The
    /// first candidate is the highest.
    fn weights(&self, temperature: f32) -> (f32, f32) {
        let most = self.candidates.get(0).1;
        let weights = (0..self.candidates.len()).map(|at| ((self.candidates.get(at).1 - most) / temperature).exp());
        (most, weights.sum())
    }
}

/// The token of the highest logit; of equal ones the lowest.
fn highest(logits: &[f32]) -> u32 {
    // In lanes, which become vectors.
    let (chunks, rest) = logits.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let highest = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit >= highest).unwrap_or(0) as u32
}

/// The tokens of the `count` highest logits, by a heap, for tests.
#[cfg(test)]
pub(super) fn highest_candidates(logits: &[f32], count: usize) -> Vec<u32> {
    let mut candidates = Candidates::with_capacity(count, false);
    candidates.fill(logits, count);
    candidates.sort(count);
    (0..candidates.len()).map(|at| candidates.get(at).0).collect()
}

/// The same by partial orders of all of them.
#[cfg(test)]
pub(super) fn sorted_candidates(logits: &[f32], count: usize) -> Vec<u32> {
    let mut candidates = Candidates::with_capacity(logits.len(), false);
    candidates.fill(logits, logits.len());
    for part in [1, count / 3, count / 2] {
        candidates.sort(part);
    }
    candidates.keep(count);
    (0..candidates.len()).map(|at| candidates.get(at).0).collect()
}
