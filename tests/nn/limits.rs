//! Every limit, at its bound and one past it.

use graphpool::nn::{
    Encoding, EngineLimits, ErrorKind, Guest, Limits, ModelSource, Target, Tensor, TensorType, TensorView,
};

use crate::backends::{Model, Watch, eventually};

fn load(guest: &Guest, memory: u32) -> Result<graphpool::GuestHandle, graphpool::nn::Error> {
    guest.load(&[&Model { memory, ..Model::default() }.bytes()], Encoding::Onnx, Target::Cpu)
}

fn vector(length: u32) -> Tensor {
    Tensor::from_f32(vec![length], &vec![0.0; length as usize]).unwrap()
}

#[test]
fn graphs_are_counted_by_handle_and_one_that_is_given_back_makes_room_at_once() {
    let engine = Watch::default().engine();
    engine.register_model("m", ModelSource::bytes(Model::default().bytes()), Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest_with(Limits::default().graphs(2));
    let first = load(&guest, 0).unwrap();
    guest.load_by_name("m").unwrap();
    for error in [load(&guest, 0).unwrap_err(), guest.load_by_name("m").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.message().contains("1 more graphs where the guest has 2 and may have 2"), "{error}");
    }
    // Another guest has limits of its own.
    load(&engine.guest_with(Limits::default().graphs(1)), 0).unwrap();
    let mut last = first;
    for _ in 0..1_000 {
        guest.unload(last).unwrap();
        last = load(&guest, 0).unwrap();
    }
    assert!(load(&guest, 0).is_err());
}

#[test]
fn contexts_are_counted_and_one_that_is_given_back_makes_room_at_once() {
    let guest = Watch::default().engine().guest_with(Limits::default().contexts(2));
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
    let guest = engine.guest_with(Limits::default().model_bytes(1_000));
    let first = load(&guest, 600).unwrap();
    assert_eq!(watch.memory_limit(), 1_000);
    let error = load(&guest, 401).unwrap_err();
    assert_eq!((error.kind(), watch.memory_limit()), (ErrorKind::TooLarge, 400));
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
    let guest = Watch::default().engine().guest_with(Limits::default().model_bytes(1_000));
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
    let guest = engine.guest_with(Limits::default().model_bytes(20));
    guest.load_by_name("big").unwrap();
    load(&guest, 20).unwrap();
}

#[test]
fn a_load_that_fails_leaves_the_counts_as_they_were() {
    let guest = Watch::default().engine().guest_with(Limits::default().graphs(1).model_bytes(20));
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
    let guest = Watch::default().engine().guest_with(Limits::default().contexts(1));
    let bad = guest.load(&[b"init"], Encoding::PyTorch, Target::Cpu).unwrap();
    for _ in 0..10 {
        assert_eq!(guest.init_execution_context(bad).unwrap_err().kind(), ErrorKind::RuntimeError);
    }
    guest.init_execution_context(load(&guest, 0).unwrap()).unwrap();
}

