//! Every limit, at its bound and one past it.

use std::time::Duration;

use graphpool::GuestHandle;
use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{
    Encoding, EngineLimits, Error, ErrorKind, Guest, Limits, ModelSource, Target, Tensor, TensorDescription,
    TensorType, TensorView,
};

use crate::backends::{Model, Watch, eventually};
use crate::scripted::Scripted;

fn load(guest: &Guest, memory: u32) -> Result<GuestHandle, Error> {
    guest.load(&[&Model { memory, ..Model::default() }.bytes()], Encoding::Onnx, Target::Cpu)
}

/// A context of the backend that does as its model says.
fn trouble(guest: &Guest, model: &str) -> Result<GuestHandle, Error> {
    let graph = guest.load(&[model.as_bytes()], Encoding::PyTorch, Target::Cpu)?;
    guest.init_execution_context(graph)
}

fn bytes_of(length: u32) -> Tensor {
    Tensor::new(vec![length], TensorType::U8, vec![0; length as usize]).unwrap()
}

fn vector(length: u32) -> Tensor {
    Tensor::from_f32(vec![length], &vec![0.0; length as usize]).unwrap()
}

#[test]
fn graphs_are_counted_by_handle_and_one_that_is_given_back_makes_room_at_once() {
    let engine = Watch::default().engine();
    engine.register_model("m", ModelSource::bytes(Model::default().bytes()), Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest_with(Limits::default().with_max_graphs(2));
    let first = load(&guest, 0).unwrap();
    guest.load_by_name("m").unwrap();
    for error in [load(&guest, 0).unwrap_err(), guest.load_by_name("m").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.message().contains("graph limit exceeded: 2 of 2 graphs in use, 1 more requested"), "{error}");
    }
    // Another guest has limits of its own.
    load(&engine.guest_with(Limits::default().with_max_graphs(1)), 0).unwrap();
    let mut last = first;
    for _ in 0..1_000 {
        guest.unload(last).unwrap();
        last = load(&guest, 0).unwrap();
    }
    assert!(load(&guest, 0).is_err());
}

#[test]
fn contexts_are_counted_and_one_that_is_given_back_makes_room_at_once() {
    let guest = Watch::default().engine().guest_with(Limits::default().with_max_contexts(2));
    let graph = load(&guest, 0).unwrap();
    let mut last = guest.init_execution_context(graph).unwrap();
    guest.init_execution_context(graph).unwrap();
    for _ in 0..1_000 {
        assert_eq!(guest.init_execution_context(graph).unwrap_err().kind(), ErrorKind::TooLarge);
        guest.drop_context(last).unwrap();
        last = guest.init_execution_context(graph).unwrap();
    }
}

#[test]
fn model_bytes_are_those_that_the_backend_counts() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest_with(Limits::default().with_max_graph_bytes(1_000));
    // What this load has reserved for its own bytes is not in use.
    let error = load(&guest, 1_001).unwrap_err();
    assert_eq!(error.message(), "load: graph bytes limit exceeded: 0 of 1000 bytes in use, 1001 more requested");
    let first = load(&guest, 600).unwrap();
    assert_eq!(watch.memory_limit(), 1_000);
    let error = load(&guest, 401).unwrap_err();
    assert_eq!((error.kind(), watch.memory_limit()), (ErrorKind::TooLarge, 400));
    assert_eq!(error.message(), "load: graph bytes limit exceeded: 600 of 1000 bytes in use, 401 more requested");
    load(&guest, 400).unwrap();
    // Not even the model's own 20 bytes have room, so that no backend is asked.
    let loads = watch.loads();
    assert_eq!(load(&guest, 0).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(watch.loads(), loads);
    guest.unload(first).unwrap();
    load(&guest, 600).unwrap();
}

#[test]
fn a_model_counts_until_its_last_context_is_gone() {
    let guest = Watch::default().engine().guest_with(Limits::default().with_max_graph_bytes(1_000));
    let graph = load(&guest, 1_000).unwrap();
    let contexts = [(); 2].map(|()| guest.init_execution_context(graph).unwrap());
    guest.unload(graph).unwrap();
    for context in contexts {
        assert_eq!(load(&guest, 20).unwrap_err().kind(), ErrorKind::TooLarge);
        guest.drop_context(context).unwrap();
    }
    load(&guest, 1_000).unwrap();
}

