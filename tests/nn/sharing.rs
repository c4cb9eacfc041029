//! One copy of a model, whoever loads it.

use std::sync::Barrier;
use std::thread;

use graphpool::backend::{Backend, BackendContext, BackendGraph, LoadRequest};
use graphpool::nn::{Encoding, Engine, Error, ErrorKind, Guest, Limits, ModelSource, Target, TensorDescription};

use crate::backends::{Model, Watch, eventually, is_alone};

fn load(guest: &Guest, bytes: &[u8]) -> graphpool::GuestHandle {
    guest.load(&[bytes], Encoding::Onnx, Target::Cpu).unwrap()
}

#[test]
fn equal_bytes_are_one_graph_and_the_last_user_frees_it() {
    let watch = Watch::default();
    let engine = watch.engine();
    let bytes = Model::default().bytes();
    let guests = [(); 3].map(|()| engine.guest());
    let graphs = guests.each_ref().map(|guest| load(guest, &bytes));
    engine.register_model("m", ModelSource::bytes(bytes.clone()), Encoding::Onnx, Target::Cpu).unwrap();
    guests[0].load_by_name("m").unwrap();
    let stats = engine.stats();
    assert_eq!((watch.loads(), stats.graphs, stats.graph_handles, stats.graph_bytes), (1, 1, 4, 100));
    engine.remove_model("m").unwrap();
    let [one, two, three] = guests;
    let context = three.init_execution_context(graphs[2]).unwrap();
    three.unload(graphs[2]).unwrap();
    drop((one, two));
    // The context has it still, and whoever loads it now gets that one.
    load(&engine.guest(), &bytes);
    assert_eq!((watch.loads(), engine.stats().graphs), (1, 1));
    three.drop_context(context).unwrap();
    watch.all_gone();
    load(&engine.guest(), &bytes);
    assert_eq!(watch.loads(), 2);
}

#[test]
fn whatever_may_make_a_difference_makes_another_graph() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let bytes = Model::default().bytes();
    load(&guest, &bytes);
    guest.load(&[&bytes], Encoding::Autodetect, Target::Cpu).unwrap();
    guest.load(&[&bytes[..7], &bytes[7..]], Encoding::Onnx, Target::Cpu).unwrap();
    load(&guest, &Model { b: 9.0, ..Model::default() }.bytes());
    let source = ModelSource::bytes(bytes).with_config("streams=1");
    engine.register_model("m", source, Encoding::Onnx, Target::Cpu).unwrap();
    guest.load_by_name("m").unwrap();
    assert_eq!((watch.loads(), engine.stats().graphs), (5, 5));
}

#[test]
fn a_configuration_that_says_nothing_is_none() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let bytes = Model::default().bytes();
    load(&guest, &bytes);
    for config in ["", " ", "\n\t"] {
        let source = ModelSource::bytes(bytes.clone()).with_config(config);
        engine.register_model("m", source, Encoding::Onnx, Target::Cpu).unwrap();
        guest.load_by_name("m").unwrap();
        engine.remove_model("m").unwrap();
    }
    assert_eq!((watch.loads(), engine.stats().graphs), (1, 1));
}

#[test]
fn guests_that_load_at_once_share_one_build() {
    let watch = Watch::default();
    let engine = watch.engine();
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let guest = engine.guest();
                let graph = guest.load(&[b"gate load"], Encoding::PyTorch, Target::Cpu).unwrap();
                guest.init_execution_context(graph).unwrap();
                barrier.wait();
                assert_eq!((watch.loads(), engine.stats().graphs, engine.stats().graph_handles), (1, 1, 8));
                barrier.wait();
            });
        }
        watch.wait_for(1);
        // All of them have called by now, as far as can be seen from outside.
        eventually(|| engine.stats().guests == 8);
        watch.open();
    });
    watch.all_gone();
}

/// A guest with less room must not decide for one with more.
#[test]
fn a_build_that_is_too_large_for_one_guest_is_not_for_another_that_waited() {
    let watch = Watch::default();
    let engine = watch.engine();
    thread::scope(|scope| {
        let small = scope.spawn(|| {
            let guest = engine.guest_with(Limits::default().with_max_graph_bytes(99));
            guest.load(&[b"gate needs 100"], Encoding::PyTorch, Target::Cpu).map(drop)
        });
        watch.wait_for(1);
        let large = scope.spawn(|| engine.guest().load(&[b"gate needs 100"], Encoding::PyTorch, Target::Cpu).map(drop));
        eventually(|| engine.stats().guests == 2);
        thread::sleep(std::time::Duration::from_millis(20));
        watch.open();
        assert_eq!(small.join().unwrap().unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(large.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_hundred_guests_of_a_model_have_the_memory_of_one() {
    let watch = Watch::default();
    let engine = watch.engine();
    let model = Model { memory: 3 << 20, ..Model::default() };
    let guests: Vec<_> = (0..100)
        .map(|_| {
            let guest = engine.guest();
            let graph = load(&guest, &model.bytes());
            guest.init_execution_context(graph).unwrap();
            guest
        })
        .collect();
    assert_eq!((engine.stats().graph_bytes, engine.stats().graphs, engine.stats().contexts), (3 << 20, 1, 100));
    drop(guests);
    eventually(|| engine.stats().graph_bytes == 0);
}

/// Keeps the bytes of its models, as a backend does.
struct Keeper;

struct Kept(Vec<u8>);

impl Backend for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        Ok(Box::new(Kept(request.parts.concat())))
    }
}

impl BackendGraph for Kept {
    fn inputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn outputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Err(Error::unsupported("none"))
    }

    fn memory(&self) -> usize {
        self.0.len()
    }
}

/// The condition, by the system's own account.
#[cfg(target_os = "linux")]
#[test]
fn a_hundred_guests_of_3_mb_are_resident_in_at_most_1_3_times_the_memory_of_one() {
    if !is_alone("sharing::a_hundred_guests_of_3_mb_are_resident_in_at_most_1_3_times_the_memory_of_one") {
        return;
    }
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    };
    let model = vec![7_u8; 3 << 20];
    let engine = Engine::builder(Keeper).build();
    let open = || {
        let guest = engine.guest();
        load(&guest, &model);
        guest
    };
    // Whatever is made once is there.
    drop(open());
    eventually(|| engine.stats().graphs == 0);
    let before = resident();
    let first = open();
    let one = resident() - before;
    let others: Vec<_> = (1..100).map(|_| open()).collect();
    let hundred = resident() - before;
    assert_eq!((engine.stats().graph_handles, engine.stats().graph_bytes), (100, 3 << 20));
    assert!(one >= 3 << 20 && 10 * hundred <= 13 * one, "{one} for one, {hundred} for a hundred");
    drop((first, others));
}

#[test]
fn the_graphs_of_an_engine_can_be_listed() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let graph = load(&guest, &Model::default().bytes());
    guest.load(&[b"anything"], Encoding::Autodetect, Target::Cpu).unwrap();
    guest.init_execution_context(graph).unwrap();
    let mut graphs = engine.list_graphs();
    graphs.sort_by_key(|graph| graph.id);
    let [affine, trouble] = &*graphs else { panic!("{graphs:?}") };
    assert_eq!((&*affine.backend, affine.encoding, affine.bytes, affine.contexts), ("affine", Encoding::Onnx, 100, 1));
    assert_eq!((&*trouble.backend, trouble.encoding, trouble.contexts), ("trouble", Encoding::Autodetect, 0));
    assert_eq!(affine.digest.len(), 64);
    assert_ne!(affine.digest, trouble.digest);
    drop(guest);
    eventually(|| engine.list_graphs().is_empty());
}
