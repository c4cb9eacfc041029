//! [`HandleTable<T>`]: a guest's 32-bit handles for entries of one pool.
//!
//! Each index of the table has one atomic word:
//!
//! ```text
//!  63            52 51 50 49                                     0
//! │ binding's tag  │ 0 │ 0 │ the entry's key in its pool         │   bound
//! │ last tag       │ 0 │ 1 │ next free index + 1, or 0           │   vacant: VACANT is bit 50
//!   12               1   1   50
//! ```
//!
//! [`HandleTable::decode`] XORs the word with the guest handle's tag (bits 63 to 52) and with the difference of the
//! guest handle's kind and the table's kind (bit 51). The result is a key, which is below 2^50, exactly if the tags are
//! equal, the kinds are equal, and the index is bound: one comparison checks all three.
//!
//! Indexes that are unbound are on a free list, a stack that is linked through the vacant words:
//!
//! ```text
//!  63                           32 31                            0
//! │ pushes so far, the ABA counter │ top index + 1, or 0          │   HandleTable::free
//!   32                               32
//! ```
//!
//! A binding takes an index from the free list; else the next index that was never used; else an *exhausted* index, one
//! whose tags have all been used, which continues at tag 1.
//!
//! * **T1.** One thread at a time owns an unbound index: the one that took it from the free list, as never used, or
//!   from the exhausted ones. That thread alone binds it. One compare-exchange unbinds it, and its winner gets the
//!   handle.
//! * **T2.** Each binding of an index has the next tag. An exhausted index is reused only when the scan of all indexes
//!   passes it again, so a guest handle names a second binding a whole scan after the first at the earliest. In that
//!   scan every index that is neither bound nor on the free list serves all of its tags.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::Pool;
use crate::handle::{GuestHandle, Handle, KEY_BITS, KEY_MASK, Kind, TAG_BITS};
use crate::pool::pages::Pages;
use crate::pool::{Layout, LayoutPool, PoolTag};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Indexes of the first page of words.
const FIRST_PAGE: u64 = if cfg!(loom) { 2 } else { 64 };
const CAPACITY: u32 = if cfg!(loom) { 4 } else { 1 << GuestHandle::INDEX_BITS };
/// The tag after which an index is exhausted.
const LAST_TAG: u64 = if cfg!(loom) { 7 } else { (1 << TAG_BITS) - 1 };
/// Bit 50, which no key has: every key is below it.
const VACANT: u64 = 1 << (KEY_BITS - 2);

/// A guest's own handle space: 32-bit [`GuestHandle`]s of one [`Kind`] for [`Handle`]s of one pool.
///
/// The table owns no entry: an entry that is bound stays in the pool, and may be removed from it while it is bound. A
/// guest handle resolves to what this table has bound under it. It resolves to nothing after it is unbound (see Limits
/// for how long) and in a table of the other kind. A number of another table of the same kind is just a number here.
///
/// [`bind`](Self::bind), [`resolve`](Self::resolve) and [`unbind`](Self::unbind) are lock-free, and `resolve` is
/// wait-free and writes nothing. All of them may run at the same time on any threads.
///
/// ```
/// use graphpool::{HandleTable, Kind, Pool};
///
/// # graphpool::doctest(|| {
/// let pool: Pool<&str> = Pool::new();
/// let table = HandleTable::new(&pool, Kind::Zero);
/// let handle = pool.insert("a graph").unwrap();
///
/// let guest_handle = table.bind(handle).unwrap();
/// assert_eq!(table.resolve(guest_handle), Some(handle));
/// assert_eq!(table.unbind(guest_handle), Some(handle));
/// assert_eq!(table.resolve(guest_handle), None);
/// # });
/// ```
///
/// # Limits
///
/// 2^19 bindings at a time, and any number over the table's life. 32 bits hold some 2^31 guest handles of one kind. All
/// of them are given out before one is given out again, except for those of indexes that stay bound. At 1,000 bindings
/// a second that takes 24 days. A guest that has kept a number for so long may find another object of its own under it.
/// Memory is 8 bytes an index, allocated as indexes are first used.
pub struct HandleTable<T> {
    words: Pages<Word, FIRST_PAGE, { GuestHandle::INDEX_BITS }>,
    /// The top of the free list and its ABA counter, which repeats after 2^32 pushes.
    free: AtomicU64,
    /// Where the scan of all indexes is: in its first round it takes indexes that were never used, in later rounds
    /// exhausted ones.
    scanned: AtomicU64,
    /// How many indexes are exhausted.
    exhausted: AtomicU32,
    pool_tag: NonZeroU64,
    /// Keeps the pool's tag in use.
    _tag: Arc<PoolTag>,
    kind: Kind,
    /// The kind as [`GuestHandle::tag_and_kind`] has it: at bit 51.
    kind_bit: u64,
    _names: PhantomData<fn() -> T>,
}

