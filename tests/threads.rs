//! More threads than sharded-slab has numbers for by default. In a process of its own, which has few other threads.
#![cfg(not(any(loom, shuttle)))]

use std::sync::{Arc, Barrier};
use std::thread;

use graphpool::{Pool, pin};

/// Runs `each` on `threads` threads that are alive at the same time, and then `meanwhile` while they are alive.
fn on_many_threads(threads: usize, each: impl Fn(usize) + Clone + Send + 'static, meanwhile: impl FnOnce()) {
    let (begun, done) = (Arc::new(Barrier::new(threads + 1)), Arc::new(Barrier::new(threads + 1)));
    let threads: Vec<_> = (0..threads)
        .map(|number| {
            let (begun, done, each) = (Arc::clone(&begun), Arc::clone(&done), each.clone());
            let run = move || {
                each(number);
                begun.wait();
                done.wait();
            };
            thread::Builder::new().stack_size(64 << 10).spawn(run).unwrap()
        })
        .collect();
    begun.wait();
    meanwhile();
    done.wait();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn every_thread_inserts_and_removes_however_many_there_are() {
    any_thread_may_insert();
    a_thread_that_holds_a_guard_may_insert();
    another_user_of_the_slab_takes_nothing_from_a_pool();
    a_thread_inserts_while_it_ends();
}

fn any_thread_may_insert() {
    const THREADS: usize = 4200;
    let pool = Arc::new(Pool::new());
    let inserting = Arc::clone(&pool);
    on_many_threads(
        THREADS,
        move |number| {
            let kept = inserting.insert(number).unwrap();
            let gone = inserting.insert(number).unwrap();
            assert_eq!(inserting.remove(gone).as_deref(), Some(&number));
            assert_eq!(inserting.get(kept, &pin()), Some(&number));
        },
        || {
            assert_eq!(pool.len(), THREADS);
            pool.flush();
            assert_eq!(pool.stats().awaiting_reclamation, 0, "the removals of an idle thread are released");
        },
    );
    assert_eq!(pool.clear(), THREADS);
    pool.flush();
    assert_eq!(pool.stats().awaiting_reclamation, 0);
}

/// Each thread needs a participant of its own.
fn a_thread_that_holds_a_guard_may_insert() {
    const THREADS: usize = 500;
    let pool = Arc::new(Pool::new());
    let (inserting, all_pinned) = (Arc::clone(&pool), Arc::new(Barrier::new(THREADS)));
    on_many_threads(
        THREADS,
        move |number| {
            let guard = pin();
            all_pinned.wait();
            let handle = inserting.insert(number).unwrap();
            assert_eq!(inserting.get(handle, &guard), Some(&number));
            all_pinned.wait();
            inserting.remove(handle).unwrap();
            assert_eq!(inserting.get(handle, &guard), None);
        },
        || {
            pool.flush();
            assert_eq!((pool.len(), pool.stats().awaiting_reclamation), (0, 0));
        },
    );
}

/// A thread has one number in all sharded slabs of the process.
fn another_user_of_the_slab_takes_nothing_from_a_pool() {
    let panics = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&panics);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        before(panic);
    }));
    let others: Arc<sharded_slab::Slab<usize, Wide>> = Arc::new(sharded_slab::Slab::new_with_config::<Wide>());
    let pool = Arc::new(Pool::new());
    let inserting = Arc::clone(&pool);
    on_many_threads(
        6000,
        move |number| assert!(others.insert(number).is_some()),
        || {
            on_many_threads(
                300,
                move |number| {
                    let handles: Vec<_> = (0..100).map(|_| inserting.insert(number).unwrap()).collect();
                    assert!(handles.iter().all(|handle| inserting.contains(*handle)));
                },
                || assert_eq!(pool.len(), 300 * 100),
            );
        },
    );
    let _ = std::panic::take_hook();
    assert_eq!(panics.load(std::sync::atomic::Ordering::Relaxed), 0, "a panic hook saw something");
}

struct Wide;

impl sharded_slab::Config for Wide {
    const MAX_THREADS: usize = 1 << 14;
}

/// The destructor of a thread-local inserts and removes after other thread-locals are dropped.
fn a_thread_inserts_while_it_ends() {
    struct Last(Arc<Pool<usize>>);

    impl Drop for Last {
        fn drop(&mut self) {
            let handles: Vec<_> = (0..200).map(|number| self.0.insert(number).unwrap()).collect();
            let guard = pin();
            assert!(handles.iter().enumerate().all(|(number, handle)| self.0.get(*handle, &guard) == Some(&number)));
            assert!(handles[..100].iter().all(|handle| self.0.remove(*handle).is_some()));
        }
    }

    thread_local! {
        static BEFORE: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
        static AFTER: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }

    let pool = Arc::new(Pool::new());
    for _ in 0..20 {
        let used = Arc::clone(&pool);
        // Thread-locals are dropped in the order of their first use, or in the reverse order: one of these is dropped
        // before the pool's, and one after.
        thread::spawn(move || {
            BEFORE.with(|last| *last.borrow_mut() = Some(Last(Arc::clone(&used))));
            used.remove(used.insert(0).unwrap()).unwrap();
            AFTER.with(|last| *last.borrow_mut() = Some(Last(used)));
        })
        .join()
        .unwrap();
    }
    assert_eq!(pool.len(), 20 * 200);
    pool.clear();
    pool.flush();
    assert_eq!(pool.stats().awaiting_reclamation, 0);
}
