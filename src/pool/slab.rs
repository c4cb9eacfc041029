//! The owner of all chunks: one sharded slab for all pools of the process.
//!
//! A pool asks the slab once for 64 slots, and returns the chunk when the pool is dropped. Look-ups do not use it: they
//! go through the pool's own [directory](super::directory).
//!
//! [sharded-slab](sharded_slab) gives each thread a number. It panics if it has no number left, or if the thread's own
//! thread-locals are gone. `Config` has more numbers than a system has threads. A thread that ends, and a thread that
//! the slab has refused once, makes chunks without the slab.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::LazyLock;

use super::chunk::Chunk;
use crate::sync::atomic::Ordering;

struct Config;

impl sharded_slab::Config for Config {
    /// A table of half a megabyte for the process.
    const MAX_THREADS: usize = 1 << 16;
    /// 2,097,120 chunks for each thread.
    const MAX_PAGES: usize = 16;
    const INITIAL_PAGE_SIZE: usize = 32;
}

static SLAB: LazyLock<sharded_slab::Slab<Owned, Config>> = LazyLock::new(sharded_slab::Slab::new_with_config::<Config>);

/// A chunk that is freed when this is dropped.
struct Owned(NonNull<Chunk>);

// SAFETY: an `Owned` only frees its chunk, which any thread may do.
unsafe impl Send for Owned {}
// SAFETY: a shared `Owned` gives no access to its chunk.
unsafe impl Sync for Owned {}

impl Owned {
    fn new() -> Self {
        Self(NonNull::from(Box::leak(Box::default())))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: from `Box::leak` in `new`, and dropped once, by the slab or by `free`, after its pool's last use.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Untried,
    Granted,
    /// The slab has no number for the thread, or the thread ends.
    Refused,
}

thread_local! {
    static ACCESS: Cell<Access> = const { Cell::new(Access::Untried) };
    static THREAD_END: ThreadEnd = const { ThreadEnd };
}

/// Created after the slab's own thread-local, and so dropped before it.
struct ThreadEnd;

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        ACCESS.set(Access::Refused);
    }
}

/// Makes a chunk, which lives until [`free`].
#[cold]
pub(super) fn make() -> NonNull<Chunk> {
    if ACCESS.get() != Access::Refused {
        let owned = Owned::new();
        let chunk = owned.0;
        let key = catch_unwind(AssertUnwindSafe(|| SLAB.insert(owned)));
        ACCESS.set(if key.is_ok() { Access::Granted } else { Access::Refused });
        if let Ok(Some(key)) = key {
            let _ = THREAD_END.try_with(|_| ());
            // SAFETY: the slab keeps the chunk until its key is removed.
            unsafe { chunk.as_ref() }.marks.slab_key.store(key + 1, Ordering::Relaxed);
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
/// 2. No thread uses it any more.
pub(super) unsafe fn free(chunk: NonNull<Chunk>) {
    // SAFETY: the chunk lives until this call (1).
    match unsafe { chunk.as_ref() }.marks.slab_key.load(Ordering::Relaxed).checked_sub(1) {
        // A panic: the slab has no number for this thread, and keeps the chunk.
        Some(key) => drop(catch_unwind(AssertUnwindSafe(|| SLAB.remove(key)))),
        None => drop(Owned(chunk)),
    }
}
