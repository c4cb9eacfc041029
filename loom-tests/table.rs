//! The guest table's invariants (T1 and T2, `src/table.rs`).

use graphpool::{GuestHandle, HandleTable, Kind};
use loom::sync::Arc;
use loom::thread;

use crate::support::{explore, new_pool};

/// T1, T2: an index that one thread frees while another takes one has one owner at a time.
#[test]
fn bind_against_unbind_and_bind() {
    explore("bind against unbind and bind", || {
        let pool = new_pool();
        let (first, second) = (pool.insert(1).unwrap(), pool.insert(2).unwrap());
        let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::Zero));
        let bound = table.bind(first).unwrap();
        let other = Arc::clone(&table);
        let other = thread::spawn(move || {
            other.unbind(bound);
            other.bind(second).unwrap()
        });
        let mine = table.bind(first).unwrap();
        let theirs = other.join().unwrap();
        assert!(mine != theirs && mine != bound && theirs != bound);
        assert_eq!((table.resolve(mine), table.resolve(theirs)), (Some(first), Some(second)));
    });
}

/// T1: of a drain and an unbind, one ends each binding.
#[test]
fn drain_against_unbind() {
    explore("drain against unbind", || {
        let pool = new_pool();
        let handles = [pool.insert(1).unwrap(), pool.insert(2).unwrap()];
        let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::Zero));
        let bound = handles.map(|handle| table.bind(handle).unwrap());
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.unbind(bound[1]));
        let mut ended: Vec<_> = table.drain().collect();
        ended.extend(other.join().unwrap());
        ended.sort_unstable();
        assert_eq!(ended, handles);
        assert!(table.is_empty());
    });
}

/// T1: a binding that a drain misses still resolves.
#[test]
fn drain_against_bind() {
    explore("drain against bind", || {
        let pool = new_pool();
        let handle = pool.insert(1).unwrap();
        let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::Zero));
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(handle).unwrap());
        let drained = table.drain().count();
        let bound = other.join().unwrap();
        assert_eq!(table.resolve(bound), (drained == 0).then_some(handle));
    });
}

/// A guest handle of one kind does not resolve in a table of the other kind, although its tag and index are bound
/// there.
#[test]
fn a_guessed_handle_of_either_kind_against_bind() {
    explore("a guessed handle of either kind against bind", || {
        let pool = new_pool();
        let handle = pool.insert(1).unwrap();
        let graphs = HandleTable::for_layout_pool(&pool, Kind::Zero);
        graphs.bind(handle).unwrap();
        let contexts = Arc::new(HandleTable::for_layout_pool(&pool, Kind::One));
        let other = Arc::clone(&contexts);
        let other = thread::spawn(move || other.bind(handle).unwrap());
        // Index 0 with tag 1: of a graph, and of the context that is about to be bound.
        let [graph, context] = [2, 3].map(GuestHandle::from_bits);
        assert_eq!((contexts.resolve(graph), contexts.unbind(graph), graphs.resolve(context)), (None, None, None));
        if let Some(resolved) = contexts.resolve(context) {
            assert_eq!(resolved, handle);
        }
        assert_eq!(other.join().unwrap(), context);
        assert_eq!((contexts.resolve(context), graphs.resolve(graph)), (Some(handle), Some(handle)));
    });
}
