//! Who owns the chunks: one sharded slab for all pools of the process.
//!
//! A pool asks it once for 64 slots and gives the chunk back at its end; look-ups go by the pool's own
//! [directory](super::directory). [sharded-slab](sharded_slab) numbers the threads that ask it and panics past the last
//! number that its configuration has room for, or where the thread's own thread-locals are gone. The numbers of this
//! configuration are more than a system has threads. A thread on its way out, and any that was refused, makes its
//! chunks without the slab.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::LazyLock;

use super::chunk::Chunk;
use crate::sync::atomic::Ordering;

struct Config;

impl sharded_slab::Config for Config {
    /// Half a megabyte of table, once for the process.
    const MAX_THREADS: usize = 1 << 16;
    /// 2,097,120 chunks for each thread.
    const MAX_PAGES: usize = 16;
    const INITIAL_PAGE_SIZE: usize = 32;
}

static SLAB: LazyLock<sharded_slab::Slab<Owned, Config>> = LazyLock::new(sharded_slab::Slab::new_with_config::<Config>);

/// A chunk that is freed when this is dropped.
struct Owned(NonNull<Chunk>);

// SAFETY: it frees the chunk, which any thread may, and gives no access to it.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    fn new() -> Self {
        Self(NonNull::from(Box::leak(Box::default())))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: leaked in `new`, once, and its pool uses it no more when the slab or `free` drops it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Untried,
    Granted,
    /// The slab had no number for the thread, or the thread is ending.
    Refused,
}

thread_local! {
    static ACCESS: Cell<Access> = const { Cell::new(Access::Untried) };
    static LEAVING: Leaving = const { Leaving };
}

/// Made after the slab's own thread-local, and so dropped before it.
struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        ACCESS.set(Access::Refused);
    }
}

/// A new chunk, which is in use until [`free`] is called.
#[cold]
pub(super) fn make() -> NonNull<Chunk> {
    if ACCESS.get() != Access::Refused {
        let owned = Owned::new();
        let chunk = owned.0;
        let key = catch_unwind(AssertUnwindSafe(|| SLAB.insert(owned)));
        ACCESS.set(if key.is_ok() { Access::Granted } else { Access::Refused });
        if let Ok(Some(key)) = key {
            let _ = LEAVING.try_with(|_| ());
            // SAFETY: the slab keeps it until its key is removed.
            unsafe { chunk.as_ref() }.marked.slab_key.store(key + 1, Ordering::Relaxed);
            return chunk;
        }
    }
    std::mem::ManuallyDrop::new(Owned::new()).0
}

/// Frees a chunk.
///
/// # Safety
///
/// 1. The chunk came from [`make`] and was not freed before.
/// 2. Nobody uses it any more.
pub(super) unsafe fn free(chunk: NonNull<Chunk>) {
    // SAFETY: it is there until now (1).
    match unsafe { chunk.as_ref() }.marked.slab_key.load(Ordering::Relaxed).checked_sub(1) {
        // A thread that the slab has no number for leaves the chunk to it.
        Some(key) => drop(catch_unwind(AssertUnwindSafe(|| SLAB.remove(key)))),
        None => drop(Owned(chunk)),
    }
}
