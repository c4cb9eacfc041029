//! Reclamation: what happens to a slot from its removal until it is vacant again.
//!
//! 1. A removal marks its slot as *removed*.
//! 2. [`begin_grace_period`] takes all removed marks, and defers a function that has the slots: they are *deferred*. A
//!    pool waits for one grace period at a time. Slots that are removed meanwhile stay marked until it ends.
//! 3. The collector runs the function after every guard that was pinned at the deferral is gone: at a pin, at every
//!    64th removal, or in a flush, on the thread that makes that call. [`end_grace_period`] releases up to
//!    [`RELEASES_PER_COLLECTION`] slots, marks the rest as *ready*, and begins the next grace period.
//! 4. [`release`] drops a slot's value and marks the slot as *vacant*. Ready slots are released by further deferred
//!    functions, by every 64th removal, by a flush, and by insertions that find their cache empty.

use super::Layout;
use super::chunk::bits;
use super::destructors::{ReclaimScope, collect, defer, is_reclaiming};
use super::inner::Inner;
use super::shard::Shard;
use crate::epoch::lanes;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// Chunks whose removed slots wait for one grace period: a bound on the memory of the deferred function.
const MAX_CHUNKS_PER_GRACE_PERIOD: usize = if cfg!(any(loom, shuttle)) { 2 } else { 1 << 14 };
/// Slots that one collection releases: more than the 64 that are removed between two collections of a lane.
const RELEASES_PER_COLLECTION: u32 = if cfg!(any(loom, shuttle)) { 2 } else { 512 };
/// Removals of a lane between two collections.
pub(super) const REMOVALS_BETWEEN_COLLECTIONS: u64 = 64;
/// Collections during which no grace period ends, before a thread that removes yields: probably a pinned thread was
/// preempted. With this bound two threads on two cores use 4,500 slots; without it they use 104,000.
#[cfg(not(any(loom, shuttle)))]
const COLLECTIONS_BEFORE_YIELD: u32 = 64;

/// Rounds of a flush that release nothing before it returns: then a thread is pinned, or another releases the rest.
const IDLE_ROUNDS: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 3 };

/// Slots of one chunk: its number, and a bit for each slot.
type Slots = (usize, u64);

/// Defers the release of all removed slots, unless a grace period is in progress.
#[cold]
pub(super) fn begin_grace_period<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>) {
    while !inner.removed.is_empty() {
        // AcqRel: a removal and the end of a grace period meet at this word. The second of them begins the next grace
        // period, and sees what the first has marked.
        if inner.grace.in_progress.swap(true, Ordering::AcqRel) {
            return;
        }
        let removed: Vec<Slots> =
            std::iter::from_fn(|| inner.take_removed()).take(MAX_CHUNKS_PER_GRACE_PERIOD).collect();
        if !removed.is_empty() {
            let inner = Arc::clone(inner);
            // SAFETY: the values are Send (1). The closure owns the slots (I5), and `inner` keeps the chunks alive (2; I6).
            unsafe { defer(move || end_grace_period(&inner, removed)) };
            return;
        }
        inner.grace.in_progress.swap(false, Ordering::AcqRel);
    }
}

/// Releases slots whose grace period is over.
fn end_grace_period<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, removed: Vec<Slots>) {
    inner.grace.completed.fetch_add(1, Ordering::Relaxed);
    inner.grace.in_progress.swap(false, Ordering::AcqRel);
    // Before the destructors, which may take long: the next grace period does not wait for them.
    begin_grace_period(inner);
    let mut left = RELEASES_PER_COLLECTION;
    for (number, slots) in removed {
        if left == 0 {
            inner.mark_ready(number, slots);
        } else {
            release(inner, number, slots);
            left = left.saturating_sub(slots.count_ones());
        }
    }
    release_ready_then_defer(inner, left);
}

/// Releases up to `most` ready slots, and defers the release of the rest.
fn release_ready_then_defer<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, most: u32) {
    release_ready(inner, most);
    if !inner.ready.is_empty() {
        let inner = Arc::clone(inner);
        // SAFETY: the values are Send (1), and `inner` keeps the chunks alive (2; I6).
        unsafe { defer(move || release_ready_then_defer(&inner, RELEASES_PER_COLLECTION)) };
    }
}

/// Releases ready slots, of whole chunks until there are `most`, unless this thread already runs destructors.
pub(super) fn reclaim_ready<T: Send + Sync, L: Layout>(inner: &Inner<T, L>, most: u32) {
    if !inner.ready.is_empty() && !is_reclaiming() {
        let _scope = ReclaimScope::enter();
        release_ready(inner, most);
    }
}

