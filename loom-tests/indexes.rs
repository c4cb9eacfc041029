//! The guest table's free list (T1, T2): an index is one binding's, and a tag is used once.

use graphpool::{GuestHandle, Handle, HandleTable, Kind};
use loom::sync::Arc;
use loom::thread;

use crate::support::{explore, explore_bounded, new_pool};

/// A table, and as many handles to bind.
fn table_of<const HANDLES: usize>() -> (Arc<HandleTable<usize>>, [Handle<usize>; HANDLES]) {
    let pool = new_pool();
    let handles = std::array::from_fn(|value| pool.insert(value).unwrap());
    (Arc::new(HandleTable::new(&pool, Kind::Graph)), handles)
}

fn assert_bound(table: &HandleTable<usize>, bindings: &[(GuestHandle, Handle<usize>)]) {
    for (guest_handle, handle) in bindings {
        assert_eq!(table.resolve(*guest_handle), Some(*handle));
    }
    assert_eq!(table.len(), bindings.len());
}

/// T1: of two that unbind, one gets the handle, and the index is free once.
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

/// T1: two that bind get indexes of their own, free or fresh.
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

/// T1, T2: an index that was just unbound by another thread comes with its tag.
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

/// T1: two that unbind both put their indexes on the list.
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

/// T1: the list's top is the same index again, but what follows it is not.
#[test]
fn bind_against_a_top_that_comes_back() {
    explore_bounded("bind against a top that comes back", 3, || {
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

/// Binds and unbinds until the index is at its last tag and rests.
fn use_up(table: &HandleTable<usize>, handle: Handle<usize>) -> u32 {
    loop {
        let bound = table.bind(handle).unwrap();
        assert_eq!(table.unbind(bound), Some(handle));
        // 4,095 outside the models.
        if bound.to_bits() >> 1 & 0xFFF == 7 {
            return bound.to_bits() >> 13;
        }
    }
}

/// T2: an index at its last tag rests until all others were used.
#[test]
fn an_index_at_its_last_tag_rests() {
    explore("an index at its last tag rests", || {
        let (table, [handle]) = table_of();
        let mut before = Vec::new();
        // 4 indexes of 7 tags.
        for number in 0..2 * 28_u32 {
            let bound = table.bind(handle).unwrap();
            assert_eq!(bound.to_bits(), ((number / 7 % 4) << 13) | ((number % 7 + 1) << 1));
            assert_eq!(before.contains(&bound), number >= 28, "each number comes once in a turn");
            assert_eq!(table.unbind(bound), Some(handle));
            before.push(bound);
        }
    });
}

/// T1, T2: two that find nothing free or fresh take different indexes from their rest.
#[test]
fn bind_against_bind_after_a_turn() {
    explore("bind against bind after a turn", || {
        let (table, [first, second]) = table_of();
        for index in 0..4 {
            assert_eq!(use_up(&table, first), index);
        }
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(second).unwrap());
        let mine = table.bind(first).unwrap();
        let theirs = other.join().unwrap();
        assert_bound(&table, &[(mine, first), (theirs, second)]);
    });
}

/// T1: of two that find one index resting, one takes it.
#[test]
fn bind_against_bind_for_the_only_index_that_rests() {
    explore("bind against bind for the only index that rests", || {
        let (table, [first, second]) = table_of();
        assert_eq!(use_up(&table, first), 0);
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

/// T1, T2: an index that goes to its rest is found by whoever binds after that, and by one that binds meanwhile or not.
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
        assert_eq!(mine.to_bits(), 1 << 1, "index 0, from its first tag on");
        assert_eq!(table.len(), others.len() + 1);
    });
}
