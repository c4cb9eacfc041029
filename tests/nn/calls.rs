//! What each call does for a guest that is alone.

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, ErrorKind, Guest, Target, Tensor, TensorType, TensorView};

use crate::backends::{Model, Watch, eventually};

fn load(guest: &Guest, model: Model) -> GuestHandle {
    guest.load(&[&model.bytes()], Encoding::Onnx, Target::Cpu).unwrap()
}

fn vector(elements: &[f32]) -> Tensor {
    Tensor::from_f32(vec![elements.len() as u32], elements).unwrap()
}

#[test]
fn a_guest_loads_sets_computes_and_reads() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let graph = load(&guest, Model::default());
    let context = guest.init_execution_context(graph).unwrap();

    guest.set_input(context, 0, vector(&[1.0, 2.0]).view()).unwrap();
    guest.compute(context).unwrap();
    assert_eq!(guest.output(context, 0).unwrap(), vector(&[3.0, 5.0]));
    assert_eq!(guest.output(context, "y").unwrap(), vector(&[3.0, 5.0]));

    // A context keeps its inputs, and its outputs until the next compute.
    guest.set_input(context, "x", vector(&[0.0, -1.0]).view()).unwrap();
    assert_eq!(guest.output(context, 0).unwrap(), vector(&[3.0, 5.0]));
    guest.compute(context).unwrap();
    guest.compute(context).unwrap();
    assert_eq!(guest.output(context, 0).unwrap(), vector(&[1.0, -1.0]));

    let stats = engine.stats();
    assert_eq!((stats.graphs, stats.graph_handles, stats.contexts, stats.guests), (1, 1, 1, 1));
    assert_eq!((stats.graph_bytes, stats.builds, stats.contexts_opened, stats.computes), (100, 1, 1, 3));
    drop((guest, engine));
    watch.all_gone();
}

#[test]
fn get_output_writes_all_or_nothing() {
    let guest = Watch::default().engine().guest();
    let context = guest.init_execution_context(load(&guest, Model::default())).unwrap();
    let mut buffer = [9; 10];
    assert_eq!(guest.get_output(context, 0, &mut buffer).unwrap_err().kind(), ErrorKind::InvalidArgument);
    guest.set_input(context, 0, vector(&[0.0, 0.0]).view()).unwrap();
    guest.compute(context).unwrap();

    let error = guest.get_output(context, 0, &mut buffer[..7]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.message(), "get_output: the output has 8 bytes; the buffer has 7");
    assert_eq!(error.needed_bytes(), Some(8));
    assert_eq!(buffer, [9; 10]);
    assert_eq!(guest.get_output(context, "y", &mut buffer), Ok(8));
    assert_eq!(buffer, [0, 0, 128, 63, 0, 0, 128, 63, 9, 9]);
}

#[test]
fn indexes_names_types_and_sizes_are_checked_before_the_backend_sees_them() {
    let guest = Watch::default().engine().guest();
    let context = guest.init_execution_context(load(&guest, Model::default())).unwrap();
    let good = vector(&[0.0, 0.0]);
    let data = [0; 16];
    let longs = TensorView::new(&[2], TensorType::I64, &data).unwrap();
    let rank = TensorView::new(&[1, 2], TensorType::F32, &data[..8]).unwrap();
    for (result, message) in [
        (guest.set_input(context, 1, good.view()), "set_input: there is no input 1; the graph has 1"),
        (guest.set_input(context, u32::MAX, good.view()), "set_input: there is no input 4294967295; the graph has 1"),
        (guest.set_input(context, "y", good.view()), "set_input: no input is named \"y\"; the graph has 1"),
        (
            guest.set_input(context, 0, vector(&[0.0]).view()),
            "set_input: input 0 takes fp32 [2]; the tensor is fp32 [1]",
        ),
        (guest.set_input(context, 0, longs), "set_input: input 0 takes fp32 [2]; the tensor is i64 [2]"),
        (guest.set_input(context, 0, rank), "set_input: input 0 takes fp32 [2]; the tensor is fp32 [1×2]"),
        (guest.output(context, 1).map(drop), "output: there is no output 1; the graph has 1"),
        (guest.output(context, "x").map(drop), "output: no output is named \"x\"; the graph has 1"),
        (guest.compute(context), "compute: no input"),
    ] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidArgument, message));
    }
}

