//! One sequence of a language model: a prompt, the text that follows it, and the cache of both.
//!
//! A prompt becomes tokens when it is set. A run passes those that the cache does not have yet, chunk by chunk, and
//! then one token for each step. What the cache has of the last sequence is kept as far as the next prompt begins with
//! it, so a chat that sends its whole history each time passes only what is new. What other sessions of the graph have
//! of the prompt is shared ([`prefix`](super::prefix)).

mod passes;

use super::batch::{Batches, Caller};
use super::cache::Cache;
use super::forward::{Buffers, Model, Results};
use super::options::Options;
use super::prefix::PrefixPages;
use super::queue::Seat;
use crate::grammar::{GraphGrammars, Matcher};
use crate::quote::quote;
use crate::text::sampler::Sampler;
use crate::text::stop::StopStrings;
use crate::text::tokenizer::Tokenizer;
use graphpool::backend::{ComputeControl, Error, Step};
use std::sync::Arc;

/// Tokens of the context that a prompt must leave, as llama.cpp's hosts have it.
const RESERVED: usize = 4;

/// Bytes of a prompt for each token of the context. Longer ones can't fit, for tokens have a few bytes each.
const PROMPT_BYTES: usize = 16;

/// A model with its tokenizer, which all sessions of a graph share. Graphs of one model with other options share what
/// is in an `Arc`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) model: Arc<Model>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// The options that sessions begin with.
    pub(crate) options: Options,
    pub(crate) batches: Arc<Batches>,
    pub(crate) prefixes: Arc<PrefixPages>,
    pub(crate) grammars: Arc<GraphGrammars>,
}

/// A sequence.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    options: Options,
    /// The tokens of the prompt, if one is set.
    prompt: Option<Vec<u32>>,
    cache: Cache,
    /// The tokens whose keys and values the cache has.
    cached: Vec<u32>,
    buffers: Buffers,
    run: Option<Generation>,
    /// Bytes of the run while a step has it.
    run_bytes: usize,
    /// Where its calls wait for passes.
    seat: Arc<Seat>,
}

