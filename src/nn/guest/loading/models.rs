//! Loom models of asynchronous loads: their end against their cancellation, and their turns.

use std::collections::BTreeSet;
use std::sync::Mutex as StdMutex;
use std::task::{Context, Poll};

use loom::thread;
use tracing::Span;

use super::*;
use crate::backend::{Backend, BackendGraph, LoadRequest};
use crate::model_support::explore;
use crate::nn::graphs::flight::{Failed, SingleFlight};
use crate::nn::graphs::loaded::Named;
use crate::nn::graphs::model::NamedModel;
use crate::nn::guest::closing::closed;
use crate::nn::guest::load_state::Loads;
use crate::nn::guest::plan::Entry;
use crate::nn::{Encoding, Engine, EngineLimits, Limits, ModelSource, Target};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Loads nothing: the models make their values themselves.
struct Nothing;

impl Backend for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        false
    }

    fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        Err(Error::unsupported("none"))
    }
}

/// A value that loads share, how often it was made, and how often a load has come to look for it.
struct Shared {
    flight: SingleFlight<u32>,
    made: AtomicUsize,
    /// No step of the model.
    sought: StdMutex<usize>,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { flight: SingleFlight::new(), made: AtomicUsize::new(0), sought: StdMutex::default() })
    }

    fn find(&self) -> Option<u32> {
        Some(self.made.load(Ordering::Acquire) as u32).filter(|made| *made > 0)
    }

    fn make(&self) -> u32 {
        self.made.fetch_add(1, Ordering::Release) as u32 + 1
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

struct Model(Arc<Shared>);

impl Plan for Model {
    type Value = u32;
    type Next = Self;

    fn find(&mut self, _: &Inner) -> Option<u32> {
        None
    }

    fn entry<'a>(&mut self, _: &'a Inner) -> Result<Entry<'a, u32>, Error> {
        let shared = Arc::clone(&self.0);
        *shared.sought.lock().unwrap() += 1;
        Ok(Box::new(move |resume| Ok(shared.flight.enter(1, || shared.find(), resume))))
    }

    fn make(&mut self, _: &Inner) -> Result<u32, Failed> {
        Ok(self.0.make())
    }

    fn short(&self) -> Error {
        Error::too_large("short")
    }

    fn finish(self, _: u32, _: &mut Reservation) -> Result<Finished<Self>, Error> {
        let model = NamedModel::new("m", ModelSource::bytes(&[][..]), Encoding::Onnx, Target::Cpu);
        Ok(Finished::There(Named::Model(Arc::new(model)), 0))
    }
}

/// An engine with one turn for loads, and a guest's limits.
struct Bench {
    engine: Engine,
    usage: StdArc<Usage>,
    shared: Arc<Shared>,
}

impl Bench {
    fn new() -> Self {
        let limits = EngineLimits::default().with_max_loading(1);
        let engine = Engine::builder(Nothing).with_engine_limits(limits).build();
        Self { engine, usage: Usage::new(&Limits::default()), shared: Shared::new() }
    }

    /// A load of the value.
    fn task(&self, state: &StdArc<LoadState>) -> Task<Model> {
        let Self { engine, usage, shared } = self;
        let engine = &engine.inner;
        let reserve = |budget| Reservation::new(usage, budget, "load", 1).unwrap();
        Counters::increment(&engine.counters.loads, 1);
        Task {
            lead: None,
            plan: Model(Arc::clone(shared)),
            guest: 1,
            caller: Caller::new(Span::none()),
            slot: reserve(|usage| &usage.graphs),
            bytes: reserve(|usage| &usage.graph_bytes),
            thread: engine.loaders.reserve().ok(),
            engine: StdArc::clone(engine),
            counted: Counted { _of_guest: reserve(|usage| &usage.loads), counters: StdArc::clone(&engine.counters) },
            ending: Ending(StdArc::clone(state)),
        }
    }

