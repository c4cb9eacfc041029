//! An allocator that counts the bytes of its process, for tests that are alone in theirs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts bytes like glibc's allocator: 8 more than requested, rounded up to a multiple of 16, at least 32.
struct Counting;

// Relaxed, at all of their uses: the bytes are a sum, by which no other data is published.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Of this thread alone: the test harness has one of its own, which allocates when it likes.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The bytes that are allocated now.
#[allow(dead_code, reason = "not every test reads them")]
pub fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// The result of `f`, and the most bytes that were allocated at any time of it beyond those before.
#[allow(dead_code, reason = "not every test reads it")]
pub fn peak_of<R>(f: impl FnOnce() -> R) -> (R, usize) {
    let before = live();
    PEAK.store(before, Ordering::Relaxed);
    let result = f();
    (result, PEAK.load(Ordering::Relaxed) - before)
}

/// The result of `f`, and how often its thread asked for memory.
#[allow(dead_code, reason = "not every test counts them")]
pub fn allocations_of<R>(f: impl FnOnce() -> R) -> (R, usize) {
    let before = ALLOCATIONS.get();
    let result = f();
    (result, ALLOCATIONS.get() - before)
}

/// The bytes that the allocator takes for a request.
fn taken(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

fn add(bytes: usize) {
    // A thread that ends may be past its counter.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is forwarded to the system allocator with its arguments unchanged, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(taken(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(taken(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A large block grows in place, so that old and new block are not counted together.
        add(taken(size).saturating_sub(taken(layout.size())));
        LIVE.fetch_sub(taken(layout.size()).saturating_sub(taken(size)), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
