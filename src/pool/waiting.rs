//! From a removal to a vacant slot.
//!
//! Removals mark their slots as removed. One grace period at a time is under way for a pool: what is marked when it
//! begins waits for its end, what is marked later for the next. It begins with the first removal after the last one's
//! end and is over when some thread collects: by itself at its pins, at every 64th removal, at a flush. At its end a
//! bounded number of slots is released; the rest is marked as ready, for the next that collect, remove or insert.

use super::Layout;
use super::chunk::bits;
use super::inner::Inner;
use super::reclaim::{ReclaimScope, collect, defer, is_reclaiming};
use super::shard::Owner;
use crate::epoch::lanes;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// Chunks whose removed slots wait for one grace period: what one thread gathers at a time.
const MOST_CHUNKS: usize = if cfg!(any(loom, shuttle)) { 2 } else { 1 << 14 };
/// Slots that are released at a grace period's end, and at every [`LOOK`]th removal: more than come in meanwhile.
const RELEASES: u32 = if cfg!(any(loom, shuttle)) { 2 } else { 512 };
/// Removals of a lane between two collections.
pub(super) const LOOK: u64 = 64;
/// Collections without a grace period's end before whoever removes more lets other threads run: likely one of them was
/// interrupted while it was pinned, and holds everything back. It takes two threads on two cores to 4,500 slots where
/// they would take 104,000.
#[cfg(not(any(loom, shuttle)))]
const LOOKS: u32 = 64;

/// Rounds of a flush without a release before it gives up: somebody is pinned, or releases the rest.
const IDLE_ROUNDS: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 3 };

/// Slots of one chunk.
type Slots = (usize, u64);

/// Has a grace period begin for what is removed, if none is under way.
#[cold]
pub(super) fn begin<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>) {
    while !inner.removed.is_empty() {
        // AcqRel: of a removal and the end of a grace period, whichever comes second at this word begins the next one,
        // and sees what the first has marked.
        if inner.grace.under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        let removed: Vec<Slots> = std::iter::from_fn(|| inner.take_removed()).take(MOST_CHUNKS).collect();
        if !removed.is_empty() {
            let inner = Arc::clone(inner);
            // SAFETY: the values are Send, `inner` keeps alive what is reached (I6), and the slots are the closure's
            // alone (I5).
            unsafe { defer(move || end(&inner, removed)) };
            return;
        }
        inner.grace.under_way.swap(false, Ordering::AcqRel);
    }
}

/// Releases what was removed before the grace period that is over now.
fn end<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, removed: Vec<Slots>) {
    inner.grace.over.fetch_add(1, Ordering::Relaxed);
    inner.grace.under_way.swap(false, Ordering::AcqRel);
    // Before the destructors, so that what others remove doesn't wait for those.
    begin(inner);
    let mut left = RELEASES;
    for (number, slots) in removed {
        if left == 0 {
            inner.mark_ready(number, slots);
        } else {
            release(inner, number, slots);
            left = left.saturating_sub(slots.count_ones());
        }
    }
    go_on(inner, left);
}

/// Releases slots that are ready, and has the rest of them released later.
fn go_on<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, left: u32) {
    release_ready(inner, left);
    if !inner.ready.is_empty() {
        let inner = Arc::clone(inner);
        // SAFETY: as in `begin`.
        unsafe { defer(move || go_on(&inner, RELEASES)) };
    }
}

/// Releases slots that are ready, about as many as `most`, unless this thread runs destructors.
pub(super) fn reclaim_ready<T: Send + Sync, L: Layout>(inner: &Inner<T, L>, most: u32) {
    if !inner.ready.is_empty() && !is_reclaiming() {
        let _scope = ReclaimScope::enter();
        release_ready(inner, most);
    }
}

fn release_ready<T: Send + Sync, L: Layout>(inner: &Inner<T, L>, most: u32) {
    let mut left = most;
    while left > 0
        && let Some((number, slots)) = inner.ready.take(|number| Some(&inner.directory().chunk(number)?.marked.ready))
    {
        release(inner, number, slots);
        left = left.saturating_sub(slots.count_ones());
    }
}

