//! Records the engines inside whose computes the current thread runs.
//!
//! A backend may use its own engine. A compute that it starts inside another one must not wait for its turn, because
//! its own thread may hold the permit that it would wait for.

use std::cell::RefCell;
use std::ptr;

use crate::nn::schedule::admission::Admission;
use crate::sync::thread_local;

// The engines, by the address of their admission control; one entry for each compute.
thread_local! {
    static INSIDE: RefCell<Vec<*const Admission>> = const { RefCell::new(Vec::new()) };
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
