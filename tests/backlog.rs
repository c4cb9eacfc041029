//! Reclamation after a reader was pinned for long. In a process of its own, where no other thread is pinned.

#![cfg(not(loom))]

use graphpool::{Pool, pin};

#[test]
fn a_flush_releases_everything_that_a_reader_delayed() {
    let pool = Pool::new();
    let guard = pin();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for value in 0..100_000_u64 {
                pool.remove(pool.insert(value).expect("there is room")).expect("it is live");
            }
        });
    });
    pool.flush();
    assert_eq!(pool.stats().awaiting_reclamation, 100_000, "the guard is held");
    drop(guard);
    pool.flush();
    assert_eq!(pool.stats().awaiting_reclamation, 0);
}
