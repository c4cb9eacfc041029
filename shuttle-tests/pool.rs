//! The pool: linearizable as a whole, no value released under a guard, and every value released once.

use std::sync::{Arc, Mutex};

use graphpool::pool::for_tests::{LayoutPool, Tiny};
use graphpool::{Handle, pin};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::history::checker::linearize;
use crate::history::pool::{self, Call};
use crate::support::{CALLS, Log, THREADS, explore};

type Pool = LayoutPool<Payload, Tiny>;

/// Records its drop.
struct Payload {
    value: u64,
    ended: Arc<Mutex<Vec<u64>>>,
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.ended.lock().unwrap().push(self.value);
    }
}

struct Player {
    pool: Arc<Pool>,
    log: Arc<Log<Call, u64>>,
    ended: Arc<Mutex<Vec<u64>>>,
}

impl Player {
    /// A handle that was given out, or one that may be next.
    fn some(&self) -> Option<(u64, Handle<Payload>)> {
        let mut random = thread_rng();
        let given = self.log.some(random.r#gen())?;
        let bits = match random.gen_range(0..8) {
            0 => given + 1,
            1 => given + Tiny::GENERATION,
            _ => given,
        };
        Some((bits, Handle::from_bits(bits)?))
    }

    fn insert(&self, value: u64) -> Option<Call> {
        let payload = Payload { value, ended: Arc::clone(&self.ended) };
        // A full pool stores nothing.
        let handle = self.pool.insert(payload).ok()?.to_bits();
        self.log.given.lock().unwrap().push(handle);
        Some(Call::Insert { value, handle })
    }

    /// Other threads run while the guard is held.
    fn get(&self, bits: u64, handle: Handle<Payload>) -> Call {
        let guard = pin();
        let value = self.pool.get(handle, &guard).map(|payload| payload.value);
        thread::yield_now();
        if let Some(value) = value {
            assert!(!self.ended.lock().unwrap().contains(&value), "released under a guard");
        }
        Call::Get { handle: bits, value }
    }

    fn call(&self, value: u64) -> Option<Call> {
        let (handle, some) = self.some()?;
        Some(match thread_rng().gen_range(0..9) {
            0..3 => return self.insert(value),
            3 => self.get(handle, some),
            4 => Call::Get { handle, value: self.pool.acquire(some).map(|payload| payload.value) },
            5 => Call::Contains { handle, live: self.pool.contains(some) },
            _ => Call::Remove { handle, value: self.pool.remove(some).map(|payload| payload.value) },
        })
    }

    fn play(&self, thread: u64) {
        for value in (100 * thread..).take(CALLS) {
            self.log.record(|| self.call(value));
        }
    }
}

fn execute() {
    let (pool, log, ended) = (Arc::new(LayoutPool::new()), Arc::new(Log::new()), Arc::default());
    let player = Arc::new(Player { pool, log, ended });
    player.log.record(|| player.insert(1));
    let threads: Vec<_> = (1..=THREADS)
        .map(|thread| {
            let player = Arc::clone(&player);
            thread::spawn(move || player.play(thread))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let history = player.log.history();
    assert!(linearize::<pool::Pool>(&history).is_some(), "no order of {history:#?}");

    let Ok(Player { pool, ended, .. }) = Arc::try_unwrap(player) else { unreachable!("all threads have joined") };
    drop(pool);
    let mut ended = ended.lock().unwrap();
    ended.sort_unstable();
    let mut inserted: Vec<_> = history
        .operations
        .iter()
        .filter_map(|operation| match operation.what {
            Call::Insert { value, .. } => Some(value),
            _ => None,
        })
        .collect();
    inserted.sort_unstable();
    ended.retain(|value| inserted.binary_search(value).is_ok());
    assert_eq!(*ended, inserted, "each value is released once");
}

#[test]
fn long_histories_of_a_pool_are_linearizable() {
    explore("pool", 10_000, execute);
}
