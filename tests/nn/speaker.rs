//! A small language model: it says the words of a chain. Shared by the tests of the engine and of its hosts.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest, Step};
use graphpool::nn::{Encoding, Error, Target, Tensor, TensorDescription, TensorType, TensorView};

/// How long a step waits for a test that may have failed meanwhile, so that it fails rather than hangs.
const LONG: Duration = Duration::from_secs(20);

/// What a word takes in the context.
const WORD_BYTES: usize = 8;

/// A backend whose models are texts: `speaker ROOM COUNT`, then COUNT lines of a word and the one that follows it. A
/// context has room for ROOM words, those of the prompt included.
///
/// Input 0 is the prompt, input 1, which may be left out, the most words to be said. Output 0 is the text, output 1
/// "PROMPT SAID", the numbers of words; before a compute it is "PROMPT 0". The answer begins after the last word of the
/// prompt, each word with a space before it.
///
/// After "hold" a step waits at the gate until it is cancelled or late; after "fail" it fails once in a run; after
/// "panic" it panics.
///
/// It panics where the engine breaks the rules of steps.
#[derive(Clone, Default)]
pub struct Speaker(Arc<Shared>);

#[derive(Default)]
struct Shared {
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    held: usize,
    open: bool,
    /// Runs that have begun and not ended.
    runs: usize,
}

/// A model of these words, each followed by the next, with room for that many words.
pub fn model(room: usize, chain: &[&str]) -> Vec<u8> {
    let lines: Vec<String> = chain.windows(2).map(|pair| format!("{} {}\n", pair[0], pair[1])).collect();
    format!("speaker {room} {}\n{}", lines.len(), lines.concat()).into_bytes()
}

impl Speaker {
    /// Waits until that many steps have come to the gate.
    pub fn wait_for(&self, count: usize) {
        let gate = self.lock();
        let (_gate, waited) = self.0.changed.wait_timeout_while(gate, LONG, |gate| gate.held < count).unwrap();
        assert!(!waited.timed_out(), "the steps have not come to the gate");
    }

    /// How many steps have come to the gate.
    pub fn held(&self) -> usize {
        self.lock().held
    }

    /// Lets every step at the gate go on, and each later one pass.
    pub fn open(&self) {
        self.lock().open = true;
        self.0.changed.notify_all();
    }

    /// The runs that have begun and not ended.
    pub fn runs(&self) -> usize {
        self.lock().runs
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        // A step that panics holds no lock, and its run is counted still.
        self.0.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, control: &ComputeControl) -> Result<(), Error> {
        let mut gate = self.lock();
        gate.held += 1;
        self.0.changed.notify_all();
        let late = Instant::now() + LONG;
        while !gate.open {
            gate = self.0.changed.wait_timeout(gate, Duration::from_millis(1)).unwrap().0;
            control.check()?;
            if Instant::now() > late {
                return Err(Error::runtime_error("nobody has opened the gate"));
            }
        }
        Ok(())
    }
}

struct Model {
    room: usize,
    next: HashMap<String, String>,
    bytes: usize,
}

impl Model {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = str::from_utf8(bytes).ok()?.lines();
        let [name, room, count] = lines.next()?.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let pair = |line: &str| line.split_once(' ').map(|(word, next)| (word.to_owned(), next.to_owned()));
        let next: HashMap<_, _> = lines.map(pair).collect::<Option<_>>()?;
        let complete = name == "speaker" && count.parse() == Ok(next.len());
        complete.then_some(Self { room: room.parse().ok()?, next, bytes: bytes.len() })
    }
}

impl Backend for Speaker {
    fn name(&self) -> &'static str {
        "speaker"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        matches!(encoding, Encoding::Ggml | Encoding::Autodetect) && target == Target::Cpu
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let model = Model::parse(&request.parts.concat()).ok_or_else(|| Error::invalid_encoding("not a speaker"))?;
        if model.bytes > request.memory_limit {
            return Err(Error::too_large("no room for the model").by_limit());
        }
        let inputs = [TensorDescription::bytes("prompt"), TensorDescription::bytes("most").with_optional(true)];
        let outputs = [TensorDescription::bytes("text"), TensorDescription::bytes("counts").with_before_compute(true)];
        Ok(Box::new(Graph { speaker: self.clone(), model: Arc::new(model), inputs, outputs }))
    }
}

struct Graph {
    speaker: Speaker,
    model: Arc<Model>,
    inputs: [TensorDescription; 2],
    outputs: [TensorDescription; 2],
}

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.outputs
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(Session {
            speaker: self.speaker.clone(),
            model: Arc::clone(&self.model),
            prompt: None,
            most: None,
            run: None,
            text: None,
            piece: None,
            counts: None,
        }))
    }

    fn memory(&self) -> usize {
        self.model.bytes
    }
}

struct Session {
    speaker: Speaker,
    model: Arc<Model>,
    prompt: Option<String>,
    most: Option<usize>,
    run: Option<Run>,
    text: Option<Tensor>,
    piece: Option<Tensor>,
    counts: Option<Tensor>,
}

struct Run {
    words: Vec<String>,
    said: String,
    of_prompt: usize,
    failed: bool,
    over: bool,
    /// For the runs of steps.
    _counted: Option<Counted>,
}

