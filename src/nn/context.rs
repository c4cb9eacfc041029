//! A context: one stream of inferences, used by one call at a time.
//!
//! * X1: while a call is inside the backend no other call is, and none waits for it: it meets
//!   [`Busy`](super::ErrorKind::Busy).
//! * X2: no lock is held inside the backend.
//! * X3: a context whose backend has panicked is never used again; its guest still holds the handle.
//! * X4: what a context holds (its backend's memory, its graph, its share of the guest's limits) goes when it is
//!   closed and no call is inside, at whichever comes last, and does not wait for the end of a grace period.

use std::sync::{Arc as StdArc, Mutex, MutexGuard, PoisonError};

use super::claim::{Claim, Refused, TakeDown};
use super::graph::{Graph, GraphUse};
use super::panics::shield;
use super::stats::Counters;
use super::usage::{Hold, Reservation};
use super::{Error, TensorDescription};
use crate::backend::BackendContext;

/// What a context keeps for no use but to let go of it at its end.
pub(super) struct Keep {
    pub(super) _graph: GraphUse,
    pub(super) _slot: Reservation,
    pub(super) _bytes: Hold,
}

/// A graph-execution-context.
pub(super) struct Context {
    claim: Claim,
    /// Never contended, and never locked for longer than it takes to move a pointer: only whoever has the claim, or
    /// is told to take the context down, touches it.
    inside: Mutex<Inside>,
    inputs: StdArc<[TensorDescription]>,
    outputs: StdArc<[TensorDescription]>,
    counters: StdArc<Counters>,
}

struct Inside {
    /// `None` while a call uses it, after a panic, and at the end.
    backend: Option<Box<dyn BackendContext>>,
    /// `None` at the end.
    keep: Option<Keep>,
}

impl Context {
    pub(super) fn new(graph: &Graph, backend: Box<dyn BackendContext>, keep: Keep) -> Self {
        let counters = StdArc::clone(graph.counters());
        Counters::count(&counters.opened);
        Counters::born(&counters.contexts, 1);
        Self {
            claim: Claim::new(),
            inside: Mutex::new(Inside { backend: Some(backend), keep: Some(keep) }),
            inputs: StdArc::clone(graph.inputs()),
            outputs: StdArc::clone(graph.outputs()),
            counters,
        }
    }

    pub(super) fn inputs(&self) -> &StdArc<[TensorDescription]> {
        &self.inputs
    }

    pub(super) fn outputs(&self) -> &StdArc<[TensorDescription]> {
        &self.outputs
    }

    /// Runs `f` with the backend's context, if no other call does.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut dyn BackendContext) -> Result<R, Error>) -> Result<R, Error> {
        self.claim.claim().map_err(|refused| match refused {
            Refused::Busy => {
                Counters::count(&self.counters.busy);
                Error::busy("another call uses the context")
            }
            Refused::Closed => Error::invalid_argument("the context was dropped meanwhile"),
        })?;
        let result = self.inside_claim(f);
        if self.claim.release() == TakeDown::Mine {
            self.take_down();
        }
        result
    }

    /// Ends the context: at once, or when the call that is inside leaves.
    pub(super) fn close(&self) {
        if self.claim.close() == TakeDown::Mine {
            self.take_down();
        }
    }

    fn inside_claim<R>(&self, f: impl FnOnce(&mut dyn BackendContext) -> Result<R, Error>) -> Result<R, Error> {
        // X2: a statement of its own, so that the lock goes before the call.
        let backend = self.lock().backend.take();
        let Some(mut backend) = backend else {
            return Err(Error::runtime_error("the context was lost when its backend panicked"));
        };
        match shield(&self.counters, || f(&mut *backend)) {
            Ok(result) => {
                self.lock().backend = Some(backend);
                result
            }
            // X3.
            Err(panicked) => {
                self.bury(backend);
                Err(panicked)
            }
        }
    }

    fn take_down(&self) {
        let (backend, keep) = {
            let mut inside = self.lock();
            (inside.backend.take(), inside.keep.take())
        };
        // The backend's context goes before the graph that it came from.
        if let Some(backend) = backend {
            self.bury(backend);
        }
        drop(keep);
    }

    fn bury(&self, backend: Box<dyn BackendContext>) {
        // The error has nobody to go to: the panic is counted.
        let _ = shield(&self.counters, || drop(backend));
        Counters::died(&self.counters.contexts, 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Whoever removes a context from its table closes it, so this finds something only where it never got there.
        self.take_down();
    }
}