/// The table bound nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Every index is bound.
    #[error("the handle table is full: all of its {CAPACITY} indexes are bound")]
    Full,
    /// The handle's tag is that of another pool.
    #[error("the handle belongs to another pool than the handle table")]
    ForeignHandle,
}

impl<T: Send + Sync + 'static> HandleTable<T> {
    /// An empty table for entries of `pool`. No other pool gets the pool's tag while the table lives.
    #[must_use]
    pub fn new(pool: &Pool<T>, kind: Kind) -> Self {
        Self::for_layout_pool(pool.layout_pool(), kind)
    }

    /// [`new`](Self::new) for a pool of another size, in tests.
    #[doc(hidden)]
    #[must_use]
    pub fn for_layout_pool<L: Layout>(pool: &LayoutPool<T, L>, kind: Kind) -> Self {
        Self {
            words: Pages::new(),
            free: AtomicU64::new(0),
            scanned: AtomicU64::new(0),
            exhausted: AtomicU32::new(0),
            pool_tag: pool.tag().bits(),
            _tag: Arc::clone(pool.tag()),
            kind,
            kind_bit: GuestHandle::new(kind, 0, 0).tag_and_kind(),
            _names: PhantomData,
        }
    }

    /// Binds `handle` to a guest handle that this table has not given out before, or not for some 2^31 bindings.
    ///
    /// # Errors
    ///
    /// [`BindError::Full`] if every index is bound, [`BindError::ForeignHandle`] for a handle of another pool.
    pub fn bind(&self, handle: Handle<T>) -> Result<GuestHandle, BindError> {
        if handle.to_bits() & !KEY_MASK != self.pool_tag.get() || handle.key() >= VACANT {
            return Err(BindError::ForeignHandle);
        }
        let (index, word) = self.take_index().ok_or(BindError::Full)?;
        // Relaxed: the index is ours, and its word with it (T1).
        let tag = (word.load(Ordering::Relaxed) >> KEY_BITS) + 1;
        // Release: pairs with the Acquire in `resolve`. A thread that resolves the handle sees the entry.
        word.store(tag << KEY_BITS | handle.key(), Ordering::Release);
        Ok(GuestHandle::new(self.kind, tag, index))
    }

    /// The handle that is bound to the guest handle. Wait-free: two loads.
    #[inline]
    #[must_use]
    pub fn resolve(&self, guest_handle: GuestHandle) -> Option<Handle<T>> {
        self.words.find(guest_handle.index().into(), |word| self.decode(guest_handle, word.0.load(Ordering::Acquire)))
    }

    /// Ends the binding. Of several calls with one guest handle, one gets the handle.
    #[inline]
    #[cfg_attr(
        loom,
        expect(clippy::must_use_candidate, reason = "called for its effect, as the lint knows from std's atomics")
    )]
    pub fn unbind(&self, guest_handle: GuestHandle) -> Option<Handle<T>> {
        let word = self.word(guest_handle.index())?;
        // Acquire: pairs with the Release in `bind`.
        let current = word.load(Ordering::Acquire);
        let handle = self.decode(guest_handle, current)?;
        let tag = guest_handle.tag();
        // Relaxed: a look-up that sees this word reads nothing else, and the free list, below, transfers the index.
        word.compare_exchange(current, vacant(tag, 0), Ordering::Relaxed, Ordering::Relaxed).ok()?;
        if tag == LAST_TAG {
            // Release: pairs with the Acquire in `recycle_exhausted`. A thread that sees the count finds the index.
            self.exhausted.fetch_add(1, Ordering::Release);
        } else {
            self.push_free(guest_handle.index(), tag, word);
        }
        Some(handle)
    }

    /// An iterator that unbinds one binding at each step, and gives its handle. It may miss bindings that are made
    /// while it runs.
    #[must_use = "the iterator unbinds as it is advanced"]
    pub fn drain(&self) -> impl Iterator<Item = Handle<T>> + '_ {
        self.bindings().filter_map(|guest_handle| self.unbind(guest_handle))
    }

    /// The number of bindings. Walks every index that was ever used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings().count()
    }

    /// Whether there are no bindings. Walks the indexes up to the first that is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings().next().is_none()
    }

    /// The guest handles that are bound, each at the moment of its step of the iterator. It may miss bindings that are
    /// made while it runs.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = GuestHandle> + '_ {
        // Acquire: pairs with the Release in `take_index`. A later walk sees no fewer indexes.
        let used = self.scanned.load(Ordering::Acquire).min(u64::from(CAPACITY)) as u32;
        (0..used).filter_map(|index| {
            let word = self.word(index)?.load(Ordering::Acquire);
            (word >> KEY_BITS != 0 && !is_vacant(word)).then(|| GuestHandle::new(self.kind, word >> KEY_BITS, index))
        })
    }

    /// The handle in `word`, if the word is the guest handle's binding.
    #[inline]
    fn decode(&self, guest_handle: GuestHandle, word: u64) -> Option<Handle<T>> {
        // Above every key if the tags differ (bits 63 to 52), the kinds differ (bit 51) or the word is vacant (bit 50).
        let key = word ^ guest_handle.tag_and_kind() ^ self.kind_bit;
        (key < VACANT).then(|| Handle::new(self.pool_tag, key))
    }

    #[inline]
    fn word(&self, index: u32) -> Option<&AtomicU64> {
        self.words.get(u64::from(index)).map(|word| &word.0)
    }

    /// An index that this thread owns (T1), and its word, which is vacant. `None` if every index is bound.
    fn take_index(&self) -> Option<(u32, &AtomicU64)> {
        // Acquire: pairs with the Release in `push_free`, for the word.
        let mut head = self.free.load(Ordering::Acquire);
        while let Some(index) = (head as u32).checked_sub(1) {
            let word = self.word(index)?;
            // Another thread may have taken the index since the load of `head`, and its word may be anything. Then the
            // top or the ABA counter of the free list has changed, and the compare-exchange fails.
            let next = word.load(Ordering::Relaxed) as u32;
            let new = (head & !u64::from(u32::MAX)) | u64::from(next);
            match self.free.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some((index, word)),
                Err(now) => head = now,
            }
        }
        let unused = |scanned| (scanned < u64::from(CAPACITY)).then_some(scanned + 1);
        // Release: pairs with the Acquire in `bindings`. Relaxed on failure: every index has been used.
        match self.scanned.try_update(Ordering::Release, Ordering::Relaxed, unused) {
            Ok(index) => Some((index as u32, &self.words.get_or_grow(index).0)),
            Err(_) => self.recycle_exhausted(),
        }
    }

    /// The next exhausted index of the scan, which this thread owns then (T1). It continues at tag 1.
    #[cold]
    fn recycle_exhausted(&self) -> Option<(u32, &AtomicU64)> {
        for _ in 0..CAPACITY {
            // Acquire: pairs with the Release in `unbind`.
            if self.exhausted.load(Ordering::Acquire) == 0 {
                return None;
            }
            let index = (self.scanned.fetch_add(1, Ordering::Release) % u64::from(CAPACITY)) as u32;
            let word = self.word(index)?;
            // Relaxed: the index has nothing but its word.
            let recycled =
                word.compare_exchange(vacant(LAST_TAG, 0), vacant(0, 0), Ordering::Relaxed, Ordering::Relaxed);
            if recycled.is_ok() {
                self.exhausted.fetch_sub(1, Ordering::Relaxed);
                return Some((index, word));
            }
        }
        None
    }

    /// Pushes an index that this thread has unbound on the free list.
    fn push_free(&self, index: u32, tag: u64, word: &AtomicU64) {
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            // Relaxed: the Release below publishes it.
            word.store(vacant(tag, head as u32), Ordering::Relaxed);
            let pushes = (head >> 32).wrapping_add(1);
            let new = pushes << 32 | u64::from(index + 1);
            match self.free.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

impl<T> fmt::Debug for HandleTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleTable").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A vacant word: the tag of the index's last binding, and the next free index plus one.
const fn vacant(tag: u64, next: u32) -> u64 {
    tag << KEY_BITS | VACANT | next as u64
}

#[inline]
const fn is_vacant(word: u64) -> bool {
    word & VACANT != 0
}

struct Word(AtomicU64);

impl Default for Word {
    /// Of an index that was never bound.
    fn default() -> Self {
        Self(AtomicU64::new(vacant(0, 0)))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_where_the_drawing_has_them() {
        assert_eq!((VACANT, CAPACITY, LAST_TAG), (1 << 50, 1 << 19, 0xFFF));
        assert_eq!(vacant(0xABC, 5), 0xABC << 52 | 1 << 50 | 5);

        let pool = Pool::<()>::new();
        let table = HandleTable::new(&pool, Kind::One);
        let handle = pool.insert(()).expect("there is room");
        let guest_handles = [(); 2].map(|()| table.bind(handle).expect("there is room"));
        let word = |index| table.word(index).expect("it was bound").load(Ordering::Relaxed);
        assert_eq!(word(0), 1 << 52 | handle.key(), "tag 1");
        assert_eq!(table.kind_bit, 1 << 51);

        assert_eq!(guest_handles.map(|guest_handle| table.unbind(guest_handle)), [Some(handle); 2]);
        assert_eq!(table.free.load(Ordering::Relaxed), 2 << 32 | 2, "two pushes, index 1 on top");
        assert_eq!((word(1), word(0)), (vacant(1, 1), vacant(1, 0)), "then index 0");
    }
}
