//! Loom models of a context: its end while a compute is about to begin, and its runs of steps.

use std::collections::BTreeSet;
use std::sync::Mutex as StdMutex;

use loom::thread;

use super::*;
use crate::GuestHandle;
use crate::backend::{ComputeControl, Step};
use crate::model_support::explore;
use crate::nn::guest::claimed::Claimed;
use crate::nn::guest::steps::{StepOf, StreamOwner};
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
    context_of(Box::new(Nothing))
}

fn context_of(backend: Box<dyn BackendContext>) -> Context {
    let usage = Usage::new(&Limits::default());
    let bytes = ContextBytes::new(&usage, &usage).unwrap();
    let counters = StdArc::<Counters>::default();
    Counters::increment(&counters.contexts, 1);
    let backend_state =
        BackendState { backend, charge: MemoryCharge::new(0, bytes), reported: 0, steps: Steps::default() };
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

/// What the model sees of the runs. Std atomics: they are none of the model's steps.
#[derive(Default)]
struct Runs {
    begun: std::sync::atomic::AtomicUsize,
    ended: std::sync::atomic::AtomicUsize,
}

impl Runs {
    fn get(&self) -> (usize, usize) {
        (self.begun.load(Ordering::SeqCst), self.ended.load(Ordering::SeqCst))
    }
}

/// Whose runs have no end of their own. The number of the run is its memory: so a step tells which run it is of.
struct Stepper {
    runs: StdArc<Runs>,
    run: usize,
}

impl BackendContext for Stepper {
    fn set_input(&mut self, _: usize, _: TensorView<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn clear_inputs(&mut self) {}

    fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
        assert_eq!(self.run, 0, "a compute in an open run");
        Ok(())
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        Err(Error::invalid_argument("none"))
    }

    fn step(&mut self, _: &ComputeControl) -> Result<Step, Error> {
        if self.run == 0 {
            self.run = self.runs.begun.fetch_add(1, Ordering::SeqCst) + 1;
        }
        Ok(Step::More)
    }

    fn end_steps(&mut self) {
        assert_ne!(self.run, 0, "the end of no run");
        self.run = 0;
        self.runs.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn memory(&self) -> usize {
        self.run
    }
}

fn stepper() -> (Arc<Context>, StdArc<Runs>) {
    let runs = StdArc::<Runs>::default();
    (Arc::new(context_of(Box::new(Stepper { runs: StdArc::clone(&runs), run: 0 }))), runs)
}

fn claim(context: &Arc<Context>) -> Result<Claimed<Arc<Context>>, Error> {
    Claimed::new(Arc::clone(context), GuestHandle::from_bits(0), None)
}

/// A step as a call makes it, and the number of its run.
fn step(context: &Arc<Context>, of: &StepOf) -> Result<usize, Error> {
    let mut claimed = claim(context)?;
    claimed.check_step(of)?;
    claimed.step("", of, |backend| backend.step(&ComputeControl::default()))?;
    Ok(claimed.context().counters.read().context_bytes)
}

fn compute(context: &Arc<Context>) -> Result<(), Error> {
    let mut claimed = claim(context)?;
    claimed.check_compute()?;
    claimed.compute("", |backend| backend.compute(&ComputeControl::default()))
}

fn end(context: &Arc<Context>) -> Result<(), Error> {
    claim(context)?.end_steps("")
}

/// What holds at the end of each model.
fn no_panics(context: &Context) {
    assert_eq!(context.counters.read().panics, 0, "the backend has panicked");
}

/// R2, R4: a stream is dropped while its step is made, or before or after it. Its run is ended once, and the context is
/// free.
#[test]
fn the_drop_of_a_stream_against_its_step() {
    let seen = StdArc::new(StdMutex::new(BTreeSet::new()));
    let notes = StdArc::clone(&seen);
    explore("the drop of a stream against its step", move || {
        let ((context, runs), stream) = (stepper(), StreamOwner::new());
        step(&context, &StepOf::StreamBegin(StdArc::clone(&stream))).unwrap();
        let (its, of) = (Arc::clone(&context), StepOf::StreamNext(StdArc::clone(&stream)));
        let other = thread::spawn(move || step(&its, &of).is_ok());
        Claimed::abandon(Arc::clone(&context), &stream);
        let stepped = other.join().unwrap();
        assert_eq!(runs.get(), (1, 1), "the run of the stream is not ended once");
        compute(&context).unwrap();
        no_panics(&context);
        notes.lock().unwrap().insert(stepped);
    });
    assert_eq!(seen.lock().unwrap().len(), 2);
}

/// R4: the first step of a stream that is dropped meanwhile. The run that it has begun is ended.
#[test]
fn the_drop_of_a_stream_against_its_first_step() {
    explore("the drop of a stream against its first step", || {
        let ((context, runs), stream) = (stepper(), StreamOwner::new());
        // The stream claims the context before it can be dropped.
        let mut claimed = claim(&context).unwrap();
        let of = StepOf::StreamBegin(StdArc::clone(&stream));
        let other = thread::spawn(move || {
            claimed.step("", &of, |backend| backend.step(&ComputeControl::default())).unwrap();
        });
        Claimed::abandon(Arc::clone(&context), &stream);
        other.join().unwrap();
        assert_eq!(runs.get(), (1, 1));
        compute(&context).unwrap();
        no_panics(&context);
    });
}

/// R3, R4: a stream whose run was ended is dropped while another run begins, which stays.
#[test]
fn the_drop_of_a_stream_against_the_run_of_another_call() {
    explore("the drop of a stream against the run of another call", || {
        let ((context, runs), stream) = (stepper(), StreamOwner::new());
        step(&context, &StepOf::StreamBegin(StdArc::clone(&stream))).unwrap();
        end(&context).unwrap();
        let its = Arc::clone(&context);
        let other = thread::spawn(move || step(&its, &StepOf::Guest));
        Claimed::abandon(Arc::clone(&context), &stream);
        match other.join().unwrap() {
            Ok(run) => assert_eq!((run, runs.get()), (2, (2, 1)), "the other run is ended"),
            Err(error) => assert_eq!(error.kind(), crate::nn::ErrorKind::Busy),
        }
        no_panics(&context);
    });
}

/// R1: a compute against the first step of a run. One of them comes first, or one meets the other.
#[test]
fn a_compute_against_a_step() {
    let seen = StdArc::new(StdMutex::new(BTreeSet::new()));
    let notes = StdArc::clone(&seen);
    explore("a compute against a step", move || {
        let (context, runs) = stepper();
        let its = Arc::clone(&context);
        let other = thread::spawn(move || step(&its, &StepOf::Guest).is_ok());
        let computed = compute(&context).map_err(|error| error.kind().name());
        let stepped = other.join().unwrap();
        assert!(stepped || computed == Ok(()), "each has met the other");
        assert_eq!(runs.get(), (stepped.into(), 0));
        no_panics(&context);
        notes.lock().unwrap().insert((stepped, computed.err()));
    });
    let seen = seen.lock().unwrap();
    for outcome in [(true, None), (true, Some("invalid argument")), (true, Some("busy")), (false, None)] {
        assert!(seen.contains(&outcome), "{seen:?}");
    }
}

/// R3: a step of a stream while another call ends its run and begins one of its own. The stream never goes on in that.
#[test]
fn a_step_of_a_stream_against_another_run() {
    let seen = StdArc::new(StdMutex::new(BTreeSet::new()));
    let notes = StdArc::clone(&seen);
    explore("a step of a stream against another run", move || {
        let ((context, runs), stream) = (stepper(), StreamOwner::new());
        step(&context, &StepOf::StreamBegin(StdArc::clone(&stream))).unwrap();
        let its = Arc::clone(&context);
        let other = thread::spawn(move || end(&its).is_ok() && step(&its, &StepOf::Guest).is_ok());
        let stepped = step(&context, &StepOf::StreamNext(StdArc::clone(&stream)));
        let another = other.join().unwrap();
        assert!(stepped.as_ref().map_or(true, |run| *run == 1), "the stream goes on in another run");
        let (begun, ended) = runs.get();
        assert!(begun == 1 + usize::from(another) && ended <= 1);
        no_panics(&context);
        notes.lock().unwrap().insert((stepped.map_err(|error| error.kind().name()).err(), another));
    });
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&(None, true)) && seen.contains(&(Some("invalid argument"), true)), "{seen:?}");
}

/// R4, X5: a stream is dropped and its context closed while its step is made. The context is torn down once.
#[test]
fn the_end_of_a_context_against_the_drop_of_a_stream() {
    explore("the end of a context against the drop of a stream", || {
        let ((context, runs), stream) = (stepper(), StreamOwner::new());
        step(&context, &StepOf::StreamBegin(StdArc::clone(&stream))).unwrap();
        let (its, of) = (Arc::clone(&context), StepOf::StreamNext(StdArc::clone(&stream)));
        let other = thread::spawn(move || step(&its, &of).is_ok());
        Claimed::abandon(Arc::clone(&context), &stream);
        context.release(context.shut());
        other.join().unwrap();
        assert!(runs.get().0 == 1 && runs.get().1 <= 1);
        assert_eq!(context.counters.read().contexts, 0, "the context is not torn down once");
        no_panics(&context);
    });
}
