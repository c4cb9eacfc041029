//! Chunks whose slots have served their last generation, and that go on under another number (I4, I5, I6).

use graphpool::pool::{Layout, Tiny, TinyWith};
use graphpool::{Pool, pin};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Padded, Payload, Small, explore, explore_bounded};

/// Two chunks of one slot.
type Two = TinyWith<0, 2>;

const GENERATIONS: usize = 8;

/// Has as many slots of a new pool at their last generation, and vacant, as one thread has at hand.
fn at_the_last_generation<const PADDING: usize, const SLOTS: usize, L: Layout>(pool: &Pool<Padded<PADDING>, L>) {
    for _ in 1..GENERATIONS {
        let handles = [(); SLOTS].map(|()| pool.insert(Padded::new(0)).unwrap());
        for handle in handles {
            drop(pool.remove(handle));
        }
    }
}

/// I5: whoever is about to take a chunk off the list of those with vacant slots finds it under another number.
#[test]
fn insert_against_the_end_of_the_chunk_that_it_would_take_with_3_preemptions() {
    explore_bounded("insert against the end of the chunk that it would take", 3, || {
        let pool = Arc::new(Pool::<Payload, Two>::with_layout());
        at_the_last_generation::<_, 1, _>(&pool);
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.insert(Payload::new(1)).ok());
        if let Ok(last) = pool.insert(Payload::new(2)) {
            drop(pool.remove(last));
        }
        // None: full, where the chunk that is between two numbers is the last.
        let theirs = other.join().unwrap().unwrap_or_else(|| pool.insert(Payload::new(1)).unwrap());
        assert_eq!(pool.get(theirs, &pin()).unwrap().read(), 1);
    });
}

/// I5: of two threads that give the last slots of a chunk up, the one that numbers it anew has what the other did.
#[test]
fn the_end_of_a_slot_against_the_end_of_the_other_with_3_preemptions() {
    explore_bounded("the end of a slot against the end of the other", 3, || {
        let pool = Arc::new(Pool::<Payload, Tiny>::with_layout());
        at_the_last_generation::<_, 2, _>(&pool);
        let last = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap());
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || drop(other.remove(last[0])));
        drop(pool.remove(last[1]));
        let next = [3, 4].map(|value| pool.insert(Payload::new(value)).unwrap());
        other.join().unwrap();
        assert_eq!(next.map(|handle| pool.get(handle, &pin()).unwrap().read()), [3, 4]);
        assert_eq!(pool.stats().retired_slots, 2);
    });
}

/// I4: a chunk goes on under a third number only when all of its slots were used up under the second.
#[test]
fn a_chunk_goes_on_twice() {
    explore("a chunk goes on twice", || {
        let pool = Arc::new(Pool::<Payload, Tiny>::with_layout());
        at_the_last_generation::<_, 2, _>(&pool);
        let last = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap());
        for handle in last {
            drop(pool.remove(handle));
        }
        at_the_last_generation::<_, 2, _>(&pool);
        let [goes, stays] = [3, 4].map(|value| pool.insert(Payload::new(value)).unwrap());
        drop(pool.remove(goes));
        assert_eq!(pool.get(stays, &pin()).map(Payload::read), Some(4));
        assert_eq!(pool.stats().retired_slots, 3);
        drop(pool.remove(stays));
        assert!(pool.insert(Payload::new(5)).is_ok(), "the chunk goes on once more");
    });
}

/// I4: a walk gives an entry once while its chunk changes its number.
#[test]
fn walk_against_a_chunk_that_changes_its_number_with_3_preemptions() {
    explore_bounded("walk against a chunk that changes its number", 3, || {
        let pool = Arc::new(Pool::<Payload, Two>::with_layout());
        at_the_last_generation::<_, 1, _>(&pool);
        let last = pool.insert(Payload::new(1)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || drop(other.remove(last)));
        // Full, where the chunk that is between two numbers is the last.
        if let Ok(mine) = pool.insert(Payload::new(2)) {
            let guard = pin();
            let found = pool.iter(&guard).filter(|(handle, _)| *handle == mine);
            assert_eq!(found.count(), 1);
        }
        other.join().unwrap();
    });
}

/// I6: a chunk for which there is no other number is freed with the pool, and with it what it keeps for the next value.
/// (loom reports what isn't.)
#[test]
fn a_chunk_ends_where_there_is_no_other_number() {
    explore("a chunk ends where there is no other number", || {
        let pool = Pool::<Small, TinyWith<0, 1>>::with_layout();
        at_the_last_generation::<_, 1, _>(&pool);
        let last = pool.insert(Small::new(1)).unwrap();
        {
            // The pool's reference is the last one, so that the memory is kept.
            let _guard = pin();
            drop(pool.remove(last));
        }
        assert_eq!(pool.stats().retired_slots, 1);
        assert!(pool.insert(Small::new(2)).is_err());
    });
}