    fn permit(&self) -> Permit {
        self.engine.inner.loading.enter().unwrap()
    }

    /// Nothing of a load is left.
    fn assert_quiet(&self) {
        assert_eq!((self.engine.stats().loads, self.engine.inner.loading.load()), (0, (0, 0)));
        let limits = Limits::default();
        let left = (self.usage.graphs.left(), self.usage.graph_bytes.left(), self.usage.loads.left());
        assert_eq!(left, (limits.max_graphs(), limits.max_graph_bytes(), limits.max_loads()));
    }
}

fn result(state: &LoadState) -> Option<Result<(), Error>> {
    match state.outcome.poll("load", &Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result.map(drop)),
        Poll::Pending => None,
    }
}

/// L1, L4: the future is dropped while its load ends. Nothing of the load is left.
#[test]
fn the_drop_of_the_future_against_the_end_of_its_load() {
    explore("the drop of the future against the end of its load", || {
        let (bench, state) = (Bench::new(), LoadState::new("load"));
        let (task, permit) = (bench.task(&state), bench.permit());
        let other = thread::spawn(move || task.run(permit));
        if !state.outcome.has_ended() {
            state.cancel.cancel();
        }
        drop(state);
        other.join().unwrap();
        bench.assert_quiet();
    });
}

/// L1: a guest ends while its load does. The future gets the error, and a result that it has not taken is released.
#[test]
fn the_end_of_the_guest_against_the_end_of_its_load() {
    let seen = StdArc::new(StdMutex::new(BTreeSet::new()));
    let notes = StdArc::clone(&seen);
    explore("the end of the guest against the end of its load", move || {
        let (bench, state, loads) = (Bench::new(), LoadState::new("load"), Loads::default());
        loads.add(&state).unwrap();
        let (task, permit) = (bench.task(&state), bench.permit());
        let other = thread::spawn(move || task.run(permit));
        loads.close();
        other.join().unwrap();
        bench.assert_quiet();
        assert!(matches!(result(&state), Some(Err(error)) if error == closed("load")));
        notes.lock().unwrap().insert(bench.shared.made());
    });
    // It had not begun, and it was about to end or had ended.
    assert_eq!(seen.lock().unwrap().iter().copied().collect::<Vec<_>>(), [0, 1]);
}

/// L1: a cancel of all loads of a guest while one ends. It counts if it ends by the cancel, and its result stays if
/// not.
#[test]
fn a_cancel_of_all_against_the_end_of_a_load() {
    let seen = StdArc::new(StdMutex::new(BTreeSet::new()));
    let notes = StdArc::clone(&seen);
    explore("a cancel of all against the end of a load", move || {
        let (bench, state, loads) = (Bench::new(), LoadState::new("load"), Loads::default());
        loads.add(&state).unwrap();
        let (task, permit) = (bench.task(&state), bench.permit());
        let other = thread::spawn(move || task.run(permit));
        let ended = loads.cancel();
        other.join().unwrap();
        match result(&state) {
            Some(Ok(loaded)) => drop((loaded, assert_eq!(ended, 0))),
            Some(Err(error)) => assert_eq!((error, ended), (cancelled(), 1)),
            None => panic!("it has no result"),
        }
        bench.assert_quiet();
        notes.lock().unwrap().insert((ended, bench.shared.made()));
    });
    // It had ended, it had not begun, and it was about to end.
    assert_eq!(seen.lock().unwrap().iter().copied().collect::<Vec<_>>(), [(0, 1), (1, 0), (1, 1)]);
}

