//! The future of a compute that runs on a thread of the engine.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::backend::CancelToken;
use crate::nn::Error;
use crate::sync::{Mutex, MutexGuard};

/// The future of a compute on a thread of the engine, from [`Guest::compute_async`](crate::nn::Guest::compute_async),
/// or of an inference, from [`Guest::infer_async`](crate::nn::Guest::infer_async), which gives its outputs.
///
/// The compute starts at once, whether the future is polled or not. The exception is that of a graph that has been
/// quick, if the engine [allows it](crate::nn::EngineBuilder::with_inline_computes): it starts with the first poll, and
/// runs inside of it. The compute is cancelled when the future is dropped: a waiting one ends at once, a running one
/// when its backend next checks its [`ComputeControl`](crate::backend::ComputeControl). The future works with any
/// executor.
#[must_use = "a compute that is dropped is cancelled"]
pub struct Compute<T = ()> {
    pub(crate) call: &'static str,
    pub(crate) outcome: Arc<Outcome<T>>,
    pub(crate) cancel: CancelToken,
}

/// The state that the future and the thread share.
pub(crate) struct Outcome<T>(Mutex<Progress<T>>);

/// A compute that starts with the first poll, or is released by a cancel before it.
pub(crate) type Deferred<T> = Box<dyn FnOnce(&Arc<Outcome<T>>, Begin) + Send>;

/// Why a deferred compute is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    Polled,
    Cancelled,
}

struct Progress<T> {
    deferred: Option<Deferred<T>>,
    result: Option<Result<T, Error>>,
    waker: Option<Waker>,
    ended: bool,
}

impl<T> Outcome<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Progress { deferred: None, result: None, waker: None, ended: false }))
    }

    /// Leaves the compute to the first [`begin`](Self::begin).
    pub(crate) fn defer(&self, deferred: Deferred<T>) {
        self.lock().deferred = Some(deferred);
    }

    /// Calls what was deferred, if it is still there.
    pub(crate) fn begin(self: &Arc<Self>, begin: Begin) {
        // A separate statement, so that the lock is not held in the backend.
        let deferred = self.lock().deferred.take();
        if let Some(deferred) = deferred {
            deferred(self, begin);
        }
    }

    /// Completes the result, unless there was one.
    pub(crate) fn complete(&self, result: Result<T, Error>) {
        self.put_unless_ended(result);
    }

    /// As [`complete`](Self::complete); `false` if there was a result.
    pub(crate) fn put_unless_ended(&self, result: Result<T, Error>) -> bool {
        self.put(result, |progress| !progress.ended)
    }

    /// Completes the result with an error, also in the place of a result that was not taken yet.
    pub(crate) fn fail(&self, error: Error) {
        self.put(Err(error), |progress| !progress.ended || progress.result.is_some());
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    fn put(&self, result: Result<T, Error>, may: impl FnOnce(&Progress<T>) -> bool) -> bool {
        let (waker, unused, is_put) = {
            let mut progress = self.lock();
            if may(&progress) {
                let before = progress.result.replace(result);
                progress.ended = true;
                (progress.waker.take(), before, true)
            } else {
                (None, Some(result), false)
            }
        };
        // Without the lock, because a value may have a destructor.
        drop(unused);
        if let Some(waker) = waker {
            // The waker is the host's, and may belong to another guest than the one whose call runs here.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        is_put
    }

    /// The result, once. Otherwise the context's waker is woken when there is one.
    pub(crate) fn poll(&self, call: &str, context: &Context<'_>) -> Poll<Result<T, Error>> {
        let mut progress = self.lock();
        if let Some(result) = progress.result.take() {
            return Poll::Ready(result);
        }
        if progress.ended {
            return Poll::Ready(Err(Error::runtime_error(format!("{call}: polled after its end"))));
        }
        match &mut progress.waker {
            Some(waker) => waker.clone_from(context.waker()),
            waker => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Progress<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Compute<T> {
    /// The future of a compute that was refused.
    pub(crate) fn failed(call: &'static str, error: Error) -> Self {
        let outcome = Arc::new(Outcome::new());
        outcome.complete(Err(error));
        Self { call, outcome, cancel: CancelToken::default() }
    }
}

impl<T> Future for Compute<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.outcome.begin(Begin::Polled);
        self.outcome.poll(self.call, context)
    }
}

impl<T> Drop for Compute<T> {
    fn drop(&mut self) {
        if !self.outcome.has_ended() {
            self.cancel.cancel();
        }
    }
}

impl<T> fmt::Debug for Compute<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compute").field("ended", &self.outcome.has_ended()).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod models;
