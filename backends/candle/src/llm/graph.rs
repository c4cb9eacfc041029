//! A language model as the engine sees it: a graph, whose contexts are sessions.
//!
//! Input 0 is the prompt and input 1 the options in JSON. Output 0 is the text, or an embedding in JSON, and output 1
//! the counts of tokens in JSON, which can be read before a compute.

use super::batch::{Batches, Caller, passes};
use super::configure::{LoadOptions, SHARED_BYTES, check_limit, configured, rotation};
use super::embedding;
use super::forward::Model;
use super::hyper::{Hyperparameters, RopeParameters};
use super::options::Options;
use super::prefix::PrefixPages;
use super::session::{Session, Shared};
use super::weights::Weights;
use super::{shapes, vocabulary};
use crate::gguf::file::Gguf;
use crate::gguf::source::{Source, with_head};
use crate::grammar::Grammars;
use crate::tensor::budget::LoadBudget;
use crate::text::tokenizer::Tokenizer;
use graphpool::backend::{
    BackendContext, BackendGraph, ComputeControl, Error, LoadRequest, Step, Tensor, TensorDescription, TensorType,
    TensorView,
};
use std::sync::Arc;

/// Index of the prompt, and of the text.
const TEXT: usize = 0;

/// Index of the options, and of the counts.
const OPTIONS: usize = 1;
const COUNTS: usize = 1;

/// The part of the weights' bytes that shared pages of prompts may take, unless the host says otherwise.
const PREFIX_PART: usize = 8;

/// A loaded language model.
#[derive(Debug)]
pub(crate) struct LanguageGraph {
    shared: Arc<Shared>,
    /// The options that came with the model, without those of a configuration.
    of_parts: Options,
    /// The rotation that the file has.
    rope: RopeParameters,
    inputs: [TensorDescription; 2],
    outputs: [TensorDescription; 2],
    memory: usize,
}

impl LanguageGraph {
    /// Loads the model of a request. A second part has options in JSON, as the configuration does, whose options come
    /// last. `shares`: whether sessions may share pages of their prompts. `grammars`: those that sessions may name.
    ///
    /// # Errors
    ///
    /// As [`load_from`](Self::load_from), those of options, and `InvalidEncoding` for another number of parts.
    pub(crate) fn from_request(request: &LoadRequest<'_>, shares: bool, grammars: &Grammars) -> Result<Self, Error> {
        let (source, options) = match (request.file, request.parts) {
            (Some(file), []) => (Source::File(file), &[][..]),
            (None, &[model]) => (Source::Bytes(model), &[][..]),
            (None, &[model, options]) => (Source::Bytes(model), options),
            (file, parts) => {
                let parts = parts.len() + usize::from(file.is_some());
                let why = format!("a GGUF model has 1 part, and its options may be a second, but there are {parts}");
                return Err(Error::invalid_encoding(why));
            }
        };
        let options = LoadOptions::read(options, request.config.unwrap_or_default().as_bytes())?;
        Self::load_from(source, options, request.memory_limit, shares, grammars)
    }

    /// Loads a model from a GGUF file, with the options that its sessions begin with. `shares`: whether sessions may
    /// share pages of their prompts. `grammars`: those that sessions may name.
    ///
    /// The load charges all that it allocates to a budget of `memory_limit` bytes, and the graph takes at most as many.
    ///
    /// # Errors
    ///
    /// * `InvalidEncoding` for bytes that are no valid model.
    /// * `UnsupportedOperation` for an architecture, a type of weights or a tokenizer that is not supported.
    /// * `TooLarge` past the limit, and the errors of a file.
    fn load_from(
        source: Source<'_>,
        options: LoadOptions,
        memory_limit: usize,
        shares: bool,
        grammars: &Grammars,
    ) -> Result<Self, Error> {
        if let Some(name) = &options.all.grammar {
            grammars.check(name)?;
        }
        let mut budget = LoadBudget::new(memory_limit);
        match source {
            Source::Bytes(bytes) => {
                let file = Gguf::read_head(bytes, bytes.len(), &mut budget)?;
                let file = file.ok_or_else(|| Error::invalid_encoding("the GGUF file ends within its header"))?;
                Self::build(&file, source, options, budget, shares, grammars)
            }
            Source::File(file) => {
                with_head(file, budget, |head, budget| Self::build(head, source, options, budget, shares, grammars))
            }
        }
    }