/// Drops the values of slots whose grace periods are over, and makes the slots vacant.
fn release<T: Send + Sync, L: Layout>(inner: &Inner<T, L>, number: usize, slots: u64) {
    let chunk = inner.directory().listed(number);
    for slot in bits(slots) {
        // SAFETY: the slot is ours (I5), of a pool of `T`, and the grace period of its removal is over (I3).
        unsafe { chunk.slot(slot).release::<T>() };
    }
    let seat = lanes::enter();
    let owner = inner.owner(&seat);
    inner.vacate(number, slots, owner);
    owner.reclaimed.add(slots.count_ones().into());
    count_reclaimed(slots.count_ones().into());
}

/// What a lane's holder does after every [`LOOK`]th removal.
#[cold]
pub(super) fn look<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, owner: &Owner) {
    if is_reclaiming() {
        return;
    }
    begin(inner);
    crate::epoch::pin().flush();
    reclaim_ready(inner, RELEASES);
    yield_if_backlogged(inner, owner);
}

/// Yields where grace periods don't end. Not while this thread is pinned: then it may be what the others wait for.
#[cfg(not(any(loom, shuttle)))]
fn yield_if_backlogged<T: Send + Sync, L: Layout>(inner: &Inner<T, L>, owner: &Owner) {
    let over = inner.grace.over.load(Ordering::Relaxed);
    let looks = owner.backlog.with_mut(|backlog| {
        // SAFETY: the lane's holder's own (I7).
        let backlog = unsafe { &mut *backlog };
        backlog.looks = if backlog.over == over { backlog.looks.saturating_add(1) } else { 0 };
        backlog.over = over;
        backlog.looks
    });
    if looks > LOOKS && !crate::epoch::is_pinned() {
        std::thread::yield_now();
    }
}

/// In a model there is nobody else to run.
#[cfg(any(loom, shuttle))]
fn yield_if_backlogged<T: Send + Sync, L: Layout>(_: &Inner<T, L>, _: &Owner) {}

/// Releases all that was removed before the call, and what the destructors of that remove on this thread.
pub(super) fn flush<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>) {
    if is_reclaiming() || inner.nothing_waits() {
        return;
    }
    let seat = lanes::enter();
    let owner = inner.owner(&seat);
    let (mut target, mut reclaimed) = inner.removed_and_reclaimed();
    let (mut own, mut idle) = (owner.removed.get(), 0);
    while reclaimed < target && idle < IDLE_ROUNDS {
        begin(inner);
        collect();
        reclaim_ready(inner, u32::MAX);
        let (removed, now) = inner.removed_and_reclaimed();
        idle = if now == reclaimed { idle + 1 } else { 0 };
        reclaimed = now;
        if owner.removed.get() != own {
            // By destructors: a flush removes nothing itself.
            own = owner.removed.get();
            target = removed;
        }
    }
}

impl<T: Send + Sync, L: Layout> Inner<T, L> {
    /// Has a removed entry's slot released after a grace period.
    #[inline]
    pub(super) fn mark_removed(&self, number: usize, slots: u64) -> bool {
        self.removed.mark(number, slots, |number| &self.directory().listed(number).marked.removed)
    }

    /// Whether there is nothing that a flush could release.
    fn nothing_waits(&self) -> bool {
        // Acquire: of a grace period that began before the call, by any thread that this one has heard of.
        !self.grace.under_way.load(Ordering::Acquire) && self.removed.is_empty() && self.ready.is_empty()
    }

    fn take_removed(&self) -> Option<Slots> {
        self.removed.take(|number| Some(&self.directory().chunk(number)?.marked.removed))
    }

    fn mark_ready(&self, number: usize, slots: u64) {
        self.ready.mark(number, slots, |number| &self.directory().listed(number).marked.ready);
    }
}

/// Tells a model that memory was reclaimed: one in which none is shows nothing of it.
#[cfg_attr(not(any(loom, shuttle)), expect(unused_variables, reason = "only the models ask"))]
fn count_reclaimed(entries: u64) {
    #[cfg(any(loom, shuttle))]
    crate::verification::RECLAMATIONS.with(|count| count.set(count.get() + entries));
}
