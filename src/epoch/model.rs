//! A model of the contract (E1 to E3) for loom and shuttle, which reclaims at the first moment that the contract
//! allows.
//!
//! Which guards are pinned, and what waits for which of them, is kept in std types, in which neither sees a
//! switch point nor an edge. So each access comes after a [`tick`](State::tick), and the edges that the contract
//! promises, no more, are stated with atomics of its own.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::lazy_static;

lazy_static! {
    static ref STATE: State =
        State { book: Mutex::new(Book::default()), ticks: AtomicUsize::new(0), unpins: AtomicUsize::new(0) };
}

std::thread_local! {
    static LAST_FIRST: Cell<bool> = const { Cell::new(false) };
}

/// Whether of what may run at the same time the last deferred runs first, in the models that this thread of the system
/// runs from here on. The contract promises no order.
pub fn last_first(last_first: bool) {
    LAST_FIRST.set(last_first);
}

struct State {
    book: Mutex<Book>,
    ticks: AtomicUsize,
    unpins: AtomicUsize,
}

#[derive(Default)]
struct Book {
    next_pin: u64,
    pinned: BTreeSet<u64>,
    deferred: Vec<Deferred>,
}

struct Deferred {
    waits_for: BTreeSet<u64>,
    run: Box<dyn FnOnce()>,
}

// SAFETY: loom and shuttle run their threads one at a time, on one thread of the system.
unsafe impl Send for Book {}

impl State {
    /// A switch point that loom takes for dependent on every other tick, and that orders nothing: a
    /// compare-exchange that always fails.
    fn tick(&self) {
        let _ = self.ticks.compare_exchange(1, 2, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpin(&self, pin: u64) -> Vec<Deferred> {
        let mut book = self.book();
        book.pinned.remove(&pin);
        for deferred in &mut book.deferred {
            deferred.waits_for.remove(&pin);
        }
        let mut ready: Vec<_> = book.deferred.extract_if(.., |deferred| deferred.waits_for.is_empty()).collect();
        if LAST_FIRST.get() {
            ready.reverse();
        }
        ready
    }

    fn run(&self, ready: Vec<Deferred>) {
        for deferred in ready {
            // E3: after the reads of everyone who has unpinned.
            self.unpins.fetch_add(0, Ordering::Acquire);
            (deferred.run)();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The end of an execution: nobody is pinned, so everything may run.
        let left = std::mem::take(&mut self.book().deferred);
        for deferred in left {
            (deferred.run)();
        }
    }
}

pub struct Guard {
    pin: u64,
    _stays_on_its_thread: PhantomData<*mut ()>,
}

fn enter() -> u64 {
    let state: &State = &STATE;
    state.tick();
    let pin = {
        let mut book = state.book();
        book.next_pin += 1;
        let pin = book.next_pin;
        book.pinned.insert(pin);
        pin
    };
    // E2.
    fence(Ordering::SeqCst);
    pin
}

fn leave(pin: u64) {
    let state: &State = &STATE;
    // E3: our reads come before whatever waits for us.
    state.unpins.fetch_add(1, Ordering::Release);
    state.tick();
    let ready = state.unpin(pin);
    state.run(ready);
}

pub fn pin() -> Guard {
    Guard { pin: enter(), _stays_on_its_thread: PhantomData }
}

impl Guard {
    pub fn repin(&mut self) {
        leave(self.pin);
        self.pin = enter();
    }

    /// Everything is collected as soon as it may be.
    #[expect(clippy::unused_self, reason = "the interface is the real collector's")]
    pub fn flush(&self) {}

    /// As [`flush`](Self::flush).
    #[expect(clippy::unused_self, reason = "the interface is the real collector's")]
    pub fn seal(&self) {}

    /// # Safety
    ///
    /// As [`super::Guard::defer`].
    #[expect(clippy::unused_self, reason = "the interface is the real collector's")]
    pub unsafe fn defer<F: FnOnce()>(&self, f: F) {
        let run: Box<dyn FnOnce() + '_> = Box::new(f);
        // SAFETY: the caller promises that `f` may run at any later time.
        let run: Box<dyn FnOnce()> = unsafe { std::mem::transmute(run) };
        let state: &State = &STATE;
        state.tick();
        // E2: whoever pins from here on sees what came before.
        fence(Ordering::SeqCst);
        let mut book = state.book();
        let waits_for = book.pinned.clone();
        book.deferred.push(Deferred { waits_for, run });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        leave(self.pin);
    }
}