#[test]
fn tensors_are_bounded_in_bytes_and_rank() {
    let guest = Watch::default().engine().guest_with(Limits::default().tensor_bytes(8).tensor_rank(2));
    let context = guest.init_execution_context(load(&guest, 0).unwrap()).unwrap();
    guest.set_input(context, 0, vector(2).view()).unwrap();
    let error = guest.set_input(context, 0, vector(3).view()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let any = guest.load(&[b"any"], Encoding::PyTorch, Target::Cpu).unwrap();
    let any = guest.init_execution_context(any).unwrap();
    for (rank, good) in [(2, true), (3, false), (100_000, false)] {
        let dimensions = vec![1; rank];
        let tensor = TensorView::new(&dimensions, TensorType::U8, &[0]).unwrap();
        assert_eq!(guest.set_input(any, 0, tensor).map_err(|error| error.kind()).is_ok(), good, "{rank}");
    }
}

#[test]
fn the_memory_of_a_compute_is_bounded_by_the_backend() {
    for (bound, good) in [(8, true), (7, false)] {
        let guest = Watch::default().engine().guest_with(Limits::default().compute_memory(bound));
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
    assert!(error.message().contains("257 bytes where 256"), "{error}");
}

#[test]
fn the_inputs_of_all_contexts_are_bounded_together() {
    let engine = Watch::default().engine();
    let guest = engine.guest_with(Limits::default().context_bytes(16));
    let graph = load(&guest, 0).unwrap();
    let [one, two, three] = [(); 3].map(|()| guest.init_execution_context(graph).unwrap());
    guest.set_input(one, 0, vector(2).view()).unwrap();
    guest.set_input(two, 0, vector(2).view()).unwrap();
    let error = guest.set_input(three, 0, vector(2).view()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.message(), "set_input: 8 more bytes of inputs where the guest has 16 and may have 16");
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
    let guest = Watch::default().engine().guest_with(Limits::default().context_bytes(1));
    let graph = guest.load(&[b"refuses"], Encoding::PyTorch, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    for _ in 0..3 {
        let byte = TensorView::new(&[1], TensorType::U8, &[0]).unwrap();
        assert_eq!(guest.set_input(context, 0, byte).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let graph = guest.load(&[b"any"], Encoding::PyTorch, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    guest.set_input(context, 0, TensorView::new(&[1], TensorType::U8, &[0]).unwrap()).unwrap();
}

/// All guests together: who could have it if others had less is told to come again, and no one else is.
#[test]
fn an_engine_has_no_more_graphs_contexts_and_bytes_than_its_limits_say() {
    let model = |a: f32, memory| Model { a, memory, ..Model::default() }.bytes();
    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().graphs(2).contexts(1).model_bytes(1_000));
    let (one, two) = (engine.guest(), engine.guest());
    let load = |guest: &Guest, a, memory| guest.load(&[&model(a, memory)], Encoding::Onnx, Target::Cpu);
    let first = load(&one, 1.0, 600).unwrap();
    let error = load(&two, 2.0, 401).unwrap_err();
    assert_eq!((error.kind(), watch.memory_limit()), (ErrorKind::Busy, 400));
    // What was built for nothing counts until it is gone.
    eventually(|| engine.stats().graphs == 1);
    assert_eq!(load(&two, 2.0, 1_001).unwrap_err().kind(), ErrorKind::TooLarge);
    eventually(|| engine.stats().graphs == 1);
    let second = load(&two, 2.0, 400).unwrap();
    let error = load(&two, 3.0, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(error.message(), "load: the model: 1 more graphs where the engine has 2 and may have 2");
    // One that is there is no more of them.
    load(&two, 1.0, 600).unwrap();
    let context = one.init_execution_context(first).unwrap();
    let error = two.init_execution_context(second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.message().ends_with("1 more contexts where the engine has 1 and may have 1"), "{error}");
    one.drop_context(context).unwrap();
    two.init_execution_context(second).unwrap();
    drop((one, two));
    eventually(|| engine.stats().graphs == 0);
    load(&engine.guest(), 3.0, 1_000).unwrap();
}

#[test]
fn no_guest_has_more_than_the_ceiling_whatever_limits_it_is_given() {
    let ceiling = Limits::unlimited().graphs(1).tensor_bytes(8);
    let engine = Watch::default().builder().ceiling(ceiling).build();
    assert_eq!(engine.limits(), &Limits::default().graphs(1).tensor_bytes(8));
    for guest in [engine.guest(), engine.guest_with(Limits::unlimited())] {
        let context = guest.init_execution_context(load(&guest, 0).unwrap()).unwrap();
        assert_eq!(load(&guest, 0).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(guest.set_input(context, 0, vector(3).view()).unwrap_err().kind(), ErrorKind::TooLarge);
    }
    assert_eq!(engine.guest_with(Limits::default().graphs(0)).limits().max_graphs(), 0);
}
