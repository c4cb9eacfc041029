//! How an insertion comes by a vacant slot, and fills it.

use std::mem::ManuallyDrop;

use super::inner::Inner;
use super::layout::{KeyLayout, Layout};
use super::reclaim::collect;
use super::shard::Owner;
use super::slot::Slot;
use super::value::Insert;
use super::waiting::{begin, reclaim_ready};
use crate::epoch::lanes::{self, Seat};
use crate::handle::Handle;
use crate::sync::Arc;

/// Collections that are tried before a pool is full.
const COLLECTIONS: usize = 3;
/// Slots whose values an insertion releases where it finds no vacant one.
const RELEASES_OF_AN_INSERTION: u32 = 64;

/// A vacant slot that is the caller's to fill. Dropped unfilled it goes back, its generation spent.
pub(super) struct Vacant<'a, T: Send + Sync + 'static, L: Layout> {
    inner: &'a Inner<T, L>,
    seat: Seat,
    slot: &'a Slot,
    key: u64,
}

impl<T: Send + Sync, L: Layout> Vacant<'_, T, L> {
    #[inline]
    pub(super) fn handle(&self) -> Handle<T> {
        Handle::new(self.inner.tag().bits(), self.key)
    }

    #[inline]
    pub(super) fn fill(self, value: impl Insert<T>) -> Handle<T> {
        let vacant = ManuallyDrop::new(self);
        let handle = vacant.handle();
        // SAFETY: a vacant slot, and ours alone (I5), of a pool of `T`.
        unsafe { vacant.slot.publish::<T>(value, handle.to_bits()) };
        vacant.inner.owner(&vacant.seat).inserted.add(1);
        // SAFETY: not used again.
        drop(unsafe { std::ptr::read(&raw const vacant.seat) });
        handle
    }
}

impl<T: Send + Sync, L: Layout> Drop for Vacant<'_, T, L> {
    fn drop(&mut self) {
        self.slot.set_vacant_word(KeyLayout::<L>::next_key(self.key));
        let (chunk, slot) = KeyLayout::<L>::chunk_and_slot(self.key);
        self.inner.vacate(chunk, 1 << slot, self.inner.owner(&self.seat));
    }
}

/// A vacant slot: one that this lane has, or of a chunk that has some, or of a new chunk. `None` where the pool is
/// full.
#[inline]
pub(super) fn reserve<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>) -> Option<Vacant<'_, T, L>> {
    let seat = lanes::enter();
    let owner = inner.owner(&seat);
    loop {
        // SAFETY: the seat holds the lane (I7), and chunks live as long as the pool's inside (I6).
        if let Some((slot, key)) = unsafe { owner.take() } {
            return Some(Vacant { inner, seat, slot, key });
        }
        if !find_slots(inner, owner) {
            return None;
        }
    }
}

/// Puts vacant slots into a lane's shard that has none. `false` where the pool is full.
#[cold]
fn find_slots<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, owner: &Owner) -> bool {
    for attempt in 0..=COLLECTIONS {
        reclaim_ready(inner, RELEASES_OF_AN_INSERTION);
        // SAFETY: the caller holds the lane (I7).
        if unsafe { owner.has_slots() } {
            // A destructor that ran meanwhile has found some.
            return true;
        }
        if let Some((chunk, slots)) = inner.take_vacant().or_else(|| inner.make_chunk()) {
            // SAFETY: as above; the chunk lives as long as the pool's inside (I6).
            unsafe { owner.put(chunk, slots) };
            return true;
        }
        if attempt < COLLECTIONS {
            begin(inner);
            collect();
        }
    }
    false
}
