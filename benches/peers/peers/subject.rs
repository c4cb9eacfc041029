//! What is measured: anything that keeps `Arc<u64>`s under keys.

use std::sync::Arc;

/// Values that many threads look up.
///
/// Every subject keeps `Arc<u64>`s, and a look-up reads the number behind the `Arc`, as a caller would use a graph.
pub trait Subject: Send + Sync + Sized + 'static {
    /// The name in tables and in `peers.json`.
    const NAME: &'static str;
    type Key: Copy + Send + Sync;
    /// What a thread keeps between its calls: a guard, where the subject has one that it may keep.
    type Reader<'a>;

    /// The subject with the numbers below `count`, and the keys of these in order.
    fn filled(count: usize) -> (Self, Vec<Self::Key>);
    fn reader(&self) -> Self::Reader<'_>;
    fn get(&self, reader: &mut Self::Reader<'_>, key: Self::Key) -> Option<u64>;
    fn acquire(&self, reader: &mut Self::Reader<'_>, key: Self::Key) -> Option<Arc<u64>>;
}

/// Values that many threads put in and take out.
pub trait Churn: Subject {
    fn insert(&self, reader: &mut Self::Reader<'_>, value: u64) -> Self::Key;
    /// Gives the value out, as an owner.
    fn remove(&self, reader: &mut Self::Reader<'_>, key: Self::Key) -> Option<Arc<u64>>;
    /// Called now and then, between two operations: lets go of what a kept guard holds back.
    fn rest(_: &mut Self::Reader<'_>) {}
}
