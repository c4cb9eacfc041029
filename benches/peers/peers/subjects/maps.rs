//! Concurrent maps of numbers to values, as a registry with handles of its own would use them. The numbers are never
//! used twice, so stale ones stay out; they come from a counter for each thread, which costs next to nothing, and go
//! through a hash of one multiplication, since nobody chooses them.

use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use papaya::{Guard, LocalGuard};

use crate::subject::{Churn, Subject};

/// A number that no other call gives.
#[inline]
fn fresh() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<u64> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) << 40);
    }
    let number = NEXT.get();
    NEXT.set(number + 1);
    number
}

/// One wide multiplication, folded.
#[derive(Default)]
pub struct Multiplied(u64);

impl Hasher for Multiplied {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number ^ 0x243F_6A88_85A3_08D3) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

type Hash = BuildHasherDefault<Multiplied>;

fn fill<S: Churn>(subject: &S, count: usize) -> Vec<S::Key> {
    let mut reader = subject.reader();
    (0..count as u64).map(|value| subject.insert(&mut reader, value)).collect()
}

pub struct Dash(dashmap::DashMap<u64, Arc<u64>, Hash>);

impl Subject for Dash {
    const NAME: &'static str = "dashmap";
    type Key = u64;
    type Reader<'a> = ();

    fn filled(count: usize) -> (Self, Vec<u64>) {
        let map = Self(dashmap::DashMap::with_hasher(Hash::default()));
        let keys = fill(&map, count);
        (map, keys)
    }

    fn reader(&self) {}

    #[inline]
    fn get(&self, (): &mut (), key: u64) -> Option<u64> {
        self.0.get(&key).map(|value| **value)
    }

    #[inline]
    fn acquire(&self, (): &mut (), key: u64) -> Option<Arc<u64>> {
        self.0.get(&key).map(|value| Arc::clone(&value))
    }
}

impl Churn for Dash {
    #[inline]
    fn insert(&self, (): &mut (), value: u64) -> u64 {
        let key = fresh();
        self.0.insert(key, Arc::new(value));
        key
    }

    #[inline]
    fn remove(&self, (): &mut (), key: u64) -> Option<Arc<u64>> {
        self.0.remove(&key).map(|(_, value)| value)
    }
}

/// With one guard, refreshed before each call: what costs it least without holding anything back.
pub struct Papaya(papaya::HashMap<u64, Arc<u64>, Hash>);

impl Subject for Papaya {
    const NAME: &'static str = "papaya";
    type Key = u64;
    type Reader<'a> = LocalGuard<'a>;

    fn filled(count: usize) -> (Self, Vec<u64>) {
        let map = Self(papaya::HashMap::with_hasher(Hash::default()));
        let keys = fill(&map, count);
        (map, keys)
    }

    fn reader(&self) -> LocalGuard<'_> {
        self.0.guard()
    }

    #[inline]
    fn get(&self, guard: &mut LocalGuard<'_>, key: u64) -> Option<u64> {
        guard.refresh();
        self.0.get(&key, guard).map(|value| **value)
    }

    #[inline]
    fn acquire(&self, guard: &mut LocalGuard<'_>, key: u64) -> Option<Arc<u64>> {
        guard.refresh();
        self.0.get(&key, guard).cloned()
    }
}

impl Churn for Papaya {
    #[inline]
    fn insert(&self, guard: &mut LocalGuard<'_>, value: u64) -> u64 {
        let key = fresh();
        guard.refresh();
        self.0.insert(key, Arc::new(value), guard);
        key
    }

    #[inline]
    fn remove(&self, guard: &mut LocalGuard<'_>, key: u64) -> Option<Arc<u64>> {
        guard.refresh();
        self.0.remove(&key, guard).cloned()
    }
}

pub struct Scc(scc::HashIndex<u64, Arc<u64>, Hash>);

impl Subject for Scc {
    const NAME: &'static str = "scc";
    type Key = u64;
    type Reader<'a> = ();

    fn filled(count: usize) -> (Self, Vec<u64>) {
        let map = Self(scc::HashIndex::with_hasher(Hash::default()));
        let keys = fill(&map, count);
        (map, keys)
    }

    fn reader(&self) {}

    #[inline]
    fn get(&self, (): &mut (), key: u64) -> Option<u64> {
        self.0.peek_with(&key, |_, value| **value)
    }

    #[inline]
    fn acquire(&self, (): &mut (), key: u64) -> Option<Arc<u64>> {
        self.0.peek_with(&key, |_, value| Arc::clone(value))
    }
}

impl Churn for Scc {
    #[inline]
    fn insert(&self, (): &mut (), value: u64) -> u64 {
        let key = fresh();
        assert!(self.0.insert_sync(key, Arc::new(value)).is_ok(), "a number is used once");
        key
    }

    #[inline]
    fn remove(&self, (): &mut (), key: u64) -> Option<Arc<u64>> {
        let entry = self.0.get_sync(&key)?;
        let value = Arc::clone(entry.get());
        entry.remove_entry();
        Some(value)
    }
}
