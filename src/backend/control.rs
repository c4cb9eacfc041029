//! The bounds of one compute (deadline and memory), and the token that cancels it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use super::Error;

/// A cancellation token for one compute. Clones share one state.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Flag>);

#[derive(Default)]
struct Flag {
    cancelled: AtomicBool,
    /// Wakers that `cancel` wakes, so that a waiting compute ends at once.
    waiting: Mutex<Vec<Waker>>,
}

impl CancelToken {
    /// Cancels the compute: at the next operator if it runs, at once if it waits.
    pub fn cancel(&self) {
        // Release, and then the lock: a waker registered before is woken, and one registered later sees the flag.
        self.0.cancelled.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether [`cancel`](Self::cancel) was called on any clone. One atomic load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // Acquire: pairs with the Release of `cancel`.
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Wakes `waker` when the token is cancelled, or at once if it is cancelled already.
    pub(crate) fn wake_on_cancel(&self, waker: Waker) {
        let mut waiting = self.waiting();
        if self.is_cancelled() {
            drop(waiting);
            waker.wake();
        } else {
            // The flag was unset under this lock, and `cancel` sets it before it takes the lock: it finds this waker.
            waiting.push(waker);
        }
    }

    /// Drops the wakers that are registered.
    pub(crate) fn forget_wakers(&self) {
        // A statement of its own: a waker may have a destructor.
        let wakers = std::mem::take(&mut *self.waiting());
        drop(wakers);
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

/// The bounds of one compute: a cancellation token, a deadline and a memory limit.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ComputeControl {
    /// The token that cancels the compute.
    pub cancel: CancelToken,
    /// The time by which the compute must end.
    pub deadline: Option<Instant>,
    /// The most bytes of tensors, intermediate ones and outputs together, that may be alive at one time.
    pub memory_limit: usize,
}

impl Default for ComputeControl {
    /// A control that is not cancelled and has no deadline and no memory limit.
    fn default() -> Self {
        Self { cancel: CancelToken::default(), deadline: None, memory_limit: usize::MAX }
    }
}

impl ComputeControl {
    /// Sets the cancellation token.
    #[must_use]
    pub fn with_cancel(self, cancel: CancelToken) -> Self {
        Self { cancel, ..self }
    }

    /// Sets the deadline, or removes it.
    #[must_use]
    pub fn with_deadline(self, deadline: impl Into<Option<Instant>>) -> Self {
        Self { deadline: deadline.into(), ..self }
    }

    /// Sets the memory limit, in bytes.
    #[must_use]
    pub fn with_memory_limit(self, memory_limit: usize) -> Self {
        Self { memory_limit, ..self }
    }

    /// Checks whether the compute may go on. Costs one atomic load, and reads the clock if there is a deadline.
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
