//! What one guest does, and how little others have of it.

use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use graphpool::nn::{Encoding, EngineLimits, Error, ErrorKind, Limits, ModelSource, Target};

use crate::admission::block_on;
use crate::backends::{Watch, eventually, is_alone, is_alone_with};
use crate::scripted::{Scripted, context};

/// A gate that computes of model 0 meet twice, and the other models in the order in which they were computed.
fn recorded() -> (Scripted, Arc<Barrier>, Arc<Mutex<Vec<u8>>>) {
    let (gate, order) = (Arc::new(Barrier::new(2)), Arc::<Mutex<Vec<u8>>>::default());
    let (its_gate, its_order) = (Arc::clone(&gate), Arc::clone(&order));
    let scripted = Scripted::new(move |model| {
        if model == 0 {
            its_gate.wait();
            its_gate.wait();
        } else {
            its_order.lock().unwrap().push(model);
        }
        Ok(())
    });
    (scripted, gate, order)
}

#[test]
fn five_guests_that_fill_the_queue_keep_no_other_out_and_cost_it_one_turn_each() {
    let (scripted, gate, order) = recorded();
    let engine = scripted.engine(EngineLimits::default().with_max_computing(1).with_max_queued(20));
    let host = engine.guest();
    let running = host.compute_async(context(&host, 0));
    gate.wait();
    let greedy = [(); 5].map(|()| engine.guest());
    let mut futures: Vec<_> = (1..=5)
        .zip(&greedy)
        .flat_map(|(model, guest)| [(); 8].map(|()| guest.compute_async(context(guest, model))))
        .collect();
    assert_eq!(engine.stats().queued, 20);
    let late = engine.guest();
    let mine = [6, 6].map(|model| late.compute_async(context(&late, model)));
    gate.wait();
    for future in mine {
        block_on(future).unwrap();
    }
    block_on(running).unwrap();
    let mut refused = 0;
    for future in futures.drain(..) {
        if let Err(error) = block_on(future) {
            assert_eq!(error.kind(), ErrorKind::Busy);
            assert!(error.message().starts_with("compute: the engine's queue of 20 computes "), "{error}");
            refused += 1;
        }
    }
    assert_eq!((refused, engine.stats().queued, engine.stats().limited), (22, 0, 22));
    let order = order.lock().unwrap();
    // Each has a turn before any has a second one.
    let mut first: Vec<_> = order[..6].into();
    first.sort_unstable();
    assert_eq!(first, [1, 2, 3, 4, 5, 6]);
    assert!(order[6..12].contains(&6), "{order:?}");
}

#[test]
fn a_guest_whose_computes_fill_the_queue_is_told_how_many_are_its_own() {
    let (scripted, gate, _) = recorded();
    let engine = scripted.engine(EngineLimits::default().with_max_computing(1).with_max_queued(2));
    let guest = engine.guest();
    let running = guest.compute_async(context(&guest, 0));
    gate.wait();
    let futures = [1, 1, 1].map(|model| guest.compute_async(context(&guest, model)));
    // The other has a place, and gives it up to nobody who has as many.
    let (other, third) = (engine.guest(), engine.guest());
    let its = other.compute_async(context(&other, 2));
    let error = third.compute(context(&third, 3)).unwrap_err();
    assert_eq!(error.message(), "compute: the engine's queue of 2 computes is full, 0 of them this guest's");
    gate.wait();
    let results = futures.map(block_on);
    assert_eq!(results[0], Ok(()));
    let messages = [
        "compute: the engine's queue of 2 computes was full, and a guest with fewer of them took this place",
        "compute: the engine's queue of 2 computes is full, 2 of them this guest's",
    ];
    for (result, message) in results[1..].iter().zip(messages) {
        assert_eq!(result.as_ref().unwrap_err().message(), message);
    }
    block_on(its).unwrap();
    block_on(running).unwrap();
}

