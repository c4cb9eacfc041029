//! Chunks and pages that are allocated while they are read, and walks over all entries.

use graphpool::{GuestHandle, Handle, HandleTable, Kind, pin};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Payload, collect, explore, explore_bounded, new_pool};

/// I1, I6: a look-up by a guessed handle while the chunk of its slot is allocated.
#[test]
fn get_against_the_allocation_of_its_chunk() {
    explore("get against the allocation of its chunk", || {
        let pool = new_pool();
        let first = pool.insert(Payload::new(0)).unwrap();
        pool.insert(Payload::new(0)).unwrap();
        // The first slot of the second chunk.
        let guess = Handle::from_bits(first.to_bits() + 2).unwrap();
        let inserter = Arc::clone(&pool);
        let inserter = thread::spawn(move || inserter.insert(Payload::new(1)).unwrap());
        if let Some(value) = pool.get(guess, &pin()) {
            assert_eq!(value.read(), 1);
        }
        assert_eq!(inserter.join().unwrap(), guess);
    });
}

/// I1: a walk gives whole entries, and those that were inserted before it once.
#[test]
fn walk_against_insert() {
    explore("walk against insert", || {
        let pool = new_pool();
        pool.insert(Payload::new(1)).unwrap();
        pool.insert(Payload::new(1)).unwrap();
        let inserter = Arc::clone(&pool);
        // Into a new chunk.
        let inserter = thread::spawn(move || assert!(inserter.insert(Payload::new(2)).is_ok()));
        let guard = pin();
        let mut values: Vec<_> = pool.iter(&guard).map(|(_, value)| value.read()).collect();
        values.sort_unstable();
        assert!(values == [1, 1] || values == [1, 1, 2], "{values:?}");
        inserter.join().unwrap();
    });
}

/// I1, I3: a walk gives live entries under their own handles, and no entry that was removed before it.
#[test]
fn walk_against_remove_and_reinsert() {
    explore_bounded("walk against remove and reinsert", 3, || {
        let pool = new_pool();
        let gone = pool.insert(Payload::new(0)).unwrap();
        let first = pool.insert(Payload::new(1)).unwrap();
        drop(pool.remove(gone));
        collect();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            drop(other.remove(first));
            collect();
            other.insert(Payload::new(2)).unwrap()
        });
        let found: Vec<_> = {
            let guard = pin();
            pool.iter(&guard).map(|(handle, value)| (handle, value.read())).collect()
        };
        let second = other.join().unwrap();
        for (handle, value) in found {
            assert!((handle, value) == (first, 1) || (handle, value) == (second, 2), "{handle:?}: {value}");
        }
    });
}

/// I7: two threads that insert into a new pool have one shard each, and both are counted.
#[test]
fn count_against_first_insertions() {
    explore("count against first insertions", || {
        let pool = new_pool();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || assert!(other.insert(Payload::new(1)).is_ok()));
        assert!(pool.len() <= 1);
        other.join().unwrap();
        assert_eq!(pool.len(), 1);
    });
}

/// I6, I7: a walk over the shards finds one that is made before those of lower numbers.
#[test]
fn count_against_first_insertions_of_two_threads() {
    explore_bounded("count against first insertions of two threads", 3, || {
        let pool = new_pool();
        let inserters = [1, 2].map(|value| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || assert!(pool.insert(Payload::new(value)).is_ok()))
        });
        assert!(pool.len() <= 2);
        for inserter in inserters {
            inserter.join().unwrap();
        }
        assert_eq!(pool.len(), 2);
    });
}

/// T1: two first bindings on a page use one page.
#[test]
fn bind_against_bind_on_a_new_page() {
    explore("bind against bind on a new page", || {
        let pool = new_pool();
        let (first, second) = (pool.insert(1).unwrap(), pool.insert(2).unwrap());
        let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::Zero));
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(second).unwrap());
        let mine = table.bind(first).unwrap();
        let theirs = other.join().unwrap();
        assert_eq!((table.resolve(mine), table.resolve(theirs)), (Some(first), Some(second)));
        assert_eq!(table.len(), 2);
    });
}

/// T1: a look-up of a guessed guest handle while its page is allocated.
#[test]
fn resolve_against_the_allocation_of_its_page() {
    explore("resolve against the allocation of its page", || {
        let pool = new_pool();
        let handle = pool.insert(1).unwrap();
        let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::One));
        let bound: Vec<_> = (0..2).map(|_| table.bind(handle).unwrap()).collect();
        // The next index, with its first tag.
        let guess = GuestHandle::from_bits(bound[1].to_bits() + (1 << 13));
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(handle).unwrap());
        let resolved = table.resolve(guess);
        assert!(resolved.is_none() || resolved == Some(handle));
        assert!((2..=3).contains(&table.len()));
        assert_eq!(other.join().unwrap(), guess);
        assert_eq!(table.len(), 3);
    });
}
