//! From a removal to a vacant slot: the deferral, the release, and the destructors that it runs.

use std::cell::Cell;

use super::chain::Chain;
use super::inner::Inner;
use super::layout::{Layout, Shape};
use super::limbo::Limbo;
use super::magazine::Magazine;
use super::threads;
use crate::epoch::{deferrals, pin};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, thread_local};

/// Pins and flushes that an unhindered collection takes: the epoch has to advance twice past a deferral.
const PASSES: usize = 3;

/// Deferrals that wait before whoever removes more lets other threads run: likely one of them was interrupted while
/// it was pinned, and holds all of them back. It takes two threads on two cores to 4,500 slots where they would take
/// 104,000.
#[cfg(not(any(loom, shuttle)))]
const BACKLOG: usize = 64;

/// Has what is in a ring released after a grace period.
#[cold]
pub(super) fn claim<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, limbo: &Limbo) {
    if let Some(claimed) = limbo.claim() {
        defer(inner, inner.chain(claimed.places()));
    }
}

/// Has a chain released after a grace period.
#[cold]
pub(super) fn defer<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, chain: Chain) {
    let inner = Arc::clone(inner);
    let guard = pin();
    // SAFETY: `inner` keeps alive what is reached (I6), and the chain is this closure's alone (I5).
    unsafe { guard.defer(move || release(&inner, chain)) };
    if !Releasing::puts_off() {
        guard.flush();
    }
}

/// Lets other threads run where much waits. Not while this one is pinned: then it may be what the others wait for.
#[cold]
pub(super) fn make_way() {
    // In a model there is nobody else to run, and the count is of other models' deferrals too.
    #[cfg(not(any(loom, shuttle)))]
    if deferrals() > BACKLOG && !crate::epoch::is_pinned() {
        std::thread::yield_now();
    }
}

/// Lets go of the values of a chain and makes its slots vacant. The grace period of each removal in it is over.
fn release<T: Send + Sync, L: Layout>(inner: &Inner<T, L>, chain: Chain) {
    let _releasing = Releasing::begin();
    // Whoever only reads collects too, and gets no number for that: what it vacates goes to the depot.
    let shard = threads::number_if_any().and_then(|thread| inner.directory.shard(thread));
    let mut vacated = Magazine::EMPTY;
    let mut place = chain.first::<L>();
    for _ in 0..chain.count::<L>() {
        let Some(slot) = inner.directory.slot(place) else { unreachable!("it was live") };
        let word = slot.vacant_word();
        // SAFETY: the slot is this chain's (I5), whose entries' grace periods are over (I3).
        unsafe { slot.release() };
        let key = Shape::<L>::generation_bits(word) | place;
        match shard {
            Some(shard) => inner.vacate(shard, slot, key),
            None => {
                if let Some(next) = Shape::<L>::next_generation(key) {
                    vacated.put(next, &inner.directory);
                } else {
                    // SAFETY: as above, and without a value.
                    unsafe { slot.drop_spare() };
                    inner.elsewhere.retired_slots.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        match shard {
            Some(shard) => shard.owner.reclaimed.add(1),
            None => drop(inner.elsewhere.reclaimed.fetch_add(1, Ordering::Relaxed)),
        }
        place = Shape::<L>::place(word);
    }
    inner.depot.give(vacated, &inner.directory);
    count_reclaimed(chain.count::<L>());
}

/// Collects what may be collected now. Not from within a destructor that a collection runs: a value that removes
/// another that removes another would take as much stack as there are values.
#[cold]
pub(super) fn collect() {
    if !Releasing::puts_off() {
        for _ in 0..PASSES {
            pin().flush();
        }
    }
}

/// Collects until there is nothing more to be had: a collection takes a few of the deferrals that are ready, and behind
/// a reader that was pinned for long there may be thousands.
pub(super) fn collect_all() {
    collect();
    // Other models' deferrals would be counted in, and no model defers more than one collection takes.
    if cfg!(not(any(loom, shuttle))) {
        let mut left = deferrals();
        while left > 0 {
            collect();
            let still_left = deferrals();
            if still_left >= left {
                break;
            }
            left = still_left;
        }
    }
}

thread_local! {
    static RELEASING: Cell<bool> = const { Cell::new(false) };
}

thread_local! {
    static PUT_OFF: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as one that runs destructors. The outermost mark collects at its end what was put off meanwhile.
pub(super) struct Releasing {
    outermost: bool,
}

impl Releasing {
    pub(super) fn begin() -> Self {
        Self { outermost: !RELEASING.try_with(|flag| flag.replace(true)).unwrap_or(true) }
    }

    /// Whether a collection has to wait, which is then remembered.
    fn puts_off() -> bool {
        let releasing = RELEASING.try_with(Cell::get).unwrap_or(true);
        if releasing {
            let _ = PUT_OFF.try_with(|flag| flag.set(true));
        }
        releasing
    }
}

impl Drop for Releasing {
    fn drop(&mut self) {
        if self.outermost {
            // Still marked: what this collects puts off in turn, and takes one more round, not one more level.
            while PUT_OFF.try_with(Cell::take).unwrap_or(false) {
                pin().flush();
            }
            let _ = RELEASING.try_with(|flag| flag.set(false));
        }
    }
}

/// Tells a model that memory was reclaimed: one in which none is shows nothing of it.
#[cfg_attr(not(any(loom, shuttle)), expect(unused_variables, reason = "only the models ask"))]
fn count_reclaimed(entries: u64) {
    #[cfg(any(loom, shuttle))]
    crate::verification::RECLAMATIONS.with(|count| count.set(count.get() + entries));
}
