//! The bounds of one compute or step (deadline and memory), and the token that cancels it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Instant;

use super::Error;

/// A cancellation token for one compute. Clones share one state.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Flag>);

#[derive(Default)]
struct Flag {
    cancelled: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// Wakers that `cancel` wakes, so that a waiting compute ends at once.
#[derive(Default)]
struct Waiting {
    wakers: Vec<(u64, Waker)>,
    /// The number of the last waker.
    last: u64,
}

impl CancelToken {
    /// Cancels the compute: at the next operator if it runs, at once if it waits.
    pub fn cancel(&self) {
        // Release, and then the lock: a waker registered before is woken, and one registered later sees the flag.
        self.0.cancelled.store(true, Ordering::Release);
        let wakers = std::mem::take(&mut self.waiting().wakers);
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called on any clone. One atomic load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // Acquire: pairs with the Release of `cancel`.
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Wakes `waker` when the token is cancelled, or at once if it is cancelled already: for a backend that lets a
    /// compute wait. It is woken on the thread that cancels, so it must be quick.
    ///
    /// Returns a number for [`forget_waker`](Self::forget_waker). The token holds the waker until then, until it is
    /// cancelled, or until its last clone is dropped.
    #[allow(clippy::must_use_candidate, reason = "a waker that stays as long as the token needs no number")]
    pub fn wake_on_cancel(&self, waker: Waker) -> u64 {
        let mut waiting = self.waiting();
        waiting.last += 1;
        let number = waiting.last;
        if self.is_cancelled() {
            drop(waiting);
            waker.wake();
        } else {
            // The flag was unset under this lock, and `cancel` sets it before it takes the lock: it finds this waker.
            waiting.wakers.push((number, waker));
        }
        number
    }

    /// Drops the waker that [`wake_on_cancel`](Self::wake_on_cancel) returned `number` for, unless it was woken.
    pub fn forget_waker(&self, number: u64) {
        let mut waiting = self.waiting();
        let at = waiting.wakers.iter().position(|(other, _)| *other == number);
        let waker = at.map(|at| waiting.wakers.swap_remove(at));
        // Without the lock: a waker may have a destructor.
        drop(waiting);
        drop(waker);
    }

    /// Drops the wakers that are registered.
    pub(crate) fn forget_wakers(&self) {
        // A statement of its own: a waker may have a destructor.
        let wakers = std::mem::take(&mut self.waiting().wakers);
        drop(wakers);
    }

    /// The same for clones, and for no other token as long as one of them lives.
    pub(crate) fn number(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
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
    /// The most bytes that the context may hold between calls, as [`memory`](super::BackendContext::memory) counts
    /// them. A backend whose contexts grow while they compute, such as a language model's, calls
    /// [`reserve_context_memory`](Self::reserve_context_memory) before it grows one: a context that is found above its
    /// limits afterwards is lost.
    pub context_memory_limit: usize,
    /// The most bytes that the context may hold without those that its graph counts
    /// ([`shared_memory`](super::BackendContext::shared_memory)), for a backend whose contexts have any. It follows from
    /// the engine's limit alone, and the one above from the guest's, too.
    pub own_memory_limit: usize,
    /// How the engine lets the compute sleep.
    pub(crate) suspender: Option<Suspender>,
    /// What the engine counts for the context. It is the context's, and gone with it.
    pub(crate) room: Option<Weak<dyn Room>>,
}

/// The memory that an engine has reserved for a context.
pub(crate) trait Room: fmt::Debug + Send + Sync {
    /// Changes the reservation to `bytes`, of which the graph counts `shared`. It never has less than when the call of
    /// the backend began.
    fn reserve(&self, bytes: usize, shared: usize) -> Result<(), Error>;
}

/// An engine's functions for a compute that sleeps, which are called on its own thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Suspender {
    /// Returns whether this call has suspended the compute.
    pub(crate) suspend: fn(&ComputeControl) -> bool,
    pub(crate) resume: fn(&ComputeControl),
}

/// The compute sleeps, until the drop: see [`ComputeControl::suspend`].
#[derive(Debug)]
#[must_use = "the drop resumes the compute"]
pub struct Suspension<'a> {
    control: &'a ComputeControl,
    /// `None` if the call did nothing.
    suspended_by: Option<Suspender>,
}

impl Drop for Suspension<'_> {
    fn drop(&mut self) {
        if let Some(suspender) = self.suspended_by {
            (suspender.resume)(self.control);
        }
    }
}

