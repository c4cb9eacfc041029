//! What bounds one compute, and what ends it from outside.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use super::Error;

/// Ends a compute from outside. Clones are the same token.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Flag>);

#[derive(Default)]
struct Flag {
    cancelled: AtomicBool,
    /// Who is to hear of it at once, rather than when it next looks.
    waiting: Mutex<Vec<Waker>>,
}

impl CancelToken {
    /// Asks the compute to end at the next operator, or at once where it has not begun.
    pub fn cancel(&self) {
        // Release, and the lock after it: whoever is woken, or comes too late to be, sees the flag.
        self.0.cancelled.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether [`cancel`](Self::cancel) was called on any clone. One load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // Acquire: pairs with the Release of `cancel`.
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Has `waker` woken when the token is cancelled, or at once where it was.
    pub(crate) fn wake_on_cancel(&self, waker: Waker) {
        let mut waiting = self.waiting();
        if self.is_cancelled() {
            drop(waiting);
            waker.wake();
        } else {
            // Before `cancel` takes the lock, so that it finds this one.
            waiting.push(waker);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelToken").field(&self.is_cancelled()).finish()
    }
}

/// What bounds one compute: a token that cancels it, a deadline, and the memory it may take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ComputeControl {
    /// Cancels the compute from outside.
    pub cancel: CancelToken,
    /// When the compute is to be over.
    pub deadline: Option<Instant>,
    /// Bytes of tensors, intermediate ones and outputs together, that may be alive at one time.
    pub memory_limit: usize,
}

impl Default for ComputeControl {
    /// Never cancelled, no deadline, no bound on memory.
    fn default() -> Self {
        Self { cancel: CancelToken::default(), deadline: None, memory_limit: usize::MAX }
    }
}

impl ComputeControl {
    /// The same with another token.
    #[must_use]
    pub fn with_cancel(self, cancel: CancelToken) -> Self {
        Self { cancel, ..self }
    }

    /// The same with a deadline, or with none.
    #[must_use]
    pub fn with_deadline(self, deadline: impl Into<Option<Instant>>) -> Self {
        Self { deadline: deadline.into(), ..self }
    }

    /// The same with another bound on memory, in bytes.
    #[must_use]
    pub fn with_memory_limit(self, memory_limit: usize) -> Self {
        Self { memory_limit, ..self }
    }

    /// Whether to go on. One load, and a look at the clock where there is a deadline.
    ///
    /// # Errors
    ///
    /// [`Timeout`](super::ErrorKind::Timeout) past the deadline,
    /// [`RuntimeError`](super::ErrorKind::RuntimeError) once cancelled.
    pub fn check(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::runtime_error("cancelled"));
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Error::timeout("the deadline passed")),
            _ => Ok(()),
        }
    }
}
