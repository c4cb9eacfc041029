//! The pool as its users call it.
#![cfg(not(loom))]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use graphpool::{Handle, Pool, pin};

/// A value that counts its drops.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counter() -> Arc<AtomicUsize> {
    Arc::default()
}

/// Collects until everything is released, which the guards of other tests may delay.
fn settle<T: Send + Sync>(pool: &Pool<T>) {
    while pool.stats().awaiting_reclamation > 0 {
        pool.flush();
        thread::yield_now();
    }
}

#[test]
fn a_value_is_found_until_it_is_removed() {
    let pool = Pool::new();
    let handle = pool.insert(7_u32).unwrap();
    assert_eq!(pool.get(handle, &pin()), Some(&7));
    assert_eq!(pool.acquire(handle).as_deref(), Some(&7));
    assert!(pool.contains(handle));
    assert_eq!(pool.len(), 1);
    assert_eq!(pool.remove(handle).as_deref(), Some(&7));
    assert_eq!(pool.remove(handle), None);
    assert_eq!(pool.get(handle, &pin()), None);
    assert_eq!(pool.acquire(handle), None);
    assert!(!pool.contains(handle) && pool.is_empty());
}

#[test]
fn an_arc_is_stored_as_it_is() {
    let pool = Pool::new();
    let value = Arc::new(String::from("model"));
    let first = pool.insert_arc(Arc::clone(&value)).unwrap();
    let second = pool.insert_arc(Arc::clone(&value)).unwrap();
    assert_ne!(first, second);
    assert!(Arc::ptr_eq(&pool.acquire(first).unwrap(), &value));
    assert!(Arc::ptr_eq(&pool.remove(second).unwrap(), &value));
}

#[test]
fn a_value_may_know_its_handle() {
    let pool: Pool<Handle<()>> = Pool::new();
    let mut seen = None;
    let handle = pool
        .insert_with(|handle| {
            assert!(!pool.contains(handle), "not before it is stored");
            seen = Some(handle);
            Handle::<()>::from_bits(handle.to_bits()).unwrap()
        })
        .unwrap();
    assert_eq!(Some(handle), seen);
    assert_eq!(pool.acquire(handle).unwrap().to_bits(), handle.to_bits());
}

#[test]
fn a_panic_of_the_maker_leaves_the_pool_as_it_was() {
    let pool: Pool<u32> = Pool::new();
    for _ in 0..100_000 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = pool.insert_with(|_| -> u32 { std::panic::resume_unwind(Box::new("the maker's")) });
        }));
        assert!(outcome.is_err());
    }
    assert_eq!(pool.stats().inserted, 0);
    let handle = pool.insert(1).unwrap();
    assert!(handle.to_bits() & 0x00FF_FFFF < 64, "the slots of the first chunk were given back each time");
    assert_eq!(pool.get(handle, &pin()), Some(&1));
}

#[test]
fn a_reference_outlives_removal_and_the_pool_itself() {
    let drops = counter();
    let pool = Pool::new();
    let removed = pool.insert(Counted(Arc::clone(&drops))).unwrap();
    let kept = pool.insert(Counted(Arc::clone(&drops))).unwrap();
    let guard = pin();
    let (first, second) = (pool.get(removed, &guard).unwrap(), pool.get(kept, &guard).unwrap());
    drop(pool.remove(removed));
    pool.flush();
    drop(pool);
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&first.0), 3);
    assert_eq!(Arc::strong_count(&second.0), 3);
    drop(guard);
    while drops.load(Ordering::Relaxed) < 2 {
        pin().flush();
        thread::yield_now();
    }
    assert_eq!(Arc::strong_count(&drops), 1);
}

#[test]
fn dropping_the_pool_drops_every_value_once() {
    let drops = counter();
    let pool = Pool::new();
    let handles: Vec<_> = (0..1000).map(|_| pool.insert(Counted(Arc::clone(&drops))).unwrap()).collect();
    for handle in &handles[..300] {
        pool.remove(*handle);
    }
    drop(pool);
    while drops.load(Ordering::Relaxed) < 1000 {
        pin().flush();
        thread::yield_now();
    }
    assert_eq!(Arc::strong_count(&drops), 1);
}

