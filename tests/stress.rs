//! Threads that use one pool and one table without pause. The sanitizers run this test.
//!
//! `STRESS_ROUNDS` is the number of rounds of each thread (20,000), `STRESS_THREADS` the number of threads (4).
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use graphpool::{GuestHandle, Handle, HandleTable, Kind, Pool, pin};

const SHARED: usize = 64;

/// A value that knows its handle, counts its drops, and owns memory that a sanitizer watches.
struct Entry {
    handle: u64,
    /// `handle`, over and over.
    memory: Vec<u64>,
    drops: Arc<AtomicUsize>,
}

impl Entry {
    fn check(&self, handle: Handle<Self>) {
        assert_eq!(self.handle, handle.to_bits());
        assert!(self.memory.iter().all(|word| *word == self.handle));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

struct Shared {
    pool: Pool<Entry>,
    table: HandleTable<Entry>,
    /// A guest handle plus one, or 0. The thread that takes it out unbinds it and removes its entry.
    bound: [AtomicU64; SHARED],
    drops: Arc<AtomicUsize>,
    made: AtomicUsize,
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

impl Shared {
    fn insert(&self, length: usize) -> Handle<Entry> {
        self.made.fetch_add(1, Ordering::Relaxed);
        let make = |handle: Handle<Entry>| Entry {
            handle: handle.to_bits(),
            memory: vec![handle.to_bits(); length],
            drops: Arc::clone(&self.drops),
        };
        self.pool.insert_with(make).unwrap_or_else(|error| panic!("{error}"))
    }

    fn end(&self, bits: u64) {
        let Some(bits) = (bits as u32).checked_sub(1) else { return };
        let guest_handle = GuestHandle::from_bits(bits);
        let handle = self.table.unbind(guest_handle).expect("it left the array once");
        assert_eq!(self.table.unbind(guest_handle), None);
        self.pool.remove(handle).expect("it was bound once").check(handle);
        assert!(!self.pool.contains(handle) && self.pool.remove(handle).is_none());
    }

    fn look(&self, bits: u64) {
        let Some(bits) = (bits as u32).checked_sub(1) else { return };
        if let Some(handle) = self.table.resolve(GuestHandle::from_bits(bits)) {
            let guard = pin();
            if let Some(entry) = self.pool.get(handle, &guard) {
                entry.check(handle);
                if (bits >> 13).is_multiple_of(16) {
                    thread::yield_now();
                }
                entry.check(handle);
            }
            if let Some(entry) = self.pool.acquire(handle) {
                drop(guard);
                entry.check(handle);
            }
        }
    }

    /// Every guest handle that it was given.
    fn run(&self, number: u64, rounds: usize) -> Vec<GuestHandle> {
        let mut random = Random(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut seen = Vec::new();
        for round in 0..rounds {
            let place = &self.bound[(random.next() % SHARED as u64) as usize];
            match random.next() % 8 {
                0 | 1 => {
                    let handle = self.insert((random.next() % 16) as usize);
                    let guest_handle = self.table.bind(handle).expect("there are 2^19");
                    seen.push(guest_handle);
                    self.end(place.swap(u64::from(guest_handle.to_bits()) + 1, Ordering::AcqRel));
                }
                2 => self.end(place.swap(0, Ordering::AcqRel)),
                3 if round % 64 == 0 => self.pool.flush(),
                4 if round % 256 == 0 => {
                    let guard = pin();
                    self.pool.iter(&guard).for_each(|(handle, entry)| entry.check(handle));
                }
                _ => self.look(place.load(Ordering::Acquire)),
            }
        }
        seen
    }
}

#[test]
fn nothing_is_lost_mixed_up_or_released_twice() {
    let (threads, rounds) = (setting("STRESS_THREADS", 4), setting("STRESS_ROUNDS", 20_000));
    let drops = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new();
    let shared = Arc::new(Shared {
        table: HandleTable::new(&pool, Kind::Zero),
        pool,
        bound: [const { AtomicU64::new(0) }; SHARED],
        drops: Arc::clone(&drops),
        made: AtomicUsize::new(0),
    });
    let mut seen = Vec::new();
    // Two generations of threads, so that the second gets the lanes of the first.
    for generation in 0..2 {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.run((generation * threads + thread + 1) as u64, rounds / 2))
            })
            .collect();
        for thread in running {
            seen.append(&mut thread.join().expect("no panic"));
        }
    }
    let live = shared.bound.iter().filter(|place| place.load(Ordering::Relaxed) != 0).count();
    assert_eq!((shared.pool.len(), shared.table.len()), (live, live));
    let made = shared.made.load(Ordering::Relaxed);
    while shared.pool.stats().awaiting_reclamation > 0 {
        shared.pool.flush();
    }
    assert_eq!(drops.load(Ordering::Relaxed), made - live);
    seen.sort_unstable();
    assert!(seen.is_sorted_by(|first, second| first < second), "a guest handle came twice");
    drop(shared);
    while drops.load(Ordering::Relaxed) < made {
        pin().flush();
    }
    assert_eq!(Arc::strong_count(&drops), 1);
}
