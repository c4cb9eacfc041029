//! Loom models of the state that a future and the thread of its compute share.

use loom::thread;

use super::*;
use crate::model_support::explore;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Counts how often it is woken.
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A poll during the completion gets the result, or is woken for it.
#[test]
fn a_poll_against_the_completion() {
    let seen = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let notes = Arc::clone(&seen);
    explore("a poll against the completion", move || {
        let (outcome, woken) = (Arc::new(Outcome::new()), Arc::new(Woken(AtomicUsize::new(0))));
        let its = Arc::clone(&outcome);
        let other = thread::spawn(move || its.complete(Ok(7)));
        let waker = Waker::from(Arc::clone(&woken));
        let first = outcome.poll("", &Context::from_waker(&waker));
        other.join().unwrap();
        let is_woken = woken.0.load(Ordering::Relaxed) == 1;
        match first {
            Poll::Ready(result) => assert_eq!((result, is_woken), (Ok(7), false)),
            Poll::Pending => {
                assert!(is_woken);
                assert_eq!(outcome.poll("", &Context::from_waker(&waker)), Poll::Ready(Ok(7)));
            }
        }
        notes.lock().unwrap().insert(is_woken);
    });
    assert_eq!(seen.lock().unwrap().len(), 2);
}

/// M3: the first poll of a deferred compute against its cancel. It begins, or is released, and there is one result.
#[test]
fn the_first_poll_against_a_cancel() {
    let seen = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let notes = Arc::clone(&seen);
    explore("the first poll against a cancel", move || {
        let outcome = Arc::new(Outcome::new());
        outcome.defer(Box::new(|outcome, begin| outcome.complete(Ok(begin == Begin::Polled))));
        let its = Arc::clone(&outcome);
        let other = thread::spawn(move || its.begin(Begin::Cancelled));
        outcome.begin(Begin::Polled);
        other.join().unwrap();
        let Poll::Ready(Ok(polled)) = outcome.poll("", &Context::from_waker(Waker::noop())) else {
            panic!("one of them has called it")
        };
        notes.lock().unwrap().insert(polled);
    });
    assert_eq!(seen.lock().unwrap().len(), 2);
}
