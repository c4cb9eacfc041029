//! What the engine tells of itself.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use graphpool::nn::{Encoding, Error, GuestPolicy, ModelSource, Placement, ResolvedModel, TRACING_TARGET, Target};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

use crate::admission::block_on;
use crate::backends::{Model, Watch, is_alone};

/// Writes down each span and event as `LEVEL name field=value …`.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TRACING_TARGET
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(format!("<{}>", span.metadata().name()));
        span.record(&mut line);
        let mut notes = self.0.lock().unwrap();
        notes.push(format!("{} {}", span.metadata().level(), line.0));
        Id::from_u64(notes.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn loads_builds_computes_reloads_and_refusals_are_told_with_guest_and_graph() {
    // Where other threads come by an event for the first time just now, a subscriber may not be asked about it.
    if !is_alone("observe::loads_builds_computes_reloads_and_refusals_are_told_with_guest_and_graph") {
        return;
    }
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        let engine = Watch::default().engine();
        let source = |a| ModelSource::bytes(Model { a, ..Model::default() }.bytes());
        engine.register_model("m", source(1.0), Encoding::Onnx, Target::Cpu).unwrap();
        let guest = engine.guest_builder().with_label("tenant").build();
        assert_eq!(guest.label(), Some("tenant"));
        let graph = guest.load_by_name("m").unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        guest.compute(context).unwrap_err();
        guest
            .set_input(context, 7, graphpool::nn::TensorView::new(&[0], graphpool::nn::TensorType::U8, &[]).unwrap())
            .unwrap_err();
        guest.inputs(graphpool::GuestHandle::from_bits(0xabcd)).unwrap_err();
        let _ = guest.refuse("load", graphpool::nn::Error::too_large("9 parts; the limit is 8"));
        let on_device = Model { a: 2.0, memory: 101, ..Model::default() };
        engine.replace_model("m", ModelSource::bytes(on_device.bytes())).unwrap();
        let mut placements: Vec<_> =
            engine.list_graphs().into_iter().map(|graph| (graph.bytes, graph.placement)).collect();
        placements.sort_by_key(|(bytes, _)| *bytes);
        assert_eq!(placements, [(100, None), (101, Some(Placement::new(5, 2, 3)))]);
        engine.replace_model("m", ModelSource::bytes(b"junk".as_slice())).unwrap_err();
        assert_eq!((engine.stats().reloads, engine.list_graphs().len()), (1, 2));
    });
    let notes = notes.0.lock().unwrap();
    let number = |line: &str, field: &str| {
        let (_, rest) = line.split_once(&format!(" {field}=")).unwrap();
        rest.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let (guest, graph) = (number(&notes[3], "guest"), number(&notes[3], "graph"));
    let of_guest = format!("guest={guest} label=\"tenant\"");
    let refused = |call, why| format!("DEBUG refused {of_guest} call=\"{call}\" error=invalid argument: {call}: {why}");
    let expected = [
        format!("DEBUG <load> {of_guest} name=\"m\""),
        "INFO <build> encoding=Onnx target=Cpu bytes=20".to_owned(),
        format!("INFO built graph={graph} backend=\"affine\" bytes=100"),
        format!("DEBUG loaded {of_guest} graph={graph}"),
        format!("TRACE <compute> {of_guest} graph={graph}"),
        format!("TRACE computed {of_guest} graph={graph} ok=false"),
        format!("DEBUG refused {of_guest} graph={graph} call=\"compute\" error=invalid argument: compute: no input"),
        refused("set_input", "there is no input 7; the graph has 1"),
        refused("inputs", "the guest has no graph or context 0x0000abcd"),
        format!("DEBUG refused {of_guest} call=\"load\" error=too large: load: 9 parts; the limit is 8"),
        "INFO <build> encoding=Onnx target=Cpu bytes=20".to_owned(),
        format!(
            "INFO built graph={} backend=\"affine\" bytes=101 device_steps=5 host_steps=2 transfers=3",
            number(&notes[11], "graph")
        ),
        format!("INFO reloaded name=\"m\" version=2 graph={}", number(&notes[11], "graph")),
        "INFO <build> encoding=Onnx target=Cpu bytes=4".to_owned(),
        "WARN reload failed name=\"m\" error=the model cannot be built: invalid encoding: not affine".to_owned(),
    ];
    assert_eq!(*notes, expected);
}

