//! Where new slots come from: the slab gives each thread places in pages of its own.
//!
//! Every place is asked for once and kept for the pool's life; slots that fall vacant are handed on by
//! [`magazine`](super::magazine). The slab's own recycling would be two compare-exchanges more for each entry, and
//! would bring slots back cold.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::layout::{Layout, Shape};

pub(super) struct Places<L: Layout>(sharded_slab::Slab<(), L>);

impl<L: Layout> Places<L> {
    pub(super) fn new() -> Self {
        Self(sharded_slab::Slab::new_with_config())
    }

    /// A place that was never given before, of generation 0; `None` where this thread's part is used up, or where the
    /// slab has no number for this thread: it has room for 4,096, other users of the crate included, and panics past
    /// that.
    #[cold]
    pub(super) fn fresh(&self) -> Option<u64> {
        thread_local! {
            static REFUSED: Cell<bool> = const { Cell::new(false) };
        }
        if REFUSED.try_with(Cell::get).unwrap_or(true) {
            return None;
        }
        let place = catch_unwind(AssertUnwindSafe(|| self.0.insert(())));
        if place.is_err() {
            // A thread keeps its number for life.
            let _ = REFUSED.try_with(|refused| refused.set(true));
        }
        place.ok()?.and_then(|key| Shape::<L>::place_of_slab(key as u64))
    }
}
