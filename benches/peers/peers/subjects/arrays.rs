//! What only reads are measured of, since nothing there gives out places: a bare `Vec`, the limit of what an index
//! costs, and a `Vec` of arc-swap's cells.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::subject::Subject;

/// Indexed with a bounds check.
pub struct Plain(Vec<Arc<u64>>);

impl Subject for Plain {
    const NAME: &'static str = "vec";
    type Key = usize;
    type Reader<'a> = ();

    fn filled(count: usize) -> (Self, Vec<usize>) {
        (Self((0..count as u64).map(Arc::new).collect()), (0..count).collect())
    }

    fn reader(&self) {}

    #[inline]
    fn get(&self, (): &mut (), key: usize) -> Option<u64> {
        self.0.get(key).map(|value| **value)
    }

    #[inline]
    fn acquire(&self, (): &mut (), key: usize) -> Option<Arc<u64>> {
        self.0.get(key).cloned()
    }
}

/// One cell for each value.
pub struct Cells(Vec<ArcSwap<u64>>);

impl Subject for Cells {
    const NAME: &'static str = "arc-swap";
    type Key = usize;
    type Reader<'a> = ();

    fn filled(count: usize) -> (Self, Vec<usize>) {
        (Self((0..count as u64).map(ArcSwap::from_pointee).collect()), (0..count).collect())
    }

    fn reader(&self) {}

    #[inline]
    fn get(&self, (): &mut (), key: usize) -> Option<u64> {
        self.0.get(key).map(|cell| **cell.load())
    }

    #[inline]
    fn acquire(&self, (): &mut (), key: usize) -> Option<Arc<u64>> {
        self.0.get(key).map(ArcSwap::load_full)
    }
}
