//! How many slots a pool makes, and that every removed entry is released. In a process of its own, where no other
//! thread is pinned.
#![cfg(not(any(loom, shuttle)))]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread;

use graphpool::{Handle, Pool, pin};

#[test]
fn slots_are_bounded_and_every_entry_is_released() {
    slots_are_bounded_where_some_threads_insert_and_others_remove();
    a_flush_leaves_nothing_however_much_was_removed();
    destructors_that_flush_and_pin_take_no_stack();
    a_flush_continues_while_destructors_remove_the_next_entry();
    a_value_that_holds_its_own_pool_is_released();
    a_flush_finds_what_idle_threads_removed();
}

const PLACE: u64 = (1 << 24) - 1;

/// Pairs of threads, of which one inserts and the other removes: a slot becomes vacant on another thread than the one
/// that fills it.
fn slots_are_bounded_where_some_threads_insert_and_others_remove() {
    const PAIRS: usize = 4;
    const WINDOW: usize = 100;
    let pool = Arc::new(Pool::new());
    let (places, peak) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicU64::new(0)));
    let mut threads = Vec::new();
    for _ in 0..PAIRS {
        let (sender, receiver) = sync_channel::<Handle<u64>>(WINDOW);
        let (inserting, places, peak) = (Arc::clone(&pool), Arc::clone(&places), Arc::clone(&peak));
        threads.push(thread::spawn(move || {
            let mut own = BTreeSet::new();
            for value in 0..100_000 {
                let handle = inserting.insert(value).unwrap();
                own.insert(handle.to_bits() & PLACE);
                sender.send(handle).unwrap();
                if value % 16 == 0 {
                    let stats = inserting.stats();
                    peak.fetch_max(stats.live + stats.awaiting_reclamation, Ordering::Relaxed);
                }
            }
            places.lock().unwrap().append(&mut own);
        }));
        let removing = Arc::clone(&pool);
        threads.push(thread::spawn(move || assert!(receiver.iter().all(|handle| removing.remove(handle).is_some()))));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let (slots, peak) = (places.lock().unwrap().len() as u64, peak.load(Ordering::Relaxed));
    // And 64 slots in the cache of each thread's lane.
    let bound = 4 * peak + 2 * PAIRS as u64 * 64;
    assert!(slots <= bound, "{slots} slots for {peak} entries that were live or waiting at a time");
    pool.flush();
    assert_eq!((pool.len(), pool.stats().awaiting_reclamation), (0, 0));
}

fn a_flush_leaves_nothing_however_much_was_removed() {
    let pool = Pool::new();
    for count in [50_000_u64, 1, 300_000] {
        for value in 0..count {
            pool.insert(value).unwrap();
        }
        assert_eq!(pool.clear() as u64, count);
        pool.flush();
        assert_eq!(pool.stats().awaiting_reclamation, 0);
    }
}

fn destructors_that_flush_and_pin_take_no_stack() {
    struct Flushes;

    impl Drop for Flushes {
        fn drop(&mut self) {
            pin().flush();
            let mut guard = pin();
            for _ in 0..256 {
                guard.repin();
                drop(pin());
            }
        }
    }

    let on_a_small_stack = thread::Builder::new().stack_size(256 << 10).spawn(|| {
        let pool = Pool::new();
        let guard = pin();
        for _ in 0..20_000 {
            pool.remove(pool.insert(Flushes).unwrap());
        }
        drop(guard);
        pool.flush();
        assert_eq!(pool.stats().awaiting_reclamation, 0);
    });
    on_a_small_stack.unwrap().join().unwrap();
}

fn a_flush_continues_while_destructors_remove_the_next_entry() {
    struct Link(Arc<Pool<Link>>, Option<Handle<Link>>);

    impl Drop for Link {
        fn drop(&mut self) {
            if let Some(next) = self.1 {
                assert!(self.0.remove(next).is_some());
            }
        }
    }

    let pool = Arc::new(Pool::new());
    let mut first = None;
    for _ in 0..20_000 {
        first = Some(pool.insert(Link(Arc::clone(&pool), first)).unwrap());
    }
    pool.remove(first.unwrap());
    pool.flush();
    assert_eq!((pool.len(), pool.stats().awaiting_reclamation), (0, 0));
}

fn a_value_that_holds_its_own_pool_is_released() {
    struct Holds(#[expect(dead_code, reason = "held")] Arc<Pool<Holds>>, Arc<AtomicUsize>);

    impl Drop for Holds {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    let drops = Arc::new(AtomicUsize::new(0));
    let pool = Arc::new(Pool::new());
    let handles = [(); 3].map(|()| pool.insert(Holds(Arc::clone(&pool), Arc::clone(&drops))).unwrap());
    for handle in handles {
        pool.remove(handle);
    }
    drop(pool);
    // The pool cannot be flushed any more; threads that pin collect.
    for _ in 0..10_000 {
        drop(pin());
    }
    assert_eq!(drops.load(Ordering::Relaxed), 3);
}

fn a_flush_finds_what_idle_threads_removed() {
    const THREADS: usize = 200;
    let pool = Arc::new(Pool::new());
    let (removed, go) =
        (Arc::new(std::sync::Barrier::new(THREADS + 1)), Arc::new(std::sync::Barrier::new(THREADS + 1)));
    let threads: Vec<_> = (0..THREADS)
        .map(|value| {
            let (pool, removed, go) = (Arc::clone(&pool), Arc::clone(&removed), Arc::clone(&go));
            thread::spawn(move || {
                pool.remove(pool.insert(value).unwrap());
                removed.wait();
                go.wait();
            })
        })
        .collect();
    removed.wait();
    pool.flush();
    assert_eq!(pool.stats().awaiting_reclamation, 0);
    go.wait();
    for thread in threads {
        thread.join().unwrap();
    }
}
