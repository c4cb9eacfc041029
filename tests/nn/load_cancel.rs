//! Asynchronous loads that are dropped or cancelled, or whose guest ends.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use graphpool::nn::{Encoding, ErrorKind, Limits, Load, ModelBytes, Target};

use crate::admission::block_on;
use crate::backends::{Watch, eventually};
use crate::load_async::{Count, engine, is_quiet, poll, start};

/// Waits until the load has its result, and does not take it.
fn has_ended(load: &Load) {
    eventually(|| format!("{load:?}").contains("ended: true"));
}

#[test]
fn a_load_that_is_dropped_before_its_turn_never_begins() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 10);
    let guest = engine.guest_with(Limits::default().with_max_loads(2));
    let first = start(&guest, "gate load");
    watch.wait_for(1);
    let second = start(&guest, "another");
    assert_eq!(block_on(start(&guest, "third")).unwrap_err().kind(), ErrorKind::Busy);
    drop(second);
    assert_eq!(engine.stats().loads, 1);
    let second = start(&guest, "fourth");
    watch.open();
    block_on(first).unwrap();
    block_on(second).unwrap();
    assert_eq!((watch.loads(), engine.stats().builds, engine.stats().loads), (2, 2, 0));
}

#[test]
fn a_build_goes_on_for_those_that_wait_when_its_own_load_is_dropped() {
    let watch = Watch::default();
    let engine = engine(&watch, 2, 10);
    let guests = [(); 3].map(|()| engine.guest());
    let first = start(&guests[0], "gate load");
    watch.wait_for(1);
    let [second, third] = [1, 2].map(|guest| start(&guests[guest], "gate load"));
    drop(first);
    // The build still counts, and a load that only waits does not.
    drop(third);
    eventually(|| engine.stats().loads == 2);
    // It has its turn after the second, which then waits.
    block_on(start(&guests[1], "another")).unwrap();
    watch.open();
    block_on(second).unwrap();
    eventually(|| engine.stats().loads == 0);
    assert_eq!((watch.loads(), engine.stats().graphs, engine.stats().graph_handles), (2, 2, 2));
}

#[test]
fn a_build_whose_loads_are_all_dropped_is_released_at_its_end() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let load = start(&guest, "gate load");
    watch.wait_for(1);
    drop(load);
    assert_eq!(engine.stats().loads, 1);
    watch.open();
    watch.all_gone();
    eventually(|| is_quiet(&engine));
    // Its share of the guest's limits has come back.
    assert!((0..64).all(|_| block_on(start(&guest, "another")).is_ok()));
}

#[test]
fn the_end_of_the_guest_ends_its_loads_wherever_they_are() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 10);
    let [guest, other] = [(); 2].map(|()| engine.guest());
    let running = start(&guest, "gate load");
    watch.wait_for(1);
    let queued = start(&guest, "queued");
    let count = Arc::<Count>::default();
    let mut loads = [running, queued];
    assert!(loads.iter_mut().all(|load| poll(load, &count).is_pending()));
    drop(guest);
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
    for load in loads {
        let error = block_on(load).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::RuntimeError, "load: the guest is closed"));
    }
    watch.open();
    block_on(start(&other, "another")).unwrap();
    assert_eq!(watch.loads(), 2);
    drop(other);
    watch.all_gone();
    eventually(|| is_quiet(&engine));
}

#[test]
fn a_cancel_of_all_ends_the_loads_and_a_close_refuses_later_ones() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 10);
    let guest = engine.guest();
    let running = start(&guest, "gate load");
    watch.wait_for(1);
    let queued = start(&guest, "queued");
    assert_eq!((guest.cancel_all(), guest.cancel_all()), (2, 0));
    for load in [running, queued] {
        assert_eq!(block_on(load).unwrap_err().message(), "load: cancelled before it ended");
    }
    let later = start(&guest, "later");
    guest.close();
    assert_eq!(block_on(later).unwrap_err().message(), "load: the guest is closed");
    assert_eq!(block_on(start(&guest, "anything")).unwrap_err().message(), "load: the guest is closed");
    watch.open();
    eventually(|| is_quiet(&engine));
    assert_eq!(watch.loads(), 1);
}

#[test]
fn a_result_that_was_not_taken_is_released_with_the_guest() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let load = start(&guest, "anything");
    has_ended(&load);
    drop(guest);
    watch.all_gone();
    assert_eq!(block_on(load).unwrap_err().message(), "load: the guest is closed");
    eventually(|| is_quiet(&engine));
}

