//! The epoch's contract (E1 to E3, `src/epoch.rs`), of the model and, under `--cfg crossbeam_loom`, of the real
//! collector: what the second does is something that the first allows, and the first does it no later.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc as StdArc, Mutex, MutexGuard};

use graphpool::{Guard, pin, verification};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::support::{collect, explore, explore_bounded};

/// Which guards are held, and what waits for which of them, in the order in which loom runs things.
#[derive(Default)]
struct History {
    next: u32,
    /// Pinned for certain.
    held: BTreeSet<u32>,
    /// Perhaps pinned: from before `pin` to after the drop.
    there: BTreeSet<u32>,
    /// The guards that were held at the deferral, and those that perhaps were.
    waits_for: Option<[BTreeSet<u32>; 2]>,
    ran: bool,
}

/// The history, which is std's: each look at it comes after a switch point that orders nothing.
#[derive(Default)]
struct Book {
    history: Mutex<History>,
    ticks: loom::sync::atomic::AtomicUsize,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, History> {
        let _ = self.ticks.compare_exchange(1, 2, Relaxed, Relaxed);
        self.history.lock().unwrap()
    }
}

type Shared = StdArc<Book>;

impl History {
    /// With the model what is deferred has run as soon as nothing holds it up: no later than any collector could.
    fn assert_not_late(&self) {
        let due = self.waits_for.as_ref().is_some_and(|[_, perhaps]| perhaps.is_disjoint(&self.there));
        assert!(
            cfg!(crossbeam_loom) || self.ran || !due,
            "not run, though every guard from before the deferral is gone"
        );
    }
}

fn enter(history: &Shared) -> (Guard, u32) {
    let number = announce(history);
    let guard = pin();
    history.lock().held.insert(number);
    (guard, number)
}

fn announce(history: &Shared) -> u32 {
    let mut history = history.lock();
    history.next += 1;
    let number = history.next;
    history.there.insert(number);
    number
}

fn leave(history: &Shared, (guard, number): (Guard, u32)) {
    history.lock().held.remove(&number);
    drop(guard);
    gone(history, number);
}

fn gone(history: &Shared, number: u32) {
    let mut history = history.lock();
    history.there.remove(&number);
    history.assert_not_late();
}

/// Defers, and has `ran` told of it when that runs.
fn defer(history: &Shared, guard: &Guard, ran: impl FnOnce() + 'static) {
    let mut now = history.lock();
    let before = now.next;
    now.waits_for = Some([now.held.clone(), now.there.clone()]);
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
    // SAFETY: `run` owns what it uses.
    unsafe { verification::defer(guard, run) };
    // Who came meanwhile came before or after.
    let mut now = history.lock();
    let meanwhile = before + 1..=now.next;
    now.waits_for.as_mut().expect("deferred")[1].extend(meanwhile);
}

/// In how many executions something was seen.
type Count = StdArc<AtomicU32>;

fn count(seen: &Count) {
    seen.fetch_add(1, Relaxed);
}

/// The real collector is under a bound, within which not everything comes.
fn assert_seen(seen: &Count) {
    assert!(cfg!(crossbeam_loom) || seen.load(Relaxed) > 0, "what the model is about never came");
}

/// E1: what is deferred runs once, after every guard that was held at the deferral. And with the model it has run
/// as soon as the last of those is gone: no later than any collector could.
#[test]
fn a_deferral_against_a_guard() {
    let [mine_last, theirs_last] = [Count::default(), Count::default()];
    let counts = [StdArc::clone(&mine_last), StdArc::clone(&theirs_last)];
    explore("a deferral against a guard", move || {
        let history = Shared::default();
        let other = StdArc::clone(&history);
        let reader = thread::spawn(move || {
            let held = enter(&other);
            leave(&other, held);
        });
        let held = enter(&history);
        let (me, counts) = (thread::current().id(), counts.clone());
        defer(&history, &held.0, move || {
            // What the real collector has left runs when the execution is over, on no thread of loom's.
            if cfg!(not(crossbeam_loom)) {
                count(&counts[usize::from(thread::current().id() != me)]);
            }
        });
        leave(&history, held);
        collect();
        reader.join().unwrap();
        collect();
        assert!(cfg!(crossbeam_loom) || history.lock().ran);
    });
    assert_seen(&mine_last);
    assert_seen(&theirs_last);
}

/// E1: a re-pin lets go of what was held before it, and of nothing after. What was deferred while the first pin was
/// held doesn't wait for the end of the guard.
#[test]
fn a_deferral_against_a_repin_with_5_preemptions() {
    let [by_repin, after] = [Count::default(), Count::default()];
    let counts = [StdArc::clone(&by_repin), StdArc::clone(&after)];
    explore_bounded("a deferral against a re-pin", 5, move || {
        let history = Shared::default();
        let other = StdArc::clone(&history);
        let [by_repin, after] = counts.clone();
        let reader = thread::spawn(move || {
            let (mut guard, first) = enter(&other);
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
            leave(&other, (guard, second));
            if waits {
                count(&after);
            }
        });
        let held = enter(&history);
        defer(&history, &held.0, || ());
        leave(&history, held);
        collect();
        reader.join().unwrap();
        assert!(cfg!(crossbeam_loom) || history.lock().ran);
    });
    assert_seen(&by_repin);
    assert_seen(&after);
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