#[test]
fn a_handle_of_another_pool_is_refused() {
    let (first, second) = (Pool::new(), Pool::new());
    let handle = first.insert(1).unwrap();
    let other = second.insert(2).unwrap();
    assert_ne!(handle, other);
    assert_eq!(second.get(handle, &pin()), None);
    assert_eq!(second.remove(handle), None);
    assert!(!second.contains(handle));
    assert_eq!(first.get(handle, &pin()), Some(&1));
}

#[test]
fn any_number_is_a_handle_that_resolves_to_nothing() {
    let pool = Pool::new();
    let live: Vec<_> = (0..100).map(|value| pool.insert(value).unwrap()).collect();
    let guard = pin();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let probe = |bits: u64| {
        if let Some(handle) = Handle::from_bits(bits)
            && !live.contains(&handle)
        {
            assert_eq!(pool.get(handle, &guard), None, "{handle:?}");
            assert!(pool.acquire(handle).is_none() && pool.remove(handle).is_none() && !pool.contains(handle));
        }
    };
    for edge in [0, 1, u64::MAX, 1 << 52, (1 << 52) - 1, !((1 << 52) - 1), 1 << 63] {
        probe(edge);
    }
    // The right tag, and a key of ones from some bit up or down, the largest generation and a larger one among them.
    for shift in 0..52 {
        let (tag, key) = (live[0].to_bits() & !((1 << 52) - 1), (1 << 52) - 1);
        probe(tag | key >> shift);
        probe(tag | key << shift & key);
    }
    for _ in 0..50_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state ^ state >> 29;
        probe(random);
        // The right tag with any generation and place; then a live handle with one bit changed.
        probe(live[0].to_bits() & !((1 << 52) - 1) | random & ((1 << 52) - 1));
        probe(live[(random % 100) as usize].to_bits() ^ 1 << (random >> 58));
    }
    drop(guard);
    assert_eq!(pool.len(), 100);
}

#[test]
fn a_panicking_destructor_loses_nothing_else() {
    struct Panics(Arc<AtomicUsize>);
    impl Drop for Panics {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::panic::resume_unwind(Box::new("a destructor's"));
        }
    }
    let drops = counter();
    let pool = Pool::new();
    let handles: Vec<_> = (0..200).map(|_| pool.insert(Panics(Arc::clone(&drops))).unwrap()).collect();
    for handle in &handles[..100] {
        // The pool's reference is the last one, and a panic is caught where it is dropped.
        drop(pool.remove(*handle).unwrap());
    }
    settle(&pool);
    assert_eq!(drops.load(Ordering::Relaxed), 100);
    assert!(handles[100..].iter().all(|handle| pool.contains(*handle)));
    drop(pool);
    while drops.load(Ordering::Relaxed) < 200 {
        pin().flush();
        thread::yield_now();
    }
}

#[test]
fn a_destructor_may_use_the_pool() {
    struct Nested {
        pool: Weak<Pool<Nested>>,
        next: Option<Handle<Nested>>,
        drops: Arc<AtomicUsize>,
    }
    impl Drop for Nested {
        fn drop(&mut self) {
            self.drops.fetch_add(1, Ordering::Relaxed);
            if let Some(pool) = self.pool.upgrade() {
                let more = Nested { pool: Weak::new(), next: None, drops: Arc::clone(&self.drops) };
                let handle = pool.insert(more).unwrap();
                assert!(pool.contains(handle));
                assert!(pool.remove(handle).is_some());
                if let Some(next) = self.next {
                    assert!(pool.remove(next).is_some());
                }
                pool.flush();
            }
        }
    }
    // A list long enough to overflow the stack if each destructor ran the next one.
    const LENGTH: usize = 100_000;
    let drops = counter();
    let pool = Arc::new(Pool::new());
    let mut next = None;
    for _ in 0..LENGTH {
        let value = Nested { pool: Arc::downgrade(&pool), next, drops: Arc::clone(&drops) };
        next = Some(pool.insert(value).unwrap());
    }
    assert!(pool.remove(next.unwrap()).is_some());
    settle(&pool);
    assert_eq!(drops.load(Ordering::Relaxed), 2 * LENGTH);
    assert!(pool.is_empty());
}

