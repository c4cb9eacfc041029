//! The epoch's contract (E1 to E3, `src/epoch.rs`), of the model and, under `--cfg crossbeam_loom`, of the real
//! collector: what the second does is something that the first allows, and the first does it no later.

use std::collections::BTreeSet;
use std::sync::{Arc as StdArc, Mutex};

use graphpool::{Guard, pin, verification};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::support::{collect, explore};

/// Which guards are held, and what waits for which of them, in the order in which loom runs things.
#[derive(Default)]
struct History {
    next: u32,
    held: BTreeSet<u32>,
    /// The guards that were held at the deferral, while what was deferred hasn't run.
    waits_for: Option<BTreeSet<u32>>,
    ran: u32,
}

type Shared = StdArc<Mutex<History>>;

fn enter(history: &Shared) -> (Guard, u32) {
    let guard = pin();
    let mut history = history.lock().unwrap();
    history.next += 1;
    let number = history.next;
    history.held.insert(number);
    (guard, number)
}

fn leave(history: &Shared, (guard, number): (Guard, u32)) {
    history.lock().unwrap().held.remove(&number);
    drop(guard);
}

fn defer(history: &Shared, guard: &Guard) {
    let mut now = history.lock().unwrap();
    now.waits_for = Some(now.held.clone());
    drop(now);
    let history = StdArc::clone(history);
    let run = move || {
        verification::RECLAMATIONS.with(|count| count.set(count.get() + 1));
        let mut now = history.lock().unwrap();
        let waits_for = now.waits_for.take().expect("deferred, and not run before");
        assert!(waits_for.is_disjoint(&now.held), "run while a guard from before the deferral is held");
        now.ran += 1;
    };
    // SAFETY: `run` owns what it uses.
    unsafe { verification::defer(guard, run) };
}

/// E1: what is deferred runs once, after every guard that was held at the deferral. And with the model it has run
/// as soon as the last of those is gone: no later than any collector could.
#[test]
fn a_deferral_against_a_guard() {
    explore("a deferral against a guard", || {
        let history = Shared::default();
        let other = StdArc::clone(&history);
        let reader = thread::spawn(move || {
            let held = enter(&other);
            thread::yield_now();
            leave(&other, held);
        });
        let held = enter(&history);
        defer(&history, &held.0);
        leave(&history, held);
        collect();
        reader.join().unwrap();
        collect();
        let now = history.lock().unwrap();
        assert_eq!(now.ran, u32::from(now.waits_for.is_none()));
        assert!(cfg!(crossbeam_loom) || now.ran == 1, "the model collects at the first moment");
    });
}

/// E1: a re-pin lets go of what was held before it, and of nothing after.
#[test]
fn a_deferral_against_a_repin() {
    explore("a deferral against a re-pin", || {
        let history = Shared::default();
        let other = StdArc::clone(&history);
        let reader = thread::spawn(move || {
            let (mut guard, number) = enter(&other);
            other.lock().unwrap().held.remove(&number);
            guard.repin();
            let mut now = other.lock().unwrap();
            now.next += 1;
            let number = now.next;
            now.held.insert(number);
            drop(now);
            leave(&other, (guard, number));
        });
        let held = enter(&history);
        defer(&history, &held.0);
        leave(&history, held);
        collect();
        reader.join().unwrap();
    });
}

/// E2, E3: a cell that is read under a guard by whoever finds it published, and written by what was deferred after it
/// was unpublished: loom finds the race that there would be.
#[test]
fn a_read_under_a_guard_against_a_deferred_write() {
    struct Cell {
        published: loom::sync::atomic::AtomicBool,
        value: UnsafeCell<u32>,
    }
    // SAFETY: what is shown here.
    unsafe impl Send for Cell {}
    // SAFETY: as above.
    unsafe impl Sync for Cell {}

    explore("a read under a guard against a deferred write", || {
        let cell = Arc::new(Cell { published: loom::sync::atomic::AtomicBool::new(true), value: UnsafeCell::new(1) });
        let other = Arc::clone(&cell);
        let reader = thread::spawn(move || {
            let _guard = pin();
            if other.published.load(loom::sync::atomic::Ordering::Acquire) {
                // SAFETY: loom reports it if not.
                other.value.with(|value| assert_eq!(unsafe { *value }, 1));
            }
        });
        {
            let guard = pin();
            cell.published.store(false, loom::sync::atomic::Ordering::Relaxed);
            let last = Arc::clone(&cell);
            let write = move || {
                verification::RECLAMATIONS.with(|count| count.set(count.get() + 1));
                // SAFETY: as above.
                last.value.with_mut(|value| unsafe { *value = 2 });
            };
            // SAFETY: `write` owns what it uses.
            unsafe { verification::defer(&guard, write) };
        }
        collect();
        reader.join().unwrap();
    });
}