/// L2: a load is cancelled when its turn comes. If the cancel came first, it never builds.
#[test]
fn a_cancel_against_the_turn_of_a_load() {
    let seen = StdArc::new(StdMutex::new(BTreeSet::new()));
    let notes = StdArc::clone(&seen);
    explore("a cancel against the turn of a load", move || {
        let (bench, state) = (Bench::new(), LoadState::new("load"));
        let (task, permit) = (bench.task(&state), bench.permit());
        let cancelled = Arc::new(AtomicUsize::new(0));
        let (its, flag) = (StdArc::clone(&state), Arc::clone(&cancelled));
        let other = thread::spawn(move || {
            its.cancel.cancel();
            flag.store(1, Ordering::Release);
        });
        let late = cancelled.load(Ordering::Acquire) == 1;
        task.run(permit);
        other.join().unwrap();
        assert!(!late || bench.shared.made() == 0, "it builds after it was cancelled");
        // This may ask the resolver.
        assert!(!late || *bench.shared.sought.lock().unwrap() == 0, "it begins after it was cancelled");
        assert!(result(&state).is_some());
        notes.lock().unwrap().insert((late, bench.shared.made()));
        bench.assert_quiet();
    });
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&(true, 0)) && seen.contains(&(false, 1)), "{seen:?}");
}

/// L1, L2: a load in the queue is cancelled while the turn is given back. It ends once, by the cancel or by its turn,
/// which finds no thread here.
#[test]
fn a_cancel_against_a_turn_that_is_given_back() {
    let seen = StdArc::new(StdMutex::new(BTreeSet::new()));
    let notes = StdArc::clone(&seen);
    explore("a cancel against a turn that is given back", move || {
        let (bench, state) = (Bench::new(), LoadState::new("load"));
        let permit = bench.permit();
        bench.task(&state).start();
        let other = thread::spawn(move || drop(permit));
        state.cancel.cancel();
        other.join().unwrap();
        let error = result(&state).unwrap().unwrap_err();
        notes.lock().unwrap().insert(error == cancelled());
        bench.assert_quiet();
    });
    assert_eq!(seen.lock().unwrap().len(), 2);
}

/// L1 to L3: a load that waits for another load's build is cancelled while that one ends. It ends once.
#[test]
fn a_cancel_against_the_build_that_a_load_waits_for() {
    explore("a cancel against the build that a load waits for", || {
        let (bench, state) = (Bench::new(), LoadState::new("load"));
        let shared = Arc::clone(&bench.shared);
        let Entered::Leader(leader) = shared.flight.enter(1, || None, Box::new(drop)) else {
            panic!("it is the first")
        };
        bench.task(&state).run(bench.permit());
        assert_eq!(bench.engine.inner.loading.load(), (0, 0));
        let other = thread::spawn(move || drop(leader.lead(|| Ok(shared.make()))));
        state.cancel.cancel();
        other.join().unwrap();
        let result = result(&state);
        assert!(result.is_some());
        assert_eq!(bench.shared.made(), 1);
        drop((result, state));
        bench.assert_quiet();
    });
}

/// L3: a build on a thread of the engine waits with its thread for a build that needs a turn. There is only one.
#[test]
fn a_load_with_a_turn_that_waits_for_a_load_that_needs_it() {
    explore("a load with a turn that waits for a load that needs it", || {
        let bench = Bench::new();
        let shared = Arc::clone(&bench.shared);
        let Entered::Leader(leader) = shared.flight.enter(1, || None, Box::new(drop)) else {
            panic!("it is the first")
        };
        let admission = StdArc::clone(&bench.engine.inner.loading);
        let (permit, its) = (bench.permit(), Arc::clone(&shared));
        let other = thread::spawn(move || {
            let _scope = LoadScope::enter(permit);
            its.flight.join(1, || its.find(), || Ok(its.make())).result(|| Error::too_large("short")).unwrap();
        });
        let turn = StdArc::new(crate::nn::schedule::turn::Turn::default());
        let end = StdArc::clone(&turn);
        let queued = Box::new(move |result| {
            end.complete(result);
            None
        });
        admission.queue(2, None, queued).unwrap();
        let permit = turn.wait(None).unwrap().unwrap();
        drop(leader.lead(|| Ok(shared.make())));
        drop(permit);
        other.join().unwrap();
        assert_eq!(admission.load(), (0, 0));
    });
}
