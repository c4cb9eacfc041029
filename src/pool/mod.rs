//! [`Pool<T>`]: `Arc<T>`s under handles, shared by every thread of the process without a lock.
//!
//! A slot holds one entry after the other. Slots are made 64 at a time, as *chunks* (`chunk`), which a sharded slab
//! owns (`slab`) and a directory finds by number (`directory`). The life of a slot:
//!
//! ```text
//!            insert                    remove                        a grace period later
//!  vacant ───────────▶ live ──────────────────────▶ removed ──────────────────────────────▶ ready
//!    ▲      (word = handle)   (word = next key)               (`waiting`, `epoch`)            │
//!    └────────────────────────────────────────────────────────────────────────────────────────┘
//!            release: the value is dropped, its memory kept for the next one
//! ```
//!
//! Vacant, removed and ready slots are *marked*, one bit each in words of their chunk, and chunks with marks are on a
//! list for each kind (`stack`). An insertion takes all vacant slots of one chunk into the *shard* of its *lane*
//! (`shard`, `epoch::lanes`) and fills them one by one without another shared write.
//!
//! | term | meaning |
//! | --- | --- |
//! | place | where a slot is: chunk and number in it |
//! | generation | how many entries the slot had before |
//! | key | generation and place; with the pool's tag it is a handle |
//! | word | what a slot says: its live handle, or the key of its next entry |
//! | grace period | until every guard is gone that was pinned when it began |
//! | lane | what a thread holds while it is pinned or changes a pool: one of few, kept or borrowed |
//!
//! Every `unsafe` block here stands on some of these:
//!
//! * **I1.** While a slot's word is a handle, its value is the address of an `Arc` that the slot owns.
//! * **I2.** Each live handle is removed exactly once: by the removal whose compare-exchange succeeds.
//! * **I3.** A slot's value is released, and the slot written again, only after every guard that was pinned at its
//!   removal is gone.
//! * **I4.** A handle is given out once: each entry of a slot has the next generation; after the last the slot is given
//!   up. A chunk whose slots are all given up goes on under a number that no chunk had.
//! * **I5.** A slot that is not live has exactly one owner: the insertion that fills it, the shard that has it at hand,
//!   the winner of its removal, a deferral, the thread that releases it, or the list on which it is marked. Ownership
//!   is transferred by a release/acquire pair, or stays on one thread.
//! * **I6.** Chunks and shards live until no reader, removal or deferral can reach them: each deferral holds the pool's
//!   inside, and the pool's drop releases it after a grace period.
//! * **I7.** A lane's shard is used by the thread that holds the lane, but for its counters, which any thread may read.
//!
//! Where two calls meet at one slot:
//!
//! * *get and insert*: the word is stored after the value (Release, Acquire). A look-up sees the whole entry or none.
//! * *get and remove*: the look-up that loads the word first keeps a value that lives until its guard is gone (I3);
//!   the one that comes second finds no handle.
//! * *remove and remove*: one compare-exchange succeeds (I2).
//! * *get and the next insert at the place*: a guard from before the removal keeps the slot from being written (I3);
//!   any later one sees the removal, and the new word is another handle (I4).

mod chunk;
mod directory;
mod error;
mod inner;
mod iter;
mod layout;
pub(crate) mod pages;
mod reclaim;
mod shard;
mod slab;
mod slot;
mod stack;
mod stats;
mod tag;
mod vacant;
mod value;
mod waiting;

use std::fmt;
use std::mem::ManuallyDrop;

pub use error::InsertError;
pub use iter::Iter;
pub use layout::{Layout, Standard, Tiny, TinyWith};
pub use stats::PoolStats;
pub(crate) use tag::PoolTag;
pub use value::Insert;

use crate::epoch::{Guard, deferrals, lanes, pin, run_so_far};
use crate::handle::Handle;
use crate::sync::Arc;
use inner::Inner;
use layout::KeyLayout;
use reclaim::{collect, defer};
use slot::Slot;
use vacant::reserve;
use value::clone_of;
use waiting::{LOOK, begin, flush, look};

