//! What a pool is inside: its slots, the vacant ones of them, and the tag of its handles.

use std::mem::ManuallyDrop;

use super::chain::{Chain, link};
use super::directory::{Directory, Shard};
use super::error::InsertError;
use super::layout::{Layout, Shape};
use super::magazine::Depot;
use super::places::Places;
use super::reclaim::{Releasing, claim, collect};
use super::slot::Slot;
use super::tag::PoolTag;
use super::threads;
use super::value::Insert;
use crate::handle::Handle;
use crate::sync::Arc;
use crate::sync::atomic::AtomicU64;

/// Collections that are tried before a pool is full.
const COLLECTIONS: usize = 3;

pub(super) struct Inner<T: Send + Sync + 'static, L: Layout> {
    pub(super) directory: Directory<T, L>,
    pub(super) depot: Depot,
    places: Places<L>,
    /// std's `Arc`: a name, which the tables of the pool's handles hold too.
    pub(super) tag: std::sync::Arc<PoolTag>,
    pub(super) elsewhere: Elsewhere,
}

/// What threads without a number did, which have no shard to count it.
#[derive(Default)]
pub(super) struct Elsewhere {
    pub(super) removed: AtomicU64,
    pub(super) reclaimed: AtomicU64,
    pub(super) retired_slots: AtomicU64,
}

// SAFETY: the raw addresses inside are those of `Arc<T>`s, given out as `&T` and `Arc<T>`.
unsafe impl<T: Send + Sync, L: Layout> Send for Inner<T, L> {}
// SAFETY: as above; a cell is written by one thread at a time, while no other reads it (I3, I5, I7).
unsafe impl<T: Send + Sync, L: Layout> Sync for Inner<T, L> {}

/// Why nothing could be stored.
pub(super) enum Refusal {
    Full,
    TooManyThreads,
}

impl Refusal {
    pub(super) fn with<V>(self, value: V) -> InsertError<V> {
        match self {
            Self::Full => InsertError::Full(value),
            Self::TooManyThreads => InsertError::TooManyThreads(value),
        }
    }
}

/// A vacant slot that is this thread's to fill. Dropped unfilled it goes back, its generation spent.
pub(super) struct Vacant<'a, T: Send + Sync + 'static, L: Layout> {
    inner: &'a Inner<T, L>,
    shard: &'a Shard,
    slot: &'a Slot<T>,
    key: u64,
}

impl<T: Send + Sync, L: Layout> Vacant<'_, T, L> {
    #[inline]
    pub(super) fn handle(&self) -> Handle<T> {
        Handle::new(self.inner.tag.bits(), self.key)
    }

    #[inline]
    pub(super) fn fill(self, value: impl Insert<T>) -> Handle<T> {
        let vacant = ManuallyDrop::new(self);
        let handle = vacant.handle();
        // SAFETY: a vacant slot, and ours alone (I5).
        unsafe { vacant.slot.publish(value, handle.to_bits()) };
        vacant.shard.owner.inserted.add(1);
        handle
    }
}

impl<T: Send + Sync, L: Layout> Drop for Vacant<'_, T, L> {
    fn drop(&mut self) {
        self.inner.vacate(self.shard, self.slot, self.key);
    }
}

/// A vacant slot: of this thread's magazines, of the depot, a new one, or one that a collection gives back.
#[inline]
pub(super) fn reserve<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>) -> Result<Vacant<'_, T, L>, Refusal> {
    let shard = threads::number().and_then(|thread| inner.directory.shard(thread));
    let shard = shard.ok_or(Refusal::TooManyThreads)?;
    // SAFETY: the shard is this thread's (I7).
    let (slot, key) = match unsafe { shard.owner.vacant.take(&inner.directory, &inner.depot) } {
        Some(vacant) => vacant,
        None => make_room(inner, shard)?,
    };
    Ok(Vacant { inner, shard, slot, key })
}

#[cold]
fn make_room<'a, T: Send + Sync, L: Layout>(
    inner: &'a Arc<Inner<T, L>>,
    shard: &Shard,
) -> Result<(&'a Slot<T>, u64), Refusal> {
    if let Some(place) = inner.places.fresh() {
        // Of generation 0.
        return Ok((inner.directory.grow(place).ok_or(Refusal::Full)?, place));
    }
    for _ in 0..COLLECTIONS {
        for shard in inner.directory.shards() {
            claim(inner, &shard.limbo);
        }
        collect();
        // SAFETY: the shard is this thread's (I7).
        if let Some(vacant) = unsafe { shard.owner.vacant.take(&inner.directory, &inner.depot) } {
            return Ok(vacant);
        }
    }
    Err(Refusal::Full)
}

impl<T: Send + Sync, L: Layout> Inner<T, L> {
    pub(super) fn new() -> Self {
        Self {
            directory: Directory::new(),
            depot: Depot::default(),
            places: Places::new(),
            tag: std::sync::Arc::new(PoolTag::new()),
            elsewhere: Elsewhere::default(),
        }
    }

    /// What `look` finds in the slot that the handle would be in.
    #[inline]
    pub(super) fn find<'a, R>(&'a self, handle: Handle<T>, look: impl FnOnce(&'a Slot<T>) -> Option<R>) -> Option<R> {
        self.directory.find(Shape::<L>::place(handle.key()), look)
    }

    /// Makes the slot of `key` this thread's to use for the next generation, or gives it up after the last (I4).
    #[inline]
    pub(super) fn vacate(&self, shard: &Shard, slot: &Slot<T>, key: u64) {
        if let Some(next) = Shape::<L>::next_generation(key) {
            // SAFETY: the shard is this thread's (I7), and the slot too (I5).
            unsafe { shard.owner.vacant.give(next, &self.directory, &self.depot) };
        } else {
            // SAFETY: ours, and without a value.
            unsafe { slot.drop_spare() };
            shard.owner.retired_slots.add(1);
        }
    }

    /// Links what was claimed from a ring.
    pub(super) fn chain(&self, places: &[u64]) -> Chain {
        let mut chain = Chain::EMPTY;
        for place in places.iter().rev() {
            let Some(slot) = self.directory.slot(*place) else { unreachable!("it was live") };
            slot.set_vacant_word(link::<L>(slot.vacant_word(), chain.first::<L>()));
            chain = Chain::new::<L>(chain.count::<L>() + 1, *place);
        }
        chain
    }
}

impl<T: Send + Sync + 'static, L: Layout> Drop for Inner<T, L> {
    /// Lets go of what is live, and of what was removed and never claimed. What was claimed holds the pool's inside,
    /// and so was released before.
    fn drop(&mut self) {
        let _releasing = Releasing::begin();
        let tag = self.tag.bits().get();
        // Nobody else has anything of this pool (I6), so every slot is ours.
        for claimed in self.directory.shards().filter_map(|shard| shard.limbo.claim()) {
            for slot in claimed.places().iter().filter_map(|place| self.directory.slot(*place)) {
                // SAFETY: ours, and removed but not released: it was in a ring.
                unsafe { slot.release() };
            }
        }
        for slot in self.directory.slots() {
            if slot.live(tag).is_some() {
                // SAFETY: ours, and live.
                unsafe { slot.release() };
            }
            // SAFETY: ours, and without a value: released now, or vacant.
            unsafe { slot.drop_spare() };
        }
    }
}
