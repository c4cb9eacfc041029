//! [`HandleTable<T>`]: a guest's 32-bit handles for entries of one pool.
//!
//! A slot is one atomic word:
//!
//! ```text
//!  63        52 51 50 49                                             0
//! │ slot's tag │ 0│ V│ the pool's key, or (V = 1) the next free index │
//! ```
//!
//! V is 1 where the slot is vacant. `bound` XORs the word with the guest handle's tag and, at bit 51, the kind: the
//! result is a key (below 2^50) exactly if the tags are equal, the kind is the table's and the slot is bound.
//!
//! * **T1.** A word goes from vacant to bound by the one thread that took its index from the free list, fresh, or from
//!   its rest, and back by one compare-exchange, whose winner gets the handle.
//! * **T2.** Each binding of a slot has a tag one higher than the one before. A slot at its last tag rests: it begins
//!   anew, at the first tag, only when a turn through all indexes comes by it again. So a guest handle names a second
//!   binding no earlier than a whole turn after the first, in which every index that is neither bound nor on the free
//!   list serves all of its tags.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::Pool;
use crate::handle::{GuestHandle, Handle, KEY_BITS, KEY_MASK, Kind, TAG_BITS};
use crate::pool::pages::{Doubling, Pages};
use crate::pool::{Layout, PoolTag};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Slots of the first page.
const FIRST_PAGE: u64 = if cfg!(loom) { 2 } else { 64 };
const CAPACITY: u32 = if cfg!(loom) { 4 } else { 1 << GuestHandle::INDEX_BITS };
/// Of a slot's bindings.
const LAST_TAG: u64 = if cfg!(loom) { 7 } else { (1 << TAG_BITS) - 1 };
/// The second bit of a key from above, which no key has: the least number that is none.
const VACANT: u64 = 1 << (KEY_BITS - 2);

/// A guest's own handle space for one kind of thing: 32-bit [`GuestHandle`]s for [`Handle`]s of one pool.
///
/// It owns nothing: what is bound stays in the pool, and may be removed from it while the binding lasts. A number
/// means what this table has bound under it, or nothing: a guest handle that was unbound resolves to nothing (for how
/// long, see below), one of the other kind never resolves, and one of another table's is just a number here.
///
/// [`bind`](Self::bind), [`resolve`](Self::resolve) and [`unbind`](Self::unbind) are lock-free (`resolve` is
/// wait-free and writes nothing) and may run at the same time on any threads.
///
/// ```
/// use graphpool::{HandleTable, Kind, Pool};
///
/// # graphpool::doctest(|| {
/// let pool: Pool<&str> = Pool::new();
/// let table = HandleTable::new(&pool, Kind::Graph);
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
/// 2^19 bindings at a time, and any number over the table's life. 32 bits hold some 2^31 guest handles of one kind: all
/// of them are given out before one comes again, but for those of indexes that stay bound. At 1,000 bindings a second
/// that takes 24 days, and a guest that has kept a number for so long may find another object of its own under it.
/// Memory is 8 bytes an index, taken as indexes are first used.
pub struct HandleTable<T> {
    words: Pages<Word, Doubling<FIRST_PAGE, { GuestHandle::INDEX_BITS }>>,
    /// The first free index and one, or 0, in the lower half; in the upper how often an index was put on the list,
    /// which tells one visit of an index to its top from the next. It comes back after 2^32 of them.
    free: AtomicU64,
    /// The turn through all indexes: how many were passed. In the first turn they are fresh, later those that rest are
    /// taken.
    passed: AtomicU64,
    /// Indexes that rest.
    resting: AtomicU32,
    pool_tag: NonZeroU64,
    /// Keeps the tag from another pool.
    _tag: Arc<PoolTag>,
    kind: Kind,
    /// What [`GuestHandle::tag_and_kind`] has of the kind.
    kind_bit: u64,
    _names: PhantomData<fn() -> T>,
}

/// Nothing was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Every index is bound.
    #[error("the handle table is full: all of its {CAPACITY} indexes are bound")]
    Full,
    /// The handle is of another pool than the table.
    #[error("the handle is of another pool")]
    ForeignHandle,
}

