//! Which engines' computes the current thread is inside of.
//!
//! A backend may use its own engine. A compute that it starts from inside one must not wait for its turn there: the
//! turn may be the one that its own thread has.

use std::cell::RefCell;
use std::ptr;

use crate::nn::schedule::admission::Admission;
use crate::sync::thread_local;

// The engines, by the address of what lets computes in; each once for every compute.
thread_local! {
    static INSIDE: RefCell<Vec<*const Admission>> = const { RefCell::new(Vec::new()) };
}

/// The current thread is inside a compute of an engine, until this is dropped.
pub(crate) struct ComputeScope(());

impl ComputeScope {
    pub(crate) fn enter(engine: &Admission) -> Self {
        INSIDE.with(|inside| inside.borrow_mut().push(ptr::from_ref(engine)));
        Self(())
    }
}

impl Drop for ComputeScope {
    fn drop(&mut self) {
        // Each ends on its thread, and before those that were there before it.
        INSIDE.with(|inside| inside.borrow_mut().pop());
    }
}

/// Whether the current thread is inside a compute of `engine`.
pub(crate) fn is_inside(engine: &Admission) -> bool {
    INSIDE.with(|inside| inside.borrow().contains(&ptr::from_ref(engine)))
}