#[test]
fn a_named_model_counts_for_no_guest() {
    let engine = Watch::default().engine();
    let model = Model { memory: 1 << 20, ..Model::default() };
    engine.register_model("big", ModelSource::bytes(model.bytes()), Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest_with(Limits::default().with_max_graph_bytes(20));
    guest.load_by_name("big").unwrap();
    load(&guest, 20).unwrap();
}

#[test]
fn a_load_that_fails_leaves_the_counts_as_they_were() {
    let guest = Watch::default().engine().guest_with(Limits::default().with_max_graphs(1).with_max_graph_bytes(20));
    for _ in 0..10 {
        guest.load(&[b"junk"], Encoding::Onnx, Target::Cpu).unwrap_err();
        guest.load(&[b"load"], Encoding::PyTorch, Target::Cpu).unwrap_err();
        guest.load(&[b"describe"], Encoding::PyTorch, Target::Cpu).unwrap_err();
        guest.load_by_name("nothing").unwrap_err();
        load(&guest, 21).unwrap_err();
    }
    load(&guest, 20).unwrap();
}

#[test]
fn a_context_that_fails_to_open_leaves_the_counts_as_they_were() {
    let guest = Watch::default().engine().guest_with(Limits::default().with_max_contexts(1));
    let bad = guest.load(&[b"init"], Encoding::PyTorch, Target::Cpu).unwrap();
    for _ in 0..10 {
        assert_eq!(guest.init_execution_context(bad).unwrap_err().kind(), ErrorKind::RuntimeError);
    }
    guest.init_execution_context(load(&guest, 0).unwrap()).unwrap();
}

#[test]
fn tensors_are_bounded_in_bytes_and_rank() {
    let engine = Watch::default().engine();
    let guest = engine.guest_with(Limits::default().with_max_tensor_bytes(8).with_max_tensor_rank(2));
    let any = trouble(&guest, "any").unwrap();
    for (bytes, answer) in [(8, Ok(())), (9, Err("set_input: input 0 has 9 bytes; the limit is 8".to_owned()))] {
        let result = guest.set_input(any, 0, bytes_of(bytes).view());
        assert_eq!(result.map_err(|error| error.message().to_owned()), answer);
    }
    assert_eq!(engine.stats().limited, 1);
    for (rank, good) in [(2, true), (3, false), (100_000, false)] {
        let dimensions = vec![1; rank];
        let tensor = TensorView::new(&dimensions, TensorType::U8, &[0]).unwrap();
        assert_eq!(guest.set_input(any, 0, tensor).map_err(|error| error.kind()).is_ok(), good, "{rank}");
    }
}

#[test]
fn the_memory_of_a_compute_is_bounded_by_the_backend() {
    for (bound, good) in [(8, true), (7, false)] {
        let guest = Watch::default().engine().guest_with(Limits::default().with_max_compute_bytes(bound));
        let context = guest.init_execution_context(load(&guest, 0).unwrap()).unwrap();
        guest.set_input(context, 0, vector(2).view()).unwrap();
        assert_eq!(guest.compute(context).is_ok(), good);
    }
}

#[test]
fn names_are_bounded_in_bytes() {
    let engine = Watch::default().engine();
    let source = || ModelSource::bytes(Model::default().bytes());
    let name = "n".repeat(256);
    engine.register_model(&name, source(), Encoding::Onnx, Target::Cpu).unwrap();
    engine.guest().load_by_name(&name).unwrap();
    let name = name + "n";
    let error = engine.register_model(&name, source(), Encoding::Onnx, Target::Cpu).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let error = engine.guest().load_by_name(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains("257 bytes; the limit is 256"), "{error}");
}

#[test]
fn the_inputs_of_all_contexts_are_bounded_together() {
    let engine = Watch::default().engine();
    let guest = engine.guest_with(Limits::default().with_max_context_bytes(16));
    let graph = load(&guest, 0).unwrap();
    let [one, two, three] = [(); 3].map(|()| guest.init_execution_context(graph).unwrap());
    guest.set_input(one, 0, vector(2).view()).unwrap();
    guest.set_input(two, 0, vector(2).view()).unwrap();
    let error = guest.set_input(three, 0, vector(2).view()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.message(), "set_input: context bytes limit exceeded: 16 of 16 bytes in use, 8 more requested");
    // The same input again takes no more; one that was given back makes room.
    guest.set_input(one, 0, vector(2).view()).unwrap();
    assert_eq!(engine.stats().context_bytes, 16);
    guest.drop_context(two).unwrap();
    assert_eq!(engine.stats().context_bytes, 8);
    guest.set_input(three, 0, vector(2).view()).unwrap();
    drop(guest);
    assert_eq!(engine.stats().context_bytes, 0);
}

#[test]
fn an_input_that_the_backend_refuses_is_not_counted() {
    let guest = Watch::default().engine().guest_with(Limits::default().with_max_context_bytes(1));
    let context = trouble(&guest, "refuses").unwrap();
    for _ in 0..3 {
        let refused = guest.set_input(context, 0, bytes_of(1).view()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
    guest.set_input(trouble(&guest, "any").unwrap(), 0, bytes_of(1).view()).unwrap();
}

/// What a backend says of a context's memory, from its opening on.
#[test]
fn contexts_are_bounded_in_what_they_hold_and_not_by_their_inputs_alone() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest_with(Limits::default().with_max_context_bytes(10));
    let full = trouble(&guest, "holds 6 then 10").unwrap();
    assert_eq!(engine.stats().context_bytes, 6);
    let error = trouble(&guest, "holds 5").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        error.message(),
        "init_execution_context: context bytes limit exceeded: 6 of 10 bytes in use, 5 more requested"
    );
    // Nothing is left of the one that was refused.
    assert_eq!((engine.stats().context_bytes, engine.stats().contexts), (6, 1));
    guest.compute(full).unwrap();
    assert_eq!(engine.stats().context_bytes, 10);
    guest.compute(full).unwrap();
    guest.drop_context(full).unwrap();

    // One more than the bound costs the context, whose memory goes at once.
    let swelling = trouble(&guest, "holds 6 then 11").unwrap();
    let error = guest.compute(swelling).unwrap_err();
    assert_eq!(error.message(), "compute: context bytes limit exceeded: 6 of 10 bytes in use, 5 more requested");
    assert_eq!((engine.stats().context_bytes, engine.stats().contexts), (0, 0));
    let poisoned = guest.compute(swelling).unwrap_err();
    assert_eq!(poisoned.kind(), ErrorKind::RuntimeError);
    assert!(
        poisoned.message().ends_with(&format!("is poisoned by an earlier call: {}", error.message())),
        "{poisoned}"
    );
    guest.drop_context(swelling).unwrap();
    trouble(&guest, "holds 10").unwrap();
}

#[test]
fn what_the_contexts_of_all_guests_hold_is_bounded_together() {
    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().with_max_context_bytes(10));
    let [one, two] = [engine.guest(), engine.guest()];
    let first = trouble(&one, "holds 6").unwrap();
    let second = trouble(&two, "any").unwrap();
    two.set_input(second, 0, bytes_of(4).view()).unwrap();
    let error = two.set_input(second, 0, bytes_of(5).view()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(
        error.message(),
        "set_input: engine context bytes limit exceeded: 10 of 10 bytes in use, 1 more requested"
    );
    // More than the bound by itself, whatever others have.
    assert_eq!(two.set_input(second, 0, bytes_of(11).view()).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(engine.stats().context_bytes, 10);
    one.drop_context(first).unwrap();
    two.set_input(second, 0, bytes_of(10).view()).unwrap();
    assert_eq!(engine.stats().context_bytes, 10);
}

/// Guests that load and unload faster than models die: memory has its bound, and a destructor that does not end holds
/// up a load that needs its room, for a moment, and no other caller.
#[test]
fn models_that_wait_for_their_end_count_for_the_engine_and_hold_up_no_caller() {
    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().with_max_graphs(3));
    let guest = engine.guest();
    let load = |bytes: &[u8]| guest.load(&[bytes], Encoding::PyTorch, Target::Cpu);
    guest.unload(load(b"gate drop").unwrap()).unwrap();
    watch.wait_for(1);
    for model in [b"one", b"two"] {
        // The destructor of the first is not done, and this returns.
        guest.unload(load(model).unwrap()).unwrap();
    }
    assert_eq!(engine.stats().graph_handles, 0);
    assert_eq!(load(b"three").unwrap_err().kind(), ErrorKind::Busy);
    watch.open();
    eventually(|| engine.stats().graphs == 0);
    load(b"three").unwrap();
}

#[test]
fn a_compute_that_has_no_time_is_late_and_one_that_has_all_is_not() {
    for (time, good) in [(Duration::ZERO, false), (Duration::MAX, true)] {
        let guest = Watch::default().engine().guest_with(Limits::default().with_max_compute_time(time));
        let computed = guest.compute(trouble(&guest, "any").unwrap()).map_err(|error| error.kind());
        assert_eq!(computed, if good { Ok(()) } else { Err(ErrorKind::Timeout) });
    }
}

#[test]
fn as_many_computes_run_as_the_machine_has_processors_unless_the_host_says_otherwise() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    assert_eq!(EngineLimits::default().max_computing(), processors);
    // None at all would be an engine that does nothing.
    let guest = Watch::default().engine_within(EngineLimits::default().with_max_computing(0)).guest();
    guest.compute(trouble(&guest, "any").unwrap()).unwrap();
}