/// Lock-free storage of `Arc<T>`s under [`Handle`]s.
///
/// Look-ups are wait-free and write to no shared memory. Insertions and removals are lock-free, but for the allocator.
/// Every operation may run at the same time as every other, on any number of threads, and costs the same however many
/// threads are idle.
///
/// A removed entry's handle resolves to nothing at once and for ever; the pool's own reference to the value is
/// dropped after a grace period, on whichever thread collects then. [`flush`](Self::flush) asks for it now.
///
/// ```
/// use graphpool::{Pool, pin};
///
/// # graphpool::doctest(|| {
/// let pool = Pool::new();
/// let handle = pool.insert("a graph").unwrap();
/// {
///     let guard = pin();
///     assert_eq!(pool.get(handle, &guard), Some(&"a graph"));
/// }
/// assert_eq!(*pool.remove(handle).unwrap(), "a graph");
/// assert!(pool.remove(handle).is_none());
/// assert!(pool.get(handle, &pin()).is_none());
/// # });
/// ```
///
/// # Limits
///
/// 16,777,216 entries at a time, live ones and those that wait for a grace period together. There are 2^50 handles, and
/// each is given out once: at a million insertions a second they last for 35 years.
///
/// Memory is that of the largest number of entries that were live or waiting at a time: 18 bytes a slot, and where
/// values are of 64 bytes or less the memory of one, which the slot's next value is written to. Any thread fills any
/// vacant slot, but for up to 63 that each lane has at hand. A chunk of 64 slots is 1,152 bytes, made in one insertion.
/// Slots are kept until the pool is dropped.
///
/// A handle of another pool is refused by its tag, of which there are 4,095. A tag that is let go of is used again, as
/// late as can be; a pool and the tables of its handles hold it. Where more than 4,095 are held, pools share them. So
/// "for ever" is the pool's life: the 4,095th pool after it may take its handles for its own.
pub struct Pool<T: Send + Sync + 'static, L: Layout = Standard> {
    inner: ManuallyDrop<Arc<Inner<T, L>>>,
}

impl<T: Send + Sync> Pool<T> {
    /// An empty pool. Takes address space for its directory (2 MiB), and memory as it is used.
    #[must_use]
    pub fn new() -> Self {
        Self::with_layout()
    }
}

impl<T: Send + Sync> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync, L: Layout> Pool<T, L> {
    /// An empty pool with another division of its handles' bits.
    #[doc(hidden)]
    #[must_use]
    pub fn with_layout() -> Self {
        Self { inner: ManuallyDrop::new(Arc::new(Inner::new())) }
    }

    /// Stores a value, or an `Arc` of one, and gives it a handle that no other entry ever had or will have.
    ///
    /// # Errors
    ///
    /// Gives `value` back where the pool is full.
    #[inline]
    pub fn insert<V: Insert<T>>(&self, value: V) -> Result<Handle<T>, InsertError<V>> {
        match reserve(&self.inner) {
            Some(vacant) => Ok(vacant.fill(value)),
            None => Err(InsertError::Full(value)),
        }
    }

    /// Stores what `make` makes of the handle that it will have. Until then the handle resolves to nothing. A panic
    /// of `make` passes through; the handle that it saw is never given out again.
    ///
    /// # Errors
    ///
    /// Gives `make` back, uncalled, where [`insert`](Self::insert) would give the value back.
    #[inline]
    pub fn insert_with<V: Insert<T>, F: FnOnce(Handle<T>) -> V>(&self, make: F) -> Result<Handle<T>, InsertError<F>> {
        match reserve(&self.inner) {
            Some(vacant) => {
                let value = make(vacant.handle());
                Ok(vacant.fill(value))
            }
            None => Err(InsertError::Full(make)),
        }
    }

