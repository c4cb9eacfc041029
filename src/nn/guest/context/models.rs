//! Loom models of closing a context while a compute is about to begin.

use std::collections::BTreeSet;
use std::sync::Mutex as StdMutex;

use loom::thread;

use super::*;
use crate::backend::ComputeControl;
use crate::model_support::explore;
use crate::nn::limits::context_bytes::ContextBytes;
use crate::nn::limits::usage::Usage;
use crate::nn::{Limits, TensorView};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};

struct Nothing;

impl BackendContext for Nothing {
    fn set_input(&mut self, _: usize, _: TensorView<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn clear_inputs(&mut self) {}

    fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
        Ok(())
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        Err(Error::invalid_argument("none"))
    }
}

fn context() -> Context {
    let usage = Usage::new(&Limits::default());
    let bytes = ContextBytes::new(&usage, &usage).unwrap();
    let counters = StdArc::<Counters>::default();
    Counters::increment(&counters.contexts, 1);
    let backend_state =
        BackendState { backend: Box::new(Nothing), charge: MemoryCharge::new(0, bytes), reported: 0, taken: false };
    Context {
        use_lock: UseLock::new(),
        state: Mutex::new(ContextState {
            backend_state: Some(backend_state),
            lost: None,
            resources: None,
            cancel: None,
            begun: false,
        }),
        inputs: StdArc::default(),
        outputs: StdArc::default(),
        graph: 0,
        pace: StdArc::default(),
        counters,
    }
}

/// X4, X5: a compute that waits while its context is closed either begins before the close or is cancelled, and the
/// context is torn down once.
#[test]
fn a_compute_that_begins_against_the_end_of_its_context() {
    let seen = StdArc::new(StdMutex::new(BTreeSet::new()));
    let notes = StdArc::clone(&seen);
    explore("a compute that begins against the end of its context", move || {
        let (context, given_back) = (Arc::new(context()), Arc::new(AtomicBool::new(false)));
        let (its, flag) = (Arc::clone(&context), Arc::clone(&given_back));
        let other = thread::spawn(move || {
            its.release(its.shut());
            flag.store(true, Ordering::Release);
        });
        let cancel = CancelToken::default();
        let came_to = match Claimed::new(Arc::clone(&context), GuestHandle::from_bits(0), Some(&cancel)) {
            Err(_) => "refused",
            Ok(claimed) => {
                let late = given_back.load(Ordering::Acquire);
                let begins = claimed.begin();
                assert!(!(late && begins), "it begins after the context was given back");
                drop(claimed);
                if begins { "begun" } else { "not begun" }
            }
        };
        other.join().unwrap();
        let told = came_to != "begun" && came_to != "refused" && cancel.is_cancelled();
        notes.lock().unwrap().insert((came_to, told));
        assert_eq!(context.counters.read().contexts, 0);
        if came_to == "begun" {
            assert!(!cancel.is_cancelled(), "one that has begun goes on");
        }
    });
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&("begun", false)) && seen.contains(&("not begun", true)), "{seen:?}");
}

/// X4: when the close of a context returns, its waiting compute is cancelled.
#[test]
fn the_end_of_a_context_against_a_compute_that_comes_to_wait() {
    explore("the end of a context against a compute that comes to wait", || {
        let context = Arc::new(context());
        let its = Arc::clone(&context);
        let other = thread::spawn(move || its.release(its.shut()));
        let cancel = CancelToken::default();
        let claimed = Claimed::new(Arc::clone(&context), GuestHandle::from_bits(0), Some(&cancel));
        other.join().unwrap();
        // Nothing withdraws it from the queue any more.
        assert!(claimed.is_err() || cancel.is_cancelled());
    });
}
