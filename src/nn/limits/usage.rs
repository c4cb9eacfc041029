//! Budgets and reservations: they count what guests and engines hold against their limits.
//!
//! * U1: a [`Budget`] never counts more than its bound, for any number of threads.
//! * U2: a [`Reservation`] gives back what it took exactly once.
//! * U3: a [`Charge`] is given back when its last holder is gone, and gets no further holder after that.
//!
//! The counters carry no data from thread to thread, so all their accesses are Relaxed: U1 to U3 depend only on the
//! order of changes of one word each.

use std::sync::Arc;

use crate::nn::{EngineLimits, Error, ErrorKind, Limits};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A counter with a bound.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The name of the limit in error messages: "engine graph bytes".
    what: &'static str,
    /// The unit in error messages: "bytes".
    unit: &'static str,
    /// The error kind past the bound, for an amount that would fit if all other reservations ended.
    refusal: ErrorKind,
    bound: usize,
    used: AtomicUsize,
}

impl Budget {
    fn new(what: &'static str, unit: &'static str, refusal: ErrorKind, bound: usize) -> Self {
        Self { what, unit, refusal, bound, used: AtomicUsize::new(0) }
    }

    /// The free amount; it may change as soon as it is read.
    pub(crate) fn left(&self) -> usize {
        self.bound.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// The amount in use; it may change as soon as it is read.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `amount`, or fails with the amount in use.
    fn take(&self, amount: usize) -> Result<(), usize> {
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(amount).filter(|sum| *sum <= self.bound)
            })
            .map(drop)
    }

    /// The error for a request of `more` with `used` in use; the requester would then hold `whole`.
    fn refuse(&self, used: usize, more: usize, whole: usize) -> Error {
        let Self { what, unit, bound, .. } = self;
        let kind = if whole <= *bound { self.refusal } else { ErrorKind::TooLarge };
        Error::limit(kind, format!("{what} limit exceeded: {used} of {bound} {unit} in use, {more} more requested"))
    }

    fn give_back(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// The budgets of one guest, or of an engine.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) graphs: Budget,
    pub(crate) contexts: Budget,
    pub(crate) graph_bytes: Budget,
    pub(crate) context_bytes: Budget,
    pub(crate) computes: Budget,
    pub(crate) resolved_names: Budget,
    pub(crate) loads: Budget,
}

impl Usage {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let budget = |what, unit, bound| Budget::new(what, unit, ErrorKind::TooLarge, bound);
        Arc::new(Self {
            graphs: budget("graph", "graphs", limits.max_graphs()),
            contexts: budget("context", "contexts", limits.max_contexts()),
            graph_bytes: budget("graph bytes", "bytes", limits.max_graph_bytes()),
            context_bytes: budget("context bytes", "bytes", limits.max_context_bytes()),
            computes: Budget::new("compute", "computes", ErrorKind::Busy, limits.max_computes()),
            // A bound of the engine alone.
            resolved_names: budget("resolved name", "names", usize::MAX),
            loads: Budget::new("load", "loads", ErrorKind::Busy, limits.max_loads()),
        })
    }

    pub(crate) fn of_engine(limits: &EngineLimits) -> Arc<Self> {
        let budget = |what, unit, bound| Budget::new(what, unit, ErrorKind::Busy, bound);
        Arc::new(Self {
            graphs: budget("engine graph", "graphs", limits.max_graphs()),
            contexts: budget("engine context", "contexts", limits.max_contexts()),
            graph_bytes: budget("engine graph bytes", "bytes", limits.max_graph_bytes()),
            context_bytes: budget("engine context bytes", "bytes", limits.max_context_bytes()),
            // The admissions enforce the bounds of these.
            computes: budget("engine compute", "computes", usize::MAX),
            resolved_names: budget("engine resolved name", "names", limits.max_resolved_names()),
            loads: budget("engine load", "loads", usize::MAX),
        })
    }
}

/// A part of a budget, given back by `release` or by the drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    usage: Arc<Usage>,
    budget: fn(&Usage) -> &Budget,
    amount: AtomicUsize,
}

