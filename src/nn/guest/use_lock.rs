//! A one-word, non-blocking lock: who may use a context now, and who tears it down.
//!
//! ```text
//!            claim                 mark
//!      ┌───────────────▶       ┌──────────▶
//!   IDLE               BUSY    │          BUSY | MARKED
//!    │ ◀───────────────┘ │ ────┘           │
//!    │      release      │ ◀───────────────┘
//!    │                   │     release, which finds the mark and keeps the claim
//!    │ close             │ close
//!    ▼                   ▼
//!   CLOSED              CLOSED
//!   the closer          the user, who finds it
//!   tears it down       at release, tears it down
//! ```
//!
//! * C1: between a successful [`claim`](UseLock::claim) and its [`release`](UseLock::release) no other claim succeeds.
//! * C2: exactly one of all calls of [`close`](UseLock::close) and `release` returns that its caller must tear the
//!   context down, and no claim succeeds after that.
//! * C3: after each [`mark`](UseLock::mark) of an open lock, the holder of the claim finds the mark at a `release` that
//!   comes later, or the context is torn down.
//!
//! C2 follows from what the first `close` finds in the word. If it finds IDLE, no claim succeeds after it, so no
//! release follows. If it finds BUSY, the release that ends that claim finds CLOSED, and there is no other release.
//! Every later `close` finds CLOSED.
//!
//! C3: a mark that finds IDLE is a claim, too, and its caller releases it. One that finds BUSY comes before the
//! compare-exchange of the release, which expects BUSY alone and so fails.

use crate::sync::atomic::{AtomicU32, Ordering};

// CLOSED is 2 alone, or with the bits of a mark that came later.
const IDLE: u32 = 0;
const BUSY: u32 = 1;
const CLOSED: u32 = 2;
const MARKED: u32 = 4;

/// The reason for a refused claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another call holds the claim.
    Busy,
    /// The context was closed.
    Closed,
}

/// What the end of a call finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Released {
    /// The claim is given back.
    Free,
    /// The lock was marked. The caller still holds the claim, and releases it again when it has done what the mark
    /// asks for.
    Marked,
    /// The lock was closed: the caller must tear down the value.
    Closed,
}

/// The exclusive right to use the value next to it.
#[derive(Debug)]
pub(crate) struct UseLock {
    word: AtomicU32,
}

/// Whether the caller must tear down the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Teardown {
    /// The caller must: no other call can reach the value.
    ByCaller,
    /// Another call has done it or will.
    NotByCaller,
}

