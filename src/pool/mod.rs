//! [`Pool<T>`]: values under 64-bit handles, shared by all threads of the process without a lock.
//!
//! # The life of a slot
//!
//! A value is stored in a *slot*, which serves one entry after another. Slots are allocated 64 at a time, as *chunks*.
//! A slot is in one of these states:
//!
//! ```text
//!          insert:                    remove:                   begin_grace_period:
//!          write the value, then      replace the handle by     take the mark, defer
//!          word = handle              the next key, set a mark  a function
//!  ┌────────┐          ┌────────┐            ┌─────────┐            ┌──────────┐
//!  │ vacant │ ───────▶ │  live  │ ─────────▶ │ removed │ ─────────▶ │ deferred │
//!  └────────┘          └────────┘            └─────────┘            └──────────┘
//!      ▲                                                                 │  end_grace_period: every guard that
//!      │                                                                 ▼  was pinned at the deferral is gone
//!      │                                                            ┌──────────┐
//!      └─────────────────────────────────────────────────────────── │  ready   │ ──▶ exhausted, instead of vacant:
//!          release: drop the value, keep its memory, set a mark     └──────────┘     after its last generation
//! ```
//!
//! Most slots are released as soon as their grace period is over. The end of a grace period releases up to 512 slots;
//! the others are marked as ready, and released later.
//!
//! Each slot has a *word*, one atomic `u64`. While the slot is live, the word is the whole handle; otherwise it is the
//! key of the slot's next entry, which no handle equals (`slot` has the drawing).
//!
//! * **get** (`LayoutPool::get`, `Slot::read`): the handle's place names a chunk and a slot. The directory gives the
//!   chunk's address. If the slot's word equals the handle, the slot's value is the entry. That is two loads that are
//!   shared with other threads, no write, and no loop.
//! * **insert** (`reserve`, `Slot::publish`): the thread holds a lane, and the lane's shard of this pool has a cache of
//!   vacant slots, from one chunk. The insertion takes a slot from it, writes the value and then the word. It refills
//!   an empty cache from the stack of chunks with vacant slots (`stack`), or with a new chunk (`Inner::make_chunk`).
//! * **remove** (`LayoutPool::remove`, `Slot::retire`): a compare-exchange replaces the handle in the word by the key
//!   of the slot's next entry. From then on every look-up of the handle fails. Then the slot is marked as removed.
//! * **reclamation** (`reclamation`): readers that loaded the word before may still read the value. So the slot waits
//!   until every guard that was pinned at its removal is gone. The deferral comes after the removal, so waiting for the
//!   guards of the deferral is enough. Then the pool drops its reference to the value.
//! * **recycling** (`Inner::make_vacant`, `IntoSlot`): the slot is marked as vacant, for any thread's cache. The memory
//!   of a small value that had no other reference stays with the slot, and the slot's next value is written there. A
//!   slot that has served its last generation is exhausted. A chunk whose slots are all exhausted gets a new chunk
//!   number, with which its slots begin at generation 0 again.
//!
//! Vacant, removed and ready slots are *marked*: for each of these states a chunk has a word with one bit for each
//! slot. Chunks with a mark for a state are on the stack of that state (`stack`), so that one pop takes the marked
//! slots of a whole chunk.
//!
//! # Glossary
//!
//! | term | meaning |
//! | --- | --- |
//! | entry | a value and the handle under which it was inserted |
//! | place | chunk number and slot number: where a slot is (`layout`) |
//! | generation | how many entries the slot had before this one |
//! | key | generation and place, 50 bits |
//! | tag | 12 bits that tell pools apart; tag and key make a handle (`tag`) |
//! | word | a slot's atomic: the live handle, or the key of the slot's next entry |
//! | pin, guard | a thread is pinned while it has a [`Guard`]; values that it reads stay alive until then (`epoch`) |
//! | grace period | from a deferral until every guard that was pinned then is gone |
//! | deferred function | runs once, after the grace period that begins with its deferral |
//! | retire | to take a handle out of its slot's word |
//! | release | to drop the pool's reference to a value, after the grace period |
//! | collect | to run the deferred functions whose grace period is over |
//! | lane | what a thread holds while it is pinned or changes a pool; one thread at a time (`epoch::lanes`) |
//! | shard | what one lane has of one pool: the cache of vacant slots, and counters (`shard`) |
//! | slab | the owner of all chunks of all pools (`slab`) |
//!
//! # Invariants
//!
//! Every `unsafe` block here stands on some of these:
//!
//! * **I1.** While a slot's word is a handle, its value is the address inside an `Arc`, and the slot owns one reference
//!   of that `Arc`.
//! * **I2.** Each live handle is removed exactly once: by the removal whose compare-exchange succeeds.
//! * **I3.** A slot's value is released, and the slot is written again, only after every guard that was pinned at its
//!   removal is gone.
//! * **I4.** A handle is given out once. Each entry of a slot has the next generation; after the last one the slot is
//!   exhausted. A chunk whose slots are all exhausted continues under a number that no chunk had before.
//! * **I5.** A slot that is not live has exactly one owner: the insertion that fills it, a shard's cache, the removal
//!   that retired it, a deferred function, the thread that releases it, or the stack on which it is marked. Ownership
//!   is transferred by a release/acquire pair, or stays on one thread.
//! * **I6.** Chunks and shards live until no reader, removal or deferred function can reach them: each deferred
//!   function holds a reference to the pool's `Inner`, and the pool's drop releases its own after a grace period.
//! * **I7.** A lane's shard is used by the thread that holds the lane, except for its counters, which any thread reads.
//!
//! Where two calls meet at one slot:
//!
//! * *get and insert*: the word is stored after the value (Release, Acquire). A look-up sees the whole entry or none.
//! * *get and remove*: a look-up that loads the word before the removal gets a value that lives until its guard is gone
//!   (I3); one that loads it after the removal gets `None`.
//! * *remove and remove*: one compare-exchange succeeds (I2).
//! * *get and the next insert into the slot*: a guard from before the removal delays the insert's write (I3). A later
//!   guard sees the removal, and the new word is another handle (I4).

