//! The guest table's invariants (T1 and T2, `src/table.rs`).

use graphpool::{GuestHandle, HandleTable, Kind};
use loom::sync::Arc;
use loom::thread;

use crate::support::{explore, new_pool};

/// T1, T2: an index that is given back while another thread takes one is in one party's hands at a time.
#[test]
fn bind_against_unbind_and_bind() {
    explore("bind against unbind and bind", || {
        let pool = new_pool();
        let (first, second) = (pool.insert(1).unwrap(), pool.insert(2).unwrap());
        let table = Arc::new(HandleTable::new(&pool, Kind::Graph));
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

/// T1: a drain and an unbind end each binding once between them.
#[test]
fn drain_against_unbind() {
    explore("drain against unbind", || {
        let pool = new_pool();
        let handles = [pool.insert(1).unwrap(), pool.insert(2).unwrap()];
        let table = Arc::new(HandleTable::new(&pool, Kind::Graph));
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

/// T1: a drain against a binding: what it misses still resolves.
#[test]
fn drain_against_bind() {
    explore("drain against bind", || {
        let pool = new_pool();
        let handle = pool.insert(1).unwrap();
        let table = Arc::new(HandleTable::new(&pool, Kind::Graph));
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(handle).unwrap());
        let drained = table.drain().count();
        let bound = other.join().unwrap();
        assert_eq!(table.resolve(bound), (drained == 0).then_some(handle));
    });
}

/// A handle of one kind resolves in no table of the other, although tag and index are the ones that are bound there
/// meanwhile.
#[test]
fn a_guessed_handle_of_either_kind_against_bind() {
    explore("a guessed handle of either kind against bind", || {
        let pool = new_pool();
        let handle = pool.insert(1).unwrap();
        let graphs = HandleTable::new(&pool, Kind::Graph);
        graphs.bind(handle).unwrap();
        let contexts = Arc::new(HandleTable::new(&pool, Kind::Context));
        let other = Arc::clone(&contexts);
        let other = thread::spawn(move || other.bind(handle).unwrap());
        // Index 0 with the first tag: of a graph, and of the context that is about to be bound.
        let [graph, context] = [2, 3].map(GuestHandle::from_bits);
        assert_eq!((contexts.resolve(graph), contexts.unbind(graph), graphs.resolve(context)), (None, None, None));
        if let Some(resolved) = contexts.resolve(context) {
            assert_eq!(resolved, handle);
        }
        assert_eq!(other.join().unwrap(), context);
        assert_eq!((contexts.resolve(context), graphs.resolve(graph)), (Some(handle), Some(handle)));
    });
}