/// Counts among the runs until it is dropped.
struct Counted(Speaker);

impl Counted {
    fn new(speaker: &Speaker) -> Self {
        speaker.lock().runs += 1;
        Self(speaker.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lock().runs -= 1;
    }
}

fn bytes(text: impl AsRef<[u8]>) -> Tensor {
    let text = text.as_ref();
    Tensor::from_slice([text.len() as u32], text).unwrap()
}

impl Session {
    fn counts(&self, said: usize) -> Option<Tensor> {
        let prompt = self.prompt.as_ref()?.split_whitespace().count();
        Some(bytes(format!("{prompt} {said}")))
    }

    fn begin(&mut self) -> Result<Run, Error> {
        let prompt = self.prompt.as_ref().ok_or_else(|| Error::invalid_argument("the prompt is missing"))?;
        let words: Vec<String> = prompt.split_whitespace().map(str::to_owned).collect();
        let (of_prompt, said) = (words.len(), String::new());
        Ok(Run { words, said, of_prompt, failed: false, over: false, _counted: None })
    }

    /// Makes a word of `run`.
    fn speak(&self, run: &mut Run, control: &ComputeControl) -> Result<Step, Error> {
        control.check()?;
        if control.memory_limit < WORD_BYTES {
            return Err(Error::too_large("no room for a word"));
        }
        if run.words.len() > self.model.room {
            return Ok(Step::PromptTooLong);
        }
        let last = run.words.last().map_or("", String::as_str);
        match last {
            "hold" => self.speaker.hold(control)?,
            "panic" => panic!("speaker"),
            "fail" if !run.failed => {
                run.failed = true;
                return Err(Error::runtime_error("the model fails"));
            }
            _ => {}
        }
        let said = run.words.len() - run.of_prompt;
        let Some(next) = self.model.next.get(last).filter(|_| self.most.is_none_or(|most| said < most)) else {
            return Ok(Step::EndOfSequence);
        };
        let bytes = self.bytes() + (run.words.len() + 1) * WORD_BYTES;
        if run.words.len() == self.model.room || control.reserve_context_memory(bytes, 0).is_err() {
            return Ok(Step::ContextFull);
        }
        run.words.push(next.clone());
        run.said.push(' ');
        run.said.push_str(next);
        Ok(Step::More)
    }

    /// Without the words of a run.
    fn bytes(&self) -> usize {
        let outputs = [&self.text, &self.piece, &self.counts].into_iter().flatten();
        self.prompt.as_ref().map_or(0, String::len) + outputs.map(|output| output.data().len()).sum::<usize>()
    }

    fn no_run(&self, call: &str) {
        assert!(self.run.is_none(), "{call} in a run");
    }
}

impl BackendContext for Session {
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        self.no_run("set_input");
        assert_eq!((tensor.ty(), tensor.dimensions()), (TensorType::U8, &[tensor.data().len() as u32][..]));
        let text = str::from_utf8(tensor.data()).map_err(|_| Error::invalid_argument("not UTF-8"))?;
        if index == 0 {
            self.prompt = Some(text.to_owned());
            self.counts = self.counts(0);
        } else {
            self.most = Some(text.parse().map_err(|_| Error::invalid_encoding("not a number of words"))?);
        }
        Ok(())
    }

    fn clear_inputs(&mut self) {
        self.no_run("clear_inputs");
        (self.prompt, self.most, self.counts) = (None, None, None);
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        self.no_run("compute");
        let mut run = self.begin()?;
        let end = loop {
            match self.speak(&mut run, control)? {
                Step::More => {}
                end => break end,
            }
        };
        if end == Step::PromptTooLong {
            return end.into_result();
        }
        self.counts = self.counts(run.words.len() - run.of_prompt);
        self.text = Some(bytes(run.said));
        if end == Step::ContextFull { end.into_result() } else { Ok(()) }
    }

    fn step(&mut self, control: &ComputeControl) -> Result<Step, Error> {
        let mut run = match self.run.take() {
            Some(run) => run,
            None => Run { _counted: Some(Counted::new(&self.speaker)), ..self.begin()? },
        };
        assert!(!run.over, "a step of a run that is over");
        let before = run.said.len();
        let step = self.speak(&mut run, control);
        if let Ok(step) = step {
            run.over = step.is_end();
            self.piece = Some(bytes(&run.said[before..]));
            self.text = Some(bytes(&run.said));
            self.counts = self.counts(run.words.len() - run.of_prompt);
        }
        self.run = Some(run);
        step
    }

    fn step_output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        assert!(self.run.is_some(), "a piece without a run");
        let output = if index == 0 { &self.piece } else { &self.counts };
        output.as_ref().map(Tensor::view).ok_or_else(|| Error::invalid_argument("no step was made"))
    }

    fn end_steps(&mut self) {
        (self.run, self.piece) = (None, None);
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        let output = if index == 0 { &self.text } else { &self.counts };
        output.as_ref().map(Tensor::view).ok_or_else(|| Error::invalid_argument("nothing is computed yet"))
    }

    fn memory(&self) -> usize {
        self.bytes() + self.run.as_ref().map_or(0, |run| run.words.len() * WORD_BYTES)
    }
}
