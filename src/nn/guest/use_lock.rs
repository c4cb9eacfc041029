//! A one-word, non-blocking lock: who may use a context now, and who tears it down.
//!
//! ```text
//!            claim
//!      ┌───────────────▶
//!   IDLE               BUSY
//!    │ ◀───────────────┘ │
//!    │      release      │
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
//!
//! C2 follows from what the first `close` finds in the word. If it finds IDLE, no claim succeeds after it, so no
//! release follows. If it finds BUSY, the release that ends that claim finds CLOSED, and there is no other release.
//! Every later `close` finds CLOSED.

use crate::sync::atomic::{AtomicU32, Ordering};

const IDLE: u32 = 0;
const BUSY: u32 = 1;
const CLOSED: u32 = 2;

/// The reason for a refused claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another call holds the claim.
    Busy,
    /// The context was closed.
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
            Err(BUSY) => Err(Refused::Busy),
            Err(_) => Err(Refused::Closed),
        }
    }

    /// Gives the claim back. Only the holder of the claim may call it.
    pub(crate) fn release(&self) -> Teardown {
        // Release: pairs with the Acquire of the next `claim`, or of the `close` that finds the word IDLE. Relaxed on
        // failure: a `close` that found BUSY has written no data.
        match self.word.compare_exchange(BUSY, IDLE, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Teardown::NotByCaller,
            Err(_) => Teardown::ByCaller,
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
        self.word.load(Ordering::Relaxed) == CLOSED
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
        assert_eq!(use_lock.release(), Teardown::NotByCaller);
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
        assert_eq!(use_lock.release(), Teardown::ByCaller);
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
    }

    impl Claimed {
        fn end(&self, tear_down: Teardown) {
            if tear_down == Teardown::ByCaller {
                self.cell.with_mut(|_| ());
                self.torn_down.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn call(&self) -> bool {
            let claimed = self.use_lock.claim().is_ok();
            if claimed {
                self.cell.with_mut(|_| ());
                self.end(self.use_lock.release());
            }
            claimed
        }
    }

    /// C1 and C2: two users and a `close`.
    #[test]
    fn one_user_at_a_time_and_one_who_takes_it_down() {
        explore("one user at a time and one who tears it down", || {
            let claimed = Arc::new(Claimed {
                use_lock: UseLock::new(),
                cell: UnsafeCell::new(()),
                torn_down: AtomicUsize::new(0),
            });
            let others = [
                thread::spawn({
                    let claimed = Arc::clone(&claimed);
                    move || {
                        claimed.call();
                    }
                }),
                thread::spawn({
                    let claimed = Arc::clone(&claimed);
                    move || claimed.end(claimed.use_lock.close())
                }),
            ];
            claimed.call();
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(claimed.torn_down.load(Ordering::Relaxed), 1);
            assert!(!claimed.call());
        });
    }
}
