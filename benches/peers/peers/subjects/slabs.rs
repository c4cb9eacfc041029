//! Peers that give out their own keys.

use std::sync::Arc;

use concurrent_slotmap::SlotId;
use parking_lot::{Mutex, RwLock};
use slotmap::{DefaultKey, SlotMap};

use crate::subject::{Churn, Subject};

fn fill<S: Churn>(subject: &S, count: usize) -> Vec<S::Key> {
    let mut reader = subject.reader();
    (0..count as u64).map(|value| subject.insert(&mut reader, value)).collect()
}

/// Its keys come back after 8,191 uses of a slot.
pub struct Sharded(sharded_slab::Slab<Arc<u64>>);

impl Subject for Sharded {
    const NAME: &'static str = "sharded-slab";
    type Key = usize;
    type Reader<'a> = ();

    fn filled(count: usize) -> (Self, Vec<usize>) {
        let slab = Self(sharded_slab::Slab::new());
        let keys = fill(&slab, count);
        (slab, keys)
    }

    fn reader(&self) {}

    #[inline]
    fn get(&self, (): &mut (), key: usize) -> Option<u64> {
        self.0.get(key).map(|value| **value)
    }

    #[inline]
    fn acquire(&self, (): &mut (), key: usize) -> Option<Arc<u64>> {
        self.0.get(key).map(|value| Arc::clone(&value))
    }
}

impl Churn for Sharded {
    #[inline]
    fn insert(&self, (): &mut (), value: u64) -> usize {
        self.0.insert(Arc::new(value)).expect("there is room")
    }

    #[inline]
    fn remove(&self, (): &mut (), key: usize) -> Option<Arc<u64>> {
        self.0.take(key)
    }
}

/// Pinned for each call: its guard has no way to let go and stay.
pub struct Concurrent(concurrent_slotmap::SlotMap<SlotId, Arc<u64>>);

impl Concurrent {
    /// It takes address space for as many at once.
    const CAPACITY: u32 = 1 << 24;
}

impl Subject for Concurrent {
    const NAME: &'static str = "concurrent-slotmap";
    type Key = SlotId;
    type Reader<'a> = ();

    fn filled(count: usize) -> (Self, Vec<SlotId>) {
        let map = Self(concurrent_slotmap::SlotMap::new(Self::CAPACITY));
        let keys = fill(&map, count);
        (map, keys)
    }

    fn reader(&self) {}

    #[inline]
    fn get(&self, (): &mut (), key: SlotId) -> Option<u64> {
        self.0.get(key, &self.0.pin()).map(|value| **value)
    }

    #[inline]
    fn acquire(&self, (): &mut (), key: SlotId) -> Option<Arc<u64>> {
        self.0.get(key, &self.0.pin()).cloned()
    }
}

impl Churn for Concurrent {
    #[inline]
    fn insert(&self, (): &mut (), value: u64) -> SlotId {
        self.0.insert(Arc::new(value), &self.0.pin())
    }

    #[inline]
    fn remove(&self, (): &mut (), key: SlotId) -> Option<Arc<u64>> {
        self.0.remove(key, &self.0.pin()).cloned()
    }
}

/// slotmap in `parking_lot`'s reader-writer lock.
pub struct RwLockSlots(RwLock<SlotMap<DefaultKey, Arc<u64>>>);

impl Subject for RwLockSlots {
    const NAME: &'static str = "rwlock-slotmap";
    type Key = DefaultKey;
    type Reader<'a> = ();

    fn filled(count: usize) -> (Self, Vec<DefaultKey>) {
        let map = Self(RwLock::new(SlotMap::new()));
        let keys = fill(&map, count);
        (map, keys)
    }

    fn reader(&self) {}

    #[inline]
    fn get(&self, (): &mut (), key: DefaultKey) -> Option<u64> {
        self.0.read().get(key).map(|value| **value)
    }

    #[inline]
    fn acquire(&self, (): &mut (), key: DefaultKey) -> Option<Arc<u64>> {
        self.0.read().get(key).cloned()
    }
}

impl Churn for RwLockSlots {
    #[inline]
    fn insert(&self, (): &mut (), value: u64) -> DefaultKey {
        let value = Arc::new(value);
        self.0.write().insert(value)
    }

    #[inline]
    fn remove(&self, (): &mut (), key: DefaultKey) -> Option<Arc<u64>> {
        self.0.write().remove(key)
    }
}

/// slotmap in `parking_lot`'s mutex.
pub struct MutexSlots(Mutex<SlotMap<DefaultKey, Arc<u64>>>);

impl Subject for MutexSlots {
    const NAME: &'static str = "mutex-slotmap";
    type Key = DefaultKey;
    type Reader<'a> = ();

    fn filled(count: usize) -> (Self, Vec<DefaultKey>) {
        let map = Self(Mutex::new(SlotMap::new()));
        let keys = fill(&map, count);
        (map, keys)
    }

    fn reader(&self) {}

    #[inline]
    fn get(&self, (): &mut (), key: DefaultKey) -> Option<u64> {
        self.0.lock().get(key).map(|value| **value)
    }

    #[inline]
    fn acquire(&self, (): &mut (), key: DefaultKey) -> Option<Arc<u64>> {
        self.0.lock().get(key).cloned()
    }
}

impl Churn for MutexSlots {
    #[inline]
    fn insert(&self, (): &mut (), value: u64) -> DefaultKey {
        let value = Arc::new(value);
        self.0.lock().insert(value)
    }

    #[inline]
    fn remove(&self, (): &mut (), key: DefaultKey) -> Option<Arc<u64>> {
        self.0.lock().remove(key)
    }
}