impl Default for ComputeControl {
    /// A control that is not cancelled and has no deadline and no limits.
    fn default() -> Self {
        Self {
            cancel: CancelToken::default(),
            deadline: None,
            memory_limit: usize::MAX,
            context_memory_limit: usize::MAX,
            own_memory_limit: usize::MAX,
            suspender: None,
            room: None,
        }
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

    /// Sets the most bytes that the context may hold between calls.
    #[must_use]
    pub fn with_context_memory_limit(self, context_memory_limit: usize) -> Self {
        Self { context_memory_limit, ..self }
    }

    /// Reserves the memory of a context that is about to grow: it will hold `bytes` bytes in all, of which its graph
    /// counts `shared` ([`shared_memory`](super::BackendContext::shared_memory)). What is reserved is no other context's,
    /// so contexts that compute at the same time never hold more together than their limits. After the call of the
    /// backend the engine counts what the context holds then. Without an engine this only compares with the limits.
    /// Costs a lock that nobody else takes, and up to two atomic operations.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](super::ErrorKind::TooLarge) if this exceeds the limits above or the guest's,
    /// [`Busy`](super::ErrorKind::Busy) if other contexts have taken the engine's. The context must not grow then.
    pub fn reserve_context_memory(&self, bytes: usize, shared: usize) -> Result<(), Error> {
        let limit = self.context_memory_limit.min(self.own_memory_limit.saturating_add(shared));
        if bytes > limit {
            let why = format!("the execution context needs {bytes} bytes, and the limit is {limit}");
            return Err(Error::too_large(why));
        }
        self.room.as_ref().and_then(Weak::upgrade).map_or(Ok(()), |room| room.reserve(bytes, shared))
    }

    /// Begins a wait in which the compute's thread sleeps until another compute has worked for it. Until the drop of
    /// what this returns, the compute does not count as a running one
    /// ([`max_computing`](crate::nn::EngineLimits::max_computing)), so that others may run.
    ///
    /// Call it on the thread that the engine has called, before a wait that would hold up others, and without a lock:
    /// on any other thread, within another such wait, and without an engine neither the call nor the drop does
    /// anything. The drop waits until another compute ends or sleeps, if as many run as may; a compute that is
    /// cancelled or late meanwhile does not wait, and [`check`](Self::check) says so. At most
    /// [`max_suspended`](crate::nn::EngineLimits::max_suspended) computes sleep beside those that run. Costs a few
    /// atomic operations.
    pub fn suspend(&self) -> Suspension<'_> {
        Suspension { control: self, suspended_by: self.suspender.filter(|suspender| (suspender.suspend)(self)) }
    }

    /// Identifies the compute among those that are alive.
    pub(crate) fn number(&self) -> usize {
        self.cancel.number()
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_cancel_wakes_each_waker_once_and_none_that_was_forgotten() {
        let wakers: [Arc<Woken>; 3] = Default::default();
        let woken = || wakers.each_ref().map(|waker| waker.0.load(Ordering::Relaxed));
        let token = CancelToken::default();
        let [first, second, _] = wakers.each_ref().map(|waker| token.wake_on_cancel(Arc::clone(waker).into()));
        token.forget_waker(first);
        token.clone().cancel();
        token.cancel();
        assert_eq!(woken(), [0, 1, 1]);
        token.forget_waker(second);
        token.wake_on_cancel(Arc::clone(&wakers[0]).into());
        assert_eq!(woken(), [1, 1, 1]);
        assert!(wakers.iter().all(|waker| Arc::strong_count(waker) == 1));
    }
}
