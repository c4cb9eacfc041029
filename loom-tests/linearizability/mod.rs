//! Whether concurrent calls are answered as calls in some sequential order would be.
//!
//! The programs are generated. For each pair of calls, and each handle that they can be made with (live, removed,
//! guessed at a place of either thread, the thread's own, received from the other thread), there is one program, and
//! loom explores all of its executions. Each execution records the calls, their answers, and the program's own order:
//! of the calls of one thread, and of calls before and after a spawn, a join, or a message. The
//! [checker](crate::history::checker) searches for a sequential order of the calls that keeps the program's order and
//! explains every answer.
//!
//! The pool and the table promise such an order **for each place of a pool and each index of a table**, that is for all
//! handles that ever share a slot. Real time has no part in it, since loom's memory is weak: a call may miss another
//! call that the program does not order before it.
//!
//! With the model of the epoch only: with crossbeam-epoch's steps each of some hundred programs would be as large as
//! the models of the epoch.

mod pool;
mod table;

use std::sync::{Mutex, PoisonError};

use loom::sync::atomic::{AtomicBool, Ordering};

use crate::history::{History, Set};

/// The calls of an execution, in std types: recording must order nothing.
struct Log<E> {
    history: Mutex<History<E>>,
    message: Message,
}

/// A handle that one thread may send to another.
struct Message {
    sent: AtomicBool,
    /// The operations before the sending, and the handle.
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

/// One thread's part in an execution, with the operations that come before its next one.
struct Part<'a, E> {
    log: &'a Log<E>,
    known: Set,
}

impl<E> Part<'_, E> {
    fn record(&mut self, event: E) {
        self.known |= self.log.history.lock().unwrap().push(event, self.known);
    }

    fn send(&self, handle: u64) {
        *self.log.message.content.lock().unwrap() = (self.known, handle);
        self.log.message.sent.store(true, Ordering::Release);
    }

    /// The handle, if the message has been sent.
    fn receive(&mut self) -> Option<u64> {
        if !self.log.message.sent.load(Ordering::Acquire) {
            return None;
        }
        let (known, handle) = *self.log.message.content.lock().unwrap();
        self.known |= known;
        Some(handle)
    }
}

/// Every pair of scripts. The first of a pair is the main thread's, which has made the entries that the program starts
/// with.
fn pairs<S: Clone>(first: &[Vec<S>], second: &[Vec<S>]) -> Vec<Vec<Vec<S>>> {
    first.iter().flat_map(|first| second.iter().map(|second| vec![first.clone(), second.clone()])).collect()
}