/// Writes down each span and event as `name < parent`.
#[derive(Clone, Default)]
struct Tree {
    noted: Arc<Mutex<(Vec<&'static Metadata<'static>>, Vec<String>)>>,
    /// Panics at the event `computed`.
    faulty: bool,
}

thread_local! {
    /// The spans that the thread is in.
    static INSIDE: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

impl Tree {
    fn name(&self, id: &Id) -> &'static str {
        self.noted.lock().unwrap().0[id.into_u64() as usize - 1].name()
    }

    fn note(&self, name: &str) {
        let parent = INSIDE.with_borrow(|inside| inside.last().map(|id| self.name(id)));
        self.noted.lock().unwrap().1.push(format!("{name} < {}", parent.unwrap_or("nothing")));
    }

    /// What was noted since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.noted.lock().unwrap().1)
    }
}

impl Subscriber for Tree {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        assert!(span.is_contextual());
        self.note(span.metadata().name());
        let mut state = self.noted.lock().unwrap();
        state.0.push(span.metadata());
        Id::from_u64(state.0.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let name = line.0.split(' ').next().unwrap();
        assert!(!self.faulty || name != "computed", "as it was told");
        self.note(name);
    }

    fn enter(&self, id: &Id) {
        INSIDE.with_borrow_mut(|inside| inside.push(id.clone()));
    }

    fn exit(&self, id: &Id) {
        assert_eq!(INSIDE.with_borrow_mut(Vec::pop).as_ref(), Some(id));
    }

    fn current_span(&self) -> Current {
        match INSIDE.with_borrow(|inside| inside.last().cloned()) {
            Some(id) => {
                let metadata = self.noted.lock().unwrap().0[id.into_u64() as usize - 1];
                Current::new(id, metadata)
            }
            None => Current::none(),
        }
    }
}

#[test]
fn asynchronous_calls_keep_the_caller_s_span_and_subscriber() {
    if !is_alone("observe::asynchronous_calls_keep_the_caller_s_span_and_subscriber") {
        return;
    }
    let tree = Tree::default();
    tracing::subscriber::with_default(tree.clone(), || {
        let engine = Watch::default().builder().with_inline_computes(std::time::Duration::from_hours(1)).build();
        let source = ModelSource::bytes(Model::default().bytes());
        engine.register_model("m", source, Encoding::Onnx, Target::Cpu).unwrap();
        let guest = engine.guest();
        let host = tracing::info_span!("host");
        tree.take();
        // Polled outside of the span.
        let load = host.in_scope(|| guest.load_by_name_async("m"));
        let graph = block_on(load).unwrap();
        assert_eq!(tree.take(), ["load < host", "build < load", "built < build", "loaded < load"]);
        let again = host.in_scope(|| guest.load_by_name_async("m"));
        block_on(again).unwrap();
        assert_eq!(tree.take(), ["load < host", "loaded < load"]);
        let missing = host.in_scope(|| guest.load_by_name_async("none"));
        block_on(missing).unwrap_err();
        assert_eq!(tree.take(), ["load < host", "refused < load"]);

        let context = guest.init_execution_context(graph).unwrap();
        let refused = host.in_scope(|| guest.compute_async(context));
        block_on(refused).unwrap_err();
        assert_eq!(tree.take(), ["compute < host", "computed < host", "refused < host"]);
        let input = graphpool::nn::Tensor::from_f32([2], &[1.0, 2.0]).unwrap();
        guest.set_input(context, 0, &input).unwrap();
        // The later ones run where they are polled.
        for _ in 0..10 {
            let compute = host.in_scope(|| guest.compute_async(context));
            block_on(compute).unwrap();
            assert_eq!(tree.take(), ["compute < host", "computed < host"]);
        }
        let dropped = host.in_scope(|| guest.compute_async(context));
        drop(dropped);
        assert_eq!(tree.take(), ["refused < host"]);
    });
}

