//! What an engine has and has done, in numbers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Numbers of one engine, from [`Engine::stats`](super::Engine::stats).
///
/// Each number is right for some moment during the call; no two of them need to be of the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Models in memory, from their loading until their backend's destructor has run. A model that many guests
    /// share is one.
    pub graphs: usize,
    /// Bytes of these models, as their backends count them.
    pub graph_bytes: usize,
    /// Graph handles that guests hold.
    pub graph_handles: usize,
    /// Bytes of the contexts in memory, as their backends count them, and at least those of their inputs.
    pub context_bytes: usize,
    /// Contexts in memory, from their opening until their backend's destructor has run.
    pub contexts: usize,
    /// Guests that are not yet dropped.
    pub guests: usize,
    /// Registered names.
    pub names: usize,
    /// Entries removed from the pools whose grace period is not over.
    pub awaiting_reclamation: usize,
    /// Models that a backend has built since the engine was made.
    pub loaded: u64,
    /// Contexts opened since the engine was made.
    pub opened: u64,
    /// Computes that have succeeded.
    pub computes: u64,
    /// Computes that their backend refused or ended with an error.
    pub failed_computes: u64,
    /// Calls that were refused because another call used the same context.
    pub busy: u64,
    /// Calls that a limit has refused: of the guest's or the engine's, or of the queue of computes.
    pub refused: u64,
    /// Computes that were not done in their time, whether they had begun or not.
    pub timeouts: u64,
    /// Computes that were cancelled and ended with an error for it.
    pub cancelled: u64,
    /// Computes that run now.
    pub computing: usize,
    /// Computes that wait for their turn now.
    pub queued: usize,
    /// Panics of backends, those of their destructors with them.
    pub panics: u64,
}

/// The counters behind [`Stats`]. They carry no data from thread to thread: Relaxed everywhere.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) graphs: AtomicUsize,
    pub(super) graph_bytes: AtomicUsize,
    pub(super) contexts: AtomicUsize,
    pub(super) context_bytes: AtomicUsize,
    pub(super) guests: AtomicUsize,
    pub(super) loaded: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) computes: AtomicU64,
    pub(super) failed_computes: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) cancelled: AtomicU64,
}

impl Counters {
    /// One more of a total.
    pub(super) fn count(total: &AtomicU64) {
        total.fetch_add(1, Ordering::Relaxed);
    }

    /// `amount` more alive.
    pub(super) fn born(alive: &AtomicUsize, amount: usize) {
        alive.fetch_add(amount, Ordering::Relaxed);
    }

    /// `amount` fewer alive.
    pub(super) fn died(alive: &AtomicUsize, amount: usize) {
        alive.fetch_sub(amount, Ordering::Relaxed);
    }

    /// What is counted here; the rest of [`Stats`] is zero.
    pub(super) fn read(&self) -> Stats {
        Stats {
            graphs: self.graphs.load(Ordering::Relaxed),
            graph_bytes: self.graph_bytes.load(Ordering::Relaxed),
            contexts: self.contexts.load(Ordering::Relaxed),
            context_bytes: self.context_bytes.load(Ordering::Relaxed),
            guests: self.guests.load(Ordering::Relaxed),
            loaded: self.loaded.load(Ordering::Relaxed),
            opened: self.opened.load(Ordering::Relaxed),
            computes: self.computes.load(Ordering::Relaxed),
            failed_computes: self.failed_computes.load(Ordering::Relaxed),
            busy: self.busy.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            timeouts: self.timeouts.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}
