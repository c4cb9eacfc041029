//! Loom models of a guest that is closed while another thread makes its calls.

use std::collections::BTreeSet;
use std::sync::{Arc as StdArc, Mutex as StdMutex};

use loom::sync::Arc;
use loom::thread;

use crate::GuestHandle;
use crate::backend::{Backend, BackendContext, BackendGraph, CancelToken, ComputeControl, LoadRequest};
use crate::model_support::{explore, explore_bounded};
use crate::nn::guest::claimed::Claimed;
use crate::nn::{Encoding, Engine, Error, Guest, Target, TensorDescription, TensorView};
use crate::sync::atomic::{AtomicBool, Ordering};

/// What the model sees of the computes.
#[derive(Default)]
struct Seen {
    /// The token of the compute that is inside. A std lock: it is none of the model's steps.
    inside: StdMutex<Option<CancelToken>>,
    /// Set when the close has returned.
    closed: AtomicBool,
}

impl Seen {
    /// What holds when the close has returned.
    fn closed(&self) {
        let inside = self.inside.lock().unwrap().clone();
        assert!(inside.is_none_or(|token| token.is_cancelled()), "a compute goes on after the close");
        self.closed.store(true, Ordering::Release);
    }
}

/// Graphs and contexts at once.
#[derive(Clone)]
struct Probe(Arc<Seen>);

impl Backend for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl BackendGraph for Probe {
    fn inputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn outputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(self.clone()))
    }

    fn memory(&self) -> usize {
        0
    }
}

impl BackendContext for Probe {
    fn set_input(&mut self, _: usize, _: TensorView<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn clear_inputs(&mut self) {}

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        let Self(seen) = self;
        *seen.inside.lock().unwrap() = Some(control.cancel.clone());
        let late = seen.closed.load(Ordering::Acquire);
        assert!(!late || control.cancel.is_cancelled(), "a compute begins after the close");
        thread::yield_now();
        *seen.inside.lock().unwrap() = None;
        control.check()
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        Err(Error::invalid_argument("none"))
    }
}

fn guest() -> (Engine, Guest, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let engine = Engine::new(Probe(Arc::clone(&seen)));
    let guest = engine.guest();
    (engine, guest, seen)
}

fn load(guest: &Guest) -> Result<GuestHandle, Error> {
    guest.load(&[&[1]], Encoding::Onnx, Target::Cpu)
}

/// X6: a compute against the close of its guest. It ends before, is refused or is cancelled.
#[test]
fn a_close_against_a_compute_with_3_preemptions() {
    let ends = StdArc::new(StdMutex::new(BTreeSet::new()));
    let notes = StdArc::clone(&ends);
    explore_bounded("a close against a compute", 3, move || {
        let (engine, guest, seen) = guest();
        let context = guest.init_execution_context(load(&guest).unwrap()).unwrap();
        let other = guest.clone();
        let other = thread::spawn(move || other.compute(context).map_err(|error| error.message().to_owned()));
        guest.close();
        seen.closed();
        notes.lock().unwrap().insert(other.join().unwrap().err().unwrap_or_default());
        assert_eq!((engine.stats().contexts, engine.stats().graph_handles), (0, 0));
    });
    let ends = ends.lock().unwrap();
    for end in ["", "compute: cancelled", "compute: cancelled before it began", "compute: the guest is closed"] {
        assert!(ends.contains(end), "{end:?} is not in {ends:?}");
    }
}

/// D2: the close of a guest against the drop of a context whose compute runs, on a third thread.
#[test]
fn a_close_against_the_drop_of_a_context_that_computes_with_3_preemptions() {
    explore_bounded("a close against the drop of a context that computes", 3, || {
        let (engine, guest, _) = guest();
        let context = guest.init_execution_context(load(&guest).unwrap()).unwrap();
        let cancel = CancelToken::default();
        let claimed = Claimed::new(guest.inner.context("", context).unwrap(), context, Some(&cancel)).unwrap();
        assert!(claimed.begin());
        let other = guest.clone();
        let other = thread::spawn(move || drop(other.drop_context(context)));
        guest.close();
        other.join().unwrap();
        assert!(cancel.is_cancelled());
        drop(claimed);
        assert_eq!(engine.stats().contexts, 0);
    });
}

/// D2: the close of a guest against the drop of a context whose compute has claimed it and waits for its turn. None
/// begins after the close has returned.
#[test]
fn a_close_against_the_drop_of_a_context_whose_compute_waits_with_3_preemptions() {
    explore_bounded("a close against the drop of a context whose compute waits", 3, || {
        let (engine, guest, _) = guest();
        let context = guest.init_execution_context(load(&guest).unwrap()).unwrap();
        let cancel = CancelToken::default();
        let claimed = Claimed::new(guest.inner.context("", context).unwrap(), context, Some(&cancel)).unwrap();
        let other = guest.clone();
        let other = thread::spawn(move || drop(other.drop_context(context)));
        guest.close();
        assert!(!claimed.begin() || cancel.is_cancelled(), "a compute begins after the close");
        other.join().unwrap();
        drop(claimed);
        assert_eq!(engine.stats().contexts, 0);
    });
}

/// D1: a context that is opened, and computes, against the close of its guest.
#[test]
fn a_close_against_a_context_that_is_opened_with_3_preemptions() {
    explore_bounded("a close against a context that is opened", 3, || {
        let (engine, guest, seen) = guest();
        let graph = load(&guest).unwrap();
        let other = guest.clone();
        let other = thread::spawn(move || other.compute(other.init_execution_context(graph)?));
        guest.close();
        seen.closed();
        let _ = other.join().unwrap();
        assert_eq!((engine.stats().contexts, engine.stats().graph_handles), (0, 0));
    });
}

/// D1: a load against the close of its guest.
#[test]
fn a_close_against_a_load() {
    explore("a close against a load", || {
        let (engine, guest, _) = guest();
        let other = guest.clone();
        let other = thread::spawn(move || drop(load(&other)));
        guest.close();
        other.join().unwrap();
        assert_eq!((engine.stats().graph_handles, engine.stats().graphs), (0, 0));
    });
}
