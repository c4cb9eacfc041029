//! An engine with the backend of words, and puppets of its guests.

use std::thread;
use std::time::{Duration, Instant};

use graphpool::nn::{Encoding, Engine, EngineBuilder, ErrorKind, GuestBuilder, ModelSource, Target};

use crate::backend::{Gate, PATIENCE, Words};
use crate::puppet::{CPU, Failure, MODES, Mode, ONNX, Puppet, code, ty};

pub struct Setup {
    pub engine: Engine,
    pub gate: Gate,
    pub mode: Mode,
}

/// Runs a test in each mode, and checks that it has left nothing in the engine.
pub fn each(test: impl Fn(&Setup)) {
    each_with(|builder| builder, test);
}

pub fn each_with(configure: impl Fn(EngineBuilder) -> EngineBuilder, test: impl Fn(&Setup)) {
    for mode in MODES {
        let (words, gate) = Words::new();
        let engine = configure(Engine::builder(words)).build();
        engine.register_model("echo", ModelSource::bytes(b"echo"), Encoding::Onnx, Target::Cpu).unwrap();
        let setup = Setup { engine, gate, mode };
        test(&setup);
        settle(&setup.engine);
    }
}

/// Waits until the engine holds nothing of a guest: a compute that was cancelled ends on a thread of its own.
pub fn settle(engine: &Engine) {
    let start = Instant::now();
    loop {
        let stats = engine.stats();
        let bytes = stats.context_bytes + stats.host_bytes;
        let left = (stats.guests, stats.graph_handles, stats.contexts, bytes, stats.computing, stats.loads);
        if left == (0, 0, 0, 0, 0, 0) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{left:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

impl Setup {
    pub fn puppet(&self) -> Puppet {
        Puppet::new(self.mode, self.engine.guest())
    }

    pub fn puppet_of(&self, configure: impl FnOnce(GuestBuilder) -> GuestBuilder) -> Puppet {
        Puppet::new(self.mode, configure(self.engine.guest_builder()).build())
    }
}

impl Puppet {
    /// Loads a model of words.
    pub fn words(&mut self, model: &str) -> Result<u32, Failure> {
        self.load(&[model.as_bytes()], ONNX, CPU)
    }

    /// Opens a context of a model of words.
    pub fn open(&mut self, model: &str) -> u32 {
        let graph = self.words(model).unwrap();
        self.context(graph).unwrap()
    }

    pub fn bytes(&mut self, data: &[u8]) -> u32 {
        self.tensor(&[u32::try_from(data.len()).unwrap()], ty::U8, data)
    }

    /// Computes with one input, and reads the only output.
    pub fn echo(&mut self, context: u32, name: &str, tensor: u32) -> Result<(Vec<u32>, u32, Vec<u8>), Failure> {
        let outputs = self.compute(context, &[(name, tensor)])?;
        assert_eq!(outputs.len(), 1);
        let parts = self.parts(outputs[0].1);
        self.drop("tensor", outputs[0].1);
        Ok(parts)
    }
}

/// The code of each kind of error.
pub fn codes() -> impl Iterator<Item = (ErrorKind, u32)> {
    let code = |kind| match kind {
        ErrorKind::InvalidArgument | ErrorKind::MissingMemory => code::INVALID_ARGUMENT,
        ErrorKind::InvalidEncoding => code::INVALID_ENCODING,
        ErrorKind::Timeout => code::TIMEOUT,
        ErrorKind::RuntimeError | ErrorKind::Busy | ErrorKind::EndOfSequence => code::RUNTIME_ERROR,
        ErrorKind::UnsupportedOperation => code::UNSUPPORTED_OPERATION,
        ErrorKind::TooLarge | ErrorKind::ContextFull | ErrorKind::PromptTooLong => code::TOO_LARGE,
        ErrorKind::NotFound | ErrorKind::ModelNotFound => code::NOT_FOUND,
        ErrorKind::Security => code::SECURITY,
        _ => code::UNKNOWN,
    };
    ErrorKind::ALL.into_iter().map(move |kind| (kind, code(kind)))
}

/// Asserts that a call gives an error of this code, whose message contains the words.
#[track_caller]
pub fn refused<R: std::fmt::Debug>(result: Result<R, Failure>, code: u32, words: &str) {
    let failure = result.expect_err(words);
    assert!(failure.code == code && failure.message.contains(words), "{failure:?}; not {code}: {words}");
}
