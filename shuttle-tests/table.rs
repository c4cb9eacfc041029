//! The table: linearizable as a whole.

use std::sync::Arc;

use graphpool::pool::for_tests::{LayoutPool, Tiny};
use graphpool::{GuestHandle, Handle, HandleTable, Kind};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::history::checker::linearize;
use crate::history::table::{Call, Table};
use crate::support::{CALLS, Log, THREADS, explore};

fn call(table: &HandleTable<()>, handle: Handle<()>, log: &Log<Call, u32>) -> Option<Call> {
    let mut random = thread_rng();
    if random.gen_range(0..3) == 0 {
        let bound = table.bind(handle).ok()?.to_bits();
        log.given.lock().unwrap().push(bound);
        return Some(Call::Bind { handle: handle.to_bits(), bound });
    }
    let given = log.some(random.r#gen())?;
    // A guest handle that was given out, or the next one at its index, or the first one at the next index.
    let bound = match random.gen_range(0..8) {
        0 => given + (1 << 1),
        1 => given + (1 << 13),
        _ => given,
    };
    let guest_handle = GuestHandle::from_bits(bound);
    Some(if random.r#gen() {
        Call::Resolve { bound, handle: table.resolve(guest_handle).map(Handle::to_bits) }
    } else {
        Call::Unbind { bound, handle: table.unbind(guest_handle).map(Handle::to_bits) }
    })
}

fn execute() {
    let pool = LayoutPool::<(), Tiny>::new();
    let first = pool.insert(()).unwrap().to_bits();
    let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::One));
    let log = Arc::new(Log::new());
    let threads: Vec<_> = (1..=THREADS)
        .map(|thread| {
            let (table, log) = (Arc::clone(&table), Arc::clone(&log));
            // A table binds any handle of the pool, live or not.
            let handles = (first + 100 * thread..).filter_map(Handle::from_bits).take(CALLS);
            thread::spawn(move || handles.for_each(|handle| log.record(|| call(&table, handle, &log))))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let history = log.history();
    assert!(linearize::<Table>(&history).is_some(), "no order of {history:#?}");
}

#[test]
fn long_histories_of_a_table_are_linearizable() {
    explore("table", 10_000, execute);
}
