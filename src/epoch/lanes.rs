//! Lanes: what threads need one of each while they are pinned or change a pool, and only then.
//!
//! An epoch's collector looks at every participant before it advances, and a pool that counts looks at every shard.
//! Threads come in thousands, most of them idle. So participants and shards belong to lanes: the first threads of the
//! process keep one each for life, and the others borrow one for each call, or for as long as they hold a guard. There
//! are as many lanes as were ever held at once, and the participants of all but the first [`KEPT`] go when they are
//! given back.
//!
//! * **L1.** A lane is held by one thread at a time: taken by a compare-exchange, given back by a store.
//! * **L2.** What a holder did with its lane comes before what the next one does (Acquire, Release).

#[cfg(all(test, loom))]
mod models;
#[cfg_attr(not(any(loom, shuttle)), path = "lanes/process.rs")]
#[cfg_attr(any(loom, shuttle), path = "lanes/modelled.rs")]
mod seats;

use std::ptr;

use crate::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

#[cfg(loom)]
pub use seats::lent;
pub(crate) use seats::{Seat, enter};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use seats::{participant, this_thread_is_pinned};

/// Lanes that may be held at once. A thread that finds them all held waits for one.
pub(crate) const MOST_LANES: usize = 1 << 16;

/// One of a list that only grows.
pub(super) struct Lane<P> {
    held: AtomicBool,
    /// How many lanes are before it.
    number: usize,
    next: AtomicPtr<Lane<P>>,
    /// The holder's.
    #[cfg_attr(any(loom, shuttle), allow(dead_code, reason = "only the models of lanes themselves use it"))]
    pub(super) own: P,
}

/// Every lane there is.
pub(super) struct Lanes<P> {
    first: AtomicPtr<Lane<P>>,
}

// SAFETY: a lane's own part is used by its holder alone (L1, L2), and the rest may be by all.
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

    /// A lane that nobody holds: `hint` where that is one, else the first that is, else a new one.
    pub(super) fn take(&self, hint: Option<&Lane<P>>) -> *const Lane<P> {
        if let Some(lane) = hint.filter(|lane| lane.take()) {
            return lane;
        }
        let (mut link, mut number) = (&self.first, 0);
        loop {
            // Acquire: pairs with the Release in `append`.
            // SAFETY: lanes stay until the list is dropped.
            match unsafe { link.load(Ordering::Acquire).as_ref() } {
                Some(lane) if lane.take() => return lane,
                Some(lane) => (link, number) = (&lane.next, number + 1),
                None if number < MOST_LANES => {
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

    /// A new lane at the end of the list, held, unless another came before it.
    #[cold]
    fn append(link: &AtomicPtr<Lane<P>>, number: usize) -> Option<*const Lane<P>> {
        let held = AtomicBool::new(true);
        let lane =
            Box::into_raw(Box::new(Lane { held, number, next: AtomicPtr::new(ptr::null_mut()), own: P::default() }));
        if link.compare_exchange(ptr::null_mut(), lane, Ordering::Release, Ordering::Relaxed).is_ok() {
            return Some(lane);
        }
        // SAFETY: just made, and seen by nobody.
        drop(unsafe { Box::from_raw(lane) });
        None
    }
}

impl<P> Lane<P> {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    fn take(&self) -> bool {
        // Relaxed: a look, before a write that others would have to wait for.
        !self.held.load(Ordering::Relaxed)
            // Acquire: pairs with the Release in `give_back` (L2).
            && self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Lets another thread hold the lane. The caller held it and uses it no more.
    pub(super) fn give_back(&self) {
        self.held.store(false, Ordering::Release);
    }
}

impl<P> Drop for Lanes<P> {
    fn drop(&mut self) {
        let mut lane = self.first.load(Ordering::Relaxed);
        while !lane.is_null() {
            // SAFETY: from `Box::into_raw`, and `&mut self` says that nobody uses it.
            lane = unsafe { Box::from_raw(lane) }.next.load(Ordering::Relaxed);
        }
    }
}