    fn build(
        file: &Gguf<'_>,
        source: Source<'_>,
        options: LoadOptions,
        mut budget: LoadBudget,
        shares: bool,
        grammars: &Grammars,
    ) -> Result<Self, Error> {
        let LoadOptions { of_parts, all: options } = options;
        let mut hyper = Hyperparameters::read(file)?;
        let rope = hyper.rope;
        hyper.rope = rotation(rope, &options);
        shapes::check(file, &hyper)?;
        let before = budget.remaining();
        let vocabulary = vocabulary::read(file, &mut budget)?;
        budget.charge(Tokenizer::memory(&vocabulary))?;
        let tokenizer = Tokenizer::new(vocabulary)?;
        budget.release(tokenizer.spare());
        let tokens = before - budget.remaining();
        let weights = Arc::new(Weights::load(file, source, &hyper, &mut budget)?);
        let model = Arc::new(Model::new(hyper, weights));
        let memory = model.weights.bytes().saturating_add(model.own_bytes()).saturating_add(tokens);
        let memory = memory.saturating_add(SHARED_BYTES);
        // Of a session to come: it finds the room.
        let memory = memory.saturating_add(grammars.memory(&tokenizer, model.hyper.vocabulary));
        check_limit(memory, budget.limit())?;
        let most = options.prefix_bytes.unwrap_or(model.weights.bytes() / PREFIX_PART);
        let pages = if shares { most.min(budget.limit() - memory) } else { 0 };
        let (batches, prefixes) = (Arc::new(Batches::new(passes())), Arc::new(PrefixPages::new(pages)));
        let (tokenizer, grammars) = (Arc::new(tokenizer), Arc::new(grammars.of_graph()));
        let parts = Shared { model, tokenizer, options, batches, prefixes, grammars };
        Ok(Self::new(parts, of_parts, rope, memory + pages))
    }

    fn new(shared: Shared, of_parts: Options, rope: RopeParameters, memory: usize) -> Self {
        Self {
            shared: Arc::new(shared),
            of_parts,
            rope,
            inputs: [TensorDescription::bytes("prompt"), TensorDescription::bytes("options").with_optional(true)],
            outputs: [TensorDescription::bytes("text"), TensorDescription::bytes("counts").with_before_compute(true)],
            memory,
        }
    }
}

#[cfg(test)]
impl LanguageGraph {
    /// A model from bytes, whose sessions share their prompts.
    pub(crate) fn load(bytes: &[u8], options: &[u8], config: &[u8], memory_limit: usize) -> Result<Self, Error> {
        let options = LoadOptions::read(options, config)?;
        Self::load_from(Source::Bytes(bytes), options, memory_limit, true, &Grammars::new())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Before there is a context.
    pub(crate) fn set_passes(&mut self, passes: usize) {
        Arc::get_mut(&mut self.shared).unwrap().batches = Arc::new(Batches::new(passes));
    }
}

impl BackendGraph for LanguageGraph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.outputs
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(LanguageContext {
            session: Session::new(Arc::clone(&self.shared)),
            text: None,
            run_length: None,
            piece: None,
            counts: bytes(counts((0, 0)))?,
        }))
    }

    fn reconfigure(&self, config: &str, memory_limit: usize) -> Result<Box<dyn BackendGraph>, Error> {
        let options = self.of_parts.with(config.as_bytes())?;
        let changes_pages = options.prefix_bytes != self.of_parts.prefix_bytes;
        let (shared, memory) = configured(&self.shared, options, changes_pages, self.rope, memory_limit)?;
        Ok(Box::new(Self::new(shared, self.of_parts.clone(), self.rope, memory)))
    }

    fn memory(&self) -> usize {
        self.memory
    }
}

/// A session and its outputs.
#[derive(Debug)]
struct LanguageContext {
    session: Session,
    /// The text of the last compute.
    text: Option<Tensor>,
    /// The length of the text of the run of steps so far, as the dimensions of the output; `None` without a run.
    run_length: Option<[u32; 1]>,
    /// The newest piece of the text.
    piece: Option<Tensor>,
    counts: Tensor,
}

/// A tensor of bytes.
fn bytes(data: Vec<u8>) -> Result<Tensor, Error> {
    let length = u32::try_from(data.len());
    let length = length.map_err(|_| Error::too_large("an output has more than 4294967295 bytes"))?;
    Tensor::new(vec![length], TensorType::U8, data)
}

