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
mod iter;
mod layout;
mod limbo;
mod magazine;
pub(crate) mod pages;
mod places;
mod slot;
mod stats;
mod tag;
mod threads;

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use error::InsertError;
pub use iter::Iter;
pub use layout::{Layout, Standard, Tiny, TinyWith};
pub use stats::PoolStats;
pub use threads::MAX_INSERTING_THREADS;

use crate::epoch::{Guard, pin};
use crate::handle::Handle;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, thread_local};
use chain::{Chain, link};
use directory::{Directory, Shard};
use layout::Shape;
use limbo::Limbo;
use magazine::Depot;
use places::Places;
use slot::Slot;
use tag::PoolTag;

/// Pins and flushes that an unhindered collection takes: the epoch has to advance twice past a deferral.
const COLLECTIONS: usize = 3;

/// Lock-free storage of `Arc<T>`s under [`Handle`]s.
///
/// Look-ups are wait-free and write to no shared memory. Insertions and removals are lock-free; an insertion takes a
/// slot that its thread has at hand. Every operation may run at the same time as every other.
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
/// A handle of another pool is refused by its tag, of which there are 4,095: a pool may share its tag with one
/// that was dropped 4,095 pools ago, or with a live one where more than that are alive.
pub struct Pool<T: Send + Sync + 'static, L: Layout = Standard> {
    inner: ManuallyDrop<Arc<Inner<T, L>>>,
}

struct Inner<T: Send + Sync + 'static, L: Layout> {
    directory: Directory<T, L>,
    depot: Depot,
    places: Places<L>,
    tag: PoolTag,
    /// Removals by threads without a number, which have no shard to count them.
    removed_elsewhere: AtomicU64,
}

