//! Records the engines inside whose computes the current thread runs, and the permit of the load that it runs.
//!
//! A backend may use its own engine. A compute that it starts inside another one must not wait for its turn, because
//! its own thread may hold the permit that it would wait for. A load that waits for the build of another load gives its
//! permit up first, because that build may be the next that needs one.

use std::cell::RefCell;
use std::ptr;

use crate::nn::schedule::admission::{Admission, Permit};
use crate::sync::thread_local;

// The engines, by the address of their admission control; one entry for each compute.
thread_local! {
    static INSIDE: RefCell<Vec<*const Admission>> = const { RefCell::new(Vec::new()) };
}

// The permit of the load that the thread runs.
thread_local! {
    static LOAD: RefCell<Option<Permit>> = const { RefCell::new(None) };
}

/// Marks the current thread as inside a compute of an engine, until the drop.
pub(crate) struct ComputeScope(());

impl ComputeScope {
    pub(crate) fn enter(engine: &Admission) -> Self {
        INSIDE.with(|inside| inside.borrow_mut().push(ptr::from_ref(engine)));
        Self(())
    }
}

impl Drop for ComputeScope {
    fn drop(&mut self) {
        // Each entry ends on its own thread, before the entries that were added earlier.
        INSIDE.with(|inside| inside.borrow_mut().pop());
    }
}

/// Whether the current thread is inside a compute of `engine`.
pub(crate) fn is_inside(engine: &Admission) -> bool {
    INSIDE.with(|inside| inside.borrow().contains(&ptr::from_ref(engine)))
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