#[test]
fn a_load_that_is_at_once_there_does_not_outlive_the_guest_either() {
    let watch = Watch::default();
    let engine = watch.engine();
    let [guest, other] = [(); 2].map(|()| engine.guest());
    block_on(start(&other, "anything")).unwrap();
    let load = start(&guest, "anything");
    drop(guest);
    assert_eq!(block_on(load).unwrap_err().kind(), ErrorKind::RuntimeError);
    drop(other);
    watch.all_gone();
    eventually(|| is_quiet(&engine));
}

#[test]
fn many_loads_that_are_dropped_at_any_time_leave_nothing() {
    let watch = Watch::default();
    watch.open();
    let engine = engine(&watch, 2, 50);
    thread::scope(|scope| {
        for seed in 0..4_usize {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..100 {
                    let guest = engine.guest();
                    let models = ["gate load", "fail load", "load", "a", "b"];
                    let mut loads: Vec<_> =
                        (0..5).map(|load| start(&guest, models[(seed + round * load) % 5])).collect();
                    match (seed + round) % 4 {
                        0 => drop(loads),
                        1 => loads.into_iter().for_each(|load| drop(block_on(load))),
                        2 => {
                            thread::yield_now();
                            drop(loads.split_off(2));
                            drop(guest);
                            assert!(loads.into_iter().all(|load| block_on(load).is_err()));
                        }
                        _ => {
                            thread::yield_now();
                            drop(loads.split_off(1));
                            for load in loads {
                                drop(block_on(load));
                            }
                        }
                    }
                }
            });
        }
    });
    watch.all_gone();
    eventually(|| is_quiet(&engine));
}

#[test]
fn a_cancel_of_all_leaves_a_load_that_has_ended() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let load = start(&guest, "anything");
    has_ended(&load);
    assert_eq!(guest.cancel_all(), 0);
    let graph = block_on(load).unwrap();
    guest.unload(graph).unwrap();
    watch.all_gone();
}

#[test]
fn the_future_of_a_load_that_has_ended_holds_no_graph() {
    let watch = Watch::default();
    let engine = engine(&watch, 2, 10);
    let guest = engine.guest();
    let [mut first, mut second] = [(); 2].map(|()| start(&guest, "gate load"));
    watch.wait_for(1);
    // One of the two follows the other, and has a hook for its cancellation.
    block_on(start(&guest, "another")).unwrap();
    watch.open();
    let graphs = [block_on(&mut first).unwrap(), block_on(&mut second).unwrap()];
    for graph in graphs {
        guest.unload(graph).unwrap();
    }
    // "another" is there.
    eventually(|| engine.stats().graphs == 1);
    drop((first, second));
}

/// Bytes that may not be copied.
struct NotCopied(usize);

impl AsRef<[u8]> for NotCopied {
    fn as_ref(&self) -> &[u8] {
        static ZEROS: [u8; 100_000] = [0; 100_000];
        &ZEROS[..self.0]
    }
}

impl From<NotCopied> for ModelBytes {
    fn from(_: NotCopied) -> Self {
        panic!("copied before the refusal")
    }
}

#[test]
fn a_load_that_is_refused_has_not_copied_its_bytes() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 10);
    let limits = Limits::default().with_max_graph_bytes(90_000).with_max_graphs(3).with_max_loads(1);
    let guest = engine.guest_with(limits);
    let refused = |bytes| {
        let load = guest.load_async([NotCopied(bytes)], Encoding::PyTorch, Target::Cpu);
        block_on(load).unwrap_err().kind()
    };
    assert_eq!(refused(90_001), ErrorKind::TooLarge);
    let running = start(&guest, "gate load");
    watch.wait_for(1);
    assert_eq!(refused(80_000), ErrorKind::Busy);
    watch.open();
    block_on(running).unwrap();
    // Borrowed bytes that are not refused are copied.
    let borrowed = b"anything".to_vec();
    block_on(guest.load_async([Cow::Borrowed(&borrowed[..])], Encoding::PyTorch, Target::Cpu)).unwrap();
    block_on(start(&guest, "another")).unwrap();
    assert_eq!(refused(1), ErrorKind::TooLarge);
    guest.close();
    assert_eq!(refused(1), ErrorKind::RuntimeError);
}