#[test]
fn graphs_and_contexts_describe_themselves() {
    let guest = Watch::default().engine().guest();
    let graph = load(&guest, Model { length: 5, ..Model::default() });
    let context = guest.init_execution_context(graph).unwrap();
    for handle in [graph, context] {
        let (inputs, outputs) = (guest.inputs(handle).unwrap(), guest.outputs(handle).unwrap());
        assert_eq!((inputs.len(), &*inputs[0].name, inputs[0].ty), (1, "x", Some(TensorType::F32)));
        assert_eq!((&*outputs[0].name, &outputs[0].dimensions), ("y", &Some(vec![Some(5)])));
    }
    guest.unload(graph).unwrap();
    assert_eq!(guest.inputs(graph).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(guest.inputs(context).unwrap().len(), 1);
}

#[test]
fn bytes_that_are_no_model_are_refused_each_in_its_way() {
    let guest = Watch::default().engine().guest();
    let good = Model::default().bytes();
    for (parts, encoding, target, kind) in [
        (&[&b"junk"[..]][..], Encoding::Onnx, Target::Cpu, ErrorKind::InvalidEncoding),
        (&[&good[..19]], Encoding::Onnx, Target::Cpu, ErrorKind::InvalidEncoding),
        (&[&[]], Encoding::Onnx, Target::Cpu, ErrorKind::InvalidEncoding),
        (&[], Encoding::Onnx, Target::Cpu, ErrorKind::InvalidArgument),
        (&[&good], Encoding::Onnx, Target::Gpu, ErrorKind::UnsupportedOperation),
        (&[&good], Encoding::Ggml, Target::Cpu, ErrorKind::UnsupportedOperation),
        (&[&[255]], Encoding::Autodetect, Target::Cpu, ErrorKind::InvalidEncoding),
    ] {
        assert_eq!(guest.load(parts, encoding, target).unwrap_err().kind(), kind, "{encoding:?} {target:?}");
    }
    // In several parts, and recognised by the second backend where the first does not.
    guest.load(&[&good[..7], &good[7..]], Encoding::Onnx, Target::Cpu).unwrap();
    guest.load(&[b"anything"], Encoding::Autodetect, Target::Cpu).unwrap();
}

#[test]
fn a_handle_means_nothing_in_another_guest() {
    let watch = Watch::default();
    let engine = watch.engine();
    let (owner, other) = (engine.guest(), engine.guest());
    let graph = load(&owner, Model::default());
    let context = owner.init_execution_context(graph).unwrap();
    every_call_refuses(&other, graph, context);
    owner.compute(context).unwrap_err();
    assert_eq!(owner.inputs(context).unwrap().len(), 1);
    // Nor where the other has as many of its own: what it reaches is its own.
    let own = load(&other, Model { length: 1, ..Model::default() });
    let own_context = other.init_execution_context(own).unwrap();
    other.set_input(own_context, 0, vector(&[1.0]).view()).unwrap();
    assert_eq!(owner.unload(graph), Ok(()));
    assert_eq!(other.inputs(own).unwrap()[0].dimensions, Some(vec![Some(1)]));
}

#[test]
fn a_handle_of_one_kind_is_none_of_the_other() {
    let guest = Watch::default().engine().guest();
    let graph = load(&guest, Model::default());
    let context = guest.init_execution_context(graph).unwrap();
    every_call_refuses(&guest, context, graph);
    assert!(guest.inputs(graph).is_ok());
    assert!(guest.inputs(context).is_ok());
}

#[test]
fn a_handle_that_was_given_back_or_never_given_out_is_refused_by_every_call() {
    let guest = Watch::default().engine().guest();
    let graph = load(&guest, Model::default());
    let context = guest.init_execution_context(graph).unwrap();
    guest.drop_context(context).unwrap();
    guest.unload(graph).unwrap();
    every_call_refuses(&guest, graph, context);
    // The places are used again, the handles are not.
    let graph_2 = load(&guest, Model::default());
    let context_2 = guest.init_execution_context(graph_2).unwrap();
    every_call_refuses(&guest, graph, context);
    for bits in [0, 1, u32::MAX, 1 << 31] {
        let made_up = GuestHandle::from_bits(bits);
        if made_up != graph_2 && made_up != context_2 {
            every_call_refuses(&guest, made_up, made_up);
        }
    }
    let error = guest.compute(GuestHandle::from_bits(0xffff_0000)).unwrap_err();
    assert_eq!(error.message(), "compute: the guest has no context 0xffff0000");
}

fn every_call_refuses(guest: &Guest, graph: GuestHandle, context: GuestHandle) {
    let tensor = vector(&[0.0, 0.0]);
    let results = [
        guest.init_execution_context(graph).map(drop),
        guest.unload(graph),
        guest.set_input(context, 0, tensor.view()),
        guest.compute(context),
        guest.get_output(context, 0, &mut [0; 64]).map(drop),
        guest.output(context, 0).map(drop),
        guest.drop_context(context),
    ];
    for result in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn a_context_goes_on_when_its_graph_is_unloaded() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let graph = load(&guest, Model::default());
    let context = guest.init_execution_context(graph).unwrap();
    guest.unload(graph).unwrap();
    assert_eq!(guest.init_execution_context(graph).unwrap_err().kind(), ErrorKind::InvalidArgument);
    guest.set_input(context, 0, vector(&[4.0, 5.0]).view()).unwrap();
    guest.compute(context).unwrap();
    assert_eq!(guest.output(context, 0).unwrap(), vector(&[9.0, 11.0]));
    assert_eq!(engine.stats().graphs, 1);
    guest.drop_context(context).unwrap();
    // Without another call by anyone.
    watch.all_gone();
    eventually(|| engine.stats().graphs == 0 && engine.stats().awaiting_reclamation == 0);
}

#[test]
fn dropping_the_last_clone_of_a_guest_gives_back_everything() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let clone = guest.clone();
    for _ in 0..10 {
        let graph = load(&guest, Model::default());
        for _ in 0..3 {
            guest.init_execution_context(graph).unwrap();
        }
        guest.unload(graph).unwrap();
        load(&guest, Model::default());
    }
    drop(guest);
    // 30 contexts, and one graph that all of the handles name.
    assert_eq!((watch.alive(), engine.stats().guests), (31, 1));
    drop(clone);
    watch.all_gone();
    eventually(|| {
        let stats = engine.stats();
        let alive = [stats.graphs, stats.graph_handles, stats.graph_bytes, stats.contexts, stats.guests];
        alive == [0; 5] && stats.awaiting_reclamation == 0
    });
}

#[test]
fn an_engine_lives_as_long_as_its_guests() {
    let watch = Watch::default();
    let guest = watch.engine().guest();
    let context = guest.init_execution_context(load(&guest, Model::default())).unwrap();
    guest.set_input(context, 0, vector(&[4.0, 5.0]).view()).unwrap();
    guest.compute(context).unwrap();
    drop(guest);
    watch.all_gone();
}