mod chunk;
mod destructors;
mod directory;
mod error;
mod inner;
mod iter;
mod layout;
mod layout_pool;
pub(crate) mod pages;
mod reclamation;
mod reserve;
mod shard;
mod slab;
mod slot;
mod stack;
mod stats;
mod tag;
mod value;

use std::fmt;

pub use error::InsertError;
pub use iter::Iter;
pub(crate) use layout::Layout;
pub(crate) use layout_pool::LayoutPool;
pub use stats::PoolStats;
pub(crate) use tag::PoolTag;

use crate::epoch::Guard;
use crate::handle::Handle;
use crate::sync::Arc;

/// Pools of other sizes, for tests and model checkers that must reach every bound. Not part of the public interface:
/// it may change in any version.
#[doc(hidden)]
pub mod for_tests {
    pub use super::layout::{Layout, Standard, Tiny, TinyWith};
    pub use super::layout_pool::LayoutPool;
}

/// Lock-free storage of values under [`Handle`]s.
///
/// Look-ups are wait-free and write to no shared memory. Insertions and removals are lock-free, except for the
/// allocator. Every operation may run at the same time as every other, on any number of threads. The cost of an
/// operation does not depend on the number of idle threads.
///
/// A removed entry's handle resolves to nothing from then on. The pool drops its own reference to the value after a
/// grace period, on the thread that collects then. [`flush`](Self::flush) collects now.
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
/// # });
/// ```
///
/// # Limits
///
/// 16,777,216 entries at a time, live ones and those that wait for a grace period together. There are 2^50 handles, and
/// each is given out once: at a million insertions a second they last for 35 years.
///
/// Memory is that of the largest number of entries that were live or waiting at a time: 18 bytes a slot, and for values
/// of 64 bytes or less the memory of one value, which the slot's next value is written to. Any thread fills any vacant
/// slot, except for up to 63 slots in the cache of each lane. A chunk of 64 slots is 1,152 bytes, allocated by one
/// insertion. Slots are kept until the pool is dropped.
///
/// A handle of another pool is refused by its tag, of which there are 4,095. A pool and the tables of its handles keep
/// the tag in use; afterwards it is given to a later pool, as late as possible. If more than 4,095 are in use, pools
/// share tags. So a pool may take a handle of a pool that was dropped some 4,095 pools before for its own.
pub struct Pool<T: Send + Sync + 'static>(LayoutPool<T, layout::Standard>);

impl<T: Send + Sync> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync> Pool<T> {
    /// An empty pool. Takes address space for its directory (2 MiB), and memory as it is used.
    #[must_use]
    pub fn new() -> Self {
        Self(LayoutPool::new())
    }

