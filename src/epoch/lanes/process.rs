//! The lanes of the process, and which of them a thread holds.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_epoch::LocalHandle;

use super::{Lane, Lanes};
use crate::epoch::{self, imp};

/// Threads that keep a lane for life.
const KEEPERS: usize = 32;
/// Lanes whose participants are kept while nobody holds them.
const KEPT: usize = 2 * KEEPERS;
/// Calls with a borrowed lane before a thread asks again to keep one.
const CALLS_BETWEEN_REQUESTS: u32 = 256;

type ProcessLane = Lane<UnsafeCell<Option<LocalHandle>>>;

static LANES: Lanes<UnsafeCell<Option<LocalHandle>>> = Lanes::new();
static KEEPING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The lane that this thread keeps. Without a destructor, so that reading it is one load.
    static KEPT_LANE: Cell<Option<&'static ProcessLane>> = const { Cell::new(None) };
    static OWN: Own = const { Own::new() };
}

/// What a thread has of the lanes beside the one that it keeps.
struct Own {
    /// The lane that is borrowed, and by how many seats.
    borrowed: Cell<Option<&'static ProcessLane>>,
    uses: Cell<u32>,
    /// The lane that was borrowed last.
    last: Cell<Option<&'static ProcessLane>>,
    calls: Cell<u32>,
}

impl Own {
    const fn new() -> Self {
        Self { borrowed: Cell::new(None), uses: Cell::new(0), last: Cell::new(None), calls: Cell::new(0) }
    }
}

impl Drop for Own {
    /// A lane with a seat that outlives this, in a guard that is in a thread-local of its own, is held for ever.
    fn drop(&mut self) {
        if let Some(lane) = KEPT_LANE.take() {
            KEEPING.fetch_sub(1, Ordering::Relaxed);
            if !is_pinned(lane) {
                give_back(lane);
            }
        }
    }
}