/// Output 1. Guests of llama.cpp's hosts need the keys of its build, which is not here.
fn counts((input, output): (usize, usize)) -> Vec<u8> {
    format!(r#"{{"input_tokens":{input},"output_tokens":{output},"llama_build_number":0,"llama_commit":""}}"#)
        .into_bytes()
}

impl LanguageContext {
    fn update_counts(&mut self) -> Result<(), Error> {
        self.counts = bytes(counts(self.session.counts()))?;
        Ok(())
    }

    /// Runs to the end of the text.
    fn run(&mut self, caller: &Caller<'_>) -> Result<(), Error> {
        loop {
            let step = self.session.step(caller)?;
            if step.is_end() {
                self.update_counts()?;
                self.text = Some(bytes(self.session.text().to_vec())?);
                return if step == Step::EndOfSequence { Ok(()) } else { step.into_result() };
            }
        }
    }

    fn embed(&mut self, caller: &Caller<'_>) -> Result<(), Error> {
        let mut state = self.session.embed(caller)?;
        embedding::normalize(&mut state, self.session.options().norm);
        self.update_counts()?;
        self.text = Some(bytes(embedding::json(&state))?);
        Ok(())
    }
}

impl BackendContext for LanguageContext {
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        self.set_input_within(index, tensor, &ComputeControl::default())
    }

    fn set_input_within(
        &mut self,
        index: usize,
        tensor: TensorView<'_>,
        control: &ComputeControl,
    ) -> Result<(), Error> {
        if tensor.ty() != TensorType::U8 {
            let why = format!("input {index} has the type {:?}, and must be U8", tensor.ty());
            return Err(Error::invalid_argument(why));
        }
        match index {
            TEXT => self.session.set_prompt(tensor.data(), control)?,
            OPTIONS => self.session.set_options(tensor.data())?,
            _ => return Err(Error::invalid_argument(format!("input {index} does not exist; the model has 2 inputs"))),
        }
        self.update_counts()
    }

    fn clear_inputs(&mut self) {
        self.session.clear_inputs();
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        (self.text, self.piece, self.run_length) = (None, None, None);
        self.session.end();
        let shared = Arc::clone(self.session.shared());
        let seat = Arc::clone(self.session.seat());
        let caller = shared.batches.caller(control, &seat);
        let result = if self.session.is_embedding() { self.embed(&caller) } else { self.run(&caller) };
        self.session.end();
        result
    }

    fn step(&mut self, control: &ComputeControl) -> Result<Step, Error> {
        if self.session.is_embedding() {
            return Err(Error::unsupported("an embedding comes as a whole, and not in steps"));
        }
        let shared = Arc::clone(self.session.shared());
        let seat = Arc::clone(self.session.seat());
        let step = self.session.step(&shared.batches.caller(control, &seat))?;
        self.piece = Some(bytes(self.session.piece().to_vec())?);
        self.text = None;
        let length = u32::try_from(self.session.text().len());
        self.run_length = Some([length.map_err(|_| Error::too_large("a text has more than 4294967295 bytes"))?]);
        self.update_counts()?;
        Ok(step)
    }

    fn step_output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        match (index, &self.piece) {
            (TEXT, Some(piece)) => Ok(piece.view()),
            _ => self.output(index),
        }
    }

    fn end_steps(&mut self) {
        (self.piece, self.run_length) = (None, None);
        self.session.end();
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        match index {
            TEXT => match (&self.text, &self.run_length) {
                (Some(text), _) => Ok(text.view()),
                (None, Some(length)) => TensorView::new(length, TensorType::U8, self.session.text()),
                (None, None) => Err(Error::invalid_argument("output 0 is not computed yet")),
            },
            COUNTS if self.session.has_prompt() => Ok(self.counts.view()),
            COUNTS => Err(Error::invalid_argument("output 1 is there once input 0, the prompt, is set")),
            _ => Err(Error::invalid_argument(format!("output {index} does not exist; the model has 2 outputs"))),
        }
    }

    fn take_output(&mut self, index: usize) -> Result<Tensor, Error> {
        match (index, &mut self.text) {
            (TEXT, text @ Some(_)) => text.take().ok_or_else(|| Error::invalid_argument("output 0 was taken out")),
            _ => Ok(self.output(index)?.to_owned()),
        }
    }

    fn memory(&self) -> usize {
        let outputs = [&self.text, &self.piece].into_iter().flatten().map(|tensor| tensor.data().len()).sum::<usize>();
        self.session.memory() + outputs + self.counts.data().len()
    }

    fn shared_memory(&self) -> usize {
        self.session.shared_memory()
    }
}