impl UseLock {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(IDLE) }
    }

    /// Takes the claim if it is free. One compare-exchange.
    pub(crate) fn claim(&self) -> Result<(), Refused> {
        // Acquire: pairs with the Release of the `release` that made the word IDLE, so that the writes of the last user
        // are seen. Relaxed on failure: no data is read after it.
        match self.word.compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(word) if word & CLOSED == 0 => Err(Refused::Busy),
            Err(_) => Err(Refused::Closed),
        }
    }

    /// Asks the holder of the claim to look for work before it gives the claim back. `true` if nobody holds it: then
    /// the caller does now, and releases it.
    pub(crate) fn mark(&self) -> bool {
        // Acquire: pairs with the Release of the last `release`, for a caller that gets the claim. Release: pairs with
        // the Acquire of the `release` that finds the mark, so that its holder sees what this thread wrote before.
        self.word.fetch_or(BUSY | MARKED, Ordering::AcqRel) == IDLE
    }

    /// Gives the claim back. Only the holder of the claim may call it.
    pub(crate) fn release(&self) -> Released {
        // Release: pairs with the Acquire of the next `claim` or `mark`, or of the `close` that finds the word IDLE.
        // Relaxed on failure: a `close` that found BUSY has written no data.
        match self.word.compare_exchange(BUSY, IDLE, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return Released::Free,
            Err(word) if word & CLOSED != 0 => return Released::Closed,
            Err(_) => {}
        }
        // Acquire: pairs with the Release of every `mark` that came before. Relaxed on failure: a `close` came in
        // between, which has written no data.
        match self.word.compare_exchange(BUSY | MARKED, BUSY, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Released::Marked,
            Err(_) => Released::Closed,
        }
    }

    /// Refuses all further claims.
    pub(crate) fn close(&self) -> Teardown {
        // Acquire: pairs with the Release of the last `release`, so that a `close` that finds IDLE sees the writes of
        // the last user.
        if self.word.swap(CLOSED, Ordering::Acquire) == IDLE { Teardown::ByCaller } else { Teardown::NotByCaller }
    }

    /// Whether [`close`](Self::close) was called. The lock of the value next to it orders the two.
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: no data is read after it.
        self.word.load(Ordering::Relaxed) & CLOSED != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_second_claim_is_refused_until_the_first_is_released() {
        let use_lock = UseLock::new();
        use_lock.claim().unwrap();
        assert_eq!(use_lock.claim(), Err(Refused::Busy));
        assert_eq!(use_lock.release(), Released::Free);
        use_lock.claim().unwrap();
    }

    #[test]
    fn a_close_of_an_idle_lock_tears_down() {
        let use_lock = UseLock::new();
        assert_eq!(use_lock.close(), Teardown::ByCaller);
        assert_eq!(use_lock.close(), Teardown::NotByCaller);
        assert_eq!(use_lock.claim(), Err(Refused::Closed));
    }

    #[test]
    fn the_release_after_a_close_tears_down() {
        let use_lock = UseLock::new();
        use_lock.claim().unwrap();
        assert_eq!(use_lock.close(), Teardown::NotByCaller);
        assert_eq!(use_lock.claim(), Err(Refused::Closed));
        assert_eq!(use_lock.release(), Released::Closed);
        assert_eq!(use_lock.close(), Teardown::NotByCaller);
    }

    #[test]
    fn a_mark_of_an_idle_lock_claims_it_and_is_found_at_its_release() {
        let use_lock = UseLock::new();
        assert!(use_lock.mark());
        assert_eq!(use_lock.claim(), Err(Refused::Busy));
        assert_eq!(use_lock.release(), Released::Marked);
        assert_eq!(use_lock.claim(), Err(Refused::Busy));
        assert_eq!(use_lock.release(), Released::Free);
        use_lock.claim().unwrap();
    }

    #[test]
    fn the_holder_finds_marks_once() {
        let use_lock = UseLock::new();
        use_lock.claim().unwrap();
        assert!(!use_lock.mark() && !use_lock.mark());
        assert_eq!(use_lock.claim(), Err(Refused::Busy));
        assert_eq!(use_lock.release(), Released::Marked);
        assert_eq!(use_lock.release(), Released::Free);
    }

    #[test]
    fn a_mark_leaves_a_closed_lock_closed() {
        let use_lock = UseLock::new();
        use_lock.claim().unwrap();
        assert!(!use_lock.mark());
        assert_eq!(use_lock.close(), Teardown::NotByCaller);
        assert!(!use_lock.mark() && use_lock.is_closed());
        assert_eq!(use_lock.claim(), Err(Refused::Closed));
        assert_eq!(use_lock.close(), Teardown::NotByCaller);
        assert_eq!(use_lock.release(), Released::Closed);
        let use_lock = UseLock::new();
        assert_eq!(use_lock.close(), Teardown::ByCaller);
        assert!(!use_lock.mark() && use_lock.is_closed());
        assert_eq!(use_lock.close(), Teardown::NotByCaller);
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::model_support::explore;
    use crate::sync::atomic::AtomicUsize;

    /// The claimed value: loom reports two accesses to it that are not ordered.
    struct Claimed {
        use_lock: UseLock,
        cell: UnsafeCell<()>,
        torn_down: AtomicUsize,
        /// How often a mark has asked for work, and how many of these the holder of the claim has seen.
        asked: AtomicUsize,
        done: AtomicUsize,
    }

    impl Claimed {
        fn new() -> Arc<Self> {
            let (use_lock, cell, torn_down) = (UseLock::new(), UnsafeCell::new(()), AtomicUsize::new(0));
            let (asked, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            Arc::new(Self { use_lock, cell, torn_down, asked, done })
        }

        fn tear_down(&self) {
            self.cell.with_mut(|_| ());
            self.torn_down.fetch_add(1, Ordering::Relaxed);
        }

        /// The end of a call that holds the claim.
        fn end(&self) {
            loop {
                match self.use_lock.release() {
                    Released::Free => return,
                    Released::Closed => return self.tear_down(),
                    Released::Marked => {
                        self.cell.with_mut(|_| ());
                        self.done.store(self.asked.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                }
            }
        }

        fn call(&self) -> bool {
            let claimed = self.use_lock.claim().is_ok();
            if claimed {
                self.cell.with_mut(|_| ());
                self.end();
            }
            claimed
        }

        fn ask(&self) {
            // Relaxed: the Release of the mark orders it.
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.use_lock.mark() {
                self.cell.with_mut(|_| ());
                self.end();
            }
        }

        fn close(&self) {
            if self.use_lock.close() == Teardown::ByCaller {
                self.tear_down();
            }
        }
    }

    fn spawn(claimed: &Arc<Claimed>, f: impl Fn(&Claimed) + 'static) -> thread::JoinHandle<()> {
        let claimed = Arc::clone(claimed);
        thread::spawn(move || f(&claimed))
    }

    /// C1 and C2: two users and a `close`.
    #[test]
    fn one_user_at_a_time_and_one_who_takes_it_down() {
        explore("one user at a time and one who tears it down", || {
            let claimed = Claimed::new();
            let others = [spawn(&claimed, |claimed| _ = claimed.call()), spawn(&claimed, Claimed::close)];
            claimed.call();
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(claimed.torn_down.load(Ordering::Relaxed), 1);
            assert!(!claimed.call());
        });
    }

    /// C1 and C3: a mark against a user that marks, too. What each mark asks for is done, by whoever finds it.
    #[test]
    fn what_a_mark_asks_for_is_done() {
        explore("what a mark asks for is done", || {
            let claimed = Claimed::new();
            let other = spawn(&claimed, |claimed| {
                claimed.call();
                claimed.ask();
            });
            claimed.ask();
            other.join().unwrap();
            assert_eq!(claimed.done.load(Ordering::Relaxed), 2);
            assert!(claimed.call(), "the claim is free");
        });
    }

    /// C2 and C3: a user, a mark and a `close`: one tears down, and what the mark asks for is done before or not at
    /// all.
    #[test]
    fn a_mark_against_a_close() {
        explore("a mark against a close", || {
            let claimed = Claimed::new();
            let others = [spawn(&claimed, Claimed::ask), spawn(&claimed, Claimed::close)];
            claimed.call();
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(claimed.torn_down.load(Ordering::Relaxed), 1);
            assert!(!claimed.call());
        });
    }
}
