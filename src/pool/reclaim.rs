//! Running destructors: where that is done, and how collection is kept from recursing.
//!
//! A destructor may call anything: insert, remove, pin, flush, drop another pool. While one runs on a thread, the end
//! of another grace period is not worked off inside of it but noted, and worked off by the outermost scope after it. So
//! the stack holds one collection at most, whatever destructors do.

use std::cell::{Cell, RefCell};

use crate::epoch::{self, pin};
use crate::sync::thread_local;

type Work = Box<dyn FnOnce()>;

thread_local! {
    static RECLAIMING: Cell<bool> = const { Cell::new(false) };
}

thread_local! {
    static NOTED: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
}

/// Whether this thread runs destructors. Where it can't be told, it does.
pub(super) fn is_reclaiming() -> bool {
    RECLAIMING.try_with(Cell::get).unwrap_or(true)
}

/// Marks this thread as one that runs destructors.
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
            while let Some(work) = NOTED.try_with(|noted| noted.borrow_mut().pop()).ok().flatten() {
                work();
            }
            let _ = RECLAIMING.try_with(|flag| flag.set(false));
        }
    }
}

/// Runs `work` after a grace period, on whichever thread collects then.
///
/// # Safety
///
/// `work` must be sound to run on any thread and at any later time.
pub(super) unsafe fn defer(work: impl FnOnce() + 'static) {
    let guard = pin();
    // SAFETY: the caller's promise.
    unsafe { guard.defer(move || work_off(work)) };
    if is_reclaiming() {
        // Collecting here would only fill the list of what is noted.
        guard.seal();
    } else {
        guard.flush();
    }
}

/// Does what a grace period's end asks for: after the destructor that this thread runs, if it runs one.
fn work_off(work: impl FnOnce() + 'static) {
    if RECLAIMING.try_with(Cell::get).unwrap_or(false) {
        let mut work = Some(work);
        let note = |noted: &RefCell<Vec<Work>>| {
            if let Some(work) = work.take() {
                noted.borrow_mut().push(Box::new(work));
            }
        };
        // A thread on its way out may have no list any more.
        let _ = NOTED.try_with(note);
        if let Some(work) = work {
            work();
        }
    } else {
        let _scope = ReclaimScope::enter();
        work();
    }
}

/// Collects what may be collected now, unless this thread runs destructors.
#[cold]
pub(super) fn collect() {
    if !is_reclaiming() {
        epoch::collect();
    }
}
