//! What a host asks of a guest beside wasi-nn's calls: outputs in place, refusals, reserved bytes, usage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use graphpool::GuestHandle;
use graphpool::nn::{
    Encoding, Engine, EngineLimits, Error, ErrorKind, Guest, GuestUsage, Limits, Target, Tensor, TensorView,
};

use crate::admission::block_on;
use crate::backends::{Model, Watch};

/// A context with an output of 8 bytes.
fn computed(guest: &Guest) -> GuestHandle {
    let graph = guest.load(&[&Model::default().bytes()], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    guest.set_input(context, 0, &Tensor::from_f32([2], &[1.0, 2.0]).unwrap()).unwrap();
    guest.compute(context).unwrap();
    context
}

#[test]
fn an_output_can_be_read_in_place() {
    let engine = Watch::default().engine();
    let guest = engine.guest();
    let context = computed(&guest);
    let read = |tensor: TensorView<'_>| Ok((tensor.dimensions().to_vec(), tensor.to_vec::<f32>()));
    assert_eq!(guest.with_output(context, "y", read), Ok((vec![2], Some(vec![3.0, 5.0]))));
    // Under the claim of the context.
    let within = guest.with_output(context, 0, |_| Ok(guest.compute(context))).unwrap();
    assert_eq!(within.unwrap_err().kind(), ErrorKind::Busy);
    guest.compute(context).unwrap();
}

#[test]
fn an_error_of_the_reader_is_the_guests_and_its_panic_is_the_hosts() {
    let engine = Watch::default().engine();
    let guest = engine.guest();
    let context = computed(&guest);
    let room = 3;
    let short = guest
        .with_output(context, 0, |tensor| Err::<(), _>(Error::short_buffer(tensor.data().len(), room)))
        .unwrap_err();
    assert_eq!(short, guest.get_output(context, 0, &mut [0; 3]).unwrap_err());
    assert_eq!((short.kind(), short.errno(), short.needed_bytes()), (ErrorKind::TooLarge, 7, Some(8)));
    assert_eq!(short.message(), "get_output: the output has 8 bytes; the buffer has 3");
    assert_eq!((engine.stats().errors, engine.stats().limited), (2, 0));

    let panics = || guest.with_output(context, 0, |_| -> Result<(), Error> { panic!("the host's") });
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert_eq!((engine.stats().panics, engine.stats().contexts), (0, 1));
    guest.compute(context).unwrap();
    assert_eq!(guest.get_output(context, 0, &mut [0; 8]), Ok(8));
}

#[test]
fn a_refusal_of_the_host_is_told_and_counted_like_the_engines() {
    let engine = Watch::default().engine();
    let guest = engine.guest();
    let outside = guest.refuse("set_input", Error::missing_memory("4 bytes at 7 are outside"));
    assert_eq!((outside.kind(), outside.message()), (ErrorKind::MissingMemory, "set_input: 4 bytes at 7 are outside"));
    assert_eq!((engine.stats().errors, engine.stats().limited), (1, 0));
    let parts = guest.refuse("load", Error::too_large("load: 9 parts; the limit is 8").by_limit());
    assert_eq!(parts.message(), "load: 9 parts; the limit is 8");
    assert_eq!((engine.stats().errors, engine.stats().limited), (2, 1));
    // Each of the engine's own counts once.
    let context = computed(&guest);
    guest.compute(GuestHandle::from_bits(1)).unwrap_err();
    block_on(guest.compute_async(GuestHandle::from_bits(1))).unwrap_err();
    guest.clear_inputs(context).unwrap();
    guest.compute(context).unwrap_err();
    block_on(guest.compute_async(context)).unwrap_err();
    assert_eq!((engine.stats().errors, engine.stats().limited), (6, 1));
}

#[test]
fn reserved_bytes_count_for_guest_and_engine_until_they_are_dropped() {
    let limits = EngineLimits::default().with_max_context_bytes(100);
    let engine = Watch::default().builder().with_engine_limits(limits).build();
    let limits = Limits::default().with_max_context_bytes(60);
    let guest = engine.guest_with(limits);
    let told = |guest: &Guest| (guest.usage().context_bytes, engine.stats().host_bytes);
    let mut bytes = guest.reserve(40).unwrap();
    assert_eq!((bytes.bytes(), told(&guest)), (40, (40, 40)));
    // They take the room of contexts, and contexts take theirs.
    let context = computed(&guest);
    assert_eq!((told(&guest), engine.stats().context_bytes), ((48, 40), 8));
    let error = guest.reserve(13).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.message(), "reserve: context bytes limit exceeded: 48 of 60 bytes in use, 13 more requested");
    let error = bytes.resize(53).unwrap_err();
    assert_eq!(error.message(), "reserve: context bytes limit exceeded: 48 of 60 bytes in use, 13 more requested");
    assert_eq!((told(&guest), engine.stats().limited), ((48, 40), 2));
    bytes.resize(52).unwrap();
    guest.set_input(context, 0, &Tensor::from_f32([2], &[1.0, 2.0]).unwrap()).unwrap();
    bytes.resize(7).unwrap();
    assert_eq!(told(&guest), (15, 7));
    // The engine's bound is that of all guests.
    let other = engine.guest_with(Limits::default());
    let error = other.reserve(86).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(
        error.message(),
        "reserve: engine context bytes limit exceeded: 15 of 100 bytes in use, 86 more requested"
    );
    assert_eq!(other.usage(), GuestUsage::default());
    assert_eq!(other.reserve(101).unwrap_err().kind(), ErrorKind::TooLarge);
    let rest = other.reserve(85).unwrap();
    drop((rest, bytes));
    assert_eq!((told(&guest), told(&other)), ((8, 0), (0, 0)));
    assert!(guest.reserve(usize::MAX).is_err() && other.reserve(usize::MAX).is_err());
}

