//! [`Pool<T>`]: `Arc<T>`s under handles, shared by every thread of the process without a lock.
//!
//! A slab owns the entries ([`storage`]), a directory publishes which handle is live at which place
//! ([`directory`], [`slot`]), removed entries are gathered ([`limbo`]) and go back to the slab after a grace period
//! ([`crate::epoch`]). Every `unsafe` block here stands on some of these:
//!
//! * **I1.** While a slot's word is a handle, the slot's value is the address of the `Arc` that the slab's entry
//!   of that key owns.
//! * **I2.** A word leaves a handle once, by the compare-exchange of one removal, which is its winner.
//! * **I3.** An entry is taken from the slab, and so its slot written again, only after every guard that was
//!   pinned at its removal is gone. Until then the value lives.
//! * **I4.** A key is handed out once: the slab's generations grow, and a slot at its last one is never taken again.
//! * **I5.** A retired slot is its winner's until it is pushed, then in one stack or chain, whose taker alone
//!   touches its word until the entry is taken.
//! * **I6.** Slab, pages and shards live until no reader, removal or chain can reach them: each chain holds the
//!   pool's inside, and the pool's drop lets go of it after a grace period.
//!
//! Where two calls meet at one slot:
//!
//! * *get and insert*: the word is stored after the value (Release, Acquire). A look-up sees the whole entry or none.
//! * *get and remove*: the look-up that loads the word first keeps a value that lives until its guard is gone (I3);
//!   the one that comes second finds no handle.
//! * *remove and remove*: one compare-exchange succeeds (I2).
//! * *get and the next insert at the place*: a guard from before the removal keeps the slot from being written (I3);
//!   any later one sees the removal, and the new word is another handle (I4).

mod directory;
mod error;
mod iter;
mod layout;
mod limbo;
pub(crate) mod pages;
mod slot;
mod stats;
mod storage;
mod tag;
mod threads;

use std::fmt;
use std::mem::ManuallyDrop;

pub use error::InsertError;
pub use iter::Iter;
pub use layout::{Layout, Standard, Tiny};
pub use stats::PoolStats;
pub use threads::MAX_INSERTING_THREADS;

use crate::epoch::{Guard, pin};
use crate::handle::Handle;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, thread_local};
use directory::{Directory, Shard};
use layout::Shape;
use limbo::Chain;
use slot::Slot;
use storage::{Entry, Storage, Vacant};
use tag::PoolTag;

/// Pins and flushes that an unhindered collection takes: the epoch has to advance twice past a deferral.
const COLLECTIONS: usize = 3;

/// Lock-free storage of `Arc<T>`s under [`Handle`]s.
///
/// Look-ups are wait-free and write to no shared memory. Insertions and removals are lock-free; an insertion's
/// slot is in a part of the pool that belongs to its thread. Every operation may run at the same time as every other.
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
/// [`MAX_INSERTING_THREADS`] threads at a time, and 2,097,120 entries inserted by each of them. Each slot serves
/// 131,070 entries and is then given up, so that no handle ever names a later one. Pages of slots are kept until the
/// pool is dropped.
///
/// A handle of another pool is refused by its tag, of which there are 4,095: a pool may share its tag with one
/// that was dropped 4,095 pools ago, or with a live one where more than that are alive.
pub struct Pool<T: Send + Sync + 'static, L: Layout = Standard> {
    inner: ManuallyDrop<Arc<Inner<T, L>>>,
}

struct Inner<T: Send + Sync + 'static, L: Layout> {
    storage: Storage<T, L>,
    directory: Directory<T, L>,
    tag: PoolTag,
}

// SAFETY: the raw addresses inside are those of `Arc<T>`s, given out as `&T` and `Arc<T>`.
unsafe impl<T: Send + Sync, L: Layout> Send for Inner<T, L> {}
// SAFETY: as above; cells are written by one thread at a time (I3).
unsafe impl<T: Send + Sync, L: Layout> Sync for Inner<T, L> {}

