//! Loom models of the resolver, with the registry but without an engine: no model is built.

use loom::thread;

use super::*;
use crate::model_support::{explore, explore_bounded};
use crate::nn::{Encoding, EngineLimits, ModelError, ModelSource, Target};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A registry and a resolver, which has every name but `none`.
struct Names {
    registry: Registry,
    resolver: Resolver,
    usage: StdArc<Usage>,
    calls: Arc<AtomicUsize>,
}

impl Names {
    fn new(bound: usize) -> Arc<Self> {
        let usage = Usage::of_engine(&EngineLimits::default().with_max_resolved_names(bound));
        let calls = Arc::new(AtomicUsize::new(0));
        let its = Arc::clone(&calls);
        let resolve = move |name: &str| {
            its.fetch_add(1, Ordering::Relaxed);
            Ok((name != "none").then(|| ResolvedModel::new(source(), Encoding::Onnx, Target::Cpu)))
        };
        let resolver = Resolver::new(Box::new(resolve), StdArc::clone(&usage), StdArc::default());
        Arc::new(Self { registry: Registry::default(), resolver, usage, calls })
    }

    /// As a guest's load.
    fn find(&self, name: &str) -> Result<Answer, Error> {
        match self.registry.find(name) {
            Some(model) => Ok(Some(model)),
            None => self.resolver.find(name, &self.registry),
        }
    }

    fn get(&self, name: &str) -> Arc<NamedModel> {
        self.find(name).unwrap().unwrap()
    }

    /// As the host's registration.
    fn register(&self, name: &str) -> Result<(), ModelError> {
        self.registry.register(&Arc::new(NamedModel::new(name, source(), Encoding::Onnx, Target::Cpu)))
    }

    /// As the host's removal.
    fn remove(&self, name: &str) -> Result<(), ModelError> {
        self.registry.remove(name).map(|model| self.resolver.removed(&model))
    }

    /// V1, V4 between calls: no call is in progress, and the kept models are those in the registry.
    fn check(&self) {
        assert_eq!(self.resolver.calls.len(), 0);
        let resolved = self.registry.all().iter().filter(|model| model.resolved().is_some()).count();
        assert_eq!(self.resolver.kept(), resolved);
    }
}

fn source() -> ModelSource {
    ModelSource::bytes(vec![1])
}

/// V1, V2: both get one model, which was asked for once.
#[test]
fn two_loads_of_an_unknown_name_with_5_preemptions() {
    explore_bounded("two loads of an unknown name", 5, || {
        let names = Names::new(2);
        let other = thread::spawn({
            let names = Arc::clone(&names);
            move || names.get("name")
        });
        let mine = names.get("name");
        assert!(Arc::ptr_eq(&mine, &other.join().unwrap()));
        assert_eq!(names.calls.load(Ordering::Relaxed), 1);
        names.check();
    });
}

/// V1: a name that the resolver does not have leaves nothing.
#[test]
fn two_loads_of_a_name_without_a_model_with_5_preemptions() {
    explore_bounded("two loads of a name without a model", 5, || {
        let names = Names::new(2);
        let other = thread::spawn({
            let names = Arc::clone(&names);
            move || names.find("none").unwrap().is_none()
        });
        assert!(names.find("none").unwrap().is_none());
        assert!(other.join().unwrap());
        assert!((1..=2).contains(&names.calls.load(Ordering::Relaxed)));
        names.check();
    });
}

/// V2: the load gets the model that has the name, be it the host's or the resolver's.
#[test]
fn a_load_of_an_unknown_name_against_its_registration() {
    explore("a load of an unknown name against its registration", || {
        let names = Names::new(2);
        let other = thread::spawn({
            let names = Arc::clone(&names);
            move || names.register("name").is_ok()
        });
        let model = names.get("name");
        let is_the_host_s = other.join().unwrap();
        assert_eq!(model.resolved().is_none(), is_the_host_s);
        assert!(Arc::ptr_eq(&model, &names.registry.find("name").unwrap()));
        names.check();
        drop(model);
        // The place of an answer that was discarded is free.
        assert_eq!(names.usage.resolved_names.left(), if is_the_host_s { 2 } else { 1 });
    });
}

/// V4: a name that is removed meanwhile is not kept in memory.
#[test]
fn a_load_of_an_unknown_name_against_its_removal() {
    explore("a load of an unknown name against its removal", || {
        let names = Names::new(2);
        let other = thread::spawn({
            let names = Arc::clone(&names);
            move || names.remove("name").is_ok()
        });
        drop(names.get("name"));
        let removed = other.join().unwrap();
        assert_eq!(names.registry.find("name").is_none(), removed);
        names.check();
        assert_eq!(names.usage.resolved_names.left(), if removed { 2 } else { 1 });
    });
}

/// V3, V4: a load that needs the place of another name, while that one is loaded. A load fails only if the other one
/// holds the place.
#[test]
fn a_load_that_evicts_against_a_load_of_that_name_with_3_preemptions() {
    explore_bounded("a load that evicts against a load of that name", 3, || {
        let names = Names::new(1);
        drop(names.get("old"));
        let other = thread::spawn({
            let names = Arc::clone(&names);
            move || names.find("old").ok()
        });
        let mine = names.find("new").ok();
        let other = other.join().unwrap();
        assert!(mine.is_some() || other.is_some());
        assert_eq!(names.usage.resolved_names.left(), 0);
        names.check();
        drop((mine, other));
        drop(names.get("third"));
        assert_eq!(names.registry.len(), 1);
        names.check();
    });
}

/// V3: a model that a guest holds keeps its name, and its place.
#[test]
fn a_model_that_a_guest_holds_is_not_evicted() {
    explore("a model that a guest holds is not evicted", || {
        let names = Names::new(2);
        let held = names.get("held");
        drop(names.get("one"));
        let two = names.get("two");
        assert!(names.registry.find("held").is_some() && names.registry.find("one").is_none());
        assert_eq!(names.find("three").err().map(|error| error.kind()), Some(ErrorKind::Busy));
        assert_eq!(names.registry.len(), 2);
        names.check();
        drop((held, two));
    });
}

/// V3: so does one that a context or a configured graph uses, whose handle is gone.
#[test]
fn a_model_that_a_context_uses_is_not_evicted() {
    explore("a model that a context uses is not evicted", || {
        let names = Names::new(1);
        let used = names.get("used").resolved().cloned();
        assert_eq!(names.find("other").err().map(|error| error.kind()), Some(ErrorKind::Busy));
        assert!(names.registry.find("used").is_some());
        drop(used);
        drop(names.get("other"));
        assert!(names.registry.find("used").is_none());
        names.check();
    });
}

/// V4: an eviction while the host takes the name for a model of its own, which stays.
#[test]
fn a_load_that_evicts_against_the_host_taking_that_name_with_4_preemptions() {
    explore_bounded("a load that evicts against the host taking that name", 4, || {
        let names = Names::new(1);
        drop(names.get("old"));
        let other = thread::spawn({
            let names = Arc::clone(&names);
            move || {
                // Two threads of the host in one: the second registers the name in the middle of the removal.
                let removed = names.registry.remove("old");
                names.register("old").unwrap();
                removed.iter().for_each(|model| names.resolver.removed(model));
            }
        });
        // Fails if the model is in the hands of the removal: then its place is not free yet.
        let found = names.find("new").is_ok();
        other.join().unwrap();
        assert!(names.registry.find("old").is_some_and(|model| model.resolved().is_none()));
        assert_eq!(names.registry.find("new").is_some(), found);
        names.check();
    });
}
