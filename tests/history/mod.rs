//! Histories of calls, and whether some sequential order of them explains every answer.
//!
//! A [`History`] is a set of operations and, for each, the operations before it. The recorder chooses what *before*
//! means. [`Clock`] uses real time, which is linearizability as Herlihy and Wing define it (*Linearizability: a
//! correctness condition for concurrent objects*, 1990). The models under loom use the order that the program itself
//! makes, since weak memory has no other time.

#![allow(dead_code, reason = "every test target uses its part")]

pub mod checker;
pub mod pool;
pub mod table;

use std::sync::atomic::{AtomicU64, Ordering};

/// The most operations in a history.
pub const MAX_OPERATIONS: usize = 64;

/// A set of operations, one bit for each, by their places in the history.
pub type Set = u64;

/// One call with its answer, and the operations whose effects it may not miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<O> {
    pub what: O,
    pub after: Set,
}

/// Operations with a partial order.
#[derive(Debug, Clone)]
pub struct History<O> {
    pub operations: Vec<Operation<O>>,
}

impl<O> Default for History<O> {
    fn default() -> Self {
        Self { operations: Vec::new() }
    }
}

impl<O> History<O> {
    /// Adds an operation. The result is the set that has only this operation.
    pub fn push(&mut self, what: O, after: Set) -> Set {
        assert!(self.operations.len() < MAX_OPERATIONS, "a set has no bit for it");
        self.operations.push(Operation { what, after });
        1 << (self.operations.len() - 1)
    }

    /// The operations for which `keep` is true, with the order among them.
    pub fn only(&self, keep: impl Fn(&O) -> bool) -> Self
    where
        O: Clone,
    {
        let kept: Vec<usize> = (0..self.operations.len()).filter(|at| keep(&self.operations[*at].what)).collect();
        let mut part = Self::default();
        for at in &kept {
            let old = &self.operations[*at];
            let after = kept.iter().enumerate().filter(|(_, at)| old.after >> **at & 1 == 1);
            let after = after.fold(0, |set, (new, _)| set | 1 << new);
            part.push(old.what.clone(), after);
        }
        part
    }
}

/// An operation with the moments of its call and its answer.
#[derive(Debug, Clone)]
pub struct Timed<O> {
    pub what: O,
    pub called: u64,
    pub answered: u64,
}

/// Counts the calls and answers of one history. std's atomic under shuttle too: its threads run one at a time, in the
/// order of the count.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// Makes a call, and records when it was made and answered.
    pub fn time<R>(&self, call: impl FnOnce() -> R) -> Timed<R> {
        let called = self.0.fetch_add(1, Ordering::SeqCst);
        let what = call();
        Timed { what, called, answered: self.0.fetch_add(1, Ordering::SeqCst) }
    }
}

/// In real time: an operation is before those that were called after its answer.
impl<O> FromIterator<Timed<O>> for History<O> {
    fn from_iter<I: IntoIterator<Item = Timed<O>>>(timed: I) -> Self {
        let timed: Vec<_> = timed.into_iter().collect();
        let answered: Vec<_> = timed.iter().map(|operation| operation.answered).collect();
        let mut history = Self::default();
        for Timed { what, called, .. } in timed {
            let before = answered.iter().enumerate().filter(|(_, answered)| **answered < called);
            let after = before.fold(0, |set, (at, _)| set | 1 << at);
            history.push(what, after);
        }
        history
    }
}
