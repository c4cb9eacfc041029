//! What is removed while some thread holds an epoch guard: everything but a few words goes all the same.

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, EngineLimits, Guest, Limits, ModelSource, Target, Tensor};

use crate::admission::block_on;
use crate::backends::{Model, Watch, eventually};

fn load(guest: &Guest, a: f32) -> GuestHandle {
    guest.load(&[&Model { a, ..Model::default() }.bytes()], Encoding::Onnx, Target::Cpu).unwrap()
}

#[test]
fn what_is_given_back_leaves_memory_limits_and_listings_though_a_guard_is_held() {
    let watch = Watch::default();
    let engine =
        watch.engine_within(EngineLimits::default().with_max_graphs(1).with_max_contexts(1).with_max_graph_bytes(100));
    let guest = engine.guest_with(Limits::default().with_max_graphs(1).with_max_contexts(1).with_max_graph_bytes(100));
    let guard = graphpool::pin();
    for round in 0..10_u8 {
        let graph = load(&guest, round.into());
        let context = guest.init_execution_context(graph).unwrap();
        guest.unload(graph).unwrap();
        // The context has it still.
        assert_eq!((engine.list_graphs().len(), watch.alive()), (1, 2));
        guest.drop_context(context).unwrap();
        assert!(engine.list_graphs().is_empty());
        eventually(|| engine.stats().graphs == 0);
        assert_eq!(watch.alive(), 0);
    }
    drop(guard);
}

#[test]
fn a_guest_that_ends_and_a_name_that_is_removed_leave_nothing_though_a_guard_is_held() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guard = graphpool::pin();
    let source = ModelSource::bytes(Model::default().bytes());
    engine.register_model("m", source, Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest();
    let named = guest.load_by_name("m").unwrap();
    for graph in [named, load(&guest, 7.0)] {
        guest.init_execution_context(graph).unwrap();
    }
    engine.remove_model("m").unwrap();
    assert_eq!((engine.list_graphs().len(), watch.alive()), (2, 4));
    drop(guest);
    assert!(engine.list_graphs().is_empty());
    watch.all_gone();
    drop(guard);
}

#[test]
fn what_a_call_still_uses_goes_at_the_end_of_that_call_though_a_guard_is_held() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let guard = graphpool::pin();
    let graph = load(&guest, 3.0);
    let context = guest.init_execution_context(graph).unwrap();
    guest.set_input(context, 0, Tensor::from_f32(vec![2], &[0.0; 2]).unwrap().view()).unwrap();
    let held = watch.hold_next();
    let compute = guest.compute_async(context);
    watch.wait_for_held(held);
    guest.drop_context(context).unwrap();
    guest.unload(graph).unwrap();
    assert_eq!(watch.alive(), 2);
    watch.release(held);
    block_on(compute).unwrap();
    watch.all_gone();
    drop(guard);
}

/// Not eventually: the engine's end waits for its models, and for no guard.
#[test]
fn an_engine_that_ends_under_a_guard_is_gone_with_all_that_it_had() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let guard = graphpool::pin();
    guest.init_execution_context(load(&guest, 5.0)).unwrap();
    drop(engine);
    assert_eq!(watch.alive(), 2);
    drop(guest);
    assert_eq!(watch.alive(), 0);
    drop(guard);
}
