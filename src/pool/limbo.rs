//! Removed entries that wait to be deferred together: a ring for each removing thread.
//!
//! The thread that a ring belongs to adds places at its tail, with two plain stores; any thread may claim all that
//! is there, with one compare-exchange of the head, to ask for one grace period for all of it. So what an idle
//! thread has removed is not stuck with it.

use super::layout::Layout;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Places of a ring, and the most that are claimed at once. A [`Layout`] may claim earlier.
const RING: usize = 64;

pub(super) struct Limbo {
    /// Removals so far. Written by the ring's thread alone.
    tail: AtomicU64,
    /// Of those, how many were claimed.
    head: AtomicU64,
    places: [AtomicU64; RING_LEN],
}

/// loom's atomics take time to make, and its layouts claim at every removal or two.
const RING_LEN: usize = if cfg!(loom) { 2 } else { RING };

impl Default for Limbo {
    fn default() -> Self {
        Self { tail: AtomicU64::new(0), head: AtomicU64::new(0), places: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

/// What was claimed from a ring.
pub(super) struct Claimed {
    places: [u64; RING_LEN],
    count: usize,
}

impl Claimed {
    /// Each place is the claimer's alone (I5).
    pub(super) fn places(&self) -> &[u64] {
        &self.places[..self.count]
    }
}

impl Limbo {
    /// Adds a place, as the ring's thread, and says whether there is a batch to claim now. Then it must be claimed
    /// before the next one is added.
    #[inline]
    pub(super) fn push<L: Layout>(&self, place: u64) -> bool {
        const { assert!(cfg!(loom) || L::BATCH as usize <= RING_LEN) };
        // Relaxed: this thread's own.
        let tail = self.tail.load(Ordering::Relaxed);
        // Relaxed: a claimer that reads this place too early finds the head moved, and has no claim (see `claim`).
        self.places[tail as usize % RING_LEN].store(place, Ordering::Relaxed);
        // Release: pairs with the Acquire in `claim`; whoever claims the place sees it, and that this thread is done
        // with the slot.
        self.tail.store(tail + 1, Ordering::Release);
        // Acquire: pairs with the Release in `claim`, so that the next push writes over a place after its claimer has
        // read it. An old head makes for an early claim, which finds out.
        tail + 1 - self.head.load(Ordering::Acquire) >= L::BATCH.min(RING_LEN as u64)
    }

    /// Takes all that is there, if there is anything.
    ///
    /// The places are read before the head is moved, while the ring's thread may write the next ones. It writes over
    /// one of these only after it has seen the head beyond it (it claims a full ring before it adds to it), and then
    /// another claim's compare-exchange has taken the place after `head` in the head's order: this one fails.
    pub(super) fn claim(&self) -> Option<Claimed> {
        // Acquire: pairs with the Release of another claim's compare-exchange, so that the tail isn't older.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let tail = self.tail.load(Ordering::Acquire);
            let count = tail.checked_sub(head).filter(|count| *count > 0)? as usize;
            // More than the ring holds where the head is an old one: then the compare-exchange fails.
            let mut places = [0; RING_LEN];
            for (place, at) in places.iter_mut().zip(head..tail) {
                *place = self.places[at as usize % RING_LEN].load(Ordering::Relaxed);
            }
            // Release: what this thread read comes before what the ring's thread writes there next. Acquire: as above.
            match self.head.compare_exchange(head, tail, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(Claimed { places, count }),
                Err(now) => head = now,
            }
        }
    }

    /// Removals so far.
    pub(super) fn pushed(&self) -> u64 {
        self.tail.load(Ordering::Relaxed)
    }
}
