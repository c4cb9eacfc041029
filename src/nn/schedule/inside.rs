//! Records the engines inside whose computes the current thread runs, with the permits of these computes, and the
//! permit of the load that it runs.
//!
//! A backend may use its own engine. A compute that it starts inside another one must not wait for its turn, because
//! its own thread may hold the permit that it would wait for. A load that waits for the build of another load gives its
//! permit up first, because that build may be the next that needs one. A compute whose thread sleeps in the backend
//! until another has computed for it is suspended meanwhile.

use std::cell::RefCell;
use std::{mem, ptr};

use crate::backend::{ComputeControl, Suspender};
use crate::nn::schedule::admission::{Admission, Permit};
use crate::nn::schedule::suspend::Suspended;
use crate::nn::telemetry::observe::Sleeping;
use crate::sync::thread_local;

// The computes of the thread.
thread_local! {
    static INSIDE: RefCell<Vec<Inside>> = const { RefCell::new(Vec::new()) };
}

/// A compute that the thread runs.
struct Inside {
    /// The engine, by the address of its admission control.
    engine: *const Admission,
    /// [`ComputeControl::number`].
    compute: usize,
    place: Place,
}

/// What the engine's admission control has given to a compute.
enum Place {
    Running(Permit),
    Suspended(Suspended, Sleeping),
    /// It was cancelled or late before it could resume.
    Withdrawn,
}

/// For the controls of computes.
pub(crate) const SUSPENDER: Suspender = Suspender { suspend, resume };

// The permit of the load that the thread runs.
thread_local! {
    static LOAD: RefCell<Option<Permit>> = const { RefCell::new(None) };
}

/// Marks the current thread as inside a compute of an engine, until the drop.
pub(crate) struct ComputeScope(());

impl ComputeScope {
    pub(crate) fn enter(engine: &Admission, control: &ComputeControl, permit: Permit) -> Self {
        let (engine, compute, place) = (ptr::from_ref(engine), control.number(), Place::Running(permit));
        INSIDE.with(|inside| inside.borrow_mut().push(Inside { engine, compute, place }));
        Self(())
    }

    /// Takes the permit; `None` if the compute was cancelled or late while it was suspended.
    #[expect(clippy::unused_self, reason = "the scope ends here")]
    pub(crate) fn leave(self) -> Option<Permit> {
        let place = INSIDE.with(|inside| {
            let mut inside = inside.borrow_mut();
            inside.last_mut().map(|inside| mem::replace(&mut inside.place, Place::Withdrawn))
        });
        match place {
            Some(Place::Running(permit)) => Some(permit),
            _ => None,
        }
    }
}

impl Drop for ComputeScope {
    fn drop(&mut self) {
        // Each entry ends on its own thread, before the entries that were added earlier. A statement of its own: the
        // next compute begins without the borrow.
        let inside = INSIDE.with(|inside| inside.borrow_mut().pop());
        drop(inside);
    }
}

/// Exchanges the place of a compute of the current thread, if it is one.
fn exchange(control: &ComputeControl, place: Place) -> Place {
    INSIDE.with(|inside| {
        let mut inside = inside.borrow_mut();
        match inside.iter_mut().rfind(|inside| inside.compute == control.number()) {
            Some(inside) => mem::replace(&mut inside.place, place),
            None => place,
        }
    })
}

/// Gives up the permit of a compute, and returns whether it had one. Must be called without a lock, on the compute's
/// own thread; does nothing on another.
fn suspend(control: &ComputeControl) -> bool {
    match exchange(control, Place::Withdrawn) {
        Place::Running(permit) => {
            drop(exchange(control, Place::Suspended(Suspended::new(permit), Sleeping::start())));
            true
        }
        other => {
            drop(exchange(control, other));
            false
        }
    }
}

/// Waits for a permit, if the compute is suspended.
fn resume(control: &ComputeControl) {
    match exchange(control, Place::Withdrawn) {
        // Counted as one that sleeps until it goes on.
        Place::Suspended(suspended, _sleeping) => {
            if let Some(permit) = suspended.resume(control) {
                drop(exchange(control, Place::Running(permit)));
            }
        }
        other => drop(exchange(control, other)),
    }
}

/// Whether the current thread is inside a compute of `engine`.
pub(crate) fn is_inside(engine: &Admission) -> bool {
    INSIDE.with(|inside| inside.borrow().iter().any(|inside| ptr::eq(inside.engine, engine)))
}

/// The load of a permit runs on the current thread, until the drop.
pub(crate) struct LoadScope(());

impl LoadScope {
    pub(crate) fn enter(permit: Permit) -> Self {
        LOAD.with(|load| load.borrow_mut().replace(permit));
        Self(())
    }
}

impl Drop for LoadScope {
    fn drop(&mut self) {
        give_up_permit();
    }
}

/// Gives up the permit of the load that the current thread runs, if it still has it. Must be called without a lock.
pub(crate) fn give_up_permit() {
    // The next load begins without the borrow.
    let permit = LOAD.with(|load| load.borrow_mut().take());
    drop(permit);
}