impl<T: Send + Sync> Pool<T> {
    /// An empty pool. Takes address space for its tables (2 MiB and some), and memory as they are used.
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
        Self {
            inner: ManuallyDrop::new(Arc::new(Inner {
                storage: Storage::new(),
                directory: Directory::new(),
                tag: PoolTag::new(),
            })),
        }
    }

    /// Stores a value, or an `Arc` of one, and gives it a handle that no other entry ever had or will have.
    ///
    /// # Errors
    ///
    /// Gives `value` back where this thread's part of the pool is full, or where too many threads insert.
    #[inline]
    pub fn insert<V: Into<Arc<T>>>(&self, value: V) -> Result<Handle<T>, InsertError<V>> {
        match self.inner.reserve() {
            Ok(vacant) => Ok(self.inner.fill(vacant, value.into())),
            Err(refusal) => Err(refusal.with(value)),
        }
    }

    /// Stores what `make` makes of the handle that it will have. Until then the handle resolves to nothing. A panic
    /// of `make` passes through and leaves the pool as it was.
    ///
    /// # Errors
    ///
    /// Gives `make` back, uncalled, where [`insert`](Self::insert) would give the value back.
    #[inline]
    pub fn insert_with<V: Into<Arc<T>>, F: FnOnce(Handle<T>) -> V>(
        &self,
        make: F,
    ) -> Result<Handle<T>, InsertError<F>> {
        match self.inner.reserve() {
            Ok(vacant) => {
                let value = make(self.inner.handle(vacant.key())).into();
                Ok(self.inner.fill(vacant, value))
            }
            Err(refusal) => Err(refusal.with(make)),
        }
    }

    /// The value of a live handle, for as long as the guard is held, even where it is removed or the pool is dropped
    /// meanwhile.
    ///
    /// Wait-free: two or three loads, and no write to shared memory.
    #[inline]
    pub fn get<'g>(&self, handle: Handle<T>, guard: &'g Guard) -> Option<&'g T> {
        let _ = guard;
        let value = self.inner.slot(handle)?.read(handle.to_bits())?;
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
        let value = self.inner.slot(handle)?.read(handle.to_bits())?;
        // SAFETY: from `Arc::into_raw`, and under the guard the pool's own reference is alive (I1, I3).
        Some(unsafe { clone_of(value) })
    }

    /// Takes the entry out. Of several calls with one handle, one gets the value, at once.
    ///
    /// Readers that hold a guard keep their references. The pool's own reference goes after the grace period.
    /// This may collect, and so run destructors of values that were removed earlier.
    #[inline]
    pub fn remove(&self, handle: Handle<T>) -> Option<Arc<T>> {
        let inner = &*self.inner;
        let slot = inner.slot(handle)?;
        let place = Shape::<L>::place(handle.key());
        let shard = inner.directory.shard(place)?;
        let top = shard.limbo.top();
        let value = slot.retire(handle.to_bits(), top.link::<L>(handle.key()))?;
        // SAFETY: from `Arc::into_raw`; the pool's own reference goes only after the push below (I3, I5).
        let value = unsafe { clone_of(value) };
        if shard.limbo.push::<T, L>(place, slot, 1, top) >= L::BATCH {
            seal(&self.inner, shard);
        }
        Some(value)
    }

    /// Whether the handle is live, at the moment of the look.
    #[inline]
    #[must_use]
    pub fn contains(&self, handle: Handle<T>) -> bool {
        self.inner.slot(handle).is_some_and(|slot| slot.holds(handle.to_bits()))
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
    pub fn iter<'a>(&'a self, guard: &'a Guard) -> Iter<'a, T> {
        let _ = guard;
        Iter::new(self.inner.directory.slots(), self.inner.tag.bits())
    }

    /// Removes the entries of which `keep` says `false`, and says how many it removed itself. As consistent as
    /// [`iter`](Self::iter); pinned throughout.
    pub fn retain(&self, mut keep: impl FnMut(Handle<T>, &T) -> bool) -> usize {
        let guard = pin();
        self.iter(&guard).filter(|(handle, value)| !keep(*handle, value) && self.remove(*handle).is_some()).count()
    }

    /// Removes every entry that is live now, and says how many it removed itself.
    pub fn clear(&self) -> usize {
        self.retain(|_, _| false)
    }

    /// Counts of what was done. Cheap; each is read on its own.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats::sum::<L>(self.inner.directory.shards())
    }

    /// Hands every removal to the collector and collects what may be collected now.
    ///
    /// Where no other thread is pinned, every value that was removed before the call is let go of when it returns.
    pub fn flush(&self) {
        for shard in self.inner.directory.shards() {
            seal(&self.inner, shard);
        }
        collect();
    }

    /// The tag that this pool's handles have, where they have it.
    pub(crate) fn tag_bits(&self) -> u64 {
        self.inner.tag.bits()
    }
}

impl<T: Send + Sync, L: Layout> Drop for Pool<T, L> {
    /// Lets go of every value, once, after the grace period: at once where no other thread is pinned.
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let inner = unsafe { ManuallyDrop::take(&mut self.inner) };
        // SAFETY: values are Send, and `inner` keeps alive what its drop needs.
        unsafe { pin().defer(move || drop(inner)) };
        collect();
    }
}

impl<T: Send + Sync, L: Layout> fmt::Debug for Pool<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Why nothing could be stored.
enum Refusal {
    Full,
    TooManyThreads,
}

impl Refusal {
    fn with<V>(self, value: V) -> InsertError<V> {
        match self {
            Self::Full => InsertError::Full(value),
            Self::TooManyThreads => InsertError::TooManyThreads(value),
        }
    }
}

impl<T: Send + Sync, L: Layout> Inner<T, L> {
    #[inline]
    fn slot(&self, handle: Handle<T>) -> Option<&Slot<T>> {
        self.directory.slot(Shape::<L>::place(handle.key()))
    }

    fn handle(&self, key: u64) -> Handle<T> {
        let Some(handle) = Handle::from_bits(self.tag.bits() | key) else { unreachable!("a tag is never 0") };
        handle
    }

