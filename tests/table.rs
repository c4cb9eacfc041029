//! The guest table as its users call it.
#![cfg(not(loom))]

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::thread;

use graphpool::{BindError, GuestHandle, Handle, HandleTable, Kind, Pool};

fn pool_and_handle() -> (Pool<u32>, Handle<u32>) {
    let pool = Pool::new();
    let handle = pool.insert(1).unwrap();
    (pool, handle)
}

#[test]
fn a_binding_resolves_until_it_is_unbound() {
    let (pool, handle) = pool_and_handle();
    let table = HandleTable::new(&pool, Kind::Zero);
    assert!(table.is_empty());
    let bound = table.bind(handle).unwrap();
    let again = table.bind(handle).unwrap();
    assert_ne!(bound, again);
    assert_eq!((table.resolve(bound), table.resolve(again)), (Some(handle), Some(handle)));
    assert_eq!(table.len(), 2);
    assert_eq!(table.unbind(bound), Some(handle));
    assert_eq!(table.unbind(bound), None);
    assert_eq!((table.resolve(bound), table.resolve(again)), (None, Some(handle)));
    assert_eq!(GuestHandle::from_bits(again.to_bits()), again);
}

#[test]
fn a_handle_of_one_kind_never_resolves_as_the_other() {
    let (pool, handle) = pool_and_handle();
    let graphs = HandleTable::new(&pool, Kind::Zero);
    let contexts = HandleTable::new(&pool, Kind::One);
    let graph = graphs.bind(handle).unwrap();
    let context = contexts.bind(handle).unwrap();
    assert_eq!((graph.kind(), context.kind()), (Kind::Zero, Kind::One));
    assert_eq!((graphs.resolve(context), contexts.resolve(graph)), (None, None));
    assert_eq!((graphs.unbind(context), contexts.unbind(graph)), (None, None));
    assert_eq!((graphs.unbind(graph), contexts.unbind(context)), (Some(handle), Some(handle)));
    assert_eq!((graphs.resolve(context), contexts.resolve(graph)), (None, None), "nor where nothing is bound");
}

#[test]
fn zero_is_never_bound() {
    let (pool, handle) = pool_and_handle();
    for kind in [Kind::Zero, Kind::One] {
        let table = HandleTable::new(&pool, kind);
        assert_ne!(table.bind(handle).unwrap().to_bits(), 0);
        assert_eq!(table.resolve(GuestHandle::from_bits(0)), None);
    }
}

#[test]
fn a_handle_of_another_pool_is_not_bound() {
    let (pool, _) = pool_and_handle();
    let (_other, foreign) = pool_and_handle();
    let table = HandleTable::new(&pool, Kind::Zero);
    assert_eq!(table.bind(foreign), Err(BindError::ForeignHandle));
    assert!(table.is_empty());
}

#[test]
fn no_guest_handle_comes_twice_and_an_exhausted_index_is_set_aside() {
    let (pool, handle) = pool_and_handle();
    let table = HandleTable::new(&pool, Kind::One);
    let mut seen = HashSet::new();
    let mut indexes = BTreeSet::new();
    for _ in 0..3 * 4095 {
        let bound = table.bind(handle).unwrap();
        assert!(seen.insert(bound), "{bound:?} came twice");
        indexes.insert(bound.to_bits() >> 13);
        assert_eq!(table.unbind(bound), Some(handle));
    }
    assert_eq!(indexes.into_iter().collect::<Vec<_>>(), [0, 1, 2], "each index serves 4,095 bindings");
    assert!(seen.iter().all(|bound| table.resolve(*bound).is_none()));
}

#[test]
fn it_grows_to_2_19_indexes_and_then_says_that_it_is_full() {
    let (pool, handle) = pool_and_handle();
    let table = HandleTable::new(&pool, Kind::Zero);
    let bound: Vec<_> = (0..1 << 19).map(|_| table.bind(handle).unwrap()).collect();
    assert_eq!(table.bind(handle), Err(BindError::Full));
    assert_eq!(bound.iter().collect::<HashSet<_>>().len(), 1 << 19);
    assert!(bound.iter().all(|guest_handle| table.resolve(*guest_handle) == Some(handle)));
    assert_eq!(table.unbind(bound[77]), Some(handle));
    let again = table.bind(handle).unwrap();
    assert_ne!(again, bound[77]);
    assert_eq!(table.bind(handle), Err(BindError::Full));
    assert_eq!(table.drain().count(), 1 << 19);
    assert!(table.is_empty());
}

#[test]
fn any_number_is_a_guest_handle_that_resolves_to_nothing() {
    let (pool, handle) = pool_and_handle();
    let table = HandleTable::new(&pool, Kind::Zero);
    let bound: Vec<_> = (0..1000).map(|_| table.bind(handle).unwrap()).collect();
    for unbound in &bound[..500] {
        table.unbind(*unbound);
    }
    let live: HashSet<_> = bound[500..].iter().copied().collect();
    let mut state = 1_u32;
    for _ in 0..100_000 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Any number, and a number near those that are bound.
        for bits in [state, state & 0x007F_FFFF] {
            let guess = GuestHandle::from_bits(bits);
            assert_eq!(table.resolve(guess).is_some(), live.contains(&guess), "{guess:?}");
        }
    }
}

#[test]
fn threads_bind_and_unbind_without_ever_sharing_a_binding() {
    let pool = Arc::new(Pool::new());
    let table = Arc::new(HandleTable::new(&pool, Kind::One));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (pool, table) = (Arc::clone(&pool), Arc::clone(&table));
            thread::spawn(move || {
                let mine: Vec<_> = (0..16).map(|value| pool.insert(thread * 16 + value).unwrap()).collect();
                let mut seen = Vec::new();
                for round in 0..20_000 {
                    let handle = mine[round % 16];
                    let bound = table.bind(handle).unwrap();
                    assert_eq!(table.resolve(bound), Some(handle));
                    assert_eq!(table.unbind(bound), Some(handle));
                    assert_eq!(table.resolve(bound), None);
                    seen.push(bound);
                }
                seen
            })
        })
        .collect();
    let mut all = HashSet::new();
    for thread in threads {
        for bound in thread.join().unwrap() {
            assert!(all.insert(bound), "{bound:?} was bound twice");
        }
    }
    assert!(table.is_empty());
}