/// All guests together: who could have it if others had less is told to come again, and no one else is.
#[test]
fn an_engine_has_no_more_graphs_contexts_and_bytes_than_its_limits_say() {
    let model = |a: f32, memory| Model { a, memory, ..Model::default() }.bytes();
    let watch = Watch::default();
    let engine = watch
        .engine_within(EngineLimits::default().with_max_graphs(2).with_max_contexts(1).with_max_graph_bytes(1_000));
    let (one, two) = (engine.guest(), engine.guest());
    let load = |guest: &Guest, a, memory| guest.load(&[&model(a, memory)], Encoding::Onnx, Target::Cpu);
    let first = load(&one, 1.0, 600).unwrap();
    let error = load(&two, 2.0, 401).unwrap_err();
    assert_eq!((error.kind(), watch.memory_limit()), (ErrorKind::Busy, 400));
    let told = "load: engine graph bytes limit exceeded: 600 of 1000 bytes in use, 401 more requested";
    assert_eq!(error.message(), told);
    // What was built for nothing counts until it is gone.
    eventually(|| engine.stats().graphs == 1);
    assert_eq!(load(&two, 2.0, 1_001).unwrap_err().kind(), ErrorKind::TooLarge);
    eventually(|| engine.stats().graphs == 1);
    let second = load(&two, 2.0, 400).unwrap();
    let error = load(&two, 3.0, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(error.message(), "load: engine graph limit exceeded: 2 of 2 graphs in use, 1 more requested");
    // One that is there is no more of them.
    load(&two, 1.0, 600).unwrap();
    let context = one.init_execution_context(first).unwrap();
    let error = two.init_execution_context(second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(
        error.message().ends_with("engine context limit exceeded: 1 of 1 contexts in use, 1 more requested"),
        "{error}"
    );
    one.drop_context(context).unwrap();
    two.init_execution_context(second).unwrap();
    drop((one, two));
    eventually(|| engine.stats().graphs == 0);
    load(&engine.guest(), 3.0, 1_000).unwrap();
}

#[test]
fn no_guest_has_more_than_the_ceiling_whatever_limits_it_is_given() {
    let ceiling = Limits::unlimited().with_max_graphs(1).with_max_tensor_bytes(8);
    let engine = Watch::default().builder().with_ceiling(ceiling).build();
    assert_eq!(engine.limits(), &Limits::default().with_max_graphs(1).with_max_tensor_bytes(8));
    for guest in [engine.guest(), engine.guest_with(Limits::unlimited())] {
        let context = guest.init_execution_context(load(&guest, 0).unwrap()).unwrap();
        assert_eq!(load(&guest, 0).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(guest.set_input(context, 0, vector(3).view()).unwrap_err().kind(), ErrorKind::TooLarge);
    }
    assert_eq!(engine.guest_with(Limits::default().with_max_graphs(0)).limits().max_graphs(), 0);
}

/// A graph of as many inputs as it says, whose contexts say that they hold nothing.
struct Wide(Vec<TensorDescription>);

struct WideContext;

impl Backend for Wide {
    fn name(&self) -> &'static str {
        "wide"
    }

    fn supports(&self, encoding: Encoding, _: Target) -> bool {
        encoding == Encoding::Ggml
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let inputs = String::from_utf8(request.parts.concat()).unwrap().parse().unwrap();
        let byte = TensorDescription::new("", TensorType::U8, None);
        Ok(Box::new(Self(vec![byte; inputs])))
    }
}

impl BackendGraph for Wide {
    fn inputs(&self) -> &[TensorDescription] {
        &self.0
    }

    fn outputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(WideContext))
    }

    fn memory(&self) -> usize {
        0
    }
}

