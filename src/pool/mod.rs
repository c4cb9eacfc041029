//! [`Pool<T>`]: `Arc<T>`s under handles, shared by every thread of the process without a lock.
//!
//! The slab says where there is room (`places`), and a directory has a slot for each place, in which the live handle
//! and its value are (`directory`, `slot`). Removed entries are gathered (`limbo`), let go of after a grace period
//! (`epoch`), and their slots used again (`magazine`). Every `unsafe` block here stands on some of these:
//!
//! * **I1.** While a slot's word is a handle, its value is the address of an `Arc` that the slot owns.
//! * **I2.** A word leaves a handle once, by the compare-exchange of one removal, which is its winner.
//! * **I3.** A slot's value is let go of, and the slot written again, only after every guard that was pinned at its
//!   removal is gone.
//! * **I4.** A handle is given out once: each entry of a slot has the next generation, and after the last there is none.
//! * **I5.** A slot that isn't live belongs to one party, which alone touches it: the insertion that fills it, the
//!   winner of its removal, a ring, a claim, a deferral, a magazine, the depot. It passes on with a Release and an
//!   Acquire, or within a thread.
//! * **I6.** Slots and shards live until no reader, removal or deferral can reach them: each deferral holds the pool's
//!   inside, and the pool's drop lets go of it after a grace period.
//! * **I7.** A thread's shard is its own while it lives, but for the claims from its ring.
//!
//! Where two calls meet at one slot:
//!
//! * *get and insert*: the word is stored after the value (Release, Acquire). A look-up sees the whole entry or none.
//! * *get and remove*: the look-up that loads the word first keeps a value that lives until its guard is gone (I3);
//!   the one that comes second finds no handle.
//! * *remove and remove*: one compare-exchange succeeds (I2).
//! * *get and the next insert at the place*: a guard from before the removal keeps the slot from being written (I3);
//!   any later one sees the removal, and the new word is another handle (I4).

mod chain;
mod directory;
mod error;
mod inner;
mod iter;
mod layout;
mod limbo;
mod magazine;
pub(crate) mod pages;
mod places;
mod reclaim;
mod slot;
mod stats;
mod tag;
#[cfg(not(loom))]
mod threads;
#[cfg(loom)]
pub(crate) mod threads;
mod value;

use std::fmt;
use std::mem::ManuallyDrop;

pub use error::InsertError;
pub use iter::Iter;
pub use layout::{Layout, Standard, Tiny, TinyWith};
pub use stats::PoolStats;
pub(crate) use tag::PoolTag;
pub use threads::MAX_INSERTING_THREADS;
pub use value::Insert;

use crate::epoch::{Guard, pin};
use crate::handle::Handle;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use chain::{Chain, link};
use inner::{Inner, reserve};
use layout::Shape;
use reclaim::{claim, collect_all, defer, make_way};
use value::clone_of;

/// Lock-free storage of `Arc<T>`s under [`Handle`]s.
///
/// Look-ups are wait-free and write to no shared memory. Insertions and removals are lock-free, but for the allocator
/// and for a thread's first fresh slot, which has the slab number the thread under a lock; an insertion takes a slot that
/// its thread has at hand. Every operation may run at the same time as every other.
///
/// A removed entry's handle resolves to nothing at once and for ever; the pool's own reference to the value is let
/// go of after a grace period, in batches, on whichever thread collects then. [`flush`](Self::flush) asks for it
/// now.
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
/// [`MAX_INSERTING_THREADS`] threads at a time, and 2,097,120 slots for each of them. A slot serves 131,072 entries
/// and is then given up, so that no handle ever names a later one. Slots are kept until the pool is dropped.
///
/// A handle of another pool is refused by its tag, of which there are 4,095. A tag that is let go of is used again, as
/// late as can be; a pool and the tables of its handles hold it. Where more than 4,095 are held, pools share them.
pub struct Pool<T: Send + Sync + 'static, L: Layout = Standard> {
    inner: ManuallyDrop<Arc<Inner<T, L>>>,
}