#[test]
fn a_walk_gives_every_entry_once() {
    let pool = Pool::new();
    let handles: Vec<_> = (0..5000_u32).map(|value| pool.insert(value).unwrap()).collect();
    let guard = pin();
    let mut seen: Vec<_> = pool.iter(&guard).map(|(handle, value)| (*value, handle)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..5000).zip(handles.iter().copied()).collect::<Vec<_>>());
    drop(guard);
    assert_eq!(pool.retain(|_, value| value % 5 == 0), 4000);
    assert_eq!(pool.len(), 1000);
    assert!(handles.iter().enumerate().all(|(value, handle)| pool.contains(*handle) == (value % 5 == 0)));
    assert_eq!(pool.clear(), 1000);
    assert!(pool.is_empty());
    settle(&pool);
    let stats = pool.stats();
    assert_eq!((stats.live, stats.inserted, stats.removed), (0, 5000, 5000));
}

#[test]
fn what_an_ended_thread_removed_is_reclaimed_by_another() {
    let drops = counter();
    let pool = Arc::new(Pool::new());
    let handles: Vec<_> = (0..10).map(|_| pool.insert(Counted(Arc::clone(&drops))).unwrap()).collect();
    let remover = Arc::clone(&pool);
    thread::spawn(move || handles.into_iter().for_each(|handle| drop(remover.remove(handle)))).join().unwrap();
    settle(&pool);
    assert_eq!(drops.load(Ordering::Relaxed), 10);
}

#[test]
fn churn_of_many_threads_mixes_nothing_up() {
    const THREADS: usize = 4;
    let drops = counter();
    let pool = Arc::new(Pool::<(Counted, u64)>::new());
    let shared = Arc::new([const { std::sync::atomic::AtomicU64::new(0) }; 32]);
    let made: usize = (0..THREADS as u64)
        .map(|thread| {
            let (pool, shared, drops) = (Arc::clone(&pool), Arc::clone(&shared), Arc::clone(&drops));
            thread::spawn(move || {
                let mut state = thread.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
                let mut guard = pin();
                let mut made = 0;
                for _ in 0..20_000 {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let place = &shared[(state % 32) as usize];
                    if state & 1 << 20 == 0 {
                        let handle =
                            pool.insert_with(|handle| (Counted(Arc::clone(&drops)), handle.to_bits())).unwrap();
                        made += 1;
                        assert_eq!(pool.get(handle, &guard).unwrap().1, handle.to_bits());
                        let old = place.swap(handle.to_bits(), Ordering::AcqRel);
                        if let Some(old) = Handle::from_bits(old) {
                            // Other threads may read it, but only this one took it out of the array.
                            assert!(pool.remove(old).is_some());
                            assert!(pool.get(old, &guard).is_none());
                        }
                    } else if let Some(handle) = Handle::from_bits(place.load(Ordering::Acquire)) {
                        if let Some(value) = pool.get(handle, &guard) {
                            assert_eq!(value.1, handle.to_bits());
                        }
                        if let Some(value) = pool.acquire(handle) {
                            assert_eq!(value.1, handle.to_bits());
                        }
                    }
                    guard.repin();
                }
                made
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    let live = shared.iter().filter(|place| place.load(Ordering::Relaxed) != 0).count();
    assert_eq!(pool.len(), live);
    settle(&pool);
    assert_eq!(drops.load(Ordering::Relaxed), made - live);
    assert_eq!(pool.clear(), live);
    settle(&pool);
    assert_eq!(drops.load(Ordering::Relaxed), made);
}