#[test]
fn reserved_bytes_outlive_their_guest_and_do_not_keep_it() {
    let engine = Watch::default().engine();
    let guest = engine.guest();
    let mut bytes = guest.reserve(5).unwrap();
    guest.close();
    drop(guest);
    assert_eq!((engine.stats().guests, engine.stats().host_bytes), (0, 5));
    bytes.resize(6).unwrap();
    assert_eq!(engine.stats().host_bytes, 6);
    drop(bytes);
    assert_eq!(engine.stats().host_bytes, 0);
}

#[test]
fn a_guest_has_a_number_and_the_label_that_it_was_given() {
    let engine = Engine::new(Watch::default().affine());
    let [one, two] = [engine.guest(), engine.guest_builder().with_label("tenant 7").build()];
    assert!(one.id() != two.id() && two.id() == two.clone().id());
    assert_eq!((one.label(), two.label()), (None, Some("tenant 7")));
}

#[test]
fn the_usage_of_a_guest_is_what_it_holds_and_what_its_computes_took() {
    let watch = Watch::default();
    let engine = watch.engine();
    let [guest, other] = [(); 2].map(|()| engine.guest());
    let context = computed(&guest);
    let usage = guest.usage();
    assert_eq!((usage.graphs, usage.contexts, usage.graph_bytes), (1, 1, 100));
    assert_eq!((usage.context_bytes, usage.computes), (8, 1));
    // One that fails is counted, one that never reaches the backend is not, and one that runs is counted at its end.
    guest.clear_inputs(context).unwrap();
    guest.compute(context).unwrap_err();
    guest.compute(GuestHandle::from_bits(1)).unwrap_err();
    guest.compute_within(context, Duration::ZERO).unwrap_err();
    guest.set_input(context, 0, &Tensor::from_f32([2], &[1.0, 2.0]).unwrap()).unwrap();
    let held = watch.hold_next();
    let start = Instant::now();
    let compute = guest.compute_async(context);
    watch.wait_for_held(held);
    assert_eq!(guest.usage().computes, 2);
    std::thread::sleep(Duration::from_millis(2));
    watch.release(held);
    block_on(compute).unwrap();
    let usage = guest.usage();
    assert_eq!(usage.computes, 3);
    assert!((Duration::from_millis(2)..start.elapsed() + Duration::from_secs(1)).contains(&usage.compute_time));
    assert_eq!(other.usage(), GuestUsage::default());
    guest.close();
    let GuestUsage { graphs, contexts, graph_bytes, context_bytes, computes, .. } = guest.usage();
    assert_eq!((graphs, contexts, graph_bytes, context_bytes, computes), (0, 0, 0, 0, 3));
}