impl<T: Send + Sync + 'static> HandleTable<T> {
    /// An empty table for entries of `pool`, whose tag no other pool gets while the table lives.
    #[must_use]
    pub fn new<L: Layout>(pool: &Pool<T, L>, kind: Kind) -> Self {
        Self {
            words: Pages::new(),
            free: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            resting: AtomicU32::new(0),
            pool_tag: pool.tag().bits(),
            _tag: Arc::clone(pool.tag()),
            kind,
            kind_bit: GuestHandle::new(kind, 0, 0).tag_and_kind(),
            _names: PhantomData,
        }
    }

    /// Gives `handle` a guest handle that this table has not given out before, or not for some 2^31 bindings.
    ///
    /// # Errors
    ///
    /// [`BindError::Full`] where no index is left, [`BindError::ForeignHandle`] for a handle of another pool.
    pub fn bind(&self, handle: Handle<T>) -> Result<GuestHandle, BindError> {
        if handle.to_bits() & !KEY_MASK != self.pool_tag.get() || handle.key() >= VACANT {
            return Err(BindError::ForeignHandle);
        }
        let (index, word) = self.take_index().ok_or(BindError::Full)?;
        // Relaxed: the index is ours (T1), and came to us with its word.
        let tag = (word.load(Ordering::Relaxed) >> KEY_BITS) + 1;
        // Release: pairs with the Acquire in `resolve`; who resolves the handle sees the entry that it names.
        word.store(tag << KEY_BITS | handle.key(), Ordering::Release);
        Ok(GuestHandle::new(self.kind, tag, index))
    }

    /// What the guest handle is bound to. Wait-free: two loads.
    #[inline]
    #[must_use]
    pub fn resolve(&self, guest_handle: GuestHandle) -> Option<Handle<T>> {
        self.words.find(guest_handle.index().into(), |word| self.bound(guest_handle, word.0.load(Ordering::Acquire)))
    }

    /// Ends the binding. Of several calls with one guest handle, one gets what it was bound to.
    #[inline]
    #[cfg_attr(
        loom,
        expect(clippy::must_use_candidate, reason = "called for what it does; std's atomics tell the lint")
    )]
    pub fn unbind(&self, guest_handle: GuestHandle) -> Option<Handle<T>> {
        let word = self.word(guest_handle.index())?;
        // Acquire: as in `resolve`.
        let current = word.load(Ordering::Acquire);
        let handle = self.bound(guest_handle, current)?;
        let tag = guest_handle.tag();
        // Relaxed: the word is handed on by the free list, below, and a look-up of it ends here.
        word.compare_exchange(current, vacant(tag, 0), Ordering::Relaxed, Ordering::Relaxed).ok()?;
        if tag == LAST_TAG {
            // Release: pairs with the Acquire in `take_resting`, so that who finds the count finds the index.
            self.resting.fetch_add(1, Ordering::Release);
        } else {
            self.give_index(guest_handle.index(), tag, word);
        }
        Some(handle)
    }

    /// Unbinds everything that is bound, one binding for each step of the iterator, and gives what it was bound to.
    /// A binding made meanwhile may be left.
    pub fn drain(&self) -> impl Iterator<Item = Handle<T>> + '_ {
        self.bindings().filter_map(|guest_handle| self.unbind(guest_handle))
    }

    /// How many are bound. Walks every index that was ever used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings().count()
    }

    /// Whether nothing is bound. Walks the indexes until one is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings().next().is_none()
    }

    /// The guest handles that are bound, each at the moment of its step.
    fn bindings(&self) -> impl Iterator<Item = GuestHandle> + '_ {
        // Acquire: pairs with the Release in `take_index`, so that a later walk sees no fewer indexes.
        let used = self.passed.load(Ordering::Acquire).min(u64::from(CAPACITY)) as u32;
        (0..used).filter_map(|index| {
            let word = self.word(index)?.load(Ordering::Acquire);
            (word >> KEY_BITS != 0 && !is_vacant(word)).then(|| GuestHandle::new(self.kind, word >> KEY_BITS, index))
        })
    }

    /// The handle in `word`, if that is the guest handle's binding.
    #[inline]
    fn bound(&self, guest_handle: GuestHandle, word: u64) -> Option<Handle<T>> {
        // The key alone, where the tags are the same, the kind is the table's and the word isn't vacant; otherwise
        // something above any key.
        let key = word ^ guest_handle.tag_and_kind() ^ self.kind_bit;
        (key < VACANT).then(|| Handle::new(self.pool_tag, key))
    }

    #[inline]
    fn word(&self, index: u32) -> Option<&AtomicU64> {
        self.words.get(u64::from(index)).map(|word| &word.0)
    }

    /// An index for this thread alone, free, fresh or rested, and its word, which is vacant.
    fn take_index(&self) -> Option<(u32, &AtomicU64)> {
        // Acquire: pairs with the Release in `give_index`, for the word.
        let mut head = self.free.load(Ordering::Acquire);
        while let Some(index) = (head as u32).checked_sub(1) {
            let word = self.word(index)?;
            // Perhaps another thread's already, and its word anything: then the list's head has changed, and with it
            // the count of visits.
            let next = word.load(Ordering::Relaxed) as u32;
            let new = (head & !u64::from(u32::MAX)) | u64::from(next);
            match self.free.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some((index, word)),
                Err(now) => head = now,
            }
        }
        let fresh = |passed| (passed < u64::from(CAPACITY)).then_some(passed + 1);
        // Release: see `bindings`. Relaxed on failure: there is nothing fresh any more.
        match self.passed.try_update(Ordering::Release, Ordering::Relaxed, fresh) {
            Ok(index) => self.words.get_or_grow(index).map(|word| (index as u32, &word.0)),
            Err(_) => self.take_resting(),
        }
    }

    /// The next index of the turn that rests, for this thread alone. It begins at the first tag again.
    #[cold]
    fn take_resting(&self) -> Option<(u32, &AtomicU64)> {
        for _ in 0..CAPACITY {
            // Acquire: pairs with the Release in `unbind`.
            if self.resting.load(Ordering::Acquire) == 0 {
                return None;
            }
            let index = (self.passed.fetch_add(1, Ordering::Release) % u64::from(CAPACITY)) as u32;
            let word = self.word(index)?;
            // Relaxed: the word is all that the index comes with.
            let rested = word.compare_exchange(vacant(LAST_TAG, 0), vacant(0, 0), Ordering::Relaxed, Ordering::Relaxed);
            if rested.is_ok() {
                self.resting.fetch_sub(1, Ordering::Relaxed);
                return Some((index, word));
            }
        }
        None
    }

    /// Puts an index that was just unbound on the free list.
    fn give_index(&self, index: u32, tag: u64, word: &AtomicU64) {
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the Release below.
            word.store(vacant(tag, head as u32), Ordering::Relaxed);
            let visits = (head >> 32).wrapping_add(1);
            let new = visits << 32 | u64::from(index + 1);
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

const fn vacant(tag: u64, next: u32) -> u64 {
    tag << KEY_BITS | VACANT | next as u64
}

#[inline]
const fn is_vacant(word: u64) -> bool {
    word & VACANT != 0
}

/// A slot's word.
struct Word(AtomicU64);

impl Default for Word {
    /// Of a slot that was never bound.
    fn default() -> Self {
        Self(AtomicU64::new(vacant(0, 0)))
    }
}