    /// The value of a live handle, for as long as the guard is held, even where it is removed or the pool is dropped
    /// meanwhile.
    ///
    /// Wait-free: two or three loads, and no write to shared memory.
    #[inline]
    #[must_use]
    pub fn get<'g>(&self, handle: Handle<T>, guard: &'g Guard) -> Option<&'g T> {
        let _ = guard;
        let value = self.slot(handle)?.read(handle.to_bits())?.cast();
        // SAFETY: it was live when the word was loaded (I1), under a guard that keeps it alive (I3, I6).
        Some(unsafe { &*value })
    }

    /// An owned reference to the value of a live handle: for whatever outlives a few microseconds.
    ///
    /// Pins, looks up, and adds one to the value's reference count.
    #[inline]
    #[must_use]
    pub fn acquire(&self, handle: Handle<T>) -> Option<Arc<T>> {
        let _guard = pin();
        let value = self.slot(handle)?.read(handle.to_bits())?.cast();
        // SAFETY: from `Arc::into_raw`, and under the guard the pool's own reference is alive (I1, I3).
        Some(unsafe { clone_of(value) })
    }

    /// Takes the entry out. Of several calls with one handle, one gets the value, at once.
    ///
    /// Readers that hold a guard keep their references. The pool's own reference goes after the grace period, whether
    /// or not anybody calls this pool again. Every 64th removal also collects, and so may run destructors of values
    /// that were removed earlier; it yields the processor where grace periods don't end for long.
    #[inline]
    #[expect(clippy::must_use_candidate, reason = "called for what it does as often as for what it gives")]
    pub fn remove(&self, handle: Handle<T>) -> Option<Arc<T>> {
        let inner = &*self.inner;
        let key = handle.key();
        let value = self.slot(handle)?.retire(handle.to_bits(), KeyLayout::<L>::next_key(key))?;
        // SAFETY: from `Arc::into_raw`; the slot's own reference goes only after what follows (I3, I5).
        let value = unsafe { clone_of(value.cast()) };
        let seat = lanes::enter();
        let owner = inner.owner(&seat);
        owner.removed.add(1);
        let (chunk, slot) = KeyLayout::<L>::chunk_and_slot(key);
        if inner.mark_removed(chunk, 1 << slot) {
            begin(&self.inner);
        }
        if owner.removed.get().is_multiple_of(LOOK) {
            look(&self.inner, owner);
        }
        Some(value)
    }

    /// Whether the handle is live, at the moment of the look.
    #[inline]
    #[must_use]
    pub fn contains(&self, handle: Handle<T>) -> bool {
        self.slot(handle).is_some_and(|slot| slot.holds(handle.to_bits()))
    }

    /// Live entries. Exact while nothing is inserted or removed; otherwise somewhere near.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stats().live as usize
    }

    /// Whether there are no live entries, as exactly as [`len`](Self::len) says.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The live entries, in no order. Weakly consistent: what is live throughout is given once, what is inserted or
    /// removed meanwhile at most once. Walks every slot that was ever used.
    #[must_use]
    pub fn iter<'a>(&'a self, guard: &'a Guard) -> Iter<'a, T> {
        let _ = guard;
        Iter::new(self.inner.slots(), self.inner.tag().bits().get())
    }

    /// Removes the entries of which `keep` says `false`, and says how many it removed itself. As consistent as
    /// [`iter`](Self::iter); pinned throughout.
    pub fn retain(&self, mut keep: impl FnMut(Handle<T>, &T) -> bool) -> usize {
        let guard = pin();
        self.iter(&guard).filter(|(handle, value)| !keep(*handle, value) && self.remove(*handle).is_some()).count()
    }

    /// Removes every entry that is live now, and says how many it removed itself.
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn clear(&self) -> usize {
        self.retain(|_, _| false)
    }

    /// Counts of what was done. Cheap; each is read on its own.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.inner.stats()
    }

    /// Collects until every value that was removed before the call is released, as far as that may be now.
    ///
    /// Where no thread is pinned, this one included, and no other collects, all of them are when it returns, and what
    /// their destructors have removed on this thread, too. From within a value's destructor it does nothing: what is
    /// removed there is released by whoever runs that, or later. Costs a look at a few counters where nothing waits.
    pub fn flush(&self) {
        flush(&self.inner);
    }

    /// The slot that the handle would be in.
    #[inline]
    fn slot(&self, handle: Handle<T>) -> Option<&Slot> {
        self.inner.directory().slot(handle.key())
    }

    /// The tag that this pool's handles have, for as long as the caller keeps it.
    pub(crate) fn tag(&self) -> &std::sync::Arc<PoolTag> {
        self.inner.tag()
    }
}

impl<T: Send + Sync, L: Layout> Drop for Pool<T, L> {
    /// Releases every value, once, after the grace period: at once where no thread is pinned, otherwise when
    /// something else collects later.
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let inner = unsafe { ManuallyDrop::take(&mut self.inner) };
        // SAFETY: values are Send, and `inner` keeps alive what its drop needs.
        unsafe { defer(move || drop(inner)) };
        collect_all();
    }
}

/// Collects until nothing more is to be had.
fn collect_all() {
    collect();
    // Other models' deferrals would be counted in, and no model defers more than one collection takes.
    if cfg!(not(any(loom, shuttle))) {
        let mut idle = 0;
        while deferrals() > 0 && idle < 3 {
            let before = run_so_far();
            collect();
            idle = if run_so_far() == before { idle + 1 } else { 0 };
        }
    }
}

impl<T: Send + Sync, L: Layout> fmt::Debug for Pool<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