impl Reservation {
    /// Takes `amount` of the budget that `budget` selects, for `call`.
    pub(crate) fn new(
        usage: &Arc<Usage>,
        budget: fn(&Usage) -> &Budget,
        call: &str,
        amount: usize,
    ) -> Result<Self, Error> {
        Self::of(usage, budget, amount).map_err(|error| error.of(call))
    }

    /// Takes `amount` of the budget that `budget` selects; the caller adds the name of the call to the error.
    pub(crate) fn of(usage: &Arc<Usage>, budget: fn(&Usage) -> &Budget, amount: usize) -> Result<Self, Error> {
        let picked = budget(usage);
        picked.take(amount).map_err(|used| picked.refuse(used, amount, amount))?;
        Ok(Self { usage: Arc::clone(usage), budget, amount: AtomicUsize::new(amount) })
    }

    pub(crate) fn amount(&self) -> usize {
        self.amount.load(Ordering::Relaxed)
    }

    /// The free amount of the budget; it may change as soon as it is read.
    pub(crate) fn left(&self) -> usize {
        (self.budget)(&self.usage).left()
    }

    /// Changes the amount. If more is refused, the amount stays as it was.
    pub(crate) fn resize(&mut self, amount: usize) -> Result<(), Error> {
        self.change(amount).map_err(|(used, more)| (self.budget)(&self.usage).refuse(used, more, amount))
    }

    /// As [`resize`](Self::resize), for a request that has reserved a first part already: the error counts that part as
    /// requested, not as in use.
    pub(crate) fn settle(&mut self, amount: usize) -> Result<(), Error> {
        let taken = self.amount.load(Ordering::Relaxed);
        self.change(amount).map_err(|(used, _)| {
            let others = used.saturating_sub(taken);
            (self.budget)(&self.usage).refuse(others, amount, amount)
        })
    }