// SAFETY: the raw addresses inside are those of `Arc<T>`s, given out as `&T` and `Arc<T>`.
unsafe impl<T: Send + Sync, L: Layout> Send for Inner<T, L> {}
// SAFETY: as above; a cell is written by one thread at a time, while no other reads it (I3, I5, I7).
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
                directory: Directory::new(),
                depot: Depot::default(),
                places: Places::new(),
                tag: PoolTag::new(),
                removed_elsewhere: AtomicU64::new(0),
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
            Ok(vacant) => Ok(vacant.fill(value.into())),
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
    pub fn insert_with<V: Into<Arc<T>>, F: FnOnce(Handle<T>) -> V>(
        &self,
        make: F,
    ) -> Result<Handle<T>, InsertError<F>> {
        match self.inner.reserve() {
            Ok(vacant) => {
                let value = make(vacant.handle()).into();
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
    #[expect(clippy::must_use_candidate, reason = "called for what it does as often as for what it gives")]
    pub fn remove(&self, handle: Handle<T>) -> Option<Arc<T>> {
        let inner = &*self.inner;
        let slot = inner.slot(handle)?;
        let value = slot.retire(handle.to_bits(), link::<L>(handle.key(), 0))?;
        // SAFETY: from `Arc::into_raw`; the slot's own reference goes only after what follows (I3, I5).
        let value = unsafe { clone_of(value) };
        let place = Shape::<L>::place(handle.key());
        if let Some(shard) = threads::number().and_then(|thread| inner.directory.shard(thread)) {
            if shard.limbo.push::<L>(place) {
                claim(&self.inner, &shard.limbo);
            }
        } else {
            inner.removed_elsewhere.fetch_add(1, Ordering::Relaxed);
            defer(&self.inner, Chain::new::<L>(1, place));
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
    #[must_use]
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
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn clear(&self) -> usize {
        self.retain(|_, _| false)
    }

    /// Counts of what was done. Cheap; each is read on its own.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let elsewhere = self.inner.removed_elsewhere.load(Ordering::Relaxed);
        PoolStats::sum(self.inner.directory.shards(), elsewhere)
    }

    /// Hands every removal to the collector and collects what may be collected now.
    ///
    /// Where no other thread is pinned, every value that was removed before the call is let go of when it returns.
    pub fn flush(&self) {
        for shard in self.inner.directory.shards() {
            claim(&self.inner, &shard.limbo);
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

/// A vacant slot that is this thread's to fill. Dropped unfilled it goes back, its generation spent.
struct Vacant<'a, T: Send + Sync + 'static, L: Layout> {
    inner: &'a Inner<T, L>,
    shard: &'a Shard,
    slot: &'a Slot<T>,
    key: u64,
}

impl<T: Send + Sync, L: Layout> Vacant<'_, T, L> {
    #[inline]
    fn handle(&self) -> Handle<T> {
        let Some(handle) = Handle::from_bits(self.inner.tag.bits() | self.key) else {
            unreachable!("a tag is never 0")
        };
        handle
    }

    #[inline]
    fn fill(self, value: Arc<T>) -> Handle<T> {
        let vacant = ManuallyDrop::new(self);
        let handle = vacant.handle();
        // SAFETY: a vacant slot, and ours alone (I5).
        unsafe { vacant.slot.publish(Arc::into_raw(value), handle.to_bits()) };
        vacant.shard.owner.inserted.add(1);
        handle
    }
}

impl<T: Send + Sync, L: Layout> Drop for Vacant<'_, T, L> {
    fn drop(&mut self) {
        self.inner.vacate(self.shard, self.key);
    }
}

impl<T: Send + Sync, L: Layout> Inner<T, L> {
    #[inline]
    fn slot(&self, handle: Handle<T>) -> Option<&Slot<T>> {
        self.directory.slot(Shape::<L>::place(handle.key()))
    }

    #[inline]
    fn reserve(&self) -> Result<Vacant<'_, T, L>, Refusal> {
        let shard = threads::number().and_then(|thread| self.directory.shard(thread));
        let shard = shard.ok_or(Refusal::TooManyThreads)?;
        // SAFETY: the shard is this thread's (I7).
        let (place, word) = match unsafe { shard.owner.vacant.take(&self.directory, &self.depot) } {
            Some(vacant) => vacant,
            None => self.make_room(shard)?,
        };
        let slot = self.directory.grow(place).ok_or(Refusal::Full)?;
        Ok(Vacant { inner: self, shard, slot, key: Shape::<L>::generation_bits(word) | place })
    }

    /// A slot that was never used, or failing that one which a collection gives back.
    #[cold]
    fn make_room(&self, shard: &Shard) -> Result<(u64, u64), Refusal> {
        if let Some(place) = self.places.fresh() {
            return Ok((place, 0));
        }
        for _ in 0..COLLECTIONS {
            collect();
            // SAFETY: the shard is this thread's (I7).
            if let Some(vacant) = unsafe { shard.owner.vacant.take(&self.directory, &self.depot) } {
                return Ok(vacant);
            }
        }
        Err(Refusal::Full)
    }

    /// Makes the slot of `key` this thread's to use for the next generation, or gives it up after the last (I4).
    #[inline]
    fn vacate(&self, shard: &Shard, key: u64) {
        match Shape::<L>::next_generation(key) {
            // SAFETY: the shard is this thread's (I7), and the slot too (I5).
            Some(next) => unsafe { shard.owner.vacant.give(next, &self.directory, &self.depot) },
            None => shard.owner.retired_slots.add(1),
        }
    }

    /// Links what was claimed from a ring.
    fn chain(&self, places: &[u64]) -> Chain {
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
        let tag = self.tag.bits();
        let live = self.directory.slots().filter_map(|slot| Some(slot.live(tag)?.1));
        let claimed = self.directory.shards().filter_map(|shard| shard.limbo.claim());
        let removed = claimed.flat_map(|claimed| claimed.places().to_vec());
        // SAFETY: nobody else has anything of this pool (I6), so every slot is ours.
        let removed = removed.filter_map(|place| Some(unsafe { self.directory.slot(place)?.value() }));
        for value in live.chain(removed) {
            // SAFETY: the slot's own reference, once: a slot is live or removed.
            unsafe { let_go(value) };
        }
    }
}

/// Has what is in a ring released after a grace period.
#[cold]
fn claim<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, limbo: &Limbo) {
    if let Some(claimed) = limbo.claim() {
        defer(inner, inner.chain(claimed.places()));
    }
}

/// Has a chain released after a grace period.
#[cold]
fn defer<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, chain: Chain) {
    let inner = Arc::clone(inner);
    let guard = pin();
    // SAFETY: `inner` keeps alive what is reached (I6), and the chain is this closure's alone (I5).
    unsafe { guard.defer(move || release(&inner, chain)) };
    if !Releasing::is_under_way() {
        guard.flush();
    }
}

/// Lets go of the values of a chain and makes its slots vacant. The grace period of each removal in it is over.
fn release<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, chain: Chain) {
    let _releasing = Releasing::begin();
    let Some(shard) = threads::number().and_then(|thread| inner.directory.shard(thread)) else {
        // One thread too many, with no magazines to fill: another one's turn, after another grace period.
        return defer(inner, chain);
    };
    let mut place = chain.first::<L>();
    for _ in 0..chain.count::<L>() {
        let Some(slot) = inner.directory.slot(place) else { unreachable!("it was live") };
        let word = slot.vacant_word();
        // SAFETY: the slot is this chain's (I5).
        let value = unsafe { slot.value() };
        inner.vacate(shard, Shape::<L>::generation_bits(word) | place);
        // SAFETY: the slot's own reference, once (I1, I3). Whatever the destructor calls finds all in order.
        unsafe { let_go(value) };
        shard.owner.reclaimed.add(1);
        place = Shape::<L>::place(word);
    }
    #[cfg(loom)]
    crate::verification::RECLAMATIONS.with(|entries| entries.set(entries.get() + chain.count::<L>()));
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
    // Not `const`, which loom's macro doesn't know.
    #[cfg_attr(not(loom), expect(clippy::missing_const_for_thread_local, reason = "as above"))]
    static RELEASING: Cell<bool> = Cell::new(false);
}

/// Marks this thread as one that runs destructors.
struct Releasing {
    outer: bool,
}

impl Releasing {
    fn begin() -> Self {
        Self { outer: RELEASING.try_with(|flag| flag.replace(true)).unwrap_or(true) }
    }

    /// A thread that is being torn down counts as one: the next will collect.
    fn is_under_way() -> bool {
        RELEASING.try_with(Cell::get).unwrap_or(true)
    }
}

impl Drop for Releasing {
    fn drop(&mut self) {
        let _ = RELEASING.try_with(|flag| flag.set(self.outer));
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

/// Drops a reference. A panic of the value's destructor ends here: whoever collects is rarely the one whom it
/// concerns, and has more to collect.
///
/// # Safety
///
/// `value` came from [`Arc::into_raw`], and its reference is the caller's to drop.
#[inline]
unsafe fn let_go<T>(value: *const T) {
    // SAFETY: the caller's promise.
    let value = unsafe { Arc::from_raw(value) };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value)))
        // What was thrown has a destructor too, which might panic in its turn; there it ends.
        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        std::mem::forget(payload);
    }
}
