//! The pool's invariants (I1 to I6, `src/pool/mod.rs`).

use graphpool::pool::for_tests::Tiny;
use graphpool::{Handle, pin, verification};
use loom::sync::Arc;
use loom::thread;

use crate::support::{PADDING, Padded, Payload, Pool, Small, collect, explore, explore_bounded, new_pool};

/// The handle of the next entry at this place.
fn next<T>(handle: Handle<T>) -> Handle<T> {
    Handle::from_bits(handle.to_bits() + Tiny::GENERATION).expect("the tag is the same")
}

/// I1, I3: a look-up gets a value that lives as long as the guard, or none.
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

/// I1, I3, I4: the old handle of a reused slot gives the old value or none.
#[test]
fn get_against_remove_and_reinsert() {
    explore("get against remove and reinsert", || {
        get_against_reuse::<PADDING>(|handle| (handle, 1));
    });
}

/// I1, I3: the slot's next value, which is written to the same memory, does not overwrite a value that a guard keeps.
#[test]
fn get_against_remove_and_reinsert_in_the_same_memory_with_5_preemptions() {
    explore_bounded("get against remove and reinsert in the same memory", 5, || {
        get_against_reuse::<0>(|handle| (handle, 1));
    });
}

/// I1: nor does it overwrite a value to which a thread has an `Arc`, or takes one meanwhile.
#[test]
fn acquire_against_remove_and_reinsert_in_the_same_memory_with_5_preemptions() {
    explore_bounded("acquire against remove and reinsert in the same memory", 5, || {
        let pool = new_pool();
        let first = pool.insert(Small::new(1)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            drop(other.remove(first));
            collect();
            other.insert(Small::new(2)).unwrap()
        });
        if let Some(value) = pool.acquire(first) {
            assert_eq!(value.read(), 1);
        }
        let second = other.join().unwrap();
        assert_eq!(pool.acquire(second).unwrap().read(), 2);
    });
}

/// I1, I4, I5: the guessed next handle of a reused slot gives the whole new value or none.
#[test]
fn get_of_the_next_handle_against_remove_and_reinsert_with_5_preemptions() {
    explore_bounded("get of the next handle against remove and reinsert", 5, || {
        get_against_reuse::<PADDING>(|handle| (next(handle), 2));
    });
}