/// A run from a prompt to the end of its text.
#[derive(Debug)]
struct Generation {
    /// The prompt and the tokens after it.
    sequence: Vec<u32>,
    prompt_len: usize,
    sampler: Sampler,
    stop: StopStrings,
    grammar: Option<Matcher>,
    /// The text so far, without what may begin a stop string.
    text: Vec<u8>,
    /// Where the newest piece of the text begins.
    piece: usize,
    /// The outcome of the next step, if it is known.
    end: Option<Step>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let options = shared.options.clone();
        let cache = Cache::new(&shared.model.hyper, options.cache);
        let (cached, buffers, seat) = (Vec::new(), Buffers::default(), Seat::new());
        Self { shared, options, prompt: None, cache, cached, buffers, run: None, run_bytes: 0, seat }
    }

    pub(crate) const fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Sets the options. They hold from the next run on.
    ///
    /// # Errors
    ///
    /// As [`Options::with`], those of a sampler, and `UnsupportedOperation` for a grammar that the host does not have.
    pub(crate) fn set_options(&mut self, json: &[u8]) -> Result<(), Error> {
        let options = self.shared.options.with(json)?;
        let of_graph = &self.shared.options;
        if (options.rope_base, options.rope_scale) != (of_graph.rope_base, of_graph.rope_scale) {
            let why =
                "the options 'rope-freq-base' and 'rope-freq-scale' are for the load of a model, not for a session";
            return Err(Error::unsupported(why));
        }
        options.sampler.check()?;
        StopStrings::new(options.stop.clone())?;
        if let Some(name) = &options.grammar {
            self.shared.grammars.check(name)?;
        }
        self.options = options;
        Ok(())
    }

    /// Sets the prompt. The names of control tokens in it stand for those tokens.
    ///
    /// # Errors
    ///
    /// * `TooLarge` for more bytes than 16 for each token of the context, and past a limit of `control`.
    /// * Those of [`ComputeControl::check`].
    pub(crate) fn set_prompt(&mut self, text: &[u8], control: &ComputeControl) -> Result<(), Error> {
        let limit = self.context().saturating_mul(PROMPT_BYTES);
        if text.len() > limit {
            let why = format!(
                "the prompt has {} bytes, and a context of {} tokens takes at most {limit}",
                text.len(),
                self.context()
            );
            return Err(Error::too_large(why));
        }
        control.check()?;
        // The last prompt makes way. If there is no room for this one either, the session has none.
        self.prompt = None;
        let tokenizer = &self.shared.tokenizer;
        // Each token has a byte of the text, except for what a tokenizer adds in front.
        let most = text.len().saturating_add(RESERVED);
        self.check_limits("a prompt", tokenizer.encode_memory(text.len(), most), control)?;
        let mut tokens = tokenizer.encode(text, true, most, &mut || control.check())?;
        if let Some(start) = tokenizer.start() {
            tokens.insert(0, start);
        }
        // A prompt has fewer tokens than bytes.
        tokens.shrink_to_fit();
        self.prompt = Some(tokens);
        Ok(())
    }

    /// Forgets the prompt and the options. The cache stays, for the next prompt may begin as the last one did.
    pub(crate) fn clear_inputs(&mut self) {
        self.prompt = None;
        self.options = self.shared.options.clone();
    }

    /// Tokens of prompt and text together.
    fn context(&self) -> usize {
        self.options.context.unwrap_or(self.shared.model.hyper.context)
    }

    /// Whether a prompt is set.
    pub(crate) const fn has_prompt(&self) -> bool {
        self.prompt.is_some()
    }

    /// The tokens of the prompt, 0 without one, and those of the text.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let generated = self.run.as_ref().map_or(0, |run| run.sequence.len() - run.prompt_len);
        (self.prompt.as_ref().map_or(0, Vec::len), generated)
    }

    /// The text of the run so far.
    pub(crate) fn text(&self) -> &[u8] {
        self.run.as_ref().map_or(&[], |run| &run.text)
    }

    /// The newest piece of the text.
    pub(crate) fn piece(&self) -> &[u8] {
        self.run.as_ref().map_or(&[], |run| &run.text[run.piece..])
    }

    /// Whether guests asked for the state of the prompt, and not for a text.
    pub(crate) const fn is_embedding(&self) -> bool {
        self.options.embedding
    }

    /// The options of the next run.
    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    /// Makes the next token of the text. The first step of a run passes the prompt.
    ///
    /// After an error the next call does the same work again, except for the chunks of the prompt that were passed.
    ///
    /// # Errors
    ///
    /// * `InvalidArgument` without a prompt, and for one without tokens.
    /// * `TooLarge` past a limit of the call's control, and the errors of [`ComputeControl::check`].
    /// * Those of a grammar.
    pub(crate) fn step(&mut self, caller: &Caller<'_>) -> Result<Step, Error> {
        if self.run.is_none() {
            match self.begin(caller.control)? {
                Some(run) => self.run = Some(run),
                None => return Ok(Step::PromptTooLong),
            }
        }
        // Out of the session meanwhile, for both are changed. It is counted all the same.
        let Some(mut run) = self.run.take() else { return Ok(Step::EndOfSequence) };
        self.run_bytes = self.bytes_of(&run);
        let step = self.advance(&mut run, caller);
        self.run_bytes = 0;
        if !matches!(step, Ok(Step::More)) {
            self.say_goodbye();
        }
        self.run = Some(run);
        step
    }

    /// Ends the run, and frees the memory of steps. What the cache has stays.
    pub(crate) fn end(&mut self) {
        self.say_goodbye();
        (self.run, self.run_bytes) = (None, 0);
        self.buffers = Buffers::default();
    }

    /// No pass has to wait for this session.
    fn say_goodbye(&self) {
        self.shared.batches.say_goodbye(&self.seat);
    }

    /// A run from the prompt; `None` if the prompt does not fit into the context.
    fn begin(&mut self, control: &ComputeControl) -> Result<Option<Generation>, Error> {
        let bytes = size_of_val(self.prompt_tokens()?) + self.fixed_run_bytes();
        // What a panic in the last step has left of its run is gone.
        self.run_bytes = 0;
        self.check_limits("the run of a session", bytes, control)?;
        let sequence = self.prompt_tokens()?.to_vec();
        if sequence.len() > self.context().saturating_sub(RESERVED) {
            return Ok(None);
        }
        self.keep_prefix(&sequence);
        let (tokens, ends) = (self.shared.model.hyper.vocabulary, self.shared.tokenizer.ends());
        let sampler = Sampler::new(self.options.sampler.clone(), tokens, ends)?;
        let stop = StopStrings::new(self.options.stop.clone())?;
        let grammar = self.options.grammar.as_deref().map(|name| self.matcher(name, bytes, control)).transpose()?;
        let prompt_len = sequence.len();
        Ok(Some(Generation { sequence, prompt_len, sampler, stop, grammar, text: Vec::new(), piece: 0, end: None }))
    }

    /// The beginning of a grammar, beside `beside` bytes of the run. The first session of a graph with it takes the time
    /// to compile it.
    fn matcher(&self, name: &str, beside: usize, control: &ComputeControl) -> Result<Matcher, Error> {
        let Shared { model, tokenizer, grammars, .. } = &*self.shared;
        grammars.matcher(name, tokenizer, model.hyper.vocabulary, |bytes| {
            let bytes = bytes.saturating_add(beside);
            self.check_limits(format_args!("the grammar {}", quote(name)), bytes, control)
        })
    }

    fn prompt_tokens(&self) -> Result<&[u32], Error> {
        let prompt = self.prompt.as_ref().ok_or_else(|| Error::invalid_argument("input 0, the prompt, is not set"))?;
        if prompt.is_empty() {
            return Err(Error::invalid_argument("the prompt has no token"));
        }
        Ok(prompt)
    }

    /// Keeps of the cache what `sequence` begins with, except for its last token, whose logits are needed.
    fn keep_prefix(&mut self, sequence: &[u32]) {
        if self.cache.ty() != self.options.cache {
            self.cache = Cache::new(&self.shared.model.hyper, self.options.cache);
            self.cached = Vec::new();
        }
        let same = self.cached.iter().zip(sequence).take_while(|(one, other)| one == other).count();
        let kept = same.min(sequence.len().saturating_sub(1));
        self.cache.truncate(kept);
        self.cached.truncate(kept);
    }

    fn advance(&mut self, run: &mut Generation, caller: &Caller<'_>) -> Result<Step, Error> {
        run.piece = run.text.len();
        if let Some(end) = run.end {
            return Ok(end);
        }
        if self.options.predict.is_some_and(|most| run.sequence.len() - run.prompt_len >= most) {
            return Ok(run.finish(Step::EndOfSequence));
        }
        if run.sequence.len() > self.context() {
            return Ok(run.finish(Step::ContextFull));
        }
        let more = run.text_growth(self.shared.tokenizer.longest());
        self.check_limits("the text of a session", more, caller.control)?;
        self.pass(&run.sequence, run.prompt_len, Results::Logits, caller)?;
        let Some(token) = run.choose(self.buffers.results())? else {
            return Ok(run.finish(Step::EndOfSequence));
        };
        let tokenizer = &self.shared.tokenizer;
        if tokenizer.is_end(token) && !self.options.sampler.ignore_end {
            return Ok(run.finish(Step::EndOfSequence));
        }
        let complete = run.grammar.as_mut().map_or(Ok(false), |grammar| grammar.take(token))?;
        run.sequence.push(token);
        let mut bytes = Vec::new();
        tokenizer.decode(token, true, &mut bytes);
        if run.stop.push(&bytes, &mut run.text) {
            run.end = Some(Step::EndOfSequence);
        } else if complete {
            run.stop.finish(&mut run.text);
            run.end = Some(Step::EndOfSequence);
        }
        Ok(Step::More)
    }

    /// Of [`memory`](Self::memory), the bytes of pages that the graph counts, too.
    pub(crate) fn shared_memory(&self) -> usize {
        self.cache.shared_bytes()
    }

    /// Bytes of a run.
    fn bytes_of(&self, run: &Generation) -> usize {
        let grammar = run.grammar.as_ref().map_or(0, Matcher::memory);
        run.sequence.capacity() * size_of::<u32>() + run.text.capacity() + grammar + self.fixed_run_bytes()
    }

    /// Of the bytes of a run, those of its sampler and its stop strings, which it has from its beginning.
    fn fixed_run_bytes(&self) -> usize {
        let sampler = Sampler::memory(&self.options.sampler, self.shared.model.hyper.vocabulary);
        sampler + StopStrings::memory(&self.options.stop)
    }

    /// Bytes of the session: its cache, its tokens, its text, and the memory of steps.
    pub(crate) fn memory(&self) -> usize {
        let tokens = self.prompt.as_ref().map_or(0, Vec::capacity) + self.cached.capacity();
        let run = self.run.as_ref().map_or(self.run_bytes, |run| self.bytes_of(run));
        self.cache.bytes() + tokens * size_of::<u32>() + run + self.buffers.held()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}

impl Generation {
    /// The next token; `None` where the grammar allows the end, and no token that the sampler may choose.
    fn choose(&mut self, logits: &mut [f32]) -> Result<Option<u32>, Error> {
        let Some(grammar) = &mut self.grammar else { return Ok(Some(self.sampler.sample(logits, &self.sequence))) };
        let allowed = grammar.allowed()?;
        match self.sampler.sample_from(logits, &self.sequence, &allowed.tokens) {
            None if !allowed.may_end => Err(grammar.none_fits()),
            token => Ok(token),
        }
    }

    /// Bytes that a token of `len` bytes takes: itself, what the text grows by if it has no room for it, and a copy of
    /// the text as an output.
    fn text_growth(&self, len: usize) -> usize {
        let text = self.text.len().saturating_add(self.stop.held()).saturating_add(len);
        let grown = if text > self.text.capacity() { text.max(2 * self.text.capacity()) } else { 0 };
        len.saturating_add(grown).saturating_add(text)
    }

    /// Ends the text. The bytes that were held back belong to it, and are a last piece if there are any.
    fn finish(&mut self, end: Step) -> Step {
        self.stop.finish(&mut self.text);
        self.end = Some(end);
        if self.piece < self.text.len() { Step::More } else { end }
    }
}