/// The right to use a lane, for as long as this lives. Stays on its thread.
pub(crate) struct Seat {
    lane: &'static ProcessLane,
    borrowed: Borrowed,
    _stays_on_its_thread: PhantomData<*mut ()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Borrowed {
    /// The thread keeps the lane.
    No,
    /// With the thread's other seats.
    Shared,
    /// By this seat, on a thread whose thread-locals are gone.
    Alone,
}

impl Seat {
    #[inline]
    pub(crate) fn number(&self) -> usize {
        self.lane.number()
    }
}

impl Drop for Seat {
    #[inline]
    fn drop(&mut self) {
        if self.borrowed != Borrowed::No {
            leave(self.lane, self.borrowed);
        }
    }
}

/// A seat on this thread's lane.
#[inline]
pub(crate) fn enter() -> Seat {
    match KEPT_LANE.get() {
        Some(lane) => Seat { lane, borrowed: Borrowed::No, _stays_on_its_thread: PhantomData },
        None => enter_without_a_lane(),
    }
}

#[cold]
#[inline(never)]
fn enter_without_a_lane() -> Seat {
    let (lane, borrowed) = OWN.try_with(keep_or_borrow).unwrap_or_else(|_| (take(None), Borrowed::Alone));
    Seat { lane, borrowed, _stays_on_its_thread: PhantomData }
}

fn keep_or_borrow(own: &Own) -> (&'static ProcessLane, Borrowed) {
    if let Some(lane) = own.borrowed.get() {
        own.uses.set(own.uses.get() + 1);
        return (lane, Borrowed::Shared);
    }
    let lane = take(own.last.get());
    own.last.set(Some(lane));
    let calls = own.calls.replace(own.calls.get().wrapping_add(1));
    if calls.is_multiple_of(CALLS_BETWEEN_REQUESTS) && may_keep() {
        KEPT_LANE.set(Some(lane));
        return (lane, Borrowed::No);
    }
    own.borrowed.set(Some(lane));
    own.uses.set(1);
    (lane, Borrowed::Shared)
}

fn may_keep() -> bool {
    // Relaxed: a count, by which nothing is ordered.
    KEEPING
        .try_update(Ordering::Relaxed, Ordering::Relaxed, |keepers| (keepers < KEEPERS).then_some(keepers + 1))
        .is_ok()
}

#[cold]
#[inline(never)]
fn leave(lane: &'static ProcessLane, borrowed: Borrowed) {
    if borrowed == Borrowed::Shared {
        let last = OWN.try_with(|own| {
            own.uses.set(own.uses.get() - 1);
            let last = own.uses.get() == 0;
            if last {
                own.borrowed.set(None);
            }
            last
        });
        // An error: this seat outlives what it was counted by, and there may be others.
        if last != Ok(true) {
            return;
        }
    }
    give_back(lane);
}

fn take(hint: Option<&'static ProcessLane>) -> &'static ProcessLane {
    // SAFETY: the list is a static, so its lanes live for ever.
    unsafe { &*LANES.take(hint.filter(|lane| lane.number() < KEPT)) }
}

fn give_back(lane: &'static ProcessLane) {
    let participant = if lane.number() < KEPT {
        None
    } else {
        // SAFETY: the lane is held by this thread (L1), and no seat has its participant pinned.
        unsafe { (*lane.own.get()).take() }
    };
    lane.give_back();
    if participant.is_some() {
        // Its end hands one to the collector.
        epoch::count_bag();
    }
}

/// Whether this thread is pinned.
pub(crate) fn this_thread_is_pinned() -> bool {
    let borrowed = || OWN.try_with(|own| own.borrowed.get()).ok().flatten();
    KEPT_LANE.get().or_else(borrowed).is_some_and(is_pinned)
}

/// Whether a lane that this thread holds is pinned.
fn is_pinned(lane: &ProcessLane) -> bool {
    // SAFETY: the lane is this thread's (L1).
    unsafe { &*lane.own.get() }.as_ref().is_some_and(LocalHandle::is_pinned)
}

/// The participant of the seat's lane.
#[inline]
pub(crate) fn participant(seat: &Seat) -> &LocalHandle {
    // SAFETY: the lane is this thread's (L1), which drops the participant only where no seat is left.
    match unsafe { &*seat.lane.own.get() } {
        Some(participant) => participant,
        None => register(seat),
    }
}

#[cold]
#[inline(never)]
fn register(seat: &Seat) -> &LocalHandle {
    // SAFETY: as above, and there is none yet.
    unsafe { (*seat.lane.own.get()).insert(imp::register()) }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::sync::{Arc, Barrier};

    use super::*;

    thread_local! {
        static BEFORE: RefCell<Vec<Seat>> = const { RefCell::new(Vec::new()) };
        static AFTER: RefCell<Vec<Seat>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn a_lane_is_held_by_one_thread_at_a_time_and_by_others_after_it() {
        let all = Arc::new(Barrier::new(100));
        let threads: Vec<_> = (0..100)
            .map(|_| {
                let all = Arc::clone(&all);
                std::thread::spawn(move || {
                    let seat = enter();
                    all.wait();
                    seat.number()
                })
            })
            .collect();
        let numbers: BTreeSet<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!(numbers.len(), 100);
        let later = (0..500).map(|_| std::thread::spawn(|| enter().number()).join().expect("no panic"));
        let highest = later.max().expect("there were some");
        // Other tests of this process hold some.
        assert!(highest < KEPT, "{highest}");
    }

    #[test]
    fn seats_of_a_thread_are_on_one_lane() {
        let thread = std::thread::spawn(|| {
            let (first, second) = (enter(), enter());
            assert_eq!(first.number(), second.number());
            drop(first);
            assert_eq!(enter().number(), second.number());
        });
        thread.join().expect("no panic");
    }

    /// Thread-locals end in the order, or against the order, in which they were first used: one list of seats does
    /// before the count of them, and one after.
    #[test]
    fn a_lane_is_held_by_a_seat_that_outlives_the_count_of_seats() {
        let borrow = || {
            BEFORE.with(|_| ());
            // Not a call at which the thread asks to keep a lane.
            OWN.with(|own| own.calls.set(1));
            AFTER.with(|_| ());
            for seats in [&BEFORE, &AFTER] {
                seats.with_borrow_mut(|seats| seats.extend([enter(), enter()]));
            }
            let seat = enter();
            assert!(seat.borrowed == Borrowed::Shared);
            seat.number()
        };
        let number = std::thread::spawn(borrow).join().expect("no panic");
        let mut link = &LANES.first;
        let lane = loop {
            // SAFETY: lanes live for ever.
            let lane = unsafe { link.load(Ordering::Acquire).as_ref() }.expect("it was made");
            if lane.number() == number {
                break lane;
            }
            link = &lane.next;
        };
        assert!(lane.held.load(Ordering::Relaxed), "two seats are left, and either of them may be in use");
    }
}
