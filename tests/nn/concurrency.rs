//! Several threads in one guest, and several guests in one engine.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, ErrorKind, Guest, Limits, ModelSource, Target, Tensor, TensorType, TensorView};

use crate::backends::{Model, Over, Watch, eventually};

fn gated(guest: &Guest) -> (GuestHandle, GuestHandle) {
    let graph = guest.load(&[b"gate"], Encoding::PyTorch, Target::Cpu).unwrap();
    (graph, guest.init_execution_context(graph).unwrap())
}

#[test]
fn a_second_call_on_a_context_is_told_busy_at_once() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let (_, context) = gated(&guest);
    thread::scope(|scope| {
        let compute = scope.spawn(|| guest.compute(context));
        watch.wait_for(1);
        let byte = TensorView::new(&[], TensorType::U8, &[1]).unwrap();
        let results = [
            guest.compute(context),
            guest.set_input(context, 0, byte),
            guest.output(context, 0).map(drop),
            guest.get_output(context, 0, &mut [0]).map(drop),
        ];
        for result in results {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Busy);
        }
        // What needs no use of the context is no such call.
        assert_eq!(guest.outputs(context).unwrap().len(), 1);
        watch.open();
        compute.join().unwrap().unwrap();
    });
    assert_eq!(guest.output(context, 0).unwrap().data(), [7]);
    assert_eq!(engine.stats().busy_contexts, 4);
}

#[test]
fn contexts_of_one_graph_never_wait_for_each_other() {
    let watch = Watch::default();
    let guest = watch.engine().guest();
    let graph = guest.load(&[b"gate"], Encoding::PyTorch, Target::Cpu).unwrap();
    thread::scope(|scope| {
        for _ in 0..5 {
            let context = guest.init_execution_context(graph).unwrap();
            let guest = guest.clone();
            scope.spawn(move || guest.compute(context).unwrap());
        }
        // All five are inside at one time.
        watch.wait_for(5);
        watch.open();
    });
}

#[test]
fn a_context_dropped_during_a_compute_dies_when_the_compute_ends() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest_with(Limits::default().with_max_contexts(1));
    let (graph, context) = gated(&guest);
    thread::scope(|scope| {
        let compute = scope.spawn(|| guest.compute(context));
        watch.wait_for(1);
        guest.drop_context(context).unwrap();
        guest.unload(graph).unwrap();
        assert_eq!(guest.compute(context).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(guest.drop_context(context).unwrap_err().kind(), ErrorKind::InvalidArgument);
        // Context and graph are held by the compute, and the context still counts.
        assert_eq!(watch.alive(), 2);
        let other = guest.load(&[b"anything"], Encoding::PyTorch, Target::Cpu).unwrap();
        assert_eq!(guest.init_execution_context(other).unwrap_err().kind(), ErrorKind::TooLarge);
        watch.open();
        compute.join().unwrap().unwrap();
        guest.init_execution_context(other).unwrap();
    });
    drop(guest);
    watch.all_gone();
    assert_eq!(engine.stats().computes, 1);
}

#[test]
fn a_clone_of_a_guest_may_be_dropped_during_a_compute() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let (_, context) = gated(&guest);
    let other = guest.clone();
    let compute = thread::spawn(move || other.compute(context));
    watch.wait_for(1);
    drop((guest, engine));
    assert_eq!(watch.alive(), 2);
    watch.open();
    compute.join().unwrap().unwrap();
    watch.all_gone();
}

#[test]
fn many_threads_that_load_at_once_get_exactly_as_many_graphs_as_the_bound_says() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest_with(Limits::default().with_max_graphs(7).with_max_graph_bytes(7 * 100));
    let got = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    match guest.load(&[&Model::default().bytes()], Encoding::Onnx, Target::Cpu) {
                        Ok(_) => drop(got.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::TooLarge),
                    }
                }
            });
        }
    });
    assert_eq!((got.into_inner(), engine.stats().graph_handles), (7, 7));
}

/// Guests come and go, share a named model, load their own, race each other on one shared guest's contexts; nobody
/// computes anything wrong, and in the end nothing is left.
#[test]
fn guests_in_a_crowd_compute_their_own_results_and_leave_nothing() {
    let watch = Watch::default();
    let engine = watch.engine();
    let named = Model { a: 10.0, b: 0.0, ..Model::default() };
    engine.register_model("ten", ModelSource::bytes(named.bytes()), Encoding::Onnx, Target::Cpu).unwrap();
    let shared = engine.guest();
    let shared_graph = shared.load_by_name("ten").unwrap();
    let shared_context = shared.init_execution_context(shared_graph).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4_u16)
            .map(|worker| {
                let (engine, shared) = (&engine, &shared);
                scope.spawn(move || {
                    for round in 0..100_u16 {
                        let guest = engine.guest();
                        let (a, b) = (f32::from(worker + 1), f32::from(round));
                        let own = Model { a, b, ..Model::default() }.bytes();
                        let own = guest.load(&[&own], Encoding::Onnx, Target::Cpu).unwrap();
                        let ten = guest.load_by_name("ten").unwrap();
                        for (graph, expected) in [(own, [a + b, 2.0 * a + b]), (ten, [10.0, 20.0])] {
                            let context = guest.init_execution_context(graph).unwrap();
                            guest.unload(graph).unwrap();
                            let input = Tensor::from_f32(vec![2], &[1.0, 2.0]).unwrap();
                            guest.set_input(context, 0, input.view()).unwrap();
                            guest.compute(context).unwrap();
                            assert_eq!(guest.output(context, 0).unwrap().to_f32().unwrap(), expected);
                            // Whoever comes first has it; the others are told.
                            for result in
                                [shared.set_input(shared_context, 0, input.view()), shared.compute(shared_context)]
                            {
                                assert!(result.is_ok() || result.unwrap_err().kind() == ErrorKind::Busy);
                            }
                        }
                    }
                })
            })
            .collect();
        // A context that is opened, used and dropped by two threads at once.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let context = shared.init_execution_context(shared_graph).unwrap();
                thread::scope(|scope| {
                    scope.spawn(|| drop(shared.compute(context)));
                    shared.drop_context(context).unwrap();
                });
            }
        });
        let _over = Over(&over);
        for worker in workers {
            worker.join().unwrap();
        }
    });
    drop(shared);
    assert_eq!(engine.stats().builds, 401);
    // The named model, which its name keeps.
    eventually(|| watch.alive() == 1);
    eventually(|| {
        let stats = engine.stats();
        (stats.graphs, stats.graph_handles, stats.contexts, stats.guests, stats.awaiting_reclamation) == (1, 0, 0, 0, 0)
    });
    drop(engine);
    watch.all_gone();
}
