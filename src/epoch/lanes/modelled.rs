//! The lanes of an execution under loom or shuttle. Each thread keeps one lane. In the models that are about borrowing
//! ([`borrow_for_each_call`]) it borrows one for each call; in other models that would only add steps.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Lane, Lanes};
use crate::sync::{lazy_static, thread_local};

std::thread_local! {
    static BORROW_FOR_EACH_CALL: Cell<bool> = const { Cell::new(false) };
}

lazy_static! {
    /// std's atomic: the models do not depend on which thread has which number.
    static ref NEXT: AtomicUsize = AtomicUsize::new(0);
}

lazy_static! {
    /// In an `Arc`, which each borrowed lane holds too: threads may outlive the static.
    static ref LANES: Arc<Lanes<()>> = Arc::new(Lanes::new());
}

thread_local! {
    static THREAD: ThreadLanes = ThreadLanes::default();
}

#[derive(Default)]
struct ThreadLanes {
    kept: Cell<Option<usize>>,
    /// The number of the lane that is borrowed, and the number of guards on it.
    borrowed: Cell<Option<usize>>,
    guards: Cell<usize>,
}

pub(crate) struct LaneGuard {
    number: usize,
    /// The lane that this guard gives back.
    lane: Option<(Arc<Lanes<()>>, *const Lane<()>)>,
}

impl LaneGuard {
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    fn borrow() -> Self {
        let lanes = Arc::clone(&LANES);
        let lane = lanes.take(None);
        // SAFETY: the lane lives as long as `lanes`.
        let number = unsafe { &*lane }.number();
        Self { number, lane: Some((lanes, lane)) }
    }
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        let last = |thread: &ThreadLanes| {
            let guards = thread.guards.get().saturating_sub(1);
            thread.guards.set(guards);
            if guards == 0 {
                thread.borrowed.set(None);
            }
        };
        let _ = THREAD.try_with(last);
        if let Some((_lanes, lane)) = &self.lane {
            // SAFETY: the lane lives as long as `_lanes`.
            unsafe { &**lane }.give_back();
        }
    }
}

pub(crate) fn hold() -> LaneGuard {
    let hold = |thread: &ThreadLanes| {
        if !BORROW_FOR_EACH_CALL.get() {
            let number = thread.kept.get().unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
            thread.kept.set(Some(number));
            return LaneGuard { number, lane: None };
        }
        thread.guards.set(thread.guards.get() + 1);
        if let Some(number) = thread.borrowed.get() {
            return LaneGuard { number, lane: None };
        }
        let lane = LaneGuard::borrow();
        thread.borrowed.set(Some(lane.number));
        lane
    };
    THREAD.try_with(hold).unwrap_or_else(|_| LaneGuard::borrow())
}

/// Sets whether threads borrow a lane for each call, in the models that this thread of the system runs from here on.
#[cfg(loom)]
pub fn borrow_for_each_call(borrow_for_each_call: bool) {
    BORROW_FOR_EACH_CALL.set(borrow_for_each_call);
}