fn get_against_reuse<const PADDING: usize>(probe: impl Fn(Handle<Padded<PADDING>>) -> (Handle<Padded<PADDING>>, u64)) {
    let pool = new_pool();
    let first = pool.insert(Padded::new(1)).unwrap();
    let other = Arc::clone(&pool);
    let other = thread::spawn(move || {
        drop(other.remove(first));
        collect();
        other.insert(Padded::new(2)).unwrap()
    });
    let (probed, expected) = probe(first);
    {
        let guard = pin();
        if let Some(value) = pool.get(probed, &guard) {
            assert_eq!(value.read(), expected);
        }
    }
    let second = other.join().unwrap();
    let guard = pin();
    assert!(pool.get(first, &guard).is_none());
    assert_eq!(pool.get(second, &guard).unwrap().read(), 2);
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
        // In a chunk that exists, so that only the slot's word orders the look-up after the insertion.
        let [_, last] = [0, 0].map(|value| pool.insert(Payload::new(value)).unwrap());
        drop(pool.remove(last));
        let guess = next(last);
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

/// I1, I6: two first insertions make a chunk each, and each entry is found in its chunk.
#[test]
fn insert_against_insert_of_the_first_chunks() {
    explore("insert against insert of the first chunks", || {
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

/// I3, I6: a value that was read under a guard outlives the pool.
#[test]
fn drop_of_the_pool_against_a_reference() {
    struct Counted(Payload);
    impl Drop for Counted {
        fn drop(&mut self) {
            verification::RECLAMATIONS.set(verification::RECLAMATIONS.get() + 1);
        }
    }
    explore("drop of the pool against a reference", || {
        let pool: Arc<Pool<Counted>> = new_pool();
        let handle = pool.insert(Counted(Payload::new(1))).unwrap();
        let reader = Arc::clone(&pool);
        let reader = thread::spawn(move || {
            let guard = pin();
            let value = reader.get(handle, &guard);
            drop(reader);
            assert_eq!(value.unwrap().0.read(), 1);
        });
        drop(pool);
        collect();
        reader.join().unwrap();
    });
}

/// I1, I3: an owned reference outlives the removal and every other reference.
#[test]
fn acquire_against_remove() {
    explore("acquire against remove", || {
        let pool = new_pool();
        let handle = pool.insert(Payload::new(1)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            drop(other.remove(handle));
            collect();
        });
        let owned = pool.acquire(handle);
        other.join().unwrap();
        pool.flush();
        if let Some(value) = owned {
            assert_eq!(value.read(), 1);
        }
        assert!(pool.acquire(handle).is_none());
    });
}

/// I3: a value that is read after a re-pin lives as long as the guard.
#[test]
fn repin_against_remove() {
    explore("re-pin against remove", || {
        let pool = new_pool();
        let handle = pool.insert(Payload::new(1)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            drop(other.remove(handle));
            collect();
        });
        let mut guard = pin();
        guard.repin();
        if let Some(value) = pool.get(handle, &guard) {
            assert_eq!(value.read(), 1);
        }
        drop(guard);
        other.join().unwrap();
    });
}

/// I3: a value that is read before a re-pin lives until the re-pin, and one that is read after it as long as the guard.
#[test]
fn repin_between_reads_against_remove_with_5_preemptions() {
    explore_bounded("re-pin between reads against remove", 5, || {
        let pool = new_pool();
        let handle = pool.insert(Payload::new(1)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            drop(other.remove(handle));
            collect();
        });
        let mut guard = pin();
        let read = |guard: &_| pool.get(handle, guard).map(Payload::read);
        let before = read(&guard);
        guard.repin();
        let after = read(&guard);
        assert!([(None, None), (Some(1), None), (Some(1), Some(1))].contains(&(before, after)));
        drop(guard);
        other.join().unwrap();
    });
}

/// I1, I3: a walk gives whole, live entries during an insertion and a removal, and every entry that is live throughout.
#[test]
fn walk_against_insert_and_remove_with_5_preemptions() {
    explore_bounded("walk against insert and remove", 5, || {
        let pool = new_pool();
        let stays = pool.insert(Payload::new(1)).unwrap();
        let goes = pool.insert(Payload::new(2)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            drop(other.remove(goes));
            other.insert(Payload::new(3)).unwrap();
        });
        let guard = pin();
        let values: Vec<_> = pool.iter(&guard).map(|(_, value)| value.read()).collect();
        assert!(values.contains(&1) && pool.contains(stays));
        assert!(values.iter().all(|value| (1..=3).contains(value)));
        drop(guard);
        other.join().unwrap();
    });
}

/// I2: `retain` and a removal of the same entry count it once between them.
#[test]
fn retain_against_remove() {
    explore("retain against remove", || {
        let pool = new_pool();
        let handle = pool.insert(Payload::new(1)).unwrap();
        let kept = pool.insert(Payload::new(2)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.remove(handle).is_some());
        let removed = pool.retain(|_, value| value.read() == 2);
        assert_eq!(removed + usize::from(other.join().unwrap()), 1);
        assert!(pool.contains(kept));
    });
}

/// I1, I2: an entry that `clear` misses is still there, whole.
#[test]
fn clear_against_insert() {
    explore("clear against insert", || {
        let pool = new_pool();
        pool.insert(Payload::new(1)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.insert(Payload::new(2)).unwrap());
        let removed = pool.clear();
        let second = other.join().unwrap();
        let guard = pin();
        let left = pool.get(second, &guard).map(Payload::read);
        assert_eq!((removed, left), if left.is_some() { (1, Some(2)) } else { (2, None) });
    });
}

