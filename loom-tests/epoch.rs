//! The epoch's contract (E1 to E3, `src/epoch.rs`), kept by the model and, under `--cfg crossbeam_loom`, by
//! crossbeam-epoch: the model allows everything that crossbeam-epoch does, and runs a deferred function no later.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc as StdArc, Mutex, MutexGuard};

use graphpool::{Guard, pin, verification};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::support::{collect, explore, explore_bounded};

/// Which guards are held, and which of them the deferred function waits for, in the order in which loom runs the steps.
#[derive(Default)]
struct History {
    next: u32,
    /// Guards that are certainly pinned.
    held: BTreeSet<u32>,
    /// Guards that may be pinned: from before `pin` to after the drop.
    may_be_held: BTreeSet<u32>,
    /// The guards that were certainly held at the deferral, and those that may have been.
    waits_for: Option<[BTreeSet<u32>; 2]>,
    ran: bool,
}

/// The history in std types: a switch point that orders nothing precedes each access.
#[derive(Default)]
struct Recorder {
    history: Mutex<History>,
    ticks: loom::sync::atomic::AtomicUsize,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, History> {
        let _ = self.ticks.compare_exchange(1, 2, Relaxed, Relaxed);
        self.history.lock().unwrap()
    }
}

type Shared = StdArc<Recorder>;

impl History {
    /// The model runs a deferred function as soon as every guard that it waits for is gone.
    fn assert_not_late(&self) {
        let due = self.waits_for.as_ref().is_some_and(|[_, perhaps]| perhaps.is_disjoint(&self.may_be_held));
        assert!(
            cfg!(crossbeam_loom) || self.ran || !due,
            "not run, though every guard from before the deferral is gone"
        );
    }
}

fn pin_recorded(history: &Shared) -> (Guard, u32) {
    let number = announce(history);
    let guard = pin();
    history.lock().held.insert(number);
    (guard, number)
}

fn announce(history: &Shared) -> u32 {
    let mut history = history.lock();
    history.next += 1;
    let number = history.next;
    history.may_be_held.insert(number);
    number
}

fn unpin_recorded(history: &Shared, (guard, number): (Guard, u32)) {
    history.lock().held.remove(&number);
    drop(guard);
    gone(history, number);
}

fn gone(history: &Shared, number: u32) {
    let mut history = history.lock();
    history.may_be_held.remove(&number);
    history.assert_not_late();
}

/// Defers a function that checks the contract and then calls `ran`.
fn defer(history: &Shared, guard: &Guard, ran: impl FnOnce() + 'static) {
    let mut now = history.lock();
    let before = now.next;
    now.waits_for = Some([now.held.clone(), now.may_be_held.clone()]);
    drop(now);
    let shared = StdArc::clone(history);
    let run = move || {
        verification::RECLAMATIONS.with(|count| count.set(count.get() + 1));
        let mut now = shared.lock();
        assert!(!now.ran, "run twice");
        now.ran = true;
        let [held, _] = now.waits_for.as_ref().expect("deferred");
        assert!(held.is_disjoint(&now.held), "run while a guard from before the deferral is held");
        drop(now);
        ran();
    };
    // SAFETY: `run` owns what it uses (2), which any thread may use (1).
    unsafe { verification::defer(guard, run) };
    // Guards that were announced in the meantime may have been pinned before the deferral or after it.
    let mut now = history.lock();
    let meanwhile = before + 1..=now.next;
    now.waits_for.as_mut().expect("deferred")[1].extend(meanwhile);
}

/// The number of executions in which something was seen.
type Count = StdArc<AtomicU32>;

fn count(seen: &Count) {
    seen.fetch_add(1, Relaxed);
}

/// crossbeam-epoch runs within a bound, in which some cases do not occur.
fn assert_seen(seen: &Count) {
    assert!(cfg!(crossbeam_loom) || seen.load(Relaxed) > 0, "the case that the model is about never occurred");
}

