//! Where the tests put things in a puppet's memory, and a guest that has loaded a model and computed.

use graphpool::nn::{Encoding, Engine, Guest, ModelSource, Target};
use graphpool_wasmtime::WasiNnCtx;

use crate::backend::Words;
use crate::puppet::{Mode, Puppet};

/// The word that a call writes.
pub const OUT: u32 = 0x80;
/// One part: the model.
pub const PARTS: u32 = 0x100;
pub const MODEL: u32 = 0x140;
pub const NAME: u32 = 0x180;
pub const CONFIG: u32 = 0x1c0;
/// A tensor of two f32.
pub const TENSOR: u32 = 0x200;
pub const DIMENSIONS: u32 = 0x240;
pub const DATA: u32 = 0x280;
pub const BUFFER: u32 = 0x300;

/// The numbers of witx.
pub const ONNX: u32 = 1;
pub const CPU: u32 = 0;
pub const F32: u32 = 1;

pub fn engine(words: &Words) -> Engine {
    let engine = Engine::builder(words.clone()).build();
    let copy = || ModelSource::bytes(b"copy".to_vec());
    engine.register_model("copy", copy(), Encoding::Onnx, Target::Cpu).unwrap();
    engine.register_model("mine", copy().with_guest_configs(4), Encoding::Onnx, Target::Cpu).unwrap();
    engine.register_model("theirs", copy(), Encoding::Onnx, Target::Cpu).unwrap();
    engine.register_model("bad", ModelSource::bytes(b"none".to_vec()), Encoding::Onnx, Target::Cpu).unwrap();
    engine
}

/// A guest that may load every name but `theirs`.
pub fn guest(engine: &Engine) -> Guest {
    engine.guest_builder().with_models(["copy", "mine", "bad"]).build()
}

impl Puppet {
    /// A puppet with everything in its memory that a good call needs.
    pub fn furnished(ctx: WasiNnCtx, memory: &str, mode: Mode) -> Self {
        let mut puppet = Self::new(ctx, memory, mode);
        puppet.furnish("copy");
        puppet
    }

    pub fn furnish(&mut self, model: &str) {
        self.write_words(OUT, &[u32::MAX]);
        self.write_words(PARTS, &[MODEL, model.len() as u32]);
        self.write(MODEL, model.as_bytes());
        self.write(NAME, b"copy");
        self.write(CONFIG, b"{}");
        self.write_words(TENSOR, &[DIMENSIONS, 1, F32, DATA, 8]);
        self.write_words(DIMENSIONS, &[2]);
        self.write(DATA, &[1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat());
    }

    /// Loads the model in the memory.
    pub fn load(&mut self) -> u32 {
        self.made("load", &[PARTS, 1, ONNX, CPU, OUT])
    }

    /// A context with its input.
    pub fn context(&mut self, graph: u32) -> u32 {
        let context = self.made("init_execution_context", &[graph, OUT]);
        assert_eq!(self.call("set_input", &[context, 0, TENSOR]), 0);
        context
    }

    /// Everything that a good guest does, to its end.
    pub fn works(&mut self) {
        let graph = self.load();
        let context = self.context(graph);
        assert_eq!(self.call("compute", &[context]), 0);
        assert_eq!(self.made("get_output", &[context, 0, BUFFER, 8, OUT]), 8);
        assert_eq!(self.floats(BUFFER, 2), [1.5, -2.0]);
        assert_eq!(self.call("finalize_execution_context", &[context]), 0);
        assert_eq!(self.call("unload", &[graph]), 0);
    }
}
