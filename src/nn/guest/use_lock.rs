//! Who may use a context now, and who tears it down: one word, three transitions, nobody ever waits.
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
//! * C2: of all calls of [`close`](UseLock::close) and `release`, exactly one is told to tear the context down, and
//!   after that no claim succeeds.
//!
//! C2, by what the first `close` finds in the word: if IDLE, no claim succeeds after it and so no release follows. If
//! BUSY, the release that ends that claim finds CLOSED, and there is no other. Every later `close` finds CLOSED.

use crate::sync::atomic::{AtomicU32, Ordering};

const IDLE: u32 = 0;
const BUSY: u32 = 1;
const CLOSED: u32 = 2;

/// Why a claim was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another call holds the claim.
    Busy,
    /// The context was closed.
    Closed,
}

/// The right to use what it stands beside.
#[derive(Debug)]
pub(crate) struct UseLock {
    word: AtomicU32,
}

/// Who is to tear down what was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Teardown {
    /// The caller, now: nobody else can reach it any more.
    ByCaller,
    /// Not the caller.
    NotByCaller,
}

impl UseLock {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(IDLE) }
    }

    /// Takes the claim if nobody has it. One compare-exchange.
    pub(crate) fn claim(&self) -> Result<(), Refused> {
        // Acquire: pairs with the Release of the `release` that made the word IDLE, so that what the last user left
        // behind is seen. Relaxed on failure: nothing is read on the strength of it.
        match self.word.compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(BUSY) => Err(Refused::Busy),
            Err(_) => Err(Refused::Closed),
        }
    }

    /// Gives the claim back. Only for whoever holds it.
    pub(crate) fn release(&self) -> Teardown {
        // Release: pairs with the Acquire of the next `claim`, or of the `close` that finds the word IDLE. Relaxed on
        // failure: a closer that found BUSY has left nothing to be seen.
        match self.word.compare_exchange(BUSY, IDLE, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Teardown::NotByCaller,
            Err(_) => Teardown::ByCaller,
        }
    }

    /// Lets no further claim succeed.
    pub(crate) fn close(&self) -> Teardown {
        // Acquire: pairs with the Release of the last `release`, whose leavings the closer tears down if it finds IDLE.
        if self.word.swap(CLOSED, Ordering::Acquire) == IDLE { Teardown::ByCaller } else { Teardown::NotByCaller }
    }

    /// Whether [`close`](Self::close) was called. The lock of what it stands beside orders the two.
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: nothing is read on the strength of it.
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
    fn whoever_closes_an_idle_one_takes_it_down() {
        let use_lock = UseLock::new();
        assert_eq!(use_lock.close(), Teardown::ByCaller);
        assert_eq!(use_lock.close(), Teardown::NotByCaller);
        assert_eq!(use_lock.claim(), Err(Refused::Closed));
    }

    #[test]
    fn whoever_uses_it_when_it_is_closed_takes_it_down() {
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

    /// What is claimed: loom reports two accesses to it that nothing keeps apart.
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

    /// C1 and C2: two users and one who closes.
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
