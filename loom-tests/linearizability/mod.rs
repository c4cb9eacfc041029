//! Whether every pair of calls, with handles of every kind, is answered as calls one after the other would be.
//!
//! The programs are generated: for each pair of calls and each handle that they can be made with (live, removed,
//! guessed ahead at a place of either thread's, one's own, heard of from the other thread), one program, run through
//! all its executions. Of each execution the calls and answers are recorded, with what the program itself orders: the
//! calls of one thread, what came before a spawn, a join, or a message that was received. The
//! [checker](crate::history::checker) then looks for an order of the calls that keeps that one and explains every
//! answer.
//!
//! What is promised, and so what is looked for, is an order **for each place of a pool and each index of a table**:
//! all handles that ever share a slot, together. Real time plays no part, since loom's memory is weak: a call that
//! nothing orders after another may miss it.
//!
//! Under the model of the epoch only: the real collector's steps would make each of some hundred programs as large as
//! the models that are about it.

mod pool;
mod table;

use std::sync::{Mutex, PoisonError};

use loom::sync::atomic::{AtomicBool, Ordering};

use crate::history::{History, Set};

/// What the threads of an execution have done, in std's types: recording it must order nothing.
struct Log<E> {
    history: Mutex<History<E>>,
    message: Message,
}

/// A handle, or word of a removal, that one thread may pass to another.
struct Message {
    sent: AtomicBool,
    /// What its sender knew, and the handle.
    content: Mutex<(Set, u64)>,
}

impl<E> Log<E> {
    fn new() -> Self {
        let message = Message { sent: AtomicBool::new(false), content: Mutex::default() };
        Self { history: Mutex::default(), message }
    }

    fn into_history(self) -> History<E> {
        self.history.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's part in an execution: the operations that its next one comes after.
struct Part<'a, E> {
    log: &'a Log<E>,
    known: Set,
}

impl<E> Part<'_, E> {
    fn record(&mut self, event: E) {
        self.known |= self.log.history.lock().unwrap().push(event, self.known);
    }

    fn tell(&self, handle: u64) {
        *self.log.message.content.lock().unwrap() = (self.known, handle);
        self.log.message.sent.store(true, Ordering::Release);
    }

    /// The handle, if the message is there.
    fn hear(&mut self) -> Option<u64> {
        if !self.log.message.sent.load(Ordering::Acquire) {
            return None;
        }
        let (known, handle) = *self.log.message.content.lock().unwrap();
        self.known |= known;
        Some(handle)
    }
}

/// Every pair, in both orders: the first is the main thread's, which has made what the program starts with.
fn pairs<S: Clone>(first: &[Vec<S>], second: &[Vec<S>]) -> Vec<Vec<Vec<S>>> {
    first.iter().flat_map(|first| second.iter().map(|second| vec![first.clone(), second.clone()])).collect()
}
