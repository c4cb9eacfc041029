//! A turn that a blocked thread waits for.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::nn::schedule::admission::{Permit, Withdrawn};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Wakes a blocked caller when its turn has come.
#[derive(Default)]
pub(crate) struct Turn {
    result: Mutex<Option<Result<Permit, Withdrawn>>>,
    completed: Condvar,
}

impl Turn {
    pub(crate) fn complete(&self, result: Result<Permit, Withdrawn>) {
        *self.lock() = Some(result);
        self.completed.notify_one();
    }

    /// `None` if `deadline` passes first.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<Result<Permit, Withdrawn>> {
        let mut result = self.lock();
        loop {
            if result.is_some() {
                return result.take();
            }
            result = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.completed.wait(result).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return None,
                Some(left) => self.completed.wait_timeout(result, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Permit, Withdrawn>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
