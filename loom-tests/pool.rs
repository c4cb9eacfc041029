//! The pool's invariants (I1 to I6, `src/pool/mod.rs`).

use graphpool::pool::Tiny;
use graphpool::{Handle, pin};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Payload, collect, explore, new_pool};

/// The handle that the next entry at this place will have.
fn next<T>(handle: Handle<T>) -> Handle<T> {
    Handle::from_bits(handle.to_bits() + Tiny::GENERATION).expect("the tag is the same")
}

/// I1, I3: a look-up gets a value that lives for as long as the guard, or none.
#[test]
fn get_against_remove() {
    explore("get against remove", || {
        let pool = new_pool();
        let handle = pool.insert(Payload::new(1)).unwrap();
        let remover = Arc::clone(&pool);
        let remover = thread::spawn(move || {
            assert_eq!(remover.remove(handle).unwrap().read(), 1);
            collect();
        });
        {
            let guard = pin();
            if let Some(value) = pool.get(handle, &guard) {
                assert_eq!(value.read(), 1);
            }
        }
        remover.join().unwrap();
        assert!(pool.get(handle, &pin()).is_none());
    });
}

/// I1, I3, I4: a place that is used again gives neither the old handle the new value nor a half-written one the
/// guessed handle.
#[test]
fn get_against_remove_and_reinsert() {
    explore("get against remove and reinsert", || {
        let pool = new_pool();
        let handle = pool.insert(Payload::new(1)).unwrap();
        let remover = Arc::clone(&pool);
        let remover = thread::spawn(move || {
            drop(remover.remove(handle));
            collect();
            remover.insert(Payload::new(2)).unwrap()
        });
        {
            let guard = pin();
            if let Some(value) = pool.get(handle, &guard) {
                assert_eq!(value.read(), 1);
            }
            if let Some(value) = pool.get(next(handle), &guard) {
                assert_eq!(value.read(), 2);
            }
        }
        let second = remover.join().unwrap();
        let guard = pin();
        assert!(pool.get(handle, &guard).is_none());
        assert_eq!(pool.get(second, &guard).unwrap().read(), 2);
    });
}

/// I2: one of two removals gets the value.
#[test]
fn remove_against_remove() {
    explore("remove against remove", || {
        let pool = new_pool();
        let handle = pool.insert(Payload::new(1)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            let won = other.remove(handle).map(|value| value.read());
            collect();
            won
        });
        let mine = pool.remove(handle).map(|value| value.read());
        let theirs = other.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
    });
}

/// I1: a handle that is guessed before its entry exists gives nothing or the whole entry.
#[test]
fn get_of_a_guessed_handle_against_its_insert() {
    explore("get of a guessed handle against its insert", || {
        let pool = new_pool();
        let first = pool.insert(Payload::new(0)).unwrap();
        drop(pool.remove(first));
        collect();
        let guess = next(first);
        let inserter = Arc::clone(&pool);
        let inserter = thread::spawn(move || inserter.insert(Payload::new(1)).unwrap());
        if let Some(value) = pool.get(guess, &pin()) {
            assert_eq!(value.read(), 1);
        }
        if let Some(value) = pool.acquire(guess) {
            assert_eq!(value.read(), 1);
        }
        assert_eq!(inserter.join().unwrap(), guess);
    });
}

/// I1, I6: two first insertions make one page between them, and both entries are found in it.
#[test]
fn insert_against_insert_on_a_page_that_is_not_there() {
    explore("insert against insert on a page that is not there", || {
        let pool = new_pool();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.insert(Payload::new(2)).unwrap());
        let mine = pool.insert(Payload::new(1)).unwrap();
        let guard = pin();
        assert_eq!(pool.get(mine, &guard).unwrap().read(), 1);
        let theirs = other.join().unwrap();
        assert_eq!(pool.get(theirs, &guard).unwrap().read(), 2);
        assert_eq!(pool.len(), 2);
    });
}

/// I3, I6: what a guard's holder has read outlives the pool.
#[test]
fn drop_of_the_pool_against_a_reference() {
    explore("drop of the pool against a reference", || {
        let pool = new_pool();
        let handle = pool.insert(Payload::new(1)).unwrap();
        let reader = Arc::clone(&pool);
        let reader = thread::spawn(move || {
            let guard = pin();
            let value = reader.get(handle, &guard);
            drop(reader);
            assert_eq!(value.unwrap().read(), 1);
        });
        drop(pool);
        collect();
        reader.join().unwrap();
    });
}
