//! What one call reclaims, and the last generation. In a process of its own: in another one a thread of another test
//! may be pinned, or be the one that collects.
#![cfg(not(any(loom, shuttle)))]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use graphpool::pool::for_tests::{LayoutPool, Tiny, TinyWith};
use graphpool::{HandleTable, InsertError, Kind, Pool, pin};

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn everything_at_once() {
    one_flush_releases_everything_that_was_removed();
    a_pool_that_is_dropped_releases_everything();
    a_thread_that_only_reads_reclaims_what_others_removed();
    the_next_value_is_written_where_the_last_one_was_unless_it_is_referenced();
    every_generation_of_a_slot_can_be_bound();
    a_slot_is_exhausted_after_its_last_generation();
    a_full_pool_gives_the_value_back_and_takes_the_next_after_a_removal();
}

fn one_flush_releases_everything_that_was_removed() {
    let drops = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new();
    for _ in 0..5000 {
        pool.insert(Counted(Arc::clone(&drops))).unwrap();
    }
    assert_eq!(pool.clear(), 5000);
    pool.flush();
    assert_eq!((pool.stats().awaiting_reclamation, drops.load(Ordering::Relaxed)), (0, 5000));
}

fn a_pool_that_is_dropped_releases_everything() {
    let drops = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new();
    for _ in 0..5000 {
        pool.insert(Counted(Arc::clone(&drops))).unwrap();
    }
    pool.retain(|handle, _| handle.to_bits() % 2 == 0);
    drop(pool);
    assert_eq!(drops.load(Ordering::Relaxed), 5000);
}

fn a_thread_that_only_reads_reclaims_what_others_removed() {
    let drops = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new();
    let reader = pin();
    for _ in 0..5000 {
        pool.remove(pool.insert(Counted(Arc::clone(&drops))).unwrap());
    }
    pool.flush();
    assert_eq!(drops.load(Ordering::Relaxed), 0, "a guard is held");
    drop(reader);
    // Joined explicitly: the end of a scope does not wait for its threads' thread-locals.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while drops.load(Ordering::Relaxed) < 5000 {
                pin().flush();
            }
        });
        reader.join().unwrap();
    });
    assert_eq!(pool.stats().awaiting_reclamation, 0);
    let slots: std::collections::BTreeSet<_> =
        (0..5000).map(|_| pool.insert(Counted(Arc::clone(&drops))).unwrap().to_bits() & ((1 << 24) - 1)).collect();
    assert!(slots.into_iter().all(|slot| slot < 5200), "vacant slots are reused");
}

fn the_next_value_is_written_where_the_last_one_was_unless_it_is_referenced() {
    let drops = Arc::new(AtomicUsize::new(0));
    // A pool of one slot.
    let pool: LayoutPool<_, TinyWith<0, 1>> = LayoutPool::new();
    let mut handle = pool.insert((1, Counted(Arc::clone(&drops)))).unwrap();
    let mut replace = |value: i32, held: &mut dyn FnMut(Arc<(i32, Counted)>)| {
        let before = pool.remove(handle).unwrap();
        let address = Arc::as_ptr(&before);
        held(before);
        pool.flush();
        handle = pool.insert((value, Counted(Arc::clone(&drops)))).unwrap();
        let now = pool.acquire(handle).unwrap();
        assert_eq!(now.0, value);
        Arc::as_ptr(&now) == address
    };
    assert!(replace(2, &mut drop));

    let mut kept = None;
    assert!(!replace(3, &mut |value| kept = Some(value)));
    assert_eq!((kept.map(|value| value.0), drops.load(Ordering::Relaxed)), (Some(2), 2));

    let mut weak = Weak::new();
    assert!(!replace(4, &mut |value| weak = Arc::downgrade(&value)));
    assert!(weak.upgrade().is_none());
    assert_eq!(drops.load(Ordering::Relaxed), 3);

    assert!(pool.remove(handle).is_some());
    pool.flush();
    let own = Arc::new((5, Counted(Arc::clone(&drops))));
    let handle = pool.insert_arc(Arc::clone(&own)).unwrap();
    assert!(Arc::ptr_eq(&own, &pool.acquire(handle).unwrap()), "an Arc stays where it is");
    drop((own, pool));
    assert_eq!(drops.load(Ordering::Relaxed), 5);
}

fn every_generation_of_a_slot_can_be_bound() {
    let pool: LayoutPool<u64, Tiny> = LayoutPool::new();
    let table = HandleTable::for_layout_pool(&pool, Kind::Zero);
    let mut generations = std::collections::BTreeMap::<u64, u64>::new();
    while let Ok(handle) = pool.insert(1) {
        let place = handle.to_bits() & (Tiny::GENERATION - 1);
        let generation = generations.entry(place).or_default();
        assert_eq!(handle.to_bits() / Tiny::GENERATION % 8, *generation);
        *generation += 1;
        let bound = table.bind(handle).unwrap();
        assert_eq!(table.resolve(bound), Some(handle));
        assert_eq!(table.unbind(bound), Some(handle));
        assert!(pool.remove(handle).is_some());
        pool.flush();
    }
    assert!(generations.values().all(|generations| *generations == 8) && generations.len() == 6);
    assert_eq!(pool.stats().exhausted_slots, 6);
}

fn a_slot_is_exhausted_after_its_last_generation() {
    let pool: LayoutPool<u32, Tiny> = LayoutPool::new();
    let mut made = Vec::new();
    let value = loop {
        match pool.insert(made.len() as u32) {
            Ok(handle) => {
                assert!(!made.contains(&handle), "a handle came twice");
                made.push(handle);
                assert!(pool.remove(handle).is_some());
            }
            Err(InsertError::Full(value)) if pool.stats().awaiting_reclamation == 0 => break value,
            Err(_) => pool.flush(),
        }
    };
    // 2 + 4 slots of 8 generations.
    assert_eq!((made.len(), value), (48, 48));
    assert_eq!(pool.stats().exhausted_slots, 6);
    assert!(made.iter().all(|handle| !pool.contains(*handle)));
}

fn a_full_pool_gives_the_value_back_and_takes_the_next_after_a_removal() {
    let pool: LayoutPool<String, Tiny> = LayoutPool::new();
    let handles: Vec<_> = (0..6).map(|value| pool.insert(value.to_string()).unwrap()).collect();
    assert_eq!(pool.insert(String::from("seventh")).unwrap_err().into_inner(), "seventh");
    let refused = pool.insert_with(|_| -> String { unreachable!("nothing can be stored") });
    assert!(matches!(refused, Err(InsertError::Full(_))));
    pool.remove(handles[3]).unwrap();
    pool.insert(String::from("eighth")).unwrap();
    assert!(pool.insert(String::from("ninth")).is_err());
    assert_eq!(pool.len(), 6);
}
