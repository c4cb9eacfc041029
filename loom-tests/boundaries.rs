//! Chunks whose slots are exhausted, and which are renumbered (I4, I5, I6).

use graphpool::pin;
use graphpool::pool::for_tests::{Layout, LayoutPool, Tiny, TinyWith};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Padded, Payload, Small, explore, explore_bounded};

/// Two chunks of one slot.
type Two = TinyWith<0, 2>;

const GENERATIONS: usize = 8;

/// Brings the slots in one thread's cache, of a new pool, to their last generation. They are vacant then.
fn at_the_last_generation<const PADDING: usize, const SLOTS: usize, L: Layout>(pool: &LayoutPool<Padded<PADDING>, L>) {
    for _ in 1..GENERATIONS {
        let handles = [(); SLOTS].map(|()| pool.insert(Padded::new(0)).unwrap());
        for handle in handles {
            drop(pool.remove(handle));
        }
    }
}

/// I5: a thread is about to pop a chunk from the stack of vacant slots while the chunk is renumbered.
#[test]
fn insert_against_the_renumbering_of_the_chunk_that_it_would_take_with_3_preemptions() {
    explore_bounded("insert against the renumbering of the chunk that it would take", 3, || {
        let pool = Arc::new(LayoutPool::<Payload, Two>::new());
        at_the_last_generation::<_, 1, _>(&pool);
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.insert(Payload::new(1)).ok());
        if let Ok(last) = pool.insert(Payload::new(2)) {
            drop(pool.remove(last));
        }
        // None: the pool is full while its last chunk is between two numbers.
        let theirs = other.join().unwrap().unwrap_or_else(|| pool.insert(Payload::new(1)).unwrap());
        assert_eq!(pool.get(theirs, &pin()).unwrap().read(), 1);
    });
}

/// I5: of two threads that exhaust the last slots of a chunk, the one that renumbers it sees what the other did.
#[test]
fn the_last_removals_of_a_chunk_against_each_other_with_3_preemptions() {
    explore_bounded("the last removals of a chunk against each other", 3, || {
        let pool = Arc::new(LayoutPool::<Payload, Tiny>::new());
        at_the_last_generation::<_, 2, _>(&pool);
        let last = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap());
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || drop(other.remove(last[0])));
        drop(pool.remove(last[1]));
        let next = [3, 4].map(|value| pool.insert(Payload::new(value)).unwrap());
        other.join().unwrap();
        assert_eq!(next.map(|handle| pool.get(handle, &pin()).unwrap().read()), [3, 4]);
        assert_eq!(pool.stats().exhausted_slots, 2);
    });
}

/// I4: a chunk gets a third number only when all of its slots are exhausted under the second.
#[test]
fn a_chunk_is_renumbered_twice() {
    explore("a chunk is renumbered twice", || {
        let pool = Arc::new(LayoutPool::<Payload, Tiny>::new());
        at_the_last_generation::<_, 2, _>(&pool);
        let last = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap());
        for handle in last {
            drop(pool.remove(handle));
        }
        at_the_last_generation::<_, 2, _>(&pool);
        let [goes, stays] = [3, 4].map(|value| pool.insert(Payload::new(value)).unwrap());
        drop(pool.remove(goes));
        assert_eq!(pool.get(stays, &pin()).map(Payload::read), Some(4));
        assert_eq!(pool.stats().exhausted_slots, 3);
        drop(pool.remove(stays));
        assert!(pool.insert(Payload::new(5)).is_ok(), "the chunk is renumbered once more");
    });
}

/// I4: a walk gives an entry once while its chunk is renumbered.
#[test]
fn walk_against_a_chunk_that_is_renumbered_with_3_preemptions() {
    explore_bounded("walk against a chunk that is renumbered", 3, || {
        let pool = Arc::new(LayoutPool::<Payload, Two>::new());
        at_the_last_generation::<_, 1, _>(&pool);
        let last = pool.insert(Payload::new(1)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || drop(other.remove(last)));
        // Full: the pool's last chunk is between two numbers.
        if let Ok(mine) = pool.insert(Payload::new(2)) {
            let guard = pin();
            let found = pool.iter(&guard).filter(|(handle, _)| *handle == mine);
            assert_eq!(found.count(), 1);
        }
        other.join().unwrap();
    });
}

/// I6: a chunk that gets no further number is freed with the pool, and its recycled memory too. (loom reports a leak.)
#[test]
fn a_chunk_without_a_next_number_is_freed_with_the_pool() {
    explore("a chunk without a next number is freed with the pool", || {
        let pool = LayoutPool::<Small, TinyWith<0, 1>>::new();
        at_the_last_generation::<_, 1, _>(&pool);
        let last = pool.insert(Small::new(1)).unwrap();
        {
            // The pool's reference is the last one, so that the memory is recycled.
            let _guard = pin();
            drop(pool.remove(last));
        }
        assert_eq!(pool.stats().exhausted_slots, 1);
        assert!(pool.insert(Small::new(2)).is_err());
    });
}
