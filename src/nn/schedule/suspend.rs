//! Suspended computes: their threads sleep in a backend, and their permits are with computes that run.
//!
//! * S1: a suspended compute has no permit, so a compute that runs never waits for one that needs its permit.
//! * S2: a compute that resumes gets the next permit, before all that wait for their turn; those that resume keep
//!   their order. While one waits for that, the bound of running computes is fully used.
//! * S3: a compute that is cancelled or late stops to wait for a permit, and ends without one.
//! * S4: a compute that was suspended counts as admitted until it ends.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use crate::backend::ComputeControl;
use crate::nn::schedule::admission::{Admission, Permit, RESUMING, RUNNING, SUSPENDED, Withdrawn, parts};
use crate::nn::schedule::turn::Turn;
use crate::sync::atomic::Ordering;

/// A compute without its permit; the drop ends it as one that was admitted.
pub(crate) struct Suspended {
    /// `None` once it has resumed.
    admission: Option<Arc<Admission>>,
}

impl Suspended {
    /// S1: gives the permit to the next compute.
    pub(crate) fn new(permit: Permit) -> Self {
        let admission = permit.into_admission();
        if let Some(admission) = &admission {
            admission.hand_on(SUSPENDED);
        }
        Self { admission }
    }

    /// Waits for a permit; `None` if the compute is cancelled or late first.
    pub(crate) fn resume(mut self, control: &ComputeControl) -> Option<Permit> {
        let admission = self.admission.take()?;
        let turn = Arc::new(Turn::default());
        let Some(number) = queue(&admission, &turn) else { return Some(admission.permit()) };
        let hook = Hook { admission: Arc::downgrade(&admission), number };
        let waker = control.cancel.wake_on_cancel(Waker::from(Arc::new(hook)));
        let result = loop {
            match turn.wait(control.deadline) {
                Some(result) => break result.ok(),
                // S3; the permit may still come: the first of the two decides.
                None => withdraw(&admission, number, Withdrawn::Late),
            }
        };
        control.cancel.forget_waker(waker);
        result
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            admission.word.fetch_sub(SUSPENDED, Ordering::Relaxed);
            // S4.
            admission.fill();
        }
    }
}

/// S2: takes a permit if there is one, or gives the number under which `turn` gets the next.
fn queue(admission: &Arc<Admission>, turn: &Arc<Turn>) -> Option<u64> {
    let mut state = admission.lock();
    loop {
        let word = admission.word.load(Ordering::Relaxed);
        if parts(word).running < admission.bound() {
            if admission.exchange(word, word - SUSPENDED + RUNNING) {
                return None;
            }
        } else if admission.exchange(word, word - SUSPENDED + RESUMING) {
            break;
        }
    }
    state.last_resuming += 1;
    let (number, turn) = (state.last_resuming, Arc::clone(turn));
    // The turn keeps the permit until the compute takes it, which it always does.
    let end = move |result| {
        turn.complete(result);
        None
    };
    state.resuming.insert(number, Box::new(end));
    Some(number)
}

/// S3: ends a wait for a permit, if it has not ended.
fn withdraw(admission: &Arc<Admission>, number: u64, why: Withdrawn) {
    let end = {
        let mut state = admission.lock();
        let end = state.resuming.remove(&number);
        if end.is_some() {
            admission.word.fetch_sub(RESUMING, Ordering::Relaxed);
        }
        end
    };
    if let Some(end) = end {
        // No permit was passed, so none comes back.
        end(Err(why));
        // S4.
        admission.fill();
    }
}

/// A waker that ends a wait for a permit when the compute is cancelled.
struct Hook {
    admission: Weak<Admission>,
    number: u64,
}

impl Wake for Hook {
    fn wake(self: Arc<Self>) {
        if let Some(admission) = self.admission.upgrade() {
            withdraw(&admission, self.number, Withdrawn::Cancelled);
        }
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
