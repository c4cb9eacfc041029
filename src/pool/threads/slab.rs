//! The slab's numbers.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::MAX_INSERTING_THREADS;

static ADMITTED_THREADS: AtomicUsize = AtomicUsize::new(0);
const NONE: usize = usize::MAX;

thread_local! {
    /// This thread's number, or [`NONE`]. No destructor, so that it can be read at any time.
    static NUMBER: Cell<usize> = const { Cell::new(NONE) };
    /// Whether this thread is being torn down, its number perhaps already gone.
    static CLOSED: Cell<bool> = const { Cell::new(false) };
    static PERMIT: Permit = const { Permit(Cell::new(false)) };
    static CLOSING: Closing = const { Closing };
}

/// A place among the admitted, held to the thread's end.
struct Permit(Cell<bool>);

impl Permit {
    fn take(&self) -> bool {
        if !self.0.get() {
            // Relaxed: a count that orders nothing.
            let taken = ADMITTED_THREADS.try_update(Ordering::Relaxed, Ordering::Relaxed, |threads| {
                (threads < MAX_INSERTING_THREADS).then_some(threads + 1)
            });
            self.0.set(taken.is_ok());
        }
        self.0.get()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.get() {
            ADMITTED_THREADS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Marks the thread as closed. Thread-locals are destroyed in the reverse of the order in which they were
/// initialised: this one before the slab's number, that one before the permit.
struct Closing;

impl Drop for Closing {
    fn drop(&mut self) {
        CLOSED.set(true);
        NUMBER.set(NONE);
    }
}

#[inline]
pub fn number() -> Option<usize> {
    match NUMBER.get() {
        NONE => admit(),
        number => Some(number),
    }
}

#[cold]
fn admit() -> Option<usize> {
    if CLOSED.get() || !PERMIT.try_with(Permit::take).unwrap_or(false) {
        return None;
    }
    let number = number_of_the_slab()?;
    CLOSING.try_with(|_| ()).ok()?;
    NUMBER.set(number);
    Some(number)
}

/// Has the slab number this thread, or finds out that it can't: other crates of the process may use the same slab
/// with as many threads as they like.
fn number_of_the_slab() -> Option<usize> {
    struct Probe;
    impl sharded_slab::Config for Probe {
        const MAX_THREADS: usize = 4096;
        const MAX_PAGES: usize = 1;
        const INITIAL_PAGE_SIZE: usize = 1;
    }
    /// Two bits of address, and above them the thread.
    const ADDRESS_BITS: u32 = 2;
    const THREAD_MASK: usize = (1 << 13) - 1;
    static PROBE: LazyLock<sharded_slab::Slab<(), Probe>> = LazyLock::new(sharded_slab::Slab::new_with_config);

    let key = catch_unwind(|| PROBE.insert(())).ok()??;
    PROBE.remove(key);
    Some(key >> ADDRESS_BITS & THREAD_MASK)
}
