//! A backend whose models are words: the text of a model says what it does.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{Encoding, Error, ErrorKind, Target, Tensor, TensorDescription, TensorType, TensorView};

/// A test fails where it would wait longer than this.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// What a compute or a load of a waiting model reports to its test.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Began,
    Ended,
}

/// The test's side of the models that wait.
pub struct Gate {
    pub events: Receiver<Event>,
    /// Ends one wait.
    pub open: Sender<()>,
}

struct Waits {
    events: Sender<Event>,
    open: Mutex<Receiver<()>>,
}

pub struct Words {
    waits: Arc<Waits>,
}

impl Words {
    pub fn new() -> (Self, Gate) {
        let (events, told) = channel();
        let (open, opened) = channel();
        (Self { waits: Arc::new(Waits { events, open: Mutex::new(opened) }) }, Gate { events: told, open })
    }
}

impl Waits {
    /// Waits for the test, or for a cancellation.
    fn wait(&self, control: Option<&ComputeControl>) -> Result<(), Error> {
        self.events.send(Event::Began).unwrap();
        let ended = match control {
            Some(control) => loop {
                if self.open.lock().unwrap().recv_timeout(Duration::from_millis(1)).is_ok() {
                    break Ok(());
                }
                if let Err(error) = control.check() {
                    break Err(error);
                }
            },
            None => self.open.lock().unwrap().recv_timeout(PATIENCE).map_err(|_| Error::runtime_error("not opened")),
        };
        // The test may have gone.
        let _ = self.events.send(Event::Ended);
        ended
    }
}

/// What a graph computes.
#[derive(Clone)]
enum Work {
    /// Output 0 is input 0, and so on.
    Echo,
    /// The same, and the outputs are not moved out.
    Lend,
    /// The output is one byte, whatever the inputs.
    Constant,
    /// Two outputs of one byte.
    Two,
    Wait(Arc<Waits>),
    Fail(ErrorKind),
    Panic,
}

struct Graph {
    work: Work,
    inputs: Vec<TensorDescription>,
    outputs: Vec<TensorDescription>,
}

struct Context {
    work: Work,
    inputs: Vec<Option<Tensor>>,
    outputs: Vec<Option<Tensor>>,
}

/// A kind of error by its name.
fn kind(name: &str) -> Option<ErrorKind> {
    ErrorKind::ALL.into_iter().find(|kind| kind.name() == name)
}

impl Backend for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        encoding == Encoding::Onnx && target == Target::Cpu
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let text = String::from_utf8(request.parts.concat()).map_err(|_| Error::invalid_encoding("not a text"))?;
        // A line of its own makes the bytes of a model unique.
        let line = text.lines().next().unwrap_or_default();
        let (verb, object) = line.split_once(' ').unwrap_or((line, ""));
        let any = |name: &str, ty| TensorDescription::new(name, ty, None);
        let constant = || vec![any("y", TensorType::U8)];
        let (work, inputs, outputs) = match verb {
            "echo" => (Work::Echo, vec![any("x", TensorType::U8)], vec![any("y", TensorType::U8)]),
            "lend" => (Work::Lend, vec![any("x", TensorType::U8)], vec![any("y", TensorType::U8)]),
            "pair" => {
                let fixed = |name: &str| TensorDescription::new(name, TensorType::F32, Some(vec![None, Some(2)]));
                (Work::Echo, vec![fixed("a"), fixed("b")], vec![fixed("a"), fixed("")])
            }
            "swapped" => {
                let names = vec![any("1", TensorType::U8), any("0", TensorType::U8)];
                (Work::Echo, names.clone(), names)
            }
            "types" => {
                let all: Vec<_> = TensorType::ALL.into_iter().map(|ty| any(&ty.to_string(), ty)).collect();
                (Work::Echo, all.clone(), all)
            }
            "constant" => (Work::Constant, Vec::new(), constant()),
            "two" => (Work::Two, Vec::new(), vec![any("y", TensorType::U8), any("z", TensorType::U8)]),
            "wait" => (Work::Wait(Arc::clone(&self.waits)), Vec::new(), constant()),
            "panic" => (Work::Panic, Vec::new(), constant()),
            "fail" => {
                (Work::Fail(kind(object).ok_or_else(|| Error::invalid_encoding("no kind"))?), Vec::new(), constant())
            }
            "refuse" => return Err(Error::new(kind(object).unwrap_or(ErrorKind::Unknown), "refused")),
            "explode" => panic!("as the model says"),
            "load" => {
                self.waits.wait(None)?;
                (Work::Constant, Vec::new(), constant())
            }
            _ => return Err(Error::invalid_encoding(format!("{verb:?} is not a word"))),
        };
        Ok(Box::new(Graph { work, inputs, outputs }))
    }
}

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.outputs
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(Context { work: self.work.clone(), inputs: vec![None; self.inputs.len()], outputs: Vec::new() }))
    }

    fn memory(&self) -> usize {
        100
    }
}

impl BackendContext for Context {
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        self.inputs[index] = Some(tensor.to_owned());
        Ok(())
    }

    fn clear_inputs(&mut self) {
        self.inputs.fill(None);
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        let outputs = match &self.work {
            Work::Echo | Work::Lend => {
                let missing = || Error::invalid_argument("an input is missing");
                self.inputs.iter().map(|input| input.clone().ok_or_else(missing)).collect::<Result<_, _>>()?
            }
            Work::Constant => vec![Tensor::from_slice([1], &[7_u8])?],
            Work::Two => vec![Tensor::from_slice([1], &[1_u8])?, Tensor::from_slice([1], &[2_u8])?],
            Work::Wait(waits) => {
                waits.wait(Some(control))?;
                vec![Tensor::from_slice([1], &[8_u8])?]
            }
            Work::Fail(kind) => return Err(Error::new(*kind, "as the model says")),
            Work::Panic => panic!("as the model says"),
        };
        self.outputs = outputs.into_iter().map(Some).collect();
        Ok(())
    }

    fn take_output(&mut self, index: usize) -> Result<Tensor, Error> {
        if matches!(self.work, Work::Lend) {
            return Ok(self.output(index)?.to_owned());
        }
        self.outputs.get_mut(index).and_then(Option::take).ok_or_else(|| Error::invalid_argument("not there"))
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        let output = self.outputs.get(index).and_then(Option::as_ref);
        output.map(Tensor::view).ok_or_else(|| Error::invalid_argument("not there"))
    }
}