impl<T: Send + Sync> Pool<T> {
    /// An empty pool. Takes address space for its tables (1 MiB and some), and memory as they are used.
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
    /// Gives `value` back where this thread's part of the pool is full, or where too many threads insert.
    #[inline]
    pub fn insert<V: Insert<T>>(&self, value: V) -> Result<Handle<T>, InsertError<V>> {
        match reserve(&self.inner) {
            Ok(vacant) => Ok(vacant.fill(value)),
            Err(refusal) => Err(refusal.with(value)),
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
            Ok(vacant) => {
                let value = make(vacant.handle());
                Ok(vacant.fill(value))
            }
            Err(refusal) => Err(refusal.with(make)),
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
        let value = self.inner.find(handle, |slot| slot.read(handle.to_bits()))?;
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
        let value = self.inner.find(handle, |slot| slot.read(handle.to_bits()))?;
        // SAFETY: from `Arc::into_raw`, and under the guard the pool's own reference is alive (I1, I3).
        Some(unsafe { clone_of(value) })
    }

    /// Takes the entry out. Of several calls with one handle, one gets the value, at once.
    ///
    /// Readers that hold a guard keep their references. The pool's own reference goes after the grace period.
    /// This may collect, and so run destructors of values that were removed earlier, and yields the processor where
    /// thousands of removals wait for a thread that is pinned.
    #[inline]
    #[expect(clippy::must_use_candidate, reason = "called for what it does as often as for what it gives")]
    pub fn remove(&self, handle: Handle<T>) -> Option<Arc<T>> {
        let inner = &*self.inner;
        let value = inner.find(handle, |slot| slot.retire(handle.to_bits(), link::<L>(handle.key(), 0)))?;
        // SAFETY: from `Arc::into_raw`; the slot's own reference goes only after what follows (I3, I5).
        let value = unsafe { clone_of(value) };
        let place = Shape::<L>::place(handle.key());
        if let Some(shard) = threads::number().and_then(|thread| inner.directory.shard(thread)) {
            if shard.limbo.push::<L>(place) {
                claim(&self.inner, &shard.limbo);
                make_way();
            }
        } else {
            inner.elsewhere.removed.fetch_add(1, Ordering::Relaxed);
            defer(&self.inner, Chain::new::<L>(1, place));
        }
        Some(value)
    }

    /// Whether the handle is live, at the moment of the look.
    #[inline]
    #[must_use]
    pub fn contains(&self, handle: Handle<T>) -> bool {
        self.inner.find(handle, |slot| slot.holds(handle.to_bits()).then_some(())).is_some()
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
        Iter::new(self.inner.directory.slots(), self.inner.tag.bits().get())
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
        PoolStats::sum(self.inner.directory.shards(), &self.inner.elsewhere)
    }

    /// Hands every removal to the collector and collects what may be collected now.
    ///
    /// Where no thread is pinned, this one included, and none of them collects, every value that was removed before
    /// the call is let go of when it returns. From within a value's destructor it collects nothing: whoever runs that
    /// does when it is done.
    pub fn flush(&self) {
        for shard in self.inner.directory.shards() {
            claim(&self.inner, &shard.limbo);
        }
        collect_all();
    }

    /// The tag that this pool's handles have, for as long as the caller keeps it.
    pub(crate) fn tag(&self) -> &std::sync::Arc<PoolTag> {
        &self.inner.tag
    }
}

impl<T: Send + Sync, L: Layout> Drop for Pool<T, L> {
    /// Lets go of every value, once, after the grace period: at once where no thread is pinned, otherwise when
    /// something else collects later.
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let inner = unsafe { ManuallyDrop::take(&mut self.inner) };
        // SAFETY: values are Send, and `inner` keeps alive what its drop needs.
        unsafe { pin().defer(move || drop(inner)) };
        collect_all();
    }
}

impl<T: Send + Sync, L: Layout> fmt::Debug for Pool<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