impl BackendContext for WideContext {
    fn set_input(&mut self, _: usize, _: TensorView<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn clear_inputs(&mut self) {}

    fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
        Ok(())
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        Err(Error::unsupported("none"))
    }
}

/// A guest chooses how many inputs its model has, and which of them it sets, to tensors of no bytes.
#[test]
fn what_the_engine_keeps_for_each_input_counts_where_they_are_many() {
    let engine = Watch::default().builder().with_backend(Wide(vec![])).build();
    let guest = engine.guest_with(Limits::default().with_max_context_bytes(1_000_000));
    let open = |inputs: &str| {
        let graph = guest.load(&[inputs.as_bytes()], Encoding::Ggml, Target::Cpu).unwrap();
        guest.init_execution_context(graph)
    };
    let few = open("128").unwrap();
    assert_eq!(engine.stats().context_bytes, 0);
    guest.set_input(few, 127, bytes_of(5).view()).unwrap();
    assert_eq!(engine.stats().context_bytes, 5);
    let many = open("100000").unwrap();
    assert_eq!(engine.stats().context_bytes, 5 + 800_000);
    guest.set_input(many, 99_999, bytes_of(0).view()).unwrap();
    guest.compute(many).unwrap();
    assert_eq!(engine.stats().context_bytes, 5 + 800_000);
    let error = open("25000").unwrap_err();
    let told = "context bytes limit exceeded: 800005 of 1000000 bytes in use, 200000 more requested";
    assert_eq!(error.message(), format!("init_execution_context: {told}"));
    guest.drop_context(many).unwrap();
    open("25000").unwrap();
}

/// A model that is too large for its backend is told as that, whatever else is in memory.
#[test]
fn a_model_that_is_too_large_for_its_backend_is_not_busy() {
    for bound in [usize::MAX, 1_000] {
        let backend = Scripted::new(|_| Ok(())).loading(|request| match request.parts[0] {
            [9] => Err(Error::too_large("it has 2 operators; the limit is 1")),
            [8] => Err(Error::too_large("it needs 2000 bytes").by_limit()),
            _ => Ok(()),
        });
        let engine = backend.engine(EngineLimits::default().with_max_graph_bytes(bound));
        let guest = engine.guest();
        let other = guest.load(&[&[1]], Encoding::Onnx, Target::Cpu).unwrap();
        for (number, kind) in [(9, ErrorKind::TooLarge), (8, ErrorKind::Busy)] {
            let name = number.to_string();
            let source = ModelSource::bytes(vec![number]);
            engine.register_model(&name, source, Encoding::Onnx, Target::Cpu).unwrap();
            let error = guest.load_by_name(&name).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(error.message().contains("it has 2 operators; the limit is 1"), number == 9, "{error}");
        }
        guest.unload(other).unwrap();
    }
}
