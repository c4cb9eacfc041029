//! The guest table's invariants (T1 and T2, `src/table.rs`).

use graphpool::{HandleTable, Kind};
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