    #[inline]
    fn reserve(&self) -> Result<Vacant<'_, T, L>, Refusal> {
        if !threads::admitted() {
            return Err(Refusal::TooManyThreads);
        }
        match self.storage.vacant() {
            Some(vacant) if !Shape::<L>::is_last_generation(vacant.key()) => Ok(vacant),
            first => self.reserve_slowly(first),
        }
    }

    /// Gives up slots at their last generation (I4); where there is no other, collects and looks again.
    #[cold]
    fn reserve_slowly<'a>(&'a self, mut vacant: Option<Vacant<'a, T, L>>) -> Result<Vacant<'a, T, L>, Refusal> {
        let mut collections = 0..COLLECTIONS;
        loop {
            match vacant {
                Some(vacant) if Shape::<L>::is_last_generation(vacant.key()) => {
                    if let Some((_, shard)) = self.directory.grow(Shape::<L>::place(vacant.key())) {
                        shard.owner.retired_slots.increment();
                    }
                    vacant.fill(Entry::nothing());
                }
                Some(vacant) => return Ok(vacant),
                None if collections.next().is_some() => collect(),
                None => return Err(Refusal::Full),
            }
            vacant = self.storage.vacant();
        }
    }

    #[inline]
    fn fill(&self, vacant: Vacant<'_, T, L>, value: Arc<T>) -> Handle<T> {
        let key = vacant.key();
        let handle = self.handle(key);
        let place = Shape::<L>::place(key);
        let Some((slot, shard)) = self.directory.grow(place) else { unreachable!("a key of the slab has a place") };
        let entry = Entry::new(value);
        let address = entry.address();
        vacant.fill(entry);
        // SAFETY: the key is ours alone (I4), and its slot was last retired before the slab's entry was taken (I3).
        unsafe { slot.publish(address, handle.to_bits()) };
        shard.owner.inserted.increment();
        handle
    }

    /// Gives the slots of a chain back to the slab. The grace period of each removal in it is over.
    fn release(&self, chain: Chain) {
        let (count, mut place) = (chain.count::<L>(), chain.first::<L>());
        let (Some(shard), Some(first)) = (self.directory.shard(place), self.directory.slot(place)) else {
            unreachable!("a chain is of slots that were published");
        };
        if !threads::admitted() {
            // The slab may have no number for this thread: another one's turn, after another grace period.
            let last = (1..count)
                .fold(first, |slot, _| self.directory.slot(Shape::<L>::place(slot.retired_word())).unwrap_or(slot));
            shard.limbo.unseal(count);
            let top = shard.limbo.top();
            last.set_retired_word(top.link::<L>(last.retired_word()));
            shard.limbo.push::<T, L>(place, last, count, top);
            return;
        }
        let _releasing = Releasing::begin();
        for _ in 0..count {
            let Some(slot) = self.directory.slot(place) else { unreachable!("as above") };
            let word = slot.retired_word();
            let entry = self.storage.take(Shape::<L>::generation_bits(word) | place);
            debug_assert!(entry.is_some(), "taken by nobody else (I2, I5)");
            // What its destructor does here, this pool's own calls included, finds everything in order.
            drop(entry);
            shard.limbo.add_reclaimed(1);
            place = Shape::<L>::place(word);
        }
        #[cfg(loom)]
        crate::verification::RECLAMATIONS.with(|entries| entries.set(entries.get() + count));
    }
}

/// Has the shard's removals released after a grace period.
#[cold]
fn seal<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, shard: &Shard) {
    if let Some(chain) = shard.limbo.seal::<L>() {
        let inner = Arc::clone(inner);
        let guard = pin();
        // SAFETY: `inner` keeps alive what is reached (I6), and the chain is this closure's alone (I5).
        unsafe { guard.defer(move || inner.release(chain)) };
        if !Releasing::is_under_way() {
            guard.flush();
        }
    }
}

/// Collects what may be collected now. Not from within a destructor that a collection runs: a value that removes
/// another that removes another would take as much stack as there are values.
#[cold]
fn collect() {
    if !Releasing::is_under_way() {
        for _ in 0..COLLECTIONS {
            pin().flush();
        }
    }
}

thread_local! {
    // An atomic for want of a const cell that loom's thread-locals take; nobody else sees it.
    static RELEASING: AtomicBool = AtomicBool::new(false);
}

/// Marks this thread as one that runs destructors.
struct Releasing {
    outer: bool,
}

impl Releasing {
    fn begin() -> Self {
        Self { outer: RELEASING.try_with(|flag| flag.swap(true, Ordering::Relaxed)).unwrap_or(true) }
    }

    /// A thread that is being torn down counts as one: the next will collect.
    fn is_under_way() -> bool {
        RELEASING.try_with(|flag| flag.load(Ordering::Relaxed)).unwrap_or(true)
    }
}

impl Drop for Releasing {
    fn drop(&mut self) {
        let _ = RELEASING.try_with(|flag| flag.store(self.outer, Ordering::Relaxed));
    }
}

/// A reference of the caller's own.
///
/// # Safety
///
/// `value` came from [`Arc::into_raw`], and a reference to it is alive during the call.
#[inline]
unsafe fn clone_of<T>(value: *const T) -> Arc<T> {
    // SAFETY: the caller's promise.
    unsafe {
        Arc::increment_strong_count(value);
        Arc::from_raw(value)
    }
}
