//! The guest table's invariants (T1 and T2, `src/table.rs`).

use graphpool::{GuestHandle, HandleTable, Kind};
use loom::sync::Arc;
use loom::thread;

use crate::support::{explore, new_pool};

/// T1, T2: a guest handle resolves to what it was bound to, never to what its index is bound to next.
#[test]
fn resolve_against_unbind_and_rebind() {
    explore("resolve against unbind and rebind", || {
        let pool = new_pool();
        let (first, second) = (pool.insert(1).unwrap(), pool.insert(2).unwrap());
        let table = Arc::new(HandleTable::new(&pool, Kind::Graph));
        let bound = table.bind(first).unwrap();
        let other = Arc::clone(&table);
        let other = thread::spawn(move || {
            assert_eq!(other.unbind(bound), Some(first));
            other.bind(second).unwrap()
        });
        if let Some(resolved) = table.resolve(bound) {
            assert_eq!(resolved, first);
        }
        let rebound = other.join().unwrap();
        assert_ne!(rebound, bound);
        assert_eq!(table.resolve(bound), None);
        assert_eq!(table.resolve(rebound), Some(second));
    });
}

/// T1: one of two ends a binding.
#[test]
fn unbind_against_unbind() {
    explore("unbind against unbind", || {
        let pool = new_pool();
        let handle = pool.insert(1).unwrap();
        let table = Arc::new(HandleTable::new(&pool, Kind::Graph));
        let bound = table.bind(handle).unwrap();
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.unbind(bound));
        let mine = table.unbind(bound);
        let theirs = other.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
    });
}

/// T1, T2: two bindings at the same time have indexes of their own, one of them fresh and one used before.
#[test]
fn bind_against_bind() {
    explore("bind against bind", || {
        let pool = new_pool();
        let (first, second) = (pool.insert(1).unwrap(), pool.insert(2).unwrap());
        let table = Arc::new(HandleTable::new(&pool, Kind::Context));
        let spent = table.bind(first).unwrap();
        table.unbind(spent);
        let other = Arc::clone(&table);
        let other = thread::spawn(move || other.bind(second).unwrap());
        let mine = table.bind(first).unwrap();
        let theirs = other.join().unwrap();
        assert!(mine != theirs && mine != spent && theirs != spent);
        assert_eq!((table.resolve(mine), table.resolve(theirs)), (Some(first), Some(second)));
        assert_eq!(table.resolve(spent), None);
    });
}

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