/// The stack of whoever ends does not grow with the queue, and nobody is queued who can't run.
#[test]
fn where_no_thread_can_be_started_each_caller_is_told_so_and_no_stack_overflows() {
    let test = "fairness::where_no_thread_can_be_started_each_caller_is_told_so_and_no_stack_overflows";
    // More than the address space has.
    if !is_alone_with(test, &[("RUST_MIN_STACK", "140737488355328")]) {
        return;
    }
    assert!(thread::Builder::new().spawn(|| ()).is_err());
    let (scripted, gate, order) = recorded();
    let engine = scripted.engine(EngineLimits::default().with_max_computing(1).with_max_queued(10_000));
    let guest = engine.guest_with(Limits::unlimited());
    let graph = guest.load(&[&[1]], Encoding::Onnx, Target::Cpu).unwrap();
    let first = context(&guest, 0);
    let its_guest = guest.clone();
    let running = thread::Builder::new().stack_size(512 << 10).spawn(move || its_guest.compute(first)).unwrap();
    gate.wait();
    let futures: Vec<_> =
        (0..5_000).map(|_| guest.compute_async(guest.init_execution_context(graph).unwrap())).collect();
    gate.wait();
    running.join().unwrap().unwrap();
    for future in futures {
        let error = block_on(future).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Busy, "compute: the system refused to start a thread"));
    }
    assert_eq!((engine.stats().computing, engine.stats().queued, order.lock().unwrap().len()), (0, 0, 0));
}

/// However many guests with less room ask for the same model, one with more waits for one build of theirs at the most.
#[test]
fn guests_with_little_room_restart_the_load_of_nobody_else() {
    let watch = Watch::default();
    let engine = watch.engine();
    let load = |room: usize| {
        let guest = engine.guest_with(Limits::default().with_max_graph_bytes(room));
        guest.load(&[b"gate needs 100"], Encoding::PyTorch, Target::Cpu).map(drop)
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| load(50));
        watch.wait_for(1);
        let small = [40, 50, 60, 70, 99].map(|room| scope.spawn(move || load(room)));
        let large = [100, 1_000, 500].map(|room| scope.spawn(move || load(room)));
        eventually(|| engine.stats().guests == 9);
        // As far as can be seen from outside, all of them wait.
        thread::sleep(std::time::Duration::from_millis(100));
        watch.open();
        let error = first.join().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::TooLarge, "load: it needs 100"));
        for (room, thread) in [40, 50, 60, 70, 99].into_iter().zip(small) {
            let Err(error) = thread.join().unwrap() else { continue };
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            let own = format!("load: the model needs more than the {room} bytes that are left for it");
            // Or the model was there, of whose bytes the backend says nothing.
            assert_eq!(error.message(), own);
        }
        for thread in large {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
    });
    // That of the first, and that of the one with the most room.
    assert_eq!(watch.loads(), 2);
}

#[test]
fn what_unload_gives_back_is_there_for_the_next_load() {
    if !is_alone("fairness::what_unload_gives_back_is_there_for_the_next_load") {
        return;
    }
    let engine = Scripted::new(|_| Ok(())).engine(EngineLimits::default().with_max_graphs(1).with_max_graph_bytes(1));
    let (one, two) = (engine.guest(), engine.guest());
    for round in 0..500_u16 {
        let guest = if round % 3 == 0 { &one } else { &two };
        let graph = guest.load(&[&[(round % 256) as u8]], Encoding::Onnx, Target::Cpu).unwrap();
        guest.unload(graph).unwrap();
    }
    // Whatever gives it back: a context, a guest, a name.
    for round in 0..100_u8 {
        let guest = engine.guest();
        let graph = guest.load(&[&[round]], Encoding::Onnx, Target::Cpu).unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        guest.unload(graph).unwrap();
        guest.drop_context(context).unwrap();
        guest.load(&[&[round + 100]], Encoding::Onnx, Target::Cpu).unwrap();
    }
}

