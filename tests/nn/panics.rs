//! Backends that panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use graphpool::backend::{Backend, BackendGraph, LoadRequest};
use graphpool::nn::{Encoding, Engine, Error, ErrorKind, Guest, Target, TensorType, TensorView};

use crate::backends::{Watch, eventually};

/// One of everything in the order of a guest's use, up to the first error.
fn run(guest: &Guest, model: &str) -> Result<(), Error> {
    let graph = guest.load(&[model.as_bytes()], Encoding::PyTorch, Target::Cpu)?;
    let context = guest.init_execution_context(graph)?;
    guest.set_input(context, 0, TensorView::new(&[], TensorType::U8, &[1])?)?;
    guest.compute(context)?;
    guest.output(context, 0)?;
    guest.drop_context(context)?;
    guest.unload(graph)
}

#[test]
fn a_panic_anywhere_ends_that_call_and_leaks_nothing() {
    for (model, call) in [
        ("load", "load"),
        ("describe", "load"),
        ("outputs", "load"),
        ("graph memory", "load"),
        ("init", "init_execution_context"),
        ("context memory", "init_execution_context"),
        ("set_input", "set_input"),
        ("compute", "compute"),
        ("memory after compute", "compute"),
        ("output", "output"),
    ] {
        let watch = Watch::default();
        let engine = watch.engine();
        let guest = engine.guest();
        let error = run(&guest, model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RuntimeError);
        assert_eq!(error.message(), format!("{call}: the backend panicked: {model}"));
        assert_eq!(engine.stats().panics, 1);
        // The guest, and the engine, go on.
        run(&guest, "anything").unwrap();
        drop(guest);
        watch.all_gone();
    }
}

#[test]
fn a_panic_while_backends_are_asked_for_their_encodings_is_caught() {
    let guest = Watch::default().engine().guest();
    let error = guest.load(&[b""], Encoding::PyTorch, Target::Tpu).unwrap_err();
    assert_eq!(error.message(), "load: the backend panicked: supports");
}

/// Panics when it is asked for its name, and when it is dropped.
struct Nameless(Arc<AtomicUsize>);

impl Backend for Nameless {
    fn name(&self) -> &str {
        panic!("name")
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        unreachable!("nothing is loaded that could not be named")
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("drop backend");
    }
}

#[test]
fn a_backend_that_panics_at_its_name_and_at_its_end_is_no_more_than_an_error() {
    let drops = Arc::<AtomicUsize>::default();
    let engine = Engine::builder(Nameless(Arc::clone(&drops))).build();
    let guest = engine.guest();
    drop(engine);
    let error = guest.load(&[b"any"], Encoding::Onnx, Target::Cpu).unwrap_err();
    assert_eq!(error.message(), "load: the backend panicked: name");
    // The last to have the engine meets no panic.
    drop(guest);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn a_destructor_that_panics_is_caught_and_counted() {
    for model in ["drop graph", "drop context"] {
        let watch = Watch::default();
        let engine = watch.engine();
        run(&engine.guest(), model).unwrap();
        eventually(|| engine.stats().panics == 1);
        // On whichever thread it was: that one goes on too.
        run(&engine.guest(), "anything").unwrap();
        run(&engine.guest(), model).unwrap();
        eventually(|| engine.stats().panics == 2);
        watch.all_gone();
        eventually(|| engine.stats().graphs + engine.stats().contexts == 0);
    }
}

#[test]
fn a_context_whose_backend_panicked_is_lost_and_others_are_not() {
    for model in ["set_input", "compute", "output"] {
        let watch = Watch::default();
        let engine = watch.engine();
        let guest = engine.guest();
        let graph = guest.load(&[model.as_bytes()], Encoding::PyTorch, Target::Cpu).unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        let byte = TensorView::new(&[], TensorType::U8, &[1]).unwrap();
        let calls =
            |context| [guest.set_input(context, 0, byte), guest.compute(context), guest.output(context, 0).map(drop)];
        assert_eq!(
            calls(context).iter().filter(|result| result.is_err()).count(),
            match model {
                "set_input" => 3,
                "compute" => 2,
                _ => 1,
            }
        );
        for result in calls(context) {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RuntimeError);
            let why = format!("{model}: the backend panicked: {model}");
            let lost = format!(": the context {:#010x} is poisoned by an earlier call: {why}", context.to_bits());
            assert!(error.message().ends_with(&lost), "{error}");
        }
        // It never reached the backend again; the graph is as good as it was; and the handle is there to be dropped.
        assert_eq!((engine.stats().panics, watch.alive()), (1, 1));
        guest.init_execution_context(graph).unwrap();
        guest.drop_context(context).unwrap();
        assert_eq!(guest.compute(context).unwrap_err().kind(), ErrorKind::InvalidArgument);
        drop(guest);
        watch.all_gone();
        eventually(|| engine.stats().contexts == 0);
    }
}
