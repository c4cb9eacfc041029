//! Who may use a context now, and who takes it down: one word, three transitions, nobody ever waits.
//!
//! ```text
//!            claim                    close
//!   IDLE ───────────▶ BUSY     IDLE ────────▶ CLOSED             the closer takes it down
//!   IDLE ◀─────────── BUSY     BUSY ────────▶ BUSY | CLOSED      then release ▶ CLOSED: the user takes it down
//!            release
//! ```
//!
//! * C1: between a successful [`claim`](Claim::claim) and its [`release`](Claim::release) no other claim succeeds.
//! * C2: of all calls of [`close`](Claim::close) and `release`, exactly one is told to take the context down, and
//!   after that no claim succeeds.
//!
//! C2, by who comes first in the word's order of changes: if `close` finds IDLE, no claim succeeds after it and so no
//! release follows. If it finds BUSY, the release that ends that claim finds CLOSED, and no other release can. If it
//! finds CLOSED, an earlier `close` has settled the matter.

use crate::sync::atomic::{AtomicU8, Ordering};

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const CLOSED: u8 = 2;

/// Why a claim was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Another call holds the claim.
    Busy,
    /// The context was closed.
    Closed,
}

/// The right to use what it stands beside.
#[derive(Debug)]
pub(super) struct Claim {
    word: AtomicU8,
}

/// Who is to take down what was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum TakeDown {
    /// The caller, now: nobody else can reach it any more.
    Mine,
    /// Not the caller.
    NotMine,
}

impl Claim {
    pub(super) fn new() -> Self {
        Self { word: AtomicU8::new(IDLE) }
    }

    /// Takes the claim if nobody has it. One compare-exchange.
    pub(super) fn claim(&self) -> Result<(), Refused> {
        // Acquire: pairs with the Release of the `release` that made the word IDLE, so that what the last user left
        // behind is seen. Relaxed on failure: nothing is read on the strength of it.
        match self.word.compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(word) if word & CLOSED == 0 => Err(Refused::Busy),
            Err(_) => Err(Refused::Closed),
        }
    }

    /// Gives the claim back. Only for whoever holds it.
    pub(super) fn release(&self) -> TakeDown {
        // Release: pairs with the Acquire of the next `claim`, or of the `close` that finds the word IDLE. Nothing is
        // acquired: a closer that found BUSY has left nothing to be seen.
        if self.word.fetch_and(!BUSY, Ordering::Release) & CLOSED == 0 { TakeDown::NotMine } else { TakeDown::Mine }
    }

    /// Lets no further claim succeed.
    pub(super) fn close(&self) -> TakeDown {
        // Acquire: pairs with the Release of the last `release`, whose leavings the closer takes down if it finds IDLE.
        if self.word.fetch_or(CLOSED, Ordering::Acquire) == IDLE { TakeDown::Mine } else { TakeDown::NotMine }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_second_claim_is_refused_until_the_first_is_released() {
        let claim = Claim::new();
        claim.claim().unwrap();
        assert_eq!(claim.claim(), Err(Refused::Busy));
        assert_eq!(claim.release(), TakeDown::NotMine);
        claim.claim().unwrap();
    }

    #[test]
    fn whoever_closes_an_idle_one_takes_it_down() {
        let claim = Claim::new();
        assert_eq!(claim.close(), TakeDown::Mine);
        assert_eq!(claim.close(), TakeDown::NotMine);
        assert_eq!(claim.claim(), Err(Refused::Closed));
    }

    #[test]
    fn whoever_uses_it_when_it_is_closed_takes_it_down() {
        let claim = Claim::new();
        claim.claim().unwrap();
        assert_eq!(claim.close(), TakeDown::NotMine);
        assert_eq!(claim.claim(), Err(Refused::Closed));
        assert_eq!(claim.release(), TakeDown::Mine);
        assert_eq!(claim.close(), TakeDown::NotMine);
    }
}
