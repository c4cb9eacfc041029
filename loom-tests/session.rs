//! Pool and table together, as a guest's calls use them.

use graphpool::{HandleTable, Kind};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Payload, collect, explore, explore_bounded, new_pool};

/// I1 to I3, T1: the guest is dropped while one of its calls runs. The call has its object until it returns, or does
/// not find it; and the object is dropped once.
#[test]
fn drop_of_a_guest_against_a_call_with_3_preemptions() {
    explore_bounded("drop of a guest against a call", 3, || {
        let pool = new_pool();
        let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::One));
        let context = table.bind(pool.insert(Payload::new(1)).unwrap()).unwrap();
        let (other_pool, other_table) = (Arc::clone(&pool), Arc::clone(&table));
        let guest_drop = thread::spawn(move || {
            for handle in other_table.drain() {
                drop(other_pool.remove(handle));
            }
            collect();
        });
        if let Some(object) = table.resolve(context).and_then(|handle| pool.acquire(handle)) {
            assert_eq!(object.read(), 1);
        }
        guest_drop.join().unwrap();
        assert_eq!(table.resolve(context), None);
        assert!(pool.is_empty());
    });
}

/// I1, I4, T2: a handle that one thread unloads and another uses resolves to its own object or to nothing, and not to
/// the next object, which has the same index and slot.
#[test]
fn a_call_against_unload_and_load_with_3_preemptions() {
    explore_bounded("a call against unload and load", 3, || {
        let pool = new_pool();
        let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::Zero));
        let graph = table.bind(pool.insert(Payload::new(1)).unwrap()).unwrap();
        let (other_pool, other_table) = (Arc::clone(&pool), Arc::clone(&table));
        let other = thread::spawn(move || {
            let unloaded = other_table.unbind(graph).unwrap();
            drop(other_pool.remove(unloaded));
            collect();
            let loaded = other_pool.insert(Payload::new(2)).unwrap();
            other_table.bind(loaded).unwrap()
        });
        if let Some(object) = table.resolve(graph).and_then(|handle| pool.acquire(handle)) {
            assert_eq!(object.read(), 1);
        }
        let next = other.join().unwrap();
        let object = table.resolve(next).and_then(|handle| pool.acquire(handle));
        assert_eq!(object.map(|object| object.read()), Some(2));
    });
}

/// T1: a guest handle that a thread knows only as a number resolves to the whole object.
#[test]
fn a_handle_passed_as_a_number() {
    explore("a handle passed as a number", || {
        let pool = new_pool();
        let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::Zero));
        let (other_pool, other_table) = (Arc::clone(&pool), Arc::clone(&table));
        let loader = thread::spawn(move || {
            let handle = other_pool.insert(Payload::new(1)).unwrap();
            other_table.bind(handle).unwrap()
        });
        // Index 0 with tag 1, which the loader gets.
        let guess = graphpool::GuestHandle::from_bits(2);
        if let Some(handle) = table.resolve(guess) {
            assert_eq!(pool.acquire(handle).expect("bound after it was stored").read(), 1);
        }
        assert_eq!(loader.join().unwrap(), guess);
    });
}