/// Computes that a backend starts from inside one.
#[test]
fn a_compute_inside_a_compute_of_its_engine_never_waits_for_the_permit_of_its_own_thread() {
    for (computes, expected) in [(1, Err(ErrorKind::Busy)), (2, Ok(()))] {
        let place = Arc::<Mutex<Option<Box<dyn Fn() + Send + Sync>>>>::default();
        let its = Arc::clone(&place);
        let compute = move |model| {
            let inner = if model == 0 { its.lock().unwrap().take() } else { None };
            if let Some(inner) = inner {
                inner();
            }
            Ok(())
        };
        let engine = Scripted::new(compute).engine(EngineLimits::default().with_max_computing(computes));
        let guest = engine.guest_with(Limits::default().with_max_compute_time(std::time::Duration::from_secs(3)));
        let [outer, inner] = [0, 1].map(|model| context(&guest, model));
        let (told, hears) = mpsc::channel();
        let its_guest = guest.clone();
        *place.lock().unwrap() = Some(Box::new(move || {
            told.send(its_guest.compute(inner)).unwrap();
            told.send(block_on(its_guest.compute_async(inner))).unwrap();
        }));
        guest.compute(outer).unwrap();
        for result in hears {
            let message = "compute: the engine already runs its maximum of 1 computes, and a call from inside a compute \
                           cannot wait for its turn";
            assert!(result.as_ref().err().is_none_or(|error| error.message() == message), "{result:?}");
            assert_eq!(result.map_err(|error| error.kind()), expected);
        }
        // Outside of one it waits as any other.
        guest.compute(inner).unwrap();
    }
}

#[test]
fn a_load_inside_the_load_of_the_same_model_is_told_so_and_one_of_another_model_is_not() {
    let place = Arc::<Mutex<Option<Box<dyn Fn(u8) + Send + Sync>>>>::default();
    let its = Arc::clone(&place);
    let load = move |request: &graphpool::backend::LoadRequest<'_>| {
        let inner = its.lock().unwrap().take();
        if let Some(inner) = inner {
            inner(request.parts[0][0]);
        }
        Ok(())
    };
    let engine = Scripted::new(|_| Ok(())).loading(load).engine(EngineLimits::default());
    let guest = engine.guest();
    let (told, hears) = mpsc::channel();
    let its_guest = guest.clone();
    *place.lock().unwrap() = Some(Box::new(move |model| {
        for model in [model, model + 1] {
            told.send(its_guest.load(&[&[model]], Encoding::Onnx, Target::Cpu).map(drop)).unwrap();
        }
    }));
    // On a thread of its own, so that the test fails where it hangs.
    let loading = guest.clone();
    thread::spawn(move || loading.load(&[&[7]], Encoding::Onnx, Target::Cpu).map(drop).unwrap());
    let long = std::time::Duration::from_secs(15);
    let error = hears.recv_timeout(long).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RuntimeError);
    assert_eq!(
        error.message(),
        "load: a backend or a resolver made this call inside the load that it would have to wait for"
    );
    assert_eq!(hears.recv_timeout(long).unwrap(), Ok(()));
    eventually(|| engine.stats().graph_handles == 2);
}

#[test]
fn a_reload_inside_the_load_of_its_own_name_is_told_so() {
    let place = Arc::<Mutex<Option<Box<dyn Fn() + Send + Sync>>>>::default();
    let its = Arc::clone(&place);
    let load = move |_: &graphpool::backend::LoadRequest<'_>| {
        let inner = its.lock().unwrap().take();
        inner.inspect(|inner| inner());
        Ok(())
    };
    let engine = Scripted::new(|_| Ok(())).loading(load).engine(EngineLimits::default());
    let source = |model: u8| ModelSource::bytes(vec![model]);
    engine.register_model("m", source(1), Encoding::Onnx, Target::Cpu).unwrap();
    let (told, hears) = mpsc::channel();
    let (its_engine, guest) = (engine.clone(), engine.guest());
    *place.lock().unwrap() = Some(Box::new(move || {
        told.send(its_engine.replace_model("m", ModelSource::bytes(vec![2])).map_err(Error::from)).unwrap();
        told.send(its_engine.guest().load_by_name("m").map(|_| 0)).unwrap();
    }));
    // On a thread of its own, so that the test fails where it hangs.
    let loading = guest.clone();
    thread::spawn(move || loading.load_by_name("m").map(drop).unwrap());
    for call in ["", "load_by_name: "] {
        let error = hears.recv_timeout(std::time::Duration::from_secs(15)).unwrap().unwrap_err();
        let message =
            format!("{call}a backend or a resolver made this call inside the load that it would have to wait for");
        assert_eq!((error.kind(), error.message()), (ErrorKind::RuntimeError, &*message));
    }
    eventually(|| engine.stats().graph_handles == 1);
    assert_eq!(engine.replace_model("m", source(3)).unwrap(), 2);
}
