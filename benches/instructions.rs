//! What `ci/instructions.sh` counts: each operation, a fixed number of times on one thread, in a function of its own.
//!
//! Run on its own it does the same and says nothing.

#![allow(missing_docs, reason = "a program")]

use measured::TIMES;

fn main() {
    let fixture = measured::Fixture::new();
    measured::empty_loop(&fixture);
    measured::get_held(&fixture);
    measured::get_repinned(&fixture);
    measured::get_pinned(&fixture);
    measured::acquire(&fixture);
    measured::resolve(&fixture);
    measured::bind_unbind(&fixture);
    let handles = measured::insert(&fixture);
    measured::remove(&fixture, &handles);
    measured::insert_remove(&fixture);
    assert_eq!(handles.len(), TIMES);
}

/// One function for each count. The script finds them by name.
mod measured {
    use std::hint::black_box;

    use graphpool::{GuestHandle, Handle, HandleTable, Kind, Pool, pin};

    /// How often each operation is done.
    pub const TIMES: usize = 10_000;

    pub struct Fixture {
        pool: Pool<u64>,
        table: HandleTable<u64>,
        handle: Handle<u64>,
        guest_handle: GuestHandle,
    }

    impl Fixture {
        /// A pool past its first page, with its slots used once, and this thread known to everything.
        pub fn new() -> Self {
            let pool = Pool::new();
            let used: Vec<_> = (0..TIMES as u64).map(|value| pool.insert(value).expect("there is room")).collect();
            for handle in used {
                drop(pool.remove(handle));
            }
            pool.flush();
            let handle = pool.insert(7).expect("there is room");
            let table = HandleTable::new(&pool, Kind::Zero);
            let guest_handle = table.bind(handle).expect("there is room");
            Self { pool, table, handle, guest_handle }
        }
    }

    /// What the loops themselves take, which is taken off the rest.
    #[inline(never)]
    pub fn empty_loop(fixture: &Fixture) {
        for _ in 0..TIMES {
            black_box(black_box(fixture.handle));
        }
    }

    #[inline(never)]
    pub fn get_held(fixture: &Fixture) {
        let guard = pin();
        for _ in 0..TIMES {
            black_box(fixture.pool.get(black_box(fixture.handle), &guard));
        }
    }

    #[inline(never)]
    pub fn get_repinned(fixture: &Fixture) {
        let mut guard = pin();
        for _ in 0..TIMES {
            guard.repin();
            black_box(fixture.pool.get(black_box(fixture.handle), &guard));
        }
    }

    #[inline(never)]
    pub fn get_pinned(fixture: &Fixture) {
        for _ in 0..TIMES {
            black_box(fixture.pool.get(black_box(fixture.handle), &pin()));
        }
    }

    #[inline(never)]
    pub fn acquire(fixture: &Fixture) {
        for _ in 0..TIMES {
            black_box(fixture.pool.acquire(black_box(fixture.handle)));
        }
    }

    #[inline(never)]
    pub fn resolve(fixture: &Fixture) {
        for _ in 0..TIMES {
            black_box(fixture.table.resolve(black_box(fixture.guest_handle)));
        }
    }

    #[inline(never)]
    pub fn bind_unbind(fixture: &Fixture) {
        for _ in 0..TIMES {
            let bound = fixture.table.bind(black_box(fixture.handle)).expect("there is room");
            black_box(fixture.table.unbind(black_box(bound)));
        }
    }

    /// Into slots that were used before, with what it takes to make the value's `Arc`.
    #[inline(never)]
    pub fn insert(fixture: &Fixture) -> Vec<Handle<u64>> {
        let mut handles = Vec::with_capacity(TIMES);
        handles.extend((0..TIMES as u64).map(|value| fixture.pool.insert(value).expect("there is room")));
        handles
    }

    /// With its share of the collections, and of letting go of the values.
    #[inline(never)]
    pub fn remove(fixture: &Fixture, handles: &[Handle<u64>]) {
        for handle in handles {
            drop(black_box(fixture.pool.remove(black_box(*handle))));
        }
    }

    /// One after the other, which is how slots are used again warm.
    #[inline(never)]
    pub fn insert_remove(fixture: &Fixture) {
        for _ in 0..TIMES {
            let handle = fixture.pool.insert(black_box(7)).expect("there is room");
            drop(black_box(fixture.pool.remove(black_box(handle))));
        }
    }
}