    /// Stores a value under a handle that no other entry of the pool ever had or will have.
    ///
    /// # Errors
    ///
    /// Gives `value` back if the pool is full.
    #[inline]
    pub fn insert(&self, value: T) -> Result<Handle<T>, InsertError<T>> {
        self.0.insert(value)
    }

    /// Stores an `Arc`, as [`insert`](Self::insert) stores a value: the entry is the `Arc`'s own value, not a copy.
    ///
    /// # Errors
    ///
    /// Gives `value` back if the pool is full.
    #[inline]
    pub fn insert_arc(&self, value: Arc<T>) -> Result<Handle<T>, InsertError<Arc<T>>> {
        self.0.insert_arc(value)
    }

    /// Stores the value that `make` makes, which may contain its own handle. The handle resolves to nothing until
    /// `make` has returned. If `make` panics, nothing is stored, and the handle that it saw is never given out.
    ///
    /// # Errors
    ///
    /// Gives `make` back, uncalled, if the pool is full.
    #[inline]
    pub fn insert_with<F: FnOnce(Handle<T>) -> T>(&self, make: F) -> Result<Handle<T>, InsertError<F>> {
        self.0.insert_with(make)
    }

    /// The value of a live handle, for as long as the guard is held, even if the entry is removed or the pool is
    /// dropped in the meantime.
    ///
    /// Wait-free: two or three loads, and no write to shared memory.
    #[inline]
    #[must_use]
    pub fn get<'g>(&self, handle: Handle<T>, guard: &'g Guard) -> Option<&'g T> {
        self.0.get(handle, guard)
    }

    /// An owned reference to the value of a live handle, for uses that last longer than a few microseconds.
    ///
    /// Pins, looks up, and adds one to the value's reference count.
    #[inline]
    #[must_use]
    pub fn acquire(&self, handle: Handle<T>) -> Option<Arc<T>> {
        self.0.acquire(handle)
    }

    /// Removes the entry. Of several calls with one handle, one gets the value, at once.
    ///
    /// Readers that hold a guard keep their references. The pool drops its own reference after the grace period, also
    /// if no thread calls this pool again. Every 64th removal also collects, which may run destructors of values that
    /// were removed earlier. It yields the processor if grace periods do not end for long.
    #[inline]
    #[expect(clippy::must_use_candidate, reason = "called for its effect as often as for its result")]
    pub fn remove(&self, handle: Handle<T>) -> Option<Arc<T>> {
        self.0.remove(handle)
    }

    /// Whether the handle is live at the moment of the call.
    #[inline]
    #[must_use]
    pub fn contains(&self, handle: Handle<T>) -> bool {
        self.0.contains(handle)
    }

    /// The number of live entries. Exact while no entry is inserted or removed, otherwise approximate.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no live entries, as exactly as [`len`](Self::len) tells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The live entries, in no order. Weakly consistent: an entry that is live throughout the walk is given once, an
    /// entry that is inserted or removed during the walk at most once. Walks every slot that was ever used.
    pub fn iter<'a>(&'a self, guard: &'a Guard) -> Iter<'a, T> {
        self.0.iter(guard)
    }

    /// Removes the entries for which `keep` is `false`. The result counts those that this call removed. As consistent
    /// as [`iter`](Self::iter). This thread is pinned throughout.
    pub fn retain(&self, keep: impl FnMut(Handle<T>, &T) -> bool) -> usize {
        self.0.retain(keep)
    }

    /// Removes every entry that is live now. The result counts those that this call removed.
    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn clear(&self) -> usize {
        self.0.clear()
    }

    /// Counts of what the pool has done. Cheap; each count is read on its own.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.0.stats()
    }

    /// Releases every value that was removed before the call, as far as its grace period can end now.
    ///
    /// If no thread is pinned, including this one, and no other thread collects, all of them are released when it
    /// returns, and also the values that their destructors have removed on this thread. From a value's destructor it
    /// does nothing: values that are removed there are released by the collection that runs the destructor, or later.
    /// Costs a few loads if nothing waits.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// The pool, as the tables of its handles see it.
    pub(crate) fn layout_pool(&self) -> &LayoutPool<T, layout::Standard> {
        &self.0
    }
}

impl<T: Send + Sync> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
