//! Which threads may use the slab, whose keys have room for 4,096 of them and which panics past that.
//!
//! sharded-slab numbers every thread of the process that inserts into, or takes from, any slab, and gives a
//! number back when the thread ends. A thread asks here first. Under loom this stays on std: its threads are one
//! thread to the slab.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that may insert at the same time, in the whole process and over all pools.
///
/// 64 fewer than the slab has shards: it keeps a number back, and a thread that ends gives up its place here a
/// moment before its number there.
pub const MAX_INSERTING_THREADS: usize = 4096 - 64;

static ADMITTED_THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether the slab has numbered this thread. No destructor, so that it can be read at any time.
    static ADMITTED: Cell<bool> = const { Cell::new(false) };
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
        ADMITTED.set(false);
    }
}

/// Whether this thread may use the slab. One read of a thread-local once it was told so.
#[inline]
pub(super) fn admitted() -> bool {
    ADMITTED.get() || admit()
}

#[cold]
fn admit() -> bool {
    if CLOSED.get() || !PERMIT.try_with(Permit::take).unwrap_or(false) || !number_this_thread() {
        return false;
    }
    let open = CLOSING.try_with(|_| ()).is_ok();
    ADMITTED.set(open);
    open
}

/// Has the slab number this thread, or finds out that it can't: other crates of the process may use the same slab
/// with as many threads as they like.
fn number_this_thread() -> bool {
    struct Probe;
    impl sharded_slab::Config for Probe {
        const MAX_THREADS: usize = 4096;
        const MAX_PAGES: usize = 1;
        const INITIAL_PAGE_SIZE: usize = 1;
    }
    static PROBE: LazyLock<sharded_slab::Slab<(), Probe>> = LazyLock::new(sharded_slab::Slab::new_with_config);
    catch_unwind(|| PROBE.insert(()).map(|key| PROBE.remove(key))).is_ok()
}
