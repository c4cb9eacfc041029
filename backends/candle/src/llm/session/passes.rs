//! The passes of a session: a prompt in chunks, one token after the other, and the states for an embedding.

use super::Session;
use crate::llm::batch::{CHUNK, Caller, Request};
use crate::llm::cache::{Cache, PAGE};
use crate::llm::embedding;
use crate::llm::forward::{Buffers, Results};
use crate::llm::hyper::Pooling;
use graphpool::backend::{ComputeControl, Error, ErrorKind};
use std::sync::Arc;
use std::{fmt, mem};

impl Session {
    /// Passes the tokens of `sequence` that the cache does not have, and leaves the results of the last one in the
    /// buffers. The first `prompt_len` tokens are those of the prompt, whose pages are shared. After an error the cache
    /// has none of the positions of the request that failed.
    pub(super) fn pass(
        &mut self,
        sequence: &[u32],
        prompt_len: usize,
        results: Results,
        caller: &Caller<'_>,
    ) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let control = caller.control;
        let (start, before_last) = (self.cache.len(), sequence.len().saturating_sub(1));
        let found = if before_last / PAGE > start / PAGE {
            shared.prefixes.find(self.cache.ty(), &sequence[..before_last])
        } else {
            Vec::new()
        };
        let mut most_rows = 0;
        while self.cache.len() < sequence.len() {
            control.check()?;
            // P5: chunks, charges and checks are those of a session that finds no page.
            let from = self.cache.len();
            let to = sequence.len().min(from + self.options.chunk.min(CHUNK));
            most_rows = most_rows.max(to - from);
            self.check_tokens(&sequence[from..to])?;
            self.charge(to, most_rows, control)?;
            let kept = self.cache.shared_pages().min(from / PAGE);
            for (index, page) in found.iter().enumerate().take(to.div_ceil(PAGE)).skip(kept) {
                self.cache.set_shared(index, Arc::clone(page));
            }
            let first = from.max(to.min(found.len() * PAGE));
            self.cache.set_len(first);
            let outcome = if first < to {
                let wanted = usize::from(to == sequence.len());
                self.cache.reserve(to).and_then(|()| self.compute(&sequence[first..to], wanted, results, caller))
            } else {
                Ok(())
            };
            if let Err(error) = outcome {
                self.cache.truncate(from);
                return Err(error);
            }
            self.cached.extend_from_slice(&sequence[from..to]);
            if from < prompt_len {
                shared.prefixes.share(&mut self.cache, &sequence[..to.min(prompt_len)]);
            }
        }
        if sequence.len() - start > 1 {
            self.buffers.shrink();
        }
        Ok(())
    }

    /// Passes `tokens`, for which the cache has room.
    fn compute(&mut self, tokens: &[u32], wanted: usize, results: Results, caller: &Caller<'_>) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        // If the pass panics, the session has neither the cache nor its tokens.
        let cached = mem::take(&mut self.cached);
        let request = Request {
            cache: mem::replace(&mut self.cache, Cache::new(&shared.model.hyper, self.options.cache)),
            tokens: tokens.to_vec(),
            wanted,
            results,
            buffers: mem::take(&mut self.buffers),
            control: caller.control.clone(),
            interrupt: caller.interrupt(),
            outcome: Ok(()),
        };
        let request = shared.batches.pass(&shared.model, request, caller);
        (self.cache, self.buffers, self.cached) = (request.cache, request.buffers, cached);
        request.outcome.and_then(|()| caller.control.check())
    }

    /// B8: a token that the model does not have would fail the sessions beside this one.
    fn check_tokens(&self, tokens: &[u32]) -> Result<(), Error> {
        let most = self.shared.model.hyper.vocabulary;
        match tokens.iter().find(|&&token| token as usize >= most) {
            None => Ok(()),
            Some(token) => Err(Error::invalid_argument(format!("the token {token} is not one of the model's {most}"))),
        }
    }

    /// Refuses a cache of `len` positions and a step of `rows` rows that the limits don't allow.
    fn charge(&self, len: usize, rows: usize, control: &ComputeControl) -> Result<(), Error> {
        let held = self.buffers.held();
        // One row's results here, and the same row's in a pass with others.
        let buffers = Buffers::bytes(&self.shared.model, rows, 2).max(held);
        let more = (buffers - held).saturating_add(self.cache.growth(len));
        self.check_limits(format_args!("a session of {len} tokens"), more, control)
    }

    /// Reserves `more` bytes beside those that the session has, and refuses what the limits don't allow.
    pub(super) fn check_limits(
        &self,
        what: impl fmt::Display,
        more: usize,
        control: &ComputeControl,
    ) -> Result<(), Error> {
        let needed = self.memory().saturating_add(more);
        let limit = control.memory_limit.min(control.context_memory_limit);
        // P5: what is shared takes none of the room that sessions have together, and all of what this one has.
        let limit = limit.min(control.own_memory_limit.saturating_add(self.shared_memory()));
        if needed > limit {
            let why = format!("{what} needs {needed} bytes, and the limit is {limit}");
            return Err(Error::too_large(why));
        }
        control.reserve_context_memory(needed, self.shared_memory())
    }

    /// The state of the prompt after the last norm, as the pooling has it.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step), and `PromptTooLong` for a prompt that does not fit into the context.
    pub(crate) fn embed(&mut self, caller: &Caller<'_>) -> Result<Vec<f32>, Error> {
        let mut sequence = self.prompt_tokens()?.to_vec();
        if sequence.len() > self.context() {
            return Err(Error::new(ErrorKind::PromptTooLong, "the prompt does not fit into the context"));
        }
        let output = embedding::bytes(self.shared.model.hyper.width);
        self.check_limits("an embedding", output, caller.control)?;
        match self.options.pooling.unwrap_or(self.shared.model.hyper.pooling) {
            Pooling::Mean => return self.mean(&sequence, caller),
            Pooling::First => sequence.truncate(1),
            Pooling::Last => {}
        }
        self.keep_prefix(&sequence);
        let passed = self.pass(&sequence, sequence.len(), Results::States, caller);
        self.say_goodbye();
        passed?;
        Ok(self.buffers.results().to_vec())
    }

    /// The mean of the states of all tokens. They are passed again, whatever the cache has of them.
    fn mean(&mut self, sequence: &[u32], caller: &Caller<'_>) -> Result<Vec<f32>, Error> {
        self.keep_prefix(&[]);
        let width = self.shared.model.hyper.width;
        let mut sums = vec![0.0_f64; width];
        for tokens in sequence.chunks(self.options.chunk.min(CHUNK)) {
            caller.control.check()?;
            let (to, rows) = (self.cache.len() + tokens.len(), tokens.len());
            self.check_tokens(tokens)?;
            // The states of all rows, here and in a pass with others, and the sums.
            let states = (2 * rows * size_of::<f32>() + size_of::<f64>()).saturating_mul(width);
            let step = Buffers::bytes(&self.shared.model, rows, 2).saturating_add(self.cache.growth(to));
            self.check_limits(format_args!("a session of {to} tokens"), step.saturating_add(states), caller.control)?;
            self.cache.reserve(to)?;
            if let Err(error) = self.compute(tokens, rows, Results::States, caller) {
                self.keep_prefix(&[]);
                return Err(error);
            }
            self.cached.extend_from_slice(tokens);
            for state in self.buffers.results().chunks_exact(width) {
                sums.iter_mut().zip(state).for_each(|(sum, &x)| *sum += f64::from(x));
            }
        }
        Ok(sums.iter().map(|sum| (sum / sequence.len() as f64) as f32).collect())
    }
}
