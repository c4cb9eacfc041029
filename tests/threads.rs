//! More threads than a pool has room for. In a process of its own: there is none left for another test.
#![cfg(not(any(loom, shuttle)))]

use std::sync::{Arc, Barrier};
use std::thread;

use graphpool::pool::MAX_INSERTING_THREADS;
use graphpool::{InsertError, Pool};

#[test]
fn threads_past_the_bound_get_an_error_and_their_value_back() {
    const THREADS: usize = 4200;
    let pool = Arc::new(Pool::new());
    let (all_inserted, done) = (Arc::new(Barrier::new(THREADS + 1)), Arc::new(Barrier::new(THREADS + 1)));
    let threads: Vec<_> = (0..THREADS)
        .map(|value| {
            let (pool, all_inserted, done) = (Arc::clone(&pool), Arc::clone(&all_inserted), Arc::clone(&done));
            thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || {
                    let outcome = pool.insert(value);
                    all_inserted.wait();
                    done.wait();
                    match outcome {
                        Ok(handle) => pool.remove(handle).map(|found| assert_eq!(*found, value)).is_some(),
                        Err(InsertError::TooManyThreads(back)) => {
                            assert_eq!(back, value);
                            false
                        }
                        Err(error) => panic!("{error}"),
                    }
                })
                .unwrap()
        })
        .collect();
    all_inserted.wait();
    let live = pool.len();
    assert_eq!(live, MAX_INSERTING_THREADS);
    done.wait();
    let stored = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|stored| *stored).count();
    assert_eq!(stored, live);
    // Those places are free again.
    let pool = Arc::new(Pool::new());
    let again: Vec<_> = (0..100)
        .map(|value| {
            thread::spawn({
                let pool = Arc::clone(&pool);
                move || pool.insert(value).is_ok()
            })
        })
        .collect();
    assert!(again.into_iter().all(|thread| thread.join().unwrap()));
}
