//! Loom models of the list of backends: its changes, against loads and against each other.

use loom::thread;

use super::*;
use crate::backend::{BackendContext, TensorDescription};
use crate::model_support::explore;
use crate::nn::Target;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// The number of ends of a backend, which its uses read: one of them that may come after the end sees it in some
/// execution.
struct Life {
    ended: AtomicUsize,
}

impl Life {
    fn new() -> Arc<Self> {
        Arc::new(Self { ended: AtomicUsize::new(0) })
    }

    fn touch(&self) {
        assert_eq!(self.ended.load(Ordering::Relaxed), 0, "used after its end");
    }
}

/// A backend; its number is the memory of its graphs.
struct Living {
    name: &'static str,
    number: usize,
    life: Arc<Life>,
}

impl Backend for Living {
    fn name(&self) -> &str {
        self.name
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        self.life.touch();
        true
    }

    fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        self.life.touch();
        Ok(Box::new(Graph(self.number, Arc::clone(&self.life))))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.life.ended.fetch_add(1, Ordering::Relaxed);
    }
}

struct Graph(usize, Arc<Life>);

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn outputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Err(Error::busy("no contexts here"))
    }

    fn memory(&self) -> usize {
        self.1.touch();
        self.0
    }
}

/// A list of backends, with the lives of two that are in it or are going to be.
struct Model {
    backends: Backends,
    counters: StdArc<Counters>,
    lives: [Arc<Life>; 2],
}

impl Model {
    fn new() -> Arc<Self> {
        Arc::new(Self { backends: Backends::default(), counters: StdArc::default(), lives: [Life::new(), Life::new()] })
    }

    fn backend(&self, name: &'static str, number: usize) -> Arc<Registered> {
        let life = Arc::clone(&self.lives[number]);
        Registered::new(Box::new(Living { name, number, life }), &self.counters)
    }

    fn register(&self, name: &'static str, number: usize) -> bool {
        self.backends.register(&self.backend(name, number)).is_ok()
    }

    fn replace(&self, name: &'static str, number: usize) -> bool {
        self.backends.replace(&self.backend(name, number)).is_ok()
    }

    /// Loads a model and uses its graph; the number of its backend, if there is one.
    fn load(&self) -> Option<usize> {
        let request = LoadRequest::new(&[b"m"], Encoding::Onnx, Target::Cpu);
        let loaded = self.backends.candidates(&request).unwrap().load(&request).ok()?;
        Some(loaded.graph.memory())
    }

    fn ended(&self) -> [usize; 2] {
        [0, 1].map(|number| self.lives[number].ended.load(Ordering::Relaxed))
    }
}

/// B1, B2, B3: a load during a removal runs to its end on the removed backend, or finds the next one. A load after the
/// removal finds the next one. The removed backend is dropped once, after its last use.
#[test]
fn a_load_against_a_removal() {
    explore("a load against a removal", || {
        let model = Model::new();
        assert!(model.register("a", 0) && model.register("b", 1));
        let other = Arc::clone(&model);
        let other = thread::spawn(move || {
            other.backends.remove("a").unwrap();
            assert_eq!(other.load(), Some(1));
        });
        assert!(model.load().is_some());
        other.join().unwrap();
        assert_eq!((model.load(), model.ended()), (Some(1), [1, 0]));
        model.backends.clear();
        assert_eq!((model.load(), model.ended()), (None, [1, 1]));
    });
}

/// B1, B2, B3: a load during a replacement gets the backend before or after, and a load after it the new one.
#[test]
fn a_load_against_a_replacement() {
    explore("a load against a replacement", || {
        let model = Model::new();
        assert!(model.register("a", 0));
        let other = Arc::clone(&model);
        let other = thread::spawn(move || {
            assert!(other.replace("a", 1));
            assert_eq!(other.load(), Some(1));
        });
        assert!(model.load().is_some());
        other.join().unwrap();
        assert_eq!((model.load(), model.ended()), (Some(1), [1, 0]));
    });
}

/// B4: of two registrations of one name exactly one succeeds, and the other's backend is dropped once.
#[test]
fn two_registrations_of_one_name() {
    explore("two registrations of one name", || {
        let model = Model::new();
        let other = Arc::clone(&model);
        let other = thread::spawn(move || other.register("a", 1));
        let mine = model.register("a", 0);
        assert!(mine != other.join().unwrap());
        let stays = usize::from(!mine);
        assert_eq!((model.load(), model.backends.names().len()), (Some(stays), 1));
        assert_eq!((model.ended()[stays], model.ended()[1 - stays]), (0, 1));
    });
}

/// B4: a registration and the removal of another backend are both kept.
#[test]
fn a_registration_against_the_removal_of_another() {
    explore("a registration against the removal of another", || {
        let model = Model::new();
        assert!(model.register("a", 0));
        let other = Arc::clone(&model);
        let other = thread::spawn(move || other.backends.remove("a").unwrap());
        assert!(model.register("b", 1));
        other.join().unwrap();
        assert_eq!((model.backends.names(), model.ended()), (vec!["b".to_owned()], [1, 0]));
    });
}

/// B3, B4: a replacement against a removal of the same name. The removal succeeds, and takes what the replacement has
/// put there, or comes before it. Each backend is dropped once.
#[test]
fn a_replacement_against_a_removal() {
    explore("a replacement against a removal", || {
        let model = Model::new();
        assert!(model.register("a", 0));
        let other = Arc::clone(&model);
        let other = thread::spawn(move || other.backends.remove("a").unwrap());
        model.replace("a", 1);
        other.join().unwrap();
        assert_eq!((model.backends.names().len(), model.ended()), (0, [1, 1]));
    });
}
