//! A backend whose models are words.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest, Step};
use graphpool::nn::{Encoding, Error, Target, Tensor, TensorDescription, TensorType, TensorView};

/// How long a call waits for a test that may have failed meanwhile, so that it fails rather than hangs.
const LONG: Duration = Duration::from_secs(20);

/// Copies its input, a vector of f32 of any length, to its output, in one step if that is asked for. Its models:
///
/// * `copy…`: does just that.
/// * `slow…`: its load waits at the gate.
/// * `wait…`: its compute waits at the gate until it is cancelled or late.
/// * `fail…`: its compute fails.
#[derive(Clone, Default)]
pub struct Words(Arc<Shared>);

#[derive(Default)]
struct Shared {
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    entered: usize,
    left: usize,
    open: bool,
    /// Where the data of the last input was.
    input: usize,
}

impl Words {
    /// Waits until `count` calls have come to the gate.
    pub fn wait_for(&self, count: usize) {
        self.wait_while("come to the gate", |gate| gate.entered < count);
    }

    /// Waits until `count` calls have left the gate, by its opening or by their end.
    pub fn wait_for_leaving(&self, count: usize) {
        self.wait_while("left the gate", |gate| gate.left < count);
    }

    /// How many calls have come to the gate.
    pub fn entered(&self) -> usize {
        self.0.gate.lock().unwrap().entered
    }

    /// Lets every call at the gate go on, and each later one pass.
    pub fn open(&self) {
        self.0.gate.lock().unwrap().open = true;
        self.0.changed.notify_all();
    }

    /// The address of the data of the last input.
    pub fn input(&self) -> usize {
        self.0.gate.lock().unwrap().input
    }

    fn wait_while(&self, what: &str, mut condition: impl FnMut(&mut Gate) -> bool) {
        let gate = self.0.gate.lock().unwrap();
        let (_gate, waited) = self.0.changed.wait_timeout_while(gate, LONG, |gate| condition(gate)).unwrap();
        assert!(!waited.timed_out(), "the calls have not {what}");
    }

    fn pass(&self, control: &ComputeControl) -> Result<(), Error> {
        let mut gate = self.0.gate.lock().unwrap();
        gate.entered += 1;
        self.0.changed.notify_all();
        let late = Instant::now() + LONG;
        let mut passed = Ok(());
        while !gate.open && passed.is_ok() {
            gate = self.0.changed.wait_timeout(gate, Duration::from_millis(1)).unwrap().0;
            passed = control.check();
            if Instant::now() > late {
                passed = Err(Error::runtime_error("nobody has opened the gate"));
            }
        }
        gate.left += 1;
        self.0.changed.notify_all();
        passed
    }
}

impl Backend for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        encoding == Encoding::Onnx && target == Target::Cpu
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let model = request.parts.concat();
        let word = model.first_chunk::<4>();
        let word = word.filter(|word| [b"copy", b"slow", b"wait", b"fail"].contains(word));
        let word = *word.ok_or_else(|| Error::invalid_encoding("not a word of this backend"))?;
        if &word == b"slow" {
            self.pass(&ComputeControl::default())?;
        }
        let vector = |name| [TensorDescription::new(name, TensorType::F32, Some(vec![None]))];
        let (inputs, outputs) = (vector("x"), vector("y"));
        Ok(Box::new(Graph { words: self.clone(), word, bytes: model.len(), inputs, outputs }))
    }
}

struct Graph {
    words: Words,
    word: [u8; 4],
    bytes: usize,
    inputs: [TensorDescription; 1],
    outputs: [TensorDescription; 1],
}

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.outputs
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(Opened {
            words: self.words.clone(),
            word: self.word,
            input: None,
            computed: false,
            stepped: false,
        }))
    }

    fn memory(&self) -> usize {
        self.bytes
    }
}

struct Opened {
    words: Words,
    word: [u8; 4],
    input: Option<Tensor>,
    computed: bool,
    stepped: bool,
}

impl BackendContext for Opened {
    fn set_input(&mut self, _: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        self.words.0.gate.lock().unwrap().input = tensor.data().as_ptr().addr();
        self.input = Some(tensor.to_owned());
        Ok(())
    }

    fn clear_inputs(&mut self) {
        self.input = None;
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        if self.input.is_none() {
            return Err(Error::invalid_argument("the input is missing"));
        }
        match &self.word {
            b"wait" => self.words.pass(control)?,
            b"fail" => return Err(Error::runtime_error("the model says so")),
            _ => {}
        }
        self.computed = true;
        Ok(())
    }

    fn step(&mut self, control: &ComputeControl) -> Result<Step, Error> {
        if self.stepped {
            return Ok(Step::EndOfSequence);
        }
        self.compute(control)?;
        self.stepped = true;
        Ok(Step::More)
    }

    fn end_steps(&mut self) {
        self.stepped = false;
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        let output = self.input.as_ref().filter(|_| self.computed);
        output.map(Tensor::view).ok_or_else(|| Error::invalid_argument("nothing is computed yet"))
    }
}