/// E1: a deferred function runs once, after every guard that was held at the deferral is gone. The model runs it as
/// soon as the last of them is gone.
#[test]
fn a_deferral_against_a_guard() {
    let [mine_last, theirs_last] = [Count::default(), Count::default()];
    let counts = [StdArc::clone(&mine_last), StdArc::clone(&theirs_last)];
    explore("a deferral against a guard", move || {
        let history = Shared::default();
        let other = StdArc::clone(&history);
        let reader = thread::spawn(move || {
            let held = pin_recorded(&other);
            unpin_recorded(&other, held);
        });
        let held = pin_recorded(&history);
        let (me, counts) = (thread::current().id(), counts.clone());
        defer(&history, &held.0, move || {
            // crossbeam-epoch runs leftovers after the execution, outside loom's threads.
            if cfg!(not(crossbeam_loom)) {
                count(&counts[usize::from(thread::current().id() != me)]);
            }
        });
        unpin_recorded(&history, held);
        collect();
        reader.join().unwrap();
        collect();
        assert!(cfg!(crossbeam_loom) || history.lock().ran);
    });
    assert_seen(&mine_last);
    assert_seen(&theirs_last);
}

/// E1: a re-pin ends the pin before it. A function that was deferred during the first pin does not wait for the guard's
/// drop, and one that was deferred after the re-pin does.
#[test]
fn a_deferral_against_a_repin_with_5_preemptions() {
    let [by_repin, after] = [Count::default(), Count::default()];
    let counts = [StdArc::clone(&by_repin), StdArc::clone(&after)];
    explore_bounded("a deferral against a re-pin", 5, move || {
        let history = Shared::default();
        let other = StdArc::clone(&history);
        let [by_repin, after] = counts.clone();
        let reader = thread::spawn(move || {
            let (mut guard, first) = pin_recorded(&other);
            other.lock().held.remove(&first);
            let second = announce(&other);
            guard.repin();
            gone(&other, first);
            let mut now = other.lock();
            now.held.insert(second);
            let waited = now.waits_for.as_ref().is_some_and(|[held, _]| held.contains(&first));
            if waited && now.ran {
                count(&by_repin);
            }
            let waits = now.waits_for.as_ref().is_some_and(|[_, perhaps]| !perhaps.contains(&first));
            drop(now);
            unpin_recorded(&other, (guard, second));
            if waits {
                count(&after);
            }
        });
        let held = pin_recorded(&history);
        defer(&history, &held.0, || ());
        unpin_recorded(&history, held);
        collect();
        reader.join().unwrap();
        assert!(cfg!(crossbeam_loom) || history.lock().ran);
    });
    assert_seen(&by_repin);
    assert_seen(&after);
}

/// E2, E3: one thread reads a cell under a guard if it finds it published. The other unpublishes the cell and defers a
/// write to it. loom would report a race.
#[test]
fn a_read_under_a_guard_against_a_deferred_write() {
    struct Cell {
        published: loom::sync::atomic::AtomicBool,
        value: UnsafeCell<u32>,
    }
    // SAFETY: the model shows that no write is concurrent with a read.
    unsafe impl Send for Cell {}
    // SAFETY: as above.
    unsafe impl Sync for Cell {}

    explore("a read under a guard against a deferred write", || {
        let cell = Arc::new(Cell { published: loom::sync::atomic::AtomicBool::new(true), value: UnsafeCell::new(1) });
        let other = Arc::clone(&cell);
        let reader = thread::spawn(move || {
            let _guard = pin();
            if other.published.load(loom::sync::atomic::Ordering::Acquire) {
                // SAFETY: loom reports a concurrent write.
                other.value.with(|value| assert_eq!(unsafe { *value }, 1));
            }
        });
        {
            let guard = pin();
            cell.published.store(false, loom::sync::atomic::Ordering::Relaxed);
            let last = Arc::clone(&cell);
            let write = move || {
                verification::RECLAMATIONS.with(|count| count.set(count.get() + 1));
                // SAFETY: loom reports a concurrent read.
                last.value.with_mut(|value| unsafe { *value = 2 });
            };
            // SAFETY: `write` owns what it uses (2), which any thread may use (1).
            unsafe { verification::defer(&guard, write) };
        }
        collect();
        reader.join().unwrap();
    });
}
