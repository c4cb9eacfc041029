//! What the models share: how one is run, and a payload that reports its use after its end.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use graphpool::pool::for_tests::{LayoutPool, Tiny};
use graphpool::{pin, verification};
use loom::cell::UnsafeCell;

/// A pool with few slots and few generations.
pub type Pool<T> = LayoutPool<T, Tiny>;

pub fn new_pool<T: Send + Sync>() -> loom::sync::Arc<Pool<T>> {
    loom::sync::Arc::new(LayoutPool::new())
}

/// Runs a model to its end: every execution that loom's memory model allows.
pub fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    run(name, None, model);
}

/// Runs a model through every execution with at most `preemptions` involuntary switches.
pub fn explore_bounded(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    run(name, Some(preemptions), model);
}

/// Runs a group of models, as [`explore`] or within `bound`, and prints one line for all.
#[cfg(not(crossbeam_loom))]
pub fn explore_all<M: Fn() + Send + Sync + 'static>(
    name: &str,
    bound: Option<usize>,
    models: impl IntoIterator<Item = M>,
) {
    let start = Instant::now();
    let (mut programs, mut executions, mut reclaiming) = (0, 0, 0);
    for model in models {
        let counts = check(bound, model);
        (programs, executions, reclaiming) = (programs + 1, executions + counts[0], reclaiming + counts[1]);
    }
    eprintln!("{name}: {programs} programs, {}", report(bound, [executions, reclaiming], start));
}

fn run(name: &str, bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let start = Instant::now();
    let counts = check(bound, model);
    eprintln!("{name}: {}", report(bound, counts, start));
}

fn report(bound: Option<usize>, [executions, reclaiming]: [u64; 2], start: Instant) -> String {
    let extent = within(bound).map_or("complete".to_string(), |bound| format!("all with {bound} preemptions"));
    let seconds = start.elapsed().as_secs_f64();
    format!("{executions} executions, {extent}, {reclaiming} reclaimed, {seconds:.1} s")
}

/// The bound on preemptions. `LOOM_COMPLETE` removes the bound. crossbeam-epoch has many more steps than the model of
/// its contract, so `LOOM_EPOCH_BOUND` bounds every model with it.
fn within(bound: Option<usize>) -> Option<usize> {
    if !cfg!(crossbeam_loom) {
        return bound.filter(|_| std::env::var_os("LOOM_COMPLETE").is_none());
    }
    let most = std::env::var("LOOM_EPOCH_BOUND").ok().and_then(|bound| bound.parse().ok()).unwrap_or(1);
    Some(bound.map_or(most, |bound| bound.min(most)))
}

/// How many executions there were, and in how many of them memory was reclaimed.
fn check(bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) -> [u64; 2] {
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 100_000;
    builder.preemption_bound = within(bound);
    let count = Arc::clone(&counts);
    builder.check(move || {
        nothing_is_left();
        quarantine::release();
        verification::threads_borrow_lanes(false);
        #[cfg(not(crossbeam_loom))]
        verification::deferrals_run_last_first(false);
        count[0].fetch_add(1, Ordering::Relaxed);
        begin();
        model();
        if verification::RECLAMATIONS.get() > BEFORE.get() {
            count[1].fetch_add(1, Ordering::Relaxed);
        }
    });
    nothing_is_left();
    [&counts[0], &counts[1]].map(|count| count.load(Ordering::Relaxed))
}

thread_local! {
    /// Models of several tests run side by side, each on a thread of its own with its own count.
    static BEFORE: Cell<u64> = const { Cell::new(0) };
    /// [`Padded`] values.
    static LIVE: Cell<u64> = const { Cell::new(0) };
}

/// Checks the execution before: loom reports memory that is not freed, but not a value that is freed without its
/// destructor.
fn nothing_is_left() {
    assert_eq!(LIVE.get(), 0, "values whose destructors never ran");
}

/// Begins the part that the model is about: entries that were reclaimed before are not counted.
pub fn begin() {
    BEFORE.set(verification::RECLAMATIONS.get());
}

/// Advances crossbeam-epoch far enough to reclaim. The model of its contract does not need this.
pub fn collect() {
    if cfg!(crossbeam_loom) {
        for _ in 0..3 {
            pin().flush();
        }
    }
}

/// A value whose use after its end is a race that loom reports, or a failed assertion.
pub struct Padded<const PADDING: usize> {
    live: UnsafeCell<bool>,
    value: u64,
    _padding: [u8; PADDING],
}

/// A value whose allocation the quarantine recognizes by its size.
pub type Payload = Padded<PADDING>;

pub const PADDING: usize = quarantine::SIZE - 2 * size_of::<usize>() - size_of::<(UnsafeCell<bool>, u64)>();

/// A value so small that the pool recycles its memory.
pub type Small = Padded<0>;

// SAFETY: loom reports every race on the cell.
unsafe impl<const PADDING: usize> Sync for Padded<PADDING> {}

impl<const PADDING: usize> Padded<PADDING> {
    pub fn new(value: u64) -> Self {
        LIVE.set(LIVE.get() + 1);
        Self { live: UnsafeCell::new(true), value, _padding: [0; _] }
    }

    pub fn read(&self) -> u64 {
        // SAFETY: loom reports a concurrent write.
        self.live.with(|live| assert!(unsafe { *live }, "read after its end"));
        self.value
    }
}

impl<const PADDING: usize> Drop for Padded<PADDING> {
    fn drop(&mut self) {
        self.live.with_mut(|live| {
            // SAFETY: loom reports every concurrent access.
            let live = unsafe { &mut *live };
            assert!(*live, "dropped twice");
            *live = false;
        });
        LIVE.set(LIVE.get() - 1);
    }
}

/// Keeps the memory of payloads until the execution is over, so that a use after free is a report and not undefined
/// behaviour.
mod quarantine {
    use super::{GlobalAlloc, Layout, RefCell, System};

    /// No other allocation is of this size.
    pub const SIZE: usize = 1912;

    thread_local! {
        static KEPT: RefCell<Vec<(*mut u8, Layout)>> = const { RefCell::new(Vec::new()) };
    }

    struct Quarantine;

    #[global_allocator]
    static QUARANTINE: Quarantine = Quarantine;

    // SAFETY: forwards to the system's allocator, and frees blocks of one size later.
    unsafe impl GlobalAlloc for Quarantine {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promise is the one that is required here.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            let kept = layout.size() == SIZE && KEPT.try_with(|kept| kept.borrow_mut().push((block, layout))).is_ok();
            if !kept {
                // SAFETY: the caller's promise is the one that is required here.
                unsafe { System.dealloc(block, layout) };
            }
        }
    }

    /// Frees the memory that earlier executions of this thread left.
    pub fn release() {
        let blocks = KEPT.with(|kept| std::mem::take(&mut *kept.borrow_mut()));
        for (block, layout) in blocks {
            // SAFETY: taken from `dealloc`, once.
            unsafe { System.dealloc(block, layout) };
        }
    }
}