/// I3, I5: a destructor that removes another entry of the pool runs once, and its removal works.
///
/// Not with crossbeam-epoch: it runs leftovers after the execution, when a destructor cannot pin.
#[cfg(not(crossbeam_loom))]
#[test]
fn a_destructor_that_uses_the_pool_against_get_with_5_preemptions() {
    struct Chained {
        payload: Payload,
        next: Option<(Arc<Pool<Chained>>, Handle<Chained>)>,
    }
    impl Drop for Chained {
        fn drop(&mut self) {
            if let Some((pool, next)) = self.next.take() {
                assert!(pool.remove(next).is_some());
            }
        }
    }
    explore_bounded("a destructor that uses the pool against get", 5, || {
        let pool: Arc<Pool<Chained>> = new_pool();
        let second = pool.insert(Chained { payload: Payload::new(2), next: None }).unwrap();
        let next = Some((Arc::clone(&pool), second));
        let first = pool.insert(Chained { payload: Payload::new(1), next }).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            drop(other.remove(first));
            collect();
        });
        {
            let guard = pin();
            if let Some(value) = pool.get(second, &guard) {
                assert_eq!(value.payload.read(), 2);
            }
        }
        other.join().unwrap();
        pool.flush();
        // loom's join returns before the thread's thread-locals are dropped, crossbeam-epoch's bag among them.
        assert!(cfg!(crossbeam_loom) || pool.is_empty());
    });
}

/// I5: a destructor that inserts takes another slot than the one that is being released.
///
/// Not with crossbeam-epoch: it runs leftovers after the execution, when a destructor cannot pin.
#[cfg(not(crossbeam_loom))]
#[test]
fn a_destructor_that_inserts_against_get() {
    struct Renewed {
        value: Small,
        pool: Option<Arc<Pool<Renewed>>>,
    }
    impl Drop for Renewed {
        fn drop(&mut self) {
            if let Some(pool) = self.pool.take() {
                pool.insert(Renewed { value: Small::new(2), pool: None }).unwrap();
            }
        }
    }
    explore("a destructor that inserts against get", || {
        let pool: Arc<Pool<Renewed>> = new_pool();
        let first = pool.insert(Renewed { value: Small::new(1), pool: Some(Arc::clone(&pool)) }).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || drop(other.remove(first)));
        if let Some(value) = pool.get(first, &pin()) {
            assert_eq!(value.value.read(), 1);
        }
        other.join().unwrap();
        pool.flush();
        let third = pool.insert(Renewed { value: Small::new(3), pool: None }).unwrap();
        let guard = pin();
        assert_eq!(pool.get(third, &guard).unwrap().value.read(), 3);
        let mut values: Vec<_> = pool.iter(&guard).map(|(_, value)| value.value.read()).collect();
        values.sort_unstable();
        assert_eq!(values, [2, 3]);
    });
}

/// I1 to I5 with three threads: two readers, and one that removes an entry and inserts the next one into its slot.
///
/// Not with crossbeam-epoch, where three threads take too long.
#[cfg(not(crossbeam_loom))]
#[test]
fn two_gets_against_remove_and_reinsert_with_3_preemptions() {
    explore_bounded("two gets against remove and reinsert", 3, || {
        let pool = new_pool();
        let first = pool.insert(Payload::new(1)).unwrap();
        let reader = Arc::clone(&pool);
        let reader = thread::spawn(move || {
            let guard = pin();
            if let Some(value) = reader.get(first, &guard) {
                assert_eq!(value.read(), 1);
            }
        });
        let writer = Arc::clone(&pool);
        let writer = thread::spawn(move || {
            drop(writer.remove(first));
            collect();
            writer.insert(Payload::new(2)).unwrap()
        });
        {
            let guard = pin();
            if let Some(value) = pool.get(next(first), &guard) {
                assert_eq!(value.read(), 2);
            }
        }
        reader.join().unwrap();
        let second = writer.join().unwrap();
        assert_eq!(pool.get(second, &pin()).map(Payload::read), Some(2));
    });
}
