//! The account of a guest: its number and label, and what its computes have cost. A running compute holds it, because
//! it may outlive its guest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::nn::ids::next_id;

/// The counters carry no data from thread to thread: Relaxed everywhere.
#[derive(Debug)]
pub(crate) struct Account {
    id: u64,
    label: Option<Box<str>>,
    computes: AtomicU64,
    /// In nanoseconds.
    compute_time: AtomicU64,
}

impl Account {
    pub(crate) fn new(label: Option<Box<str>>) -> Self {
        Self { id: next_id(), label, computes: AtomicU64::new(0), compute_time: AtomicU64::new(0) }
    }

    /// The guest's number in events, unique in the process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The guest's label in events.
    pub(crate) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Records a compute that has left the backend after that time.
    pub(crate) fn computed(&self, time: Duration) {
        self.computes.fetch_add(1, Ordering::Relaxed);
        // Wraps after 584 years.
        self.compute_time.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The number of computes, and the sum of their times.
    pub(crate) fn computes(&self) -> (u64, Duration) {
        let time = Duration::from_nanos(self.compute_time.load(Ordering::Relaxed));
        (self.computes.load(Ordering::Relaxed), time)
    }
}