#[test]
fn changes_of_the_backends_are_told() {
    if !is_alone("observe::changes_of_the_backends_are_told") {
        return;
    }
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        let engine = Watch::default().engine();
        let scripted = || crate::scripted::Scripted::new(|_| Ok(()));
        engine.register_backend(scripted()).unwrap();
        engine.replace_backend(scripted()).unwrap();
        engine.remove_backend("scripted").unwrap();
    });
    let told = ["registered", "replaced", "removed"].map(|what| format!("INFO backend {what} backend=\"scripted\""));
    assert_eq!(*notes.0.lock().unwrap(), told);
}

#[test]
fn a_compute_that_a_panic_of_the_subscriber_cuts_off_completes() {
    if !is_alone("observe::a_compute_that_a_panic_of_the_subscriber_cuts_off_completes") {
        return;
    }
    let engine = Watch::default().engine();
    let guest = engine.guest();
    let graph = guest.load(&[&Model::default().bytes()], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let input = graphpool::nn::Tensor::from_f32([2], &[1.0, 2.0]).unwrap();
    guest.set_input(context, 0, &input).unwrap();
    let tree = Tree { faulty: true, ..Tree::default() };
    let compute = tracing::subscriber::with_default(tree, || {
        let host = tracing::info_span!("host");
        host.in_scope(|| guest.compute_async(context))
    });
    let error = block_on(compute).unwrap_err();
    assert_eq!(error.message(), "compute: cut off by a panic outside of the backend");
    // Nothing is lost.
    block_on(guest.compute_async(context)).unwrap();
    assert_eq!(engine.stats().computing, 0);
}

#[test]
fn calls_of_the_resolver_are_told_with_the_engine_s_name() {
    if !is_alone("observe::calls_of_the_resolver_are_told_with_the_engine_s_name") {
        return;
    }
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        let resolver = |name: &str| match name {
            "there" => {
                let source = ModelSource::bytes(Model::default().bytes());
                Ok(Some(ResolvedModel::new(source, Encoding::Onnx, Target::Cpu)))
            }
            "gone" => Ok(None),
            _ => Err(Error::busy("the store is away")),
        };
        let engine = Watch::default().builder().with_resolver(resolver).build();
        let policy = GuestPolicy::new().with_name("mine", "there");
        let guest = engine.guest_builder().with_policy(&policy).build();
        guest.load_by_name("mine").unwrap();
        for name in ["gone", "away", &"x".repeat(250)] {
            guest.load_by_name(name).unwrap_err();
        }
    });
    let notes = notes.0.lock().unwrap();
    let told: Vec<_> = notes.iter().filter(|line| line.contains("resolve")).collect();
    let long = format!("\"{}\"…", "x".repeat(64));
    let expected = [
        "DEBUG <resolve> name=\"there\"".to_owned(),
        "DEBUG resolved name=\"there\" found=true".to_owned(),
        "DEBUG <resolve> name=\"gone\"".to_owned(),
        "DEBUG resolved name=\"gone\" found=false".to_owned(),
        "DEBUG <resolve> name=\"away\"".to_owned(),
        "DEBUG resolved name=\"away\" found=false error=busy: the store is away".to_owned(),
        format!("DEBUG <resolve> name={long}"),
        format!("DEBUG resolved name={long} found=false error=busy: the store is away"),
    ];
    assert_eq!(told.iter().map(|line| line.as_str()).collect::<Vec<_>>(), expected);
}
