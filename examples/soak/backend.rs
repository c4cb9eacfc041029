//! A backend that computes, and at times fails or panics, wherever its model says so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{Encoding, Error, Target, Tensor, TensorDescription, TensorType, TensorView};

/// Graphs and contexts of this backend that are alive, in all engines.
pub static ALIVE: AtomicUsize = AtomicUsize::new(0);

struct Alive;

impl Alive {
    fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How a model behaves: the last byte of its text, after its factor.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    /// Some milliseconds, looking at its control.
    Slow,
    FailsToLoad,
    PanicsAtLoad,
    PanicsAtInit,
    PanicsAtInput,
    PanicsAtCompute,
    PanicsAtOutput,
    PanicsAtDrop,
    PanicsAtMemory,
    /// Holds more than a guest may have, once it has computed.
    Swells,
    Fails,
}

/// Multiplies its one input by a factor, by which its outputs tell it. Its models are texts like `7 g`.
pub struct Factor;

/// The text of a model.
pub fn model(factor: u32, manner: char) -> Vec<u8> {
    format!("{factor} {manner}").into_bytes()
}

/// Every manner of a model, in the letters of [`model`].
pub const MANNERS: &[char] = &['g', 's', 'f', 'l', 'i', 'p', 'c', 'o', 'd', 'm', 'w', 'e'];

impl Backend for Factor {
    fn name(&self) -> &'static str {
        "factor"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        encoding == Encoding::Onnx && target == Target::Cpu
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let text = String::from_utf8(request.parts.concat()).map_err(|_| Error::invalid_encoding("no text"))?;
        let (factor, manner) = text.split_once(' ').ok_or_else(|| Error::invalid_encoding("no factor"))?;
        let factor: u16 = factor.parse().map_err(|_| Error::invalid_encoding("no number"))?;
        let manner = match manner {
            "g" => Manner::Good,
            "s" => Manner::Slow,
            "f" => Manner::FailsToLoad,
            "l" => Manner::PanicsAtLoad,
            "i" => Manner::PanicsAtInit,
            "p" => Manner::PanicsAtInput,
            "c" => Manner::PanicsAtCompute,
            "o" => Manner::PanicsAtOutput,
            "d" => Manner::PanicsAtDrop,
            "m" => Manner::PanicsAtMemory,
            "w" => Manner::Swells,
            "e" => Manner::Fails,
            _ => return Err(Error::invalid_encoding("no manner")),
        };
        assert!(manner != Manner::PanicsAtLoad, "at load");
        if manner == Manner::FailsToLoad {
            return Err(Error::runtime_error("it fails to load"));
        }
        let one = TensorDescription::new("x", TensorType::F32, Some(vec![Some(1)]));
        Ok(Box::new(Graph { factor: factor.into(), manner, one: [one], _alive: Alive::new() }))
    }
}

struct Graph {
    factor: f32,
    manner: Manner,
    one: [TensorDescription; 1],
    _alive: Alive,
}

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.one
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.one
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        assert!(self.manner != Manner::PanicsAtInit, "at init");
        let Self { factor, manner, .. } = *self;
        Ok(Box::new(Context { factor, manner, x: None, y: None, _alive: Alive::new() }))
    }

    fn memory(&self) -> usize {
        1_000
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        assert!(self.manner != Manner::PanicsAtDrop, "at drop");
    }
}

struct Context {
    factor: f32,
    manner: Manner,
    x: Option<f32>,
    y: Option<Tensor>,
    _alive: Alive,
}

impl BackendContext for Context {
    fn set_input(&mut self, _: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        assert!(self.manner != Manner::PanicsAtInput, "at input");
        self.x = tensor.to_owned().to_f32().and_then(|elements| elements.first().copied());
        Ok(())
    }

    fn clear_inputs(&mut self) {
        self.x = None;
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        match self.manner {
            Manner::PanicsAtCompute => panic!("at compute"),
            Manner::Fails => return Err(Error::runtime_error("it fails")),
            Manner::Slow => {
                for _ in 0..4 {
                    control.check()?;
                    thread::sleep(Duration::from_millis(1));
                }
            }
            _ => {}
        }
        let x = self.x.ok_or_else(|| Error::invalid_argument("no input"))?;
        self.y = Some(Tensor::from_f32(vec![1], &[x * self.factor])?);
        Ok(())
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        assert!(self.manner != Manner::PanicsAtOutput, "at output");
        self.y.as_ref().map(Tensor::view).ok_or_else(|| Error::invalid_argument("nothing computed"))
    }

    fn memory(&self) -> usize {
        let computed = self.y.is_some();
        assert!(self.manner != Manner::PanicsAtMemory || !computed, "at memory");
        if self.manner == Manner::Swells && computed { 1_000 } else { 100 }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        assert!(self.manner != Manner::PanicsAtDrop, "at drop");
    }
}