fn release_ready<T: Send + Sync, L: Layout>(inner: &Inner<T, L>, most: u32) {
    let mut left = most;
    while left > 0
        && let Some((number, slots)) = inner.ready.take(|number| Some(&inner.directory().chunk(number)?.marks.ready))
    {
        release(inner, number, slots);
        left = left.saturating_sub(slots.count_ones());
    }
}

/// Drops the values of slots whose grace period is over, and makes the slots vacant.
fn release<T: Send + Sync, L: Layout>(inner: &Inner<T, L>, number: usize, slots: u64) {
    let chunk = inner.directory().chunk_in_use(number);
    for slot in bits(slots) {
        // SAFETY: the slot is ours (I5), the grace period of its removal is over (I3), and the values are of type `T`.
        unsafe { chunk.slot(slot).release::<T>() };
    }
    let lane = lanes::hold();
    let shard = inner.shard(&lane);
    inner.make_vacant(number, slots, shard);
    shard.reclaimed.add(slots.count_ones().into());
    count_reclaimed(slots.count_ones().into());
}

/// Collects. Called at every [`REMOVALS_BETWEEN_COLLECTIONS`]th removal of a lane, by its holder.
#[cold]
pub(super) fn collect_after_removals<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, shard: &Shard) {
    if is_reclaiming() {
        return;
    }
    begin_grace_period(inner);
    crate::epoch::pin().flush();
    reclaim_ready(inner, RELEASES_PER_COLLECTION);
    yield_if_backlogged(inner, shard);
}

/// Yields if grace periods do not end, unless this thread is pinned: then they may be waiting for it.
#[cfg(not(any(loom, shuttle)))]
fn yield_if_backlogged<T: Send + Sync, L: Layout>(inner: &Inner<T, L>, shard: &Shard) {
    let completed = inner.grace.completed.load(Ordering::Relaxed);
    let stalled_collections = shard.backlog.with_mut(|backlog| {
        // SAFETY: the caller holds the lane (I7).
        let backlog = unsafe { &mut *backlog };
        backlog.stalled_collections =
            if backlog.completed == completed { backlog.stalled_collections.saturating_add(1) } else { 0 };
        backlog.completed = completed;
        backlog.stalled_collections
    });
    if stalled_collections > COLLECTIONS_BEFORE_YIELD && !crate::epoch::is_pinned() {
        std::thread::yield_now();
    }
}

/// A model explores every schedule, so that a yield would add nothing.
#[cfg(any(loom, shuttle))]
fn yield_if_backlogged<T: Send + Sync, L: Layout>(_: &Inner<T, L>, _: &Shard) {}

/// Releases every slot that was removed before the call, and those that the destructors remove on this thread.
pub(super) fn flush<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>) {
    if is_reclaiming() || inner.all_released() {
        return;
    }
    let lane = lanes::hold();
    let shard = inner.shard(&lane);
    let (mut target, mut reclaimed) = inner.removed_and_reclaimed();
    let (mut own_removals, mut idle) = (shard.removed.get(), 0);
    while reclaimed < target && idle < IDLE_ROUNDS {
        begin_grace_period(inner);
        collect();
        reclaim_ready(inner, u32::MAX);
        let (removed, now) = inner.removed_and_reclaimed();
        idle = if now == reclaimed { idle + 1 } else { 0 };
        reclaimed = now;
        if shard.removed.get() != own_removals {
            // Destructors have removed entries on this thread: a flush itself removes none.
            own_removals = shard.removed.get();
            target = removed;
        }
    }
}

impl<T: Send + Sync, L: Layout> Inner<T, L> {
    /// Marks slots as removed. `true` if their chunk had no removed slot before.
    #[inline]
    pub(super) fn mark_removed(&self, number: usize, slots: u64) -> bool {
        self.removed.mark(number, slots, |number| &self.directory().chunk_in_use(number).marks.removed)
    }

    /// Whether a flush has nothing to release.
    fn all_released(&self) -> bool {
        // Acquire: pairs with the swaps of `in_progress`. This thread sees a grace period that began before a call of
        // which it knows.
        !self.grace.in_progress.load(Ordering::Acquire) && self.removed.is_empty() && self.ready.is_empty()
    }

    fn take_removed(&self) -> Option<Slots> {
        self.removed.take(|number| Some(&self.directory().chunk(number)?.marks.removed))
    }

    fn mark_ready(&self, number: usize, slots: u64) {
        self.ready.mark(number, slots, |number| &self.directory().chunk_in_use(number).marks.ready);
    }
}

/// Counts reclaimed entries for the models: one that reclaims nothing shows nothing about reclamation.
#[cfg_attr(not(any(loom, shuttle)), expect(unused_variables, reason = "only the models read the count"))]
fn count_reclaimed(entries: u64) {
    #[cfg(any(loom, shuttle))]
    crate::verification::RECLAMATIONS.with(|count| count.set(count.get() + entries));
}
