//! Where destructors run, and how collections are kept from nesting.
//!
//! The destructor of a value may call anything: insert, remove, pin, flush, drop another pool. While one runs on a
//! thread, deferred functions of pools that the collector calls on that thread are postponed. The outermost
//! [`ReclaimScope`] runs them after the destructor. So a thread's stack has at most one collection on it.

use std::cell::{Cell, RefCell};

use crate::epoch::{self, pin};
use crate::sync::thread_local;

type Work = Box<dyn FnOnce()>;

thread_local! {
    static RECLAIMING: Cell<bool> = const { Cell::new(false) };
}

thread_local! {
    static POSTPONED: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
}

/// Whether this thread runs destructors. `true` too when its thread-locals are gone, so that it collects nothing then.
pub(super) fn is_reclaiming() -> bool {
    RECLAIMING.try_with(Cell::get).unwrap_or(true)
}

/// While one is alive, [`is_reclaiming`] is true on its thread.
pub(super) struct ReclaimScope {
    outermost: bool,
}

impl ReclaimScope {
    pub(super) fn enter() -> Self {
        Self { outermost: !RECLAIMING.try_with(|flag| flag.replace(true)).unwrap_or(true) }
    }
}

impl Drop for ReclaimScope {
    fn drop(&mut self) {
        if self.outermost {
            while let Some(work) = POSTPONED.try_with(|postponed| postponed.borrow_mut().pop()).ok().flatten() {
                work();
            }
            let _ = RECLAIMING.try_with(|flag| flag.set(false));
        }
    }
}

/// Runs `work` after a grace period, on the thread that collects then.
///
/// # Safety
///
/// 1. `work` may run on any thread.
/// 2. `work` may run at any later time: it owns or keeps alive everything that it uses.
pub(super) unsafe fn defer(work: impl FnOnce() + 'static) {
    let guard = pin();
    // SAFETY: the caller's promise is the one that is required here.
    unsafe { guard.defer(move || run_or_postpone(work)) };
    if is_reclaiming() {
        // A collection here would only postpone what it finds.
        guard.seal();
    } else {
        guard.flush();
    }
}

/// Runs a deferred function, or postpones it if this thread runs destructors.
fn run_or_postpone(work: impl FnOnce() + 'static) {
    if RECLAIMING.try_with(Cell::get).unwrap_or(false) {
        let mut work = Some(work);
        let postpone = |postponed: &RefCell<Vec<Work>>| {
            if let Some(work) = work.take() {
                postponed.borrow_mut().push(Box::new(work));
            }
        };
        let _ = POSTPONED.try_with(postpone);
        if let Some(work) = work {
            // This thread ends, and its list is gone.
            work();
        }
    } else {
        let _scope = ReclaimScope::enter();
        work();
    }
}

/// Runs the deferred functions whose grace period is over, unless this thread runs destructors.
#[cold]
pub(super) fn collect() {
    if !is_reclaiming() {
        epoch::collect();
    }
}
