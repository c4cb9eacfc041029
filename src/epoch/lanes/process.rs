//! The lanes of the process, and which of them this thread holds.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_epoch::LocalHandle;

use super::{Lane, Lanes};
use crate::epoch::{self, imp};

/// The most threads that keep a lane for life.
const MAX_KEEPING_THREADS: usize = 32;
/// Lanes that keep their participant while no thread holds them.
const KEPT_PARTICIPANTS: usize = 2 * MAX_KEEPING_THREADS;
/// Calls with a borrowed lane before a thread asks again to keep one.
const CALLS_BETWEEN_REQUESTS: u32 = 256;

type ProcessLane = Lane<UnsafeCell<Option<LocalHandle>>>;

static LANES: Lanes<UnsafeCell<Option<LocalHandle>>> = Lanes::new();
static KEEPING_THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The lane that this thread keeps for life. The thread-local has no destructor, so that reading it is one load.
    static KEPT_LANE: Cell<Option<&'static ProcessLane>> = const { Cell::new(None) };
    static THREAD: ThreadLanes = const { ThreadLanes::new() };
}

/// The lane that a thread borrows, if it keeps none.
struct ThreadLanes {
    /// The lane that is borrowed now, and the number of guards on it.
    borrowed: Cell<Option<&'static ProcessLane>>,
    guards: Cell<u32>,
    /// The lane that was borrowed last, which is tried first.
    last: Cell<Option<&'static ProcessLane>>,
    calls: Cell<u32>,
}

impl ThreadLanes {
    const fn new() -> Self {
        Self { borrowed: Cell::new(None), guards: Cell::new(0), last: Cell::new(None), calls: Cell::new(0) }
    }
}

impl Drop for ThreadLanes {
    /// If a guard outlives this, because it is in a thread-local that is dropped later, its lane is never given back.
    fn drop(&mut self) {
        if let Some(lane) = KEPT_LANE.take() {
            KEEPING_THREADS.fetch_sub(1, Ordering::Relaxed);
            if !is_pinned(lane) {
                give_back(lane);
            }
        }
    }
}

