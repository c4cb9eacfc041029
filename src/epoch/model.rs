//! A model of the contract (E1 to E3) for loom and shuttle. It runs a deferred function at the first moment that the
//! contract allows.
//!
//! The registry of guards and deferred functions is in std types, where the checkers see neither switch points nor
//! happens-before edges. So a [`switch_point`](State::switch_point) precedes each access, and the edges that the
//! contract promises, and no others, are made with the checkers' atomics.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::lazy_static;

lazy_static! {
    static ref STATE: State =
        State { registry: Mutex::new(Registry::default()), ticks: AtomicUsize::new(0), unpins: AtomicUsize::new(0) };
}

std::thread_local! {
    static LAST_FIRST: Cell<bool> = const { Cell::new(false) };
}

/// Sets whether, of several functions that may run, the last deferred runs first, in the models that this thread of the
/// system runs from here on. The contract promises no order.
pub fn run_last_first(run_last_first: bool) {
    LAST_FIRST.set(run_last_first);
}

struct State {
    registry: Mutex<Registry>,
    ticks: AtomicUsize,
    unpins: AtomicUsize,
}

#[derive(Default)]
struct Registry {
    next_pin: u64,
    pinned: BTreeSet<u64>,
    deferred: Vec<Deferred>,
}

struct Deferred {
    waits_for: BTreeSet<u64>,
    run: Box<dyn FnOnce()>,
}

// SAFETY: loom and shuttle run their threads one at a time, on one thread of the system.
unsafe impl Send for Registry {}

impl State {
    /// A compare-exchange that always fails: loom takes it to depend on every other one, and it orders nothing.
    fn switch_point(&self) {
        let _ = self.ticks.compare_exchange(1, 2, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpin(&self, pin: u64) -> Vec<Deferred> {
        let mut registry = self.registry();
        registry.pinned.remove(&pin);
        for deferred in &mut registry.deferred {
            deferred.waits_for.remove(&pin);
        }
        let mut ready: Vec<_> = registry.deferred.extract_if(.., |deferred| deferred.waits_for.is_empty()).collect();
        if LAST_FIRST.get() {
            ready.reverse();
        }
        ready
    }

    fn run(&self, ready: Vec<Deferred>) {
        for deferred in ready {
            // E3: after the reads of every thread that has unpinned.
            self.unpins.fetch_add(0, Ordering::Acquire);
            (deferred.run)();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The end of an execution: no thread is pinned, so everything may run.
        let left = std::mem::take(&mut self.registry().deferred);
        for deferred in left {
            (deferred.run)();
        }
    }
}

pub struct Guard {
    pin: u64,
    _stays_on_its_thread: PhantomData<*mut ()>,
}

fn pin_thread() -> u64 {
    let state: &State = &STATE;
    state.switch_point();
    let pin = {
        let mut registry = state.registry();
        registry.next_pin += 1;
        let pin = registry.next_pin;
        registry.pinned.insert(pin);
        pin
    };
    // E2: this thread sees what came before the deferrals of others.
    fence(Ordering::SeqCst);
    pin
}

fn unpin_thread(pin: u64) {
    let state: &State = &STATE;
    // E3: our reads come before the functions that wait for us.
    state.unpins.fetch_add(1, Ordering::Release);
    state.switch_point();
    let ready = state.unpin(pin);
    state.run(ready);
}

pub fn pin() -> Guard {
    Guard { pin: pin_thread(), _stays_on_its_thread: PhantomData }
}

impl Guard {
    pub fn repin(&mut self) {
        unpin_thread(self.pin);
        self.pin = pin_thread();
    }

    /// Does nothing: a function runs as soon as it may.
    #[expect(clippy::unused_self, reason = "the interface is that of crossbeam-epoch")]
    pub fn flush(&self) {}

    /// As [`flush`](Self::flush).
    #[expect(clippy::unused_self, reason = "the interface is that of crossbeam-epoch")]
    pub fn seal(&self) {}

    /// # Safety
    ///
    /// As [`super::Guard::defer`].
    #[expect(clippy::unused_self, reason = "the interface is that of crossbeam-epoch")]
    pub unsafe fn defer<F: FnOnce()>(&self, f: F) {
        let run: Box<dyn FnOnce() + '_> = Box::new(f);
        // SAFETY: `f` may run at any later time (2), so its lifetime may be extended.
        let run: Box<dyn FnOnce()> = unsafe { std::mem::transmute(run) };
        let state: &State = &STATE;
        state.switch_point();
        // E2: a thread that pins from here on sees what came before.
        fence(Ordering::SeqCst);
        let mut registry = state.registry();
        let waits_for = registry.pinned.clone();
        registry.deferred.push(Deferred { waits_for, run });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        unpin_thread(self.pin);
    }
}
