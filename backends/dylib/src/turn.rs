//! Turns: one call at a time in a library, or in a context of it.
//!
//! * T1: at most one [`Held`] of a turn exists.
//! * T2: work that is put off while the turn is held is done by the holder before the turn is free, so that nothing has
//!   to wait for the turn without a bound.
//! * T3: code that is mapped once has one turn, however many backends have opened it.

use std::cell::Cell;
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use graphpool::backend::{ComputeControl, Error};

/// A lock that is waited for with a bound.
pub(crate) struct Turn {
    /// What its holder does, for messages.
    doing: &'static str,
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Default)]
struct State {
    held: bool,
    put_off: Vec<Box<dyn FnOnce() + Send>>,
}

/// The turn of one call; the drop ends it.
pub(crate) struct Held<'a>(&'a Turn);

/// How long one call waits for its turns, all together. What the call itself takes does not count.
pub(crate) struct Patience<'a> {
    longest: Duration,
    left: Cell<Duration>,
    control: Option<&'a ComputeControl>,
}

/// How often a waiting compute looks whether it was cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(20);

impl Turn {
    /// A turn of its own, whose holder does what `doing` says.
    pub(crate) fn new(doing: &'static str) -> Self {
        Self { doing, state: Mutex::default(), free: Condvar::new() }
    }

    /// The turn of the library whose function is at `address`.
    pub(crate) fn of_library(address: usize) -> Arc<Self> {
        static TURNS: Mutex<Option<HashMap<usize, Weak<Turn>>>> = Mutex::new(None);
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = turns.get_or_insert_default();
        // An address may come again after its library was unmapped.
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&address).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Self::new("uses the library, which takes one at a time"));
        turns.insert(address, Arc::downgrade(&turn));
        turn
    }

    /// Waits for the turn as long as the call's patience lasts.
    pub(crate) fn wait(&self, patience: &Patience<'_>) -> Result<Held<'_>, Error> {
        let mut state = self.lock();
        while state.held {
            patience.check()?;
            let nap = patience.nap();
            if nap.is_zero() {
                let (doing, longest) = (self.doing, patience.longest);
                return Err(Error::busy(format!("another call {doing}; this call has waited for {longest:?}")));
            }
            let began = Instant::now();
            state = self.free.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
            patience.spend(began.elapsed());
        }
        state.held = true;
        drop(state);
        // Before the check, so that a call that ends here passes the turn on.
        let held = Held(self);
        patience.check()?;
        Ok(held)
    }

    /// Does `work` in a turn: now if the turn is free, or else on the thread that holds it, at the end of its turn.
    pub(crate) fn run_soon(&self, work: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.held {
            state.put_off.push(Box::new(work));
            return;
        }
        state.held = true;
        drop(state);
        let _held = Held(self);
        work();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Patience<'a> {
    /// Waits for `longest`, and for a compute until its control ends it.
    pub(crate) fn new(longest: Duration, control: Option<&'a ComputeControl>) -> Self {
        Self { longest, left: Cell::new(longest), control }
    }

    /// Whether a compute may go on.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.control.map_or(Ok(()), ComputeControl::check)
    }

    /// How long the call may wait at once; zero at the end.
    fn nap(&self) -> Duration {
        let left = self.left.get();
        if self.control.is_some() { left.min(CANCEL_INTERVAL) } else { left }
    }

    fn spend(&self, waited: Duration) {
        self.left.set(self.left.get().saturating_sub(waited));
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        loop {
            let put_off = {
                let mut state = self.0.lock();
                // T2: under the lock, so that work is either found here or finds the turn free.
                state.held = !state.put_off.is_empty();
                mem::take(&mut state.put_off)
            };
            if put_off.is_empty() {
                break;
            }
            for work in put_off {
                work();
            }
        }
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_of_a_call_are_bounded_together() {
        let [one, two] = [Turn::new("works"), Turn::new("works")];
        let patience = Patience::new(Duration::from_millis(40), None);
        let held = [one.wait(&patience), two.wait(&patience)].map(Result::unwrap);
        let began = Instant::now();
        assert!(one.wait(&patience).is_err() && began.elapsed() >= Duration::from_millis(40));
        assert!(patience.nap().is_zero(), "nothing is left for the second turn");
        assert_eq!(two.wait(&patience).err().unwrap().message(), "another call works; this call has waited for 40ms");
        drop(held);
        // A turn that is free needs no patience.
        assert!(two.wait(&patience).is_ok());
    }

    #[test]
    fn a_cancelled_call_gets_no_turn_and_passes_it_on() {
        let turn = Turn::new("works");
        let control = ComputeControl::default();
        control.cancel.cancel();
        assert!(turn.wait(&Patience::new(Duration::MAX, Some(&control))).is_err());
        assert!(turn.wait(&Patience::new(Duration::ZERO, None)).is_ok());
    }

    #[test]
    fn a_library_has_one_turn_as_long_as_it_is_used() {
        let (first, same, other) = (Turn::of_library(1), Turn::of_library(1), Turn::of_library(2));
        assert!(Arc::ptr_eq(&first, &same) && !Arc::ptr_eq(&first, &other));
        let old = Arc::downgrade(&first);
        drop((first, same));
        assert!(old.upgrade().is_none() && Arc::strong_count(&Turn::of_library(1)) == 1);
    }
}