/// Holds a lane for this thread.
pub(crate) struct LaneGuard {
    lane: &'static ProcessLane,
    borrowed: Borrowed,
    _stays_on_its_thread: PhantomData<*mut ()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Borrowed {
    /// The thread keeps the lane.
    No,
    /// The thread's guards share the lane; the last one gives it back.
    Shared,
    /// This guard alone has the lane: the thread's thread-locals are gone.
    Alone,
}

impl LaneGuard {
    #[inline]
    pub(crate) fn number(&self) -> usize {
        self.lane.number()
    }
}

impl Drop for LaneGuard {
    #[inline]
    fn drop(&mut self) {
        if self.borrowed != Borrowed::No {
            release_borrowed(self.lane, self.borrowed);
        }
    }
}

/// Holds the lane that this thread keeps or has borrowed; otherwise takes one.
#[inline]
pub(crate) fn hold() -> LaneGuard {
    match KEPT_LANE.get() {
        Some(lane) => LaneGuard { lane, borrowed: Borrowed::No, _stays_on_its_thread: PhantomData },
        None => hold_without_kept_lane(),
    }
}

#[cold]
#[inline(never)]
fn hold_without_kept_lane() -> LaneGuard {
    let (lane, borrowed) = THREAD.try_with(keep_or_borrow).unwrap_or_else(|_| (take(None), Borrowed::Alone));
    LaneGuard { lane, borrowed, _stays_on_its_thread: PhantomData }
}

fn keep_or_borrow(thread: &ThreadLanes) -> (&'static ProcessLane, Borrowed) {
    if let Some(lane) = thread.borrowed.get() {
        thread.guards.set(thread.guards.get() + 1);
        return (lane, Borrowed::Shared);
    }
    let lane = take(thread.last.get());
    thread.last.set(Some(lane));
    let calls = thread.calls.replace(thread.calls.get().wrapping_add(1));
    if calls.is_multiple_of(CALLS_BETWEEN_REQUESTS) && may_keep() {
        KEPT_LANE.set(Some(lane));
        return (lane, Borrowed::No);
    }
    thread.borrowed.set(Some(lane));
    thread.guards.set(1);
    (lane, Borrowed::Shared)
}

fn may_keep() -> bool {
    // Relaxed: a count, which orders nothing.
    KEEPING_THREADS
        .try_update(Ordering::Relaxed, Ordering::Relaxed, |keepers| {
            (keepers < MAX_KEEPING_THREADS).then_some(keepers + 1)
        })
        .is_ok()
}

#[cold]
#[inline(never)]
fn release_borrowed(lane: &'static ProcessLane, borrowed: Borrowed) {
    if borrowed == Borrowed::Shared {
        let last = THREAD.try_with(|thread| {
            thread.guards.set(thread.guards.get() - 1);
            let last = thread.guards.get() == 0;
            if last {
                thread.borrowed.set(None);
            }
            last
        });
        // An error: the count of guards is gone, so that this may not be the last guard. The lane stays held.
        if last != Ok(true) {
            return;
        }
    }
    give_back(lane);
}

fn take(hint: Option<&'static ProcessLane>) -> &'static ProcessLane {
    // SAFETY: the list is a static, so its lanes are never dropped.
    unsafe { &*LANES.take(hint.filter(|lane| lane.number() < KEPT_PARTICIPANTS)) }
}

fn give_back(lane: &'static ProcessLane) {
    let participant = if lane.number() < KEPT_PARTICIPANTS {
        None
    } else {
        // SAFETY: this thread holds the lane (L1), and none of its guards has the participant pinned.
        unsafe { (*lane.state.get()).take() }
    };
    lane.give_back();
    if participant.is_some() {
        // Its drop has given a bag to the collector.
        epoch::count_bag();
    }
}

/// Whether this thread is pinned.
pub(crate) fn this_thread_is_pinned() -> bool {
    let borrowed = || THREAD.try_with(|thread| thread.borrowed.get()).ok().flatten();
    KEPT_LANE.get().or_else(borrowed).is_some_and(is_pinned)
}

/// Whether the lane's participant is pinned. This thread holds the lane.
fn is_pinned(lane: &ProcessLane) -> bool {
    // SAFETY: this thread holds the lane (L1).
    unsafe { &*lane.state.get() }.as_ref().is_some_and(LocalHandle::is_pinned)
}

/// The participant of the guard's lane.
#[inline]
pub(crate) fn participant(lane: &LaneGuard) -> &LocalHandle {
    // SAFETY: this thread holds the lane (L1), and drops the participant only when no guard is left.
    match unsafe { &*lane.lane.state.get() } {
        Some(participant) => participant,
        None => register(lane),
    }
}

#[cold]
#[inline(never)]
fn register(lane: &LaneGuard) -> &LocalHandle {
    // SAFETY: this thread holds the lane (L1), which has no participant yet.
    unsafe { (*lane.lane.state.get()).insert(imp::register()) }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::sync::{Arc, Barrier};

    use super::*;

    thread_local! {
        static BEFORE: RefCell<Vec<LaneGuard>> = const { RefCell::new(Vec::new()) };
        static AFTER: RefCell<Vec<LaneGuard>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn one_thread_at_a_time_holds_a_lane_and_another_after_it() {
        let all = Arc::new(Barrier::new(100));
        let threads: Vec<_> = (0..100)
            .map(|_| {
                let all = Arc::clone(&all);
                std::thread::spawn(move || {
                    let lane = hold();
                    all.wait();
                    lane.number()
                })
            })
            .collect();
        let numbers: BTreeSet<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!(numbers.len(), 100);
        let later = (0..500).map(|_| std::thread::spawn(|| hold().number()).join().expect("no panic"));
        let highest = later.max().expect("there were some");
        // Other tests of this process hold lanes too.
        assert!(highest < KEPT_PARTICIPANTS, "{highest}");
    }

    #[test]
    fn the_guards_of_a_thread_are_on_one_lane() {
        let thread = std::thread::spawn(|| {
            let (first, second) = (hold(), hold());
            assert_eq!(first.number(), second.number());
            drop(first);
            assert_eq!(hold().number(), second.number());
        });
        thread.join().expect("no panic");
    }

    /// Thread-locals are dropped in the order of their first use, or in the reverse order: one of the two lists of
    /// guards is dropped before the count of guards, and the other after it.
    #[test]
    fn a_guard_that_outlives_the_count_of_guards_keeps_its_lane_held() {
        let borrow = || {
            BEFORE.with(|_| ());
            // So that the thread does not ask to keep a lane.
            THREAD.with(|thread| thread.calls.set(1));
            AFTER.with(|_| ());
            for guards in [&BEFORE, &AFTER] {
                guards.with_borrow_mut(|guards| guards.extend([hold(), hold()]));
            }
            let lane = hold();
            assert!(lane.borrowed == Borrowed::Shared);
            lane.number()
        };
        let number = std::thread::spawn(borrow).join().expect("no panic");
        let mut link = &LANES.first;
        let lane = loop {
            // SAFETY: the lanes of a static are never dropped.
            let lane = unsafe { link.load(Ordering::Acquire).as_ref() }.expect("the lane is in the list");
            if lane.number() == number {
                break lane;
            }
            link = &lane.next;
        };
        assert!(lane.held.load(Ordering::Relaxed), "two guards are left, and either of them may be in use");
    }
}
