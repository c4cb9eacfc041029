//! Backends that come and go while the engine is used, and that know little of their models.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{
    BackendError, Encoding, Engine, Error, ErrorKind, Guest, ModelSource, Target, Tensor, TensorDescription,
    TensorType, TensorView,
};

/// A backend that computes its tag. It knows neither inputs nor outputs: a model has as many outputs as bytes.
struct Tagged {
    name: &'static str,
    tag: u8,
    encoding: Encoding,
    life: Arc<Life>,
}

/// What is alive of a backend; its drop checks that it goes last.
#[derive(Default)]
struct Life {
    graphs: AtomicUsize,
    contexts: AtomicUsize,
    ended: AtomicUsize,
}

impl Tagged {
    fn new(name: &'static str, tag: u8) -> (Self, Arc<Life>) {
        let life = Arc::<Life>::default();
        (Self { name, tag, encoding: Encoding::Onnx, life: Arc::clone(&life) }, life)
    }
}

impl Life {
    fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        assert_eq!(self.life.graphs.load(Ordering::SeqCst) + self.life.contexts.load(Ordering::SeqCst), 0);
        self.life.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Backend for Tagged {
    fn name(&self) -> &str {
        self.name
    }

    fn supports(&self, encoding: Encoding, _: Target) -> bool {
        encoding == self.encoding || encoding == Encoding::Autodetect
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        assert_eq!(self.life.ended(), 0);
        let outputs = match request.name {
            Some("two") => 2,
            Some(_) => return Err(Error::not_found("no model has that name in the backend")),
            None if request.parts.concat().starts_with(b"other") => return Err(Error::invalid_encoding("other")),
            None => request.parts.concat().len(),
        };
        self.life.graphs.fetch_add(1, Ordering::SeqCst);
        let any = |index: usize| TensorDescription::new(index.to_string(), None, None).with_optional(index > 0);
        let life = Arc::clone(&self.life);
        Ok(Box::new(Graph { tag: self.tag, outputs, described: [0, 1, 2, 3].map(any).to_vec(), life }))
    }
}

struct Graph {
    tag: u8,
    outputs: usize,
    described: Vec<TensorDescription>,
    life: Arc<Life>,
}

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.described
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.described
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        self.life.contexts.fetch_add(1, Ordering::SeqCst);
        let output = Tensor::new(vec![1], TensorType::U8, vec![self.tag])?;
        Ok(Box::new(Context { output, outputs: self.outputs, life: Arc::clone(&self.life) }))
    }

    fn memory(&self) -> usize {
        1
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.life.graphs.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Context {
    output: Tensor,
    outputs: usize,
    life: Arc<Life>,
}

impl BackendContext for Context {
    fn set_input(&mut self, index: usize, _: TensorView<'_>) -> Result<(), Error> {
        if index < 2 { Ok(()) } else { Err(Error::invalid_argument("the model has two inputs")) }
    }

    fn clear_inputs(&mut self) {}

    fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
        assert_eq!(self.life.ended(), 0);
        Ok(())
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        match self.outputs {
            0 => Err(Error::runtime_error("it has lost its outputs")),
            outputs if index < outputs => Ok(self.output.view()),
            _ => Err(Error::invalid_argument("the model has no such output")),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.life.contexts.fetch_sub(1, Ordering::SeqCst);
    }
}

fn load(guest: &Guest) -> Result<graphpool::GuestHandle, Error> {
    let graph = guest.load(&[b"m"], Encoding::Onnx, Target::Cpu)?;
    let context = guest.init_execution_context(graph);
    guest.unload(graph)?;
    context
}

fn tag(guest: &Guest, context: graphpool::GuestHandle) -> u8 {
    guest.compute(context).unwrap();
    guest.output(context, 0).unwrap().data()[0]
}

#[test]
fn a_backend_is_registered_replaced_and_removed_by_its_name() {
    let ((one, one_life), (two, two_life), (three, three_life)) =
        (Tagged::new("a", 1), Tagged::new("a", 2), Tagged::new("b", 3));
    let engine = Engine::new(one);
    assert_eq!(engine.list_backends(), ["a"]);
    let (taken, taken_life) = Tagged::new("a", 9);
    assert_eq!(engine.register_backend(taken), Err(BackendError::NameTaken { name: "a".into() }));
    assert_eq!((taken_life.ended(), one_life.ended()), (1, 0));
    let absent = BackendError::NotFound { name: "b".into() };
    assert_eq!(engine.replace_backend(Tagged::new("b", 9).0), Err(absent.clone()));
    assert_eq!(engine.remove_backend("b"), Err(absent));

    engine.register_backend(three).unwrap();
    assert_eq!(engine.list_backends(), ["a", "b"]);
    let guest = engine.guest();
    let of_one = load(&guest).unwrap();
    assert_eq!(tag(&guest, of_one), 1);
    engine.replace_backend(two).unwrap();
    assert_eq!(engine.list_backends(), ["a", "b"], "it keeps its place");
    // The same bytes, of which a graph is in memory.
    let of_two = load(&guest).unwrap();
    let load_async = || crate::admission::block_on(guest.load_async([b"m".as_slice()], Encoding::Onnx, Target::Cpu));
    let again = guest.init_execution_context(load_async().unwrap()).unwrap();
    assert_eq!(tag(&guest, again), 2);
    assert_eq!((tag(&guest, of_one), tag(&guest, of_two)), (1, 2));
    engine.remove_backend("a").unwrap();
    let of_three = load(&guest).unwrap();
    assert_eq!([of_one, of_two, of_three].map(|context| tag(&guest, context)), [1, 2, 3]);
    engine.remove_backend("b").unwrap();
    let error = load(&guest).unwrap_err();
    assert_eq!(error.message(), "load: no backend supports the encoding onnx on the target cpu");
    assert_eq!([&one_life, &two_life, &three_life].map(|life| life.ended()), [0; 3]);
    assert_eq!([of_one, of_two, of_three].map(|context| tag(&guest, context)), [1, 2, 3]);
    drop((guest, engine));
    assert_eq!([one_life, two_life, three_life].map(|life| life.ended()), [1; 3]);
}

#[test]
fn a_named_model_keeps_its_version_until_it_is_reloaded() {
    let ((one, life), (two, _)) = (Tagged::new("a", 1), Tagged::new("a", 2));
    let engine = Engine::new(one);
    let guest = engine.guest();
    engine.register_model("m", ModelSource::of_backend("two"), Encoding::Onnx, Target::Cpu).unwrap();
    let open = || guest.init_execution_context(guest.load_by_name("m").unwrap()).unwrap();
    let before = open();
    engine.replace_backend(two).unwrap();
    assert_eq!([before, open()].map(|context| tag(&guest, context)), [1, 1]);
    assert_eq!(engine.reload_model("m").unwrap(), 2);
    assert_eq!([before, open()].map(|context| tag(&guest, context)), [1, 2]);
    assert_eq!(life.ended(), 0);
    // Its graph has the last word of the version before.
    drop(guest);
    drop(engine);
    assert_eq!(life.ended(), 1);
}

#[test]
fn models_that_a_backend_finds_by_name_are_for_hosts_alone() {
    let engine = Engine::new(Tagged::new("a", 1).0);
    let guest = engine.guest();
    assert_eq!(guest.load_by_name("two").unwrap_err().kind(), ErrorKind::NotFound);
    engine.register_model("x", ModelSource::of_backend("three"), Encoding::Onnx, Target::Cpu).unwrap();
    let error = guest.load_by_name("x").unwrap_err();
    assert_eq!(error.message(), "load_by_name: no model has that name in the backend");
    assert_eq!(guest.load(&[], Encoding::Onnx, Target::Cpu).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(format!("{:?}", ModelSource::of_backend("x")), "[\"x\" of the backend]");
}

#[test]
fn tensors_that_a_backend_does_not_know_are_left_to_it() {
    let engine = Engine::new(Tagged::new("a", 7).0);
    let guest = engine.guest();
    let of = |bytes: &[u8]| {
        guest.init_execution_context(guest.load(&[bytes], Encoding::Onnx, Target::Cpu).unwrap()).unwrap()
    };
    let context = of(b"abc");
    for tensor in [Tensor::from_f32([2], &[0.0; 2]).unwrap(), Tensor::from_slice([1, 1], &[5_i64]).unwrap()] {
        guest.set_input(context, 1, &tensor).unwrap();
        guest.set_input(context, "1", &tensor).unwrap();
        assert_eq!(guest.set_input(context, 2, &tensor).unwrap_err().message(), "set_input: the model has two inputs");
        assert_eq!(guest.set_input(context, 4, &tensor).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    // The outputs end at the first that the model lacks, and any other error is the inference's.
    assert_eq!(guest.infer::<u32, &Tensor>(context, []).unwrap().len(), 3);
    assert_eq!(guest.infer::<u32, &Tensor>(of(b"abcde"), []).unwrap().len(), 4);
    let lost = guest.infer::<u32, &Tensor>(of(b""), []).unwrap_err();
    assert_eq!(lost.message(), "infer: it has lost its outputs");
}

#[test]
fn autodetection_goes_on_to_a_backend_that_was_registered_later() {
    let engine = Engine::new(Tagged::new("a", 1).0);
    let guest = engine.guest();
    let load = |bytes: &[u8]| guest.load(&[bytes], Encoding::Autodetect, Target::Cpu);
    assert_eq!(load(b"other").unwrap_err().kind(), ErrorKind::InvalidEncoding);
    engine.register_backend(super::scripted::Scripted::new(|_| Ok(()))).unwrap();
    load(b"other").unwrap();
    engine.remove_backend("scripted").unwrap();
    assert_eq!(load(b"other").unwrap_err().kind(), ErrorKind::InvalidEncoding);
}

#[test]
fn threads_that_replace_load_and_remove_leave_nothing() {
    let engine = Engine::new(Tagged::new("first", 0).0);
    let lives: Vec<Arc<Life>> = thread::scope(|scope| {
        let run = |number: u8| {
            let engine = engine.clone();
            move || {
                let name = ["a", "b"][usize::from(number % 2)];
                let guest = engine.guest();
                let mut lives = Vec::new();
                for round in 0..200 {
                    let (backend, life) = Tagged::new(name, number);
                    let changed = match round % 3 {
                        0 => engine.register_backend(backend),
                        1 => engine.replace_backend(backend),
                        _ => engine.remove_backend(name),
                    };
                    assert!(changed.is_ok() || !matches!(changed, Err(BackendError::Panicked { .. })));
                    lives.push(life);
                    let context = load(&guest).unwrap();
                    tag(&guest, context);
                    guest.drop_context(context).unwrap();
                }
                lives
            }
        };
        let threads: Vec<_> = (0..4).map(|number| scope.spawn(run(number))).collect();
        engine.register_backend(Tagged::new("last", 9).0).unwrap();
        engine.remove_backend("first").unwrap();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    drop(engine);
    for life in lives {
        assert_eq!(life.ended(), 1);
    }
}
