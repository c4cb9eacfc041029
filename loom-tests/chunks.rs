//! The last generation of slots, and the cache of vacant slots (I4, I5).

use graphpool::pool::for_tests::{LayoutPool, Tiny, TinyWith};
use graphpool::{Handle, pin};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Payload, explore, explore_bounded};

const GENERATIONS: usize = 8;

/// I4: a chunk is renumbered when both of its slots are exhausted, and no earlier; and a second time.
#[test]
fn a_chunk_is_renumbered_when_the_last_of_its_slots_is_exhausted() {
    explore("a chunk is renumbered when the last of its slots is exhausted", || {
        let pool = LayoutPool::<_, Tiny>::new();
        let mut made: Vec<Handle<Payload>> = Vec::new();
        let insert = |made: &mut Vec<_>| {
            let handle = pool.insert(Payload::new(1)).unwrap();
            assert!(!made.contains(&handle), "a handle came twice");
            made.push(handle);
            handle
        };
        for chunk in 0..2 {
            let stays = insert(&mut made);
            assert_eq!(stays.to_bits(), made[0].to_bits() + 2 * chunk, "the first slot of the next chunk");
            for _ in 0..GENERATIONS {
                let handle = insert(&mut made);
                drop(pool.remove(handle));
            }
            assert_eq!(pool.stats().exhausted_slots, 2 * chunk + 1);
            assert_eq!(pool.remove(stays).expect("the chunk has its number").read(), 1);
            for _ in 1..GENERATIONS {
                let handle = insert(&mut made);
                drop(pool.remove(handle));
            }
            assert_eq!(pool.stats().exhausted_slots, 2 * chunk + 2);
        }
    });
}

/// M1: a chunk that is found on the stack may be popped, exhausted and renumbered before its marks are read.
#[test]
fn insert_against_the_renumbering_of_the_chunk_that_it_finds_with_3_preemptions() {
    explore_bounded("insert against the renumbering of the chunk that it finds", 3, || {
        let pool = Arc::new(LayoutPool::<_, TinyWith<0, 2>>::new());
        let mut made = Vec::new();
        for _ in 1..GENERATIONS {
            made.push(pool.insert(Payload::new(1)).unwrap());
            drop(pool.remove(*made.last().unwrap()));
        }
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.insert(Payload::new(2)).ok());
        if let Ok(last) = pool.insert(Payload::new(1)) {
            drop(pool.remove(last));
            made.push(last);
        }
        let theirs = other.join().unwrap();
        made.extend(theirs);
        made.extend(pool.insert(Payload::new(3)));
        let guard = pin();
        let distinct: std::collections::BTreeSet<_> = made.iter().collect();
        assert_eq!(distinct.len(), made.len(), "a handle came twice");
        assert!(theirs.is_none_or(|theirs| pool.get(theirs, &guard).unwrap().read() == 2));
    });
}

/// I4, I5: of two threads that exhaust the slots of a chunk, the last renumbers it, after what the other did to its
/// slot.
#[test]
fn the_last_removals_of_both_slots_of_a_chunk_with_2_preemptions() {
    explore_bounded("the last removals of both slots of a chunk", 2, || {
        let pool = Arc::new(LayoutPool::<_, TinyWith<1, 2>>::new());
        let insert = || pool.insert(Payload::new(1)).unwrap();
        let mut made = Vec::new();
        for _ in 1..GENERATIONS {
            let pair = [insert(), insert()];
            made.extend(pair);
            for handle in pair {
                drop(pool.remove(handle));
            }
        }
        let last = [insert(), insert()];
        made.extend(last);
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || drop(other.remove(last[0])));
        drop(pool.remove(last[1]));
        // Perhaps into the other's slot. None while the other is about to renumber the chunk.
        let mut next = Vec::from_iter(pool.insert(Payload::new(1)));
        other.join().unwrap();
        assert_eq!(pool.stats().exhausted_slots, 2);
        next.extend(std::iter::from_fn(|| pool.insert(Payload::new(1)).ok()));
        assert_eq!(next.len(), 2, "one chunk is left");
        let guard = pin();
        for handle in next {
            assert!(!made.contains(&handle), "a handle came twice");
            assert_eq!(pool.get(handle, &guard).unwrap().read(), 1);
        }
    });
}

/// I5: an insertion that releases a value whose destructor inserts uses the slots that the destructor left in the
/// cache.
#[test]
fn insert_against_a_destructor_that_inserts_with_1_preemption() {
    struct Renewed(Payload, Option<Arc<LayoutPool<Renewed, Tiny>>>);
    impl Drop for Renewed {
        fn drop(&mut self) {
            if let Some(pool) = self.1.take() {
                // Fails if the others have all slots.
                drop(pool.insert(Renewed(Payload::new(2), None)));
            }
        }
    }
    explore_bounded("insert against a destructor that inserts", 1, || {
        let pool: Arc<LayoutPool<Renewed, Tiny>> = Arc::new(LayoutPool::new());
        let insert = |renewed| pool.insert(Renewed(Payload::new(1), renewed)).unwrap();
        let [renewed, first] = [insert(Some(Arc::clone(&pool))), insert(None)];
        let pair = [insert(None), insert(None)];
        let other = Arc::clone(&pool);
        // Until the pool is full, so that its cache is empty.
        let other = thread::spawn(move || while other.insert(Renewed(Payload::new(3), None)).is_ok() {});
        {
            // The guard delays the first grace period, so that the other three removals share the next.
            let _guard = pin();
            for handle in [first, renewed, pair[0], pair[1]] {
                drop(pool.remove(handle));
            }
        }
        other.join().unwrap();
        while pool.insert(Renewed(Payload::new(4), None)).is_ok() {}
        assert_eq!(pool.len(), 6, "a slot was lost");
        assert_eq!(pool.iter(&pin()).filter(|(_, value)| value.0.read() > 1).count(), 6);
    });
}
