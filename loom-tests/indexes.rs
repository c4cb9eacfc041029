//! The guest table's free list and its exhausted indexes (T1, T2): an index has one binding at a time, and a tag once.

use graphpool::{GuestHandle, Handle, HandleTable, Kind};
use loom::sync::Arc;
use loom::thread;

use crate::support::{explore, explore_bounded, new_pool};

/// A table, and as many handles to bind.
fn table_of<const HANDLES: usize>() -> (Arc<HandleTable<usize>>, [Handle<usize>; HANDLES]) {
    let pool = new_pool();
    let handles = std::array::from_fn(|value| pool.insert(value).unwrap());
    (Arc::new(HandleTable::for_layout_pool(&pool, Kind::Zero)), handles)
}

fn assert_bound(table: &HandleTable<usize>, bindings: &[(GuestHandle, Handle<usize>)]) {
    for (guest_handle, handle) in bindings {
        assert_eq!(table.resolve(*guest_handle), Some(*handle));
    }
    assert_eq!(table.len(), bindings.len());
}

/// T1: of two threads that unbind, one gets the handle, and the index is free once.
#[test]
fn unbind_against_unbind() {
    explore("unbind against unbind", || {
        let (table, [first, second]) = table_of();
        let bound = table.bind(first).unwrap();
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.unbind(bound));
        let mine = table.unbind(bound);
        let theirs = other.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
        let again = [first, second].map(|handle| (table.bind(handle).unwrap(), handle));
        assert_bound(&table, &again);
    });
}

/// T1: two threads that bind get different indexes, from the free list or never used.
#[test]
fn bind_against_bind() {
    explore("bind against bind", || {
        let (table, [first, second]) = table_of();
        let stale = table.bind(first).unwrap();
        table.unbind(stale);
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(second).unwrap());
        let mine = table.bind(first).unwrap();
        let theirs = other.join().unwrap();
        assert!(stale != mine && stale != theirs);
        assert_bound(&table, &[(mine, first), (theirs, second)]);
    });
}

/// T1, T2: a thread that takes an index which another thread has just unbound sees its tag.
#[test]
fn bind_against_unbind() {
    explore("bind against unbind", || {
        let (table, [first, second]) = table_of();
        let stale = table.bind(first).unwrap();
        let other = Arc::clone(&table);
        let other = thread::spawn(move || assert_eq!(other.unbind(stale), Some(first)));
        let mine = table.bind(second).unwrap();
        other.join().unwrap();
        assert_ne!(mine, stale);
        assert_bound(&table, &[(mine, second)]);
    });
}

/// T1: two threads that unbind both push their indexes on the free list.
#[test]
fn unbind_against_unbind_of_another() {
    explore("unbind against unbind of another", || {
        let (table, [first, second]) = table_of();
        let (one, two) = (table.bind(first).unwrap(), table.bind(second).unwrap());
        let other = Arc::clone(&table);
        let other = thread::spawn(move || assert_eq!(other.unbind(one), Some(first)));
        assert_eq!(table.unbind(two), Some(second));
        other.join().unwrap();
        let again = [first, second].map(|handle| (table.bind(handle).unwrap(), handle));
        assert_bound(&table, &again);
        let indexes = again.map(|(guest_handle, _)| guest_handle.to_bits() >> 13);
        assert!(indexes.iter().max() == Some(&1), "both are used again");
    });
}

/// T1: the free list has the same top again, with another index below it.
#[test]
fn bind_against_aba_of_the_top() {
    explore_bounded("bind against ABA of the top", 3, || {
        let (table, [first, second, third]) = table_of();
        let (one, two) = (table.bind(first).unwrap(), table.bind(second).unwrap());
        table.unbind(one);
        table.unbind(two);
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(third).unwrap());
        let (top, below) = (table.bind(first).unwrap(), table.bind(second).unwrap());
        table.unbind(top);
        let theirs = other.join().unwrap();
        let again = table.bind(first).unwrap();
        assert_bound(&table, &[(below, second), (theirs, third), (again, first)]);
    });
}

/// Binds and unbinds until the index is exhausted.
fn exhaust(table: &HandleTable<usize>, handle: Handle<usize>) -> u32 {
    loop {
        let bound = table.bind(handle).unwrap();
        assert_eq!(table.unbind(bound), Some(handle));
        // 4,095 outside the models.
        if bound.to_bits() >> 1 & 0xFFF == 7 {
            return bound.to_bits() >> 13;
        }
    }
}

/// T2: an exhausted index is reused after all other indexes have been used.
#[test]
fn an_exhausted_index_is_reused_after_all_others() {
    explore("an exhausted index is reused after all others", || {
        let (table, [handle]) = table_of();
        let mut before = Vec::new();
        // 4 indexes of 7 tags.
        for number in 0..2 * 28_u32 {
            let bound = table.bind(handle).unwrap();
            assert_eq!(bound.to_bits(), ((number / 7 % 4) << 13) | ((number % 7 + 1) << 1));
            assert_eq!(before.contains(&bound), number >= 28, "each number is given out once in a scan");
            assert_eq!(table.unbind(bound), Some(handle));
            before.push(bound);
        }
    });
}

/// T1, T2: two threads that find only exhausted indexes take different ones.
#[test]
fn bind_against_bind_of_exhausted_indexes() {
    explore("bind against bind of exhausted indexes", || {
        let (table, [first, second]) = table_of();
        for index in 0..4 {
            assert_eq!(exhaust(&table, first), index);
        }
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(second).unwrap());
        let mine = table.bind(first).unwrap();
        let theirs = other.join().unwrap();
        assert_bound(&table, &[(mine, first), (theirs, second)]);
    });
}

/// T1: of two threads that find one exhausted index, one takes it.
#[test]
fn bind_against_bind_for_the_only_exhausted_index() {
    explore("bind against bind for the only exhausted index", || {
        let (table, [first, second]) = table_of();
        assert_eq!(exhaust(&table, first), 0);
        for _ in 1..4 {
            table.bind(first).unwrap();
        }
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(second).ok());
        let mine = table.bind(second).ok();
        let theirs = other.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
        let bound = mine.or(theirs).unwrap();
        assert_eq!((bound.to_bits(), table.resolve(bound)), (1 << 1, Some(second)));
        assert_eq!(table.len(), 4);
    });
}

/// T1, T2: a binding after the last unbinding of an index finds the index. A concurrent binding may find it.
#[test]
fn bind_against_the_last_unbind_of_an_index() {
    explore("bind against the last unbind of an index", || {
        let (table, [first, second]) = table_of();
        // Index 0 is bound with its last tag, the others are bound.
        for _ in 1..7 {
            let bound = table.bind(first).unwrap();
            table.unbind(bound);
        }
        let last = table.bind(first).unwrap();
        let others: Vec<_> = (1..4).map(|_| table.bind(second).unwrap()).collect();
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.unbind(last));
        let meanwhile = table.bind(second).ok();
        assert_eq!(other.join().unwrap(), Some(first));
        let mine = meanwhile.unwrap_or_else(|| table.bind(second).unwrap());
        assert_eq!(mine.to_bits(), 1 << 1, "index 0, with tag 1");
        assert_eq!(table.len(), others.len() + 1);
    });
}