    /// If more is refused: the amount in use, with this reservation, and the missing amount.
    fn change(&mut self, amount: usize) -> Result<(), (usize, usize)> {
        let budget = (self.budget)(&self.usage);
        let taken = self.amount.load(Ordering::Relaxed);
        match amount.checked_sub(taken) {
            Some(more) => budget.take(more).map_err(|used| (used, more))?,
            None => budget.give_back(taken - amount),
        }
        self.amount.store(amount, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the whole amount back; `true` for the call that did so, if there was any.
    pub(crate) fn give_back(&self) -> bool {
        let amount = self.amount.swap(0, Ordering::Relaxed);
        (self.budget)(&self.usage).give_back(amount);
        amount > 0
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A reservation with several holders: a graph's handle and the contexts of that graph.
#[derive(Debug)]
pub(crate) struct Charge {
    reservation: Reservation,
    holders: AtomicUsize,
}

impl Charge {
    /// Creates a charge with one holder, which ends with [`release`](Self::release).
    pub(crate) fn new(reservation: Reservation) -> Arc<Self> {
        Arc::new(Self { reservation, holders: AtomicUsize::new(1) })
    }

    /// Adds a holder; `None` if the last holder is gone.
    pub(crate) fn hold(self: &Arc<Self>) -> Option<Hold> {
        self.holders
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |holders| (holders > 0).then(|| holders + 1))
            .ok()
            .map(|_| Hold(Arc::clone(self)))
    }

    /// Ends the holder that [`new`](Self::new) made. Called once.
    pub(crate) fn release(&self) {
        if self.holders.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.reservation.give_back();
        }
    }
}

/// A holder of a [`Charge`].
#[derive(Debug)]
pub(crate) struct Hold(Arc<Charge>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;
    use crate::nn::ErrorKind;

    fn usage(bytes: usize) -> Arc<Usage> {
        Usage::new(&Limits::default().with_max_graph_bytes(bytes))
    }

    fn reserve(usage: &Arc<Usage>, amount: usize) -> Result<Reservation, Error> {
        Reservation::new(usage, |usage| &usage.graph_bytes, "load", amount)
    }

    #[test]
    fn the_bound_itself_may_be_taken_and_one_more_may_not() {
        let usage = usage(10);
        let all = reserve(&usage, 10).unwrap();
        let error = reserve(&usage, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(error.message(), "load: graph bytes limit exceeded: 10 of 10 bytes in use, 1 more requested");
        drop(all);
        assert!(reserve(&usage, usize::MAX).is_err());
        assert_eq!(usage.graph_bytes.left(), 10);
    }

    #[test]
    fn a_refused_resize_changes_nothing() {
        let usage = usage(10);
        let mut part = reserve(&usage, 4).unwrap();
        let other = reserve(&usage, 1).unwrap();
        let words = |result: Result<(), Error>| result.unwrap_err().message().to_owned();
        let expected = "graph bytes limit exceeded: 5 of 10 bytes in use, 6 more requested";
        assert_eq!(words(part.resize(10)), expected);
        // Its first part belongs to the same request.
        let expected = "graph bytes limit exceeded: 1 of 10 bytes in use, 10 more requested";
        assert_eq!(words(part.settle(10)), expected);
        assert_eq!(part.settle(usize::MAX).unwrap_err().kind(), ErrorKind::TooLarge);
        drop(other);
        assert_eq!(usage.graph_bytes.left(), 6);
        part.resize(10).unwrap();
        assert_eq!(usage.graph_bytes.left(), 0);
        part.settle(1).unwrap();
        assert_eq!(usage.graph_bytes.left(), 9);
        assert!(part.give_back());
        assert!(!part.give_back());
        drop(part);
        assert_eq!(usage.graph_bytes.left(), 10);
    }

    #[test]
    fn a_charge_lasts_as_long_as_any_holder() {
        let usage = usage(10);
        let charge = Charge::new(reserve(&usage, 3).unwrap());
        let hold = charge.hold().unwrap();
        charge.release();
        assert_eq!(usage.graph_bytes.left(), 7);
        drop(hold);
        assert_eq!(usage.graph_bytes.left(), 10);
        assert!(charge.hold().is_none());
    }

    #[test]
    fn many_threads_never_take_more_than_the_bound() {
        let usage = usage(7);
        let highest = std::sync::atomic::AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Ok(part) = reserve(&usage, 2) {
                            let used = usage.graph_bytes.used.load(Ordering::Relaxed);
                            highest.fetch_max(used, Ordering::Relaxed);
                            drop(part);
                        }
                    }
                });
            }
        });
        assert!(highest.into_inner() <= 7);
        assert_eq!(usage.graph_bytes.left(), 7);
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::thread;

    use super::*;
    use crate::model_support::explore;

    fn reserve(usage: &Arc<Usage>, amount: usize) -> Option<Reservation> {
        Reservation::new(usage, |usage| &usage.graph_bytes, "load", amount).ok()
    }

    /// U1 and U2: two threads, each of which takes more than half.
    #[test]
    fn two_never_have_more_than_the_bound_together() {
        explore("two never have more than the bound together", || {
            let usage = Usage::new(&Limits::default().with_max_graph_bytes(3));
            let take = |usage: &Arc<Usage>| {
                let part = reserve(usage, 2);
                assert!(usage.graph_bytes.used.load(Ordering::Relaxed) <= 3);
                part.is_some()
            };
            let other = thread::spawn({
                let usage = Arc::clone(&usage);
                move || take(&usage)
            });
            let mine = take(&usage);
            assert!(other.join().unwrap() || mine);
            assert_eq!(usage.graph_bytes.left(), 3);
        });
    }

    /// U3: the handle is released while a context is opened.
    #[test]
    fn a_holder_of_a_charge_finds_it_reserved() {
        explore("a holder of a charge finds it reserved", || {
            let usage = Usage::new(&Limits::default().with_max_graph_bytes(1));
            let charge = Charge::new(reserve(&usage, 1).unwrap());
            let other = thread::spawn({
                let (usage, charge) = (Arc::clone(&usage), Arc::clone(&charge));
                move || {
                    if let Some(hold) = charge.hold() {
                        assert_eq!(usage.graph_bytes.left(), 0);
                        drop(hold);
                    }
                }
            });
            charge.release();
            other.join().unwrap();
            assert_eq!(usage.graph_bytes.left(), 1);
        });
    }
}
