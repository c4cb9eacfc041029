//! Where new slots come from: the slab gives each thread places in pages of its own.
//!
//! Every place is asked for once and kept for the pool's life; slots that fall vacant are handed on by
//! [`magazine`](super::magazine). The slab's own recycling would be two compare-exchanges more for each entry, and
//! would bring slots back cold.

use super::layout::Layout;

pub(super) struct Places<L: Layout>(sharded_slab::Slab<(), L>);

impl<L: Layout> Places<L> {
    pub(super) fn new() -> Self {
        Self(sharded_slab::Slab::new_with_config())
    }

    /// A place that was never given before, in this thread's part; `None` when that is used up. The thread is
    /// [numbered](super::threads).
    #[cold]
    pub(super) fn fresh(&self) -> Option<u64> {
        // Of generation 0, since nothing is ever taken out.
        self.0.insert(()).map(|place| place as u64)
    }
}
