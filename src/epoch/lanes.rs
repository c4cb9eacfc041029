//! Lanes: a thread holds one while it is pinned or changes a pool, and only then.
//!
//! A lane has the state that would otherwise be one for each thread: a participant of the epoch, and a shard of each
//! pool. The collector visits every participant before the epoch advances, and a pool that counts visits every shard. A
//! process may have thousands of threads, most of them idle, so their number must not matter. The first 32 threads keep
//! a lane for life. The others borrow one for each call, or for as long as they hold a guard. There are as many lanes
//! as were ever held at once. The first 64 keep their participant while no thread holds them.
//!
//! * **L1.** One thread at a time holds a lane: it takes it by a compare-exchange, and gives it back by a store.
//! * **L2.** What a holder did with its lane happens before what the next holder does (Release, Acquire).

#[cfg_attr(not(any(loom, shuttle)), path = "lanes/process.rs")]
#[cfg_attr(any(loom, shuttle), path = "lanes/modelled.rs")]
mod guards;
#[cfg(all(test, loom))]
mod models;

use std::ptr;

use crate::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

#[cfg(loom)]
pub use guards::borrow_for_each_call;
pub(crate) use guards::{LaneGuard, hold};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use guards::{participant, this_thread_is_pinned};

/// Lanes that may be held at once. A thread that finds all of them held waits for one.
pub(crate) const MAX_LANES: usize = 1 << 16;

/// An element of a list that only grows.
pub(super) struct Lane<P> {
    held: AtomicBool,
    /// Its position in the list.
    number: usize,
    next: AtomicPtr<Lane<P>>,
    /// The holder's state.
    #[cfg_attr(any(loom, shuttle), allow(dead_code, reason = "only the models of lanes themselves use it"))]
    pub(super) state: P,
}

/// The list of all lanes.
pub(super) struct Lanes<P> {
    first: AtomicPtr<Lane<P>>,
}

// SAFETY: a lane's `state` is used by its holder alone (L1, L2), and the rest is atomic or never written.
unsafe impl<P> Send for Lanes<P> {}
// SAFETY: as above.
unsafe impl<P> Sync for Lanes<P> {}

impl<P: Default> Lanes<P> {
    #[cfg(not(any(loom, shuttle)))]
    pub(super) const fn new() -> Self {
        Self { first: AtomicPtr::new(ptr::null_mut()) }
    }

    #[cfg(any(loom, shuttle))]
    pub(super) fn new() -> Self {
        Self { first: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Takes a lane that no thread holds: `hint` if it is one, else the first of the list, else a new lane.
    pub(super) fn take(&self, hint: Option<&Lane<P>>) -> *const Lane<P> {
        if let Some(lane) = hint.filter(|lane| lane.take()) {
            return lane;
        }
        let (mut link, mut number) = (&self.first, 0);
        loop {
            // Acquire: pairs with the Release in `append`.
            // SAFETY: lanes live until the list is dropped.
            match unsafe { link.load(Ordering::Acquire).as_ref() } {
                Some(lane) if lane.take() => return lane,
                Some(lane) => (link, number) = (&lane.next, number + 1),
                None if number < MAX_LANES => {
                    if let Some(lane) = Self::append(link, number) {
                        return lane;
                    }
                }
                None => {
                    std::thread::yield_now();
                    (link, number) = (&self.first, 0);
                }
            }
        }
    }

    /// Appends a new lane, which this thread holds. `None` if another thread appended one first.
    #[cold]
    fn append(link: &AtomicPtr<Lane<P>>, number: usize) -> Option<*const Lane<P>> {
        let held = AtomicBool::new(true);
        let lane =
            Box::into_raw(Box::new(Lane { held, number, next: AtomicPtr::new(ptr::null_mut()), state: P::default() }));
        if link.compare_exchange(ptr::null_mut(), lane, Ordering::Release, Ordering::Relaxed).is_ok() {
            return Some(lane);
        }
        // SAFETY: from `Box::into_raw`, and no other thread has seen it.
        drop(unsafe { Box::from_raw(lane) });
        None
    }
}

impl<P> Lane<P> {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    fn take(&self) -> bool {
        // Relaxed: a cheap check first, since a compare-exchange takes the cache line from the other threads.
        !self.held.load(Ordering::Relaxed)
            // Acquire: pairs with the Release in `give_back` (L2).
            && self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives the lane back. The caller held it, and does not use it after this call.
    pub(super) fn give_back(&self) {
        // Release: pairs with the Acquire in `take` (L2).
        self.held.store(false, Ordering::Release);
    }
}

impl<P> Drop for Lanes<P> {
    fn drop(&mut self) {
        let mut lane = self.first.load(Ordering::Relaxed);
        while !lane.is_null() {
            // SAFETY: from `Box::into_raw`, and `&mut self` excludes other users.
            lane = unsafe { Box::from_raw(lane) }.next.load(Ordering::Relaxed);
        }
    }
}
