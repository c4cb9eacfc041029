//! Sequences of calls on a pool and a table, against plain maps that say what each must answer.
//!
//! The pool is a tiny one: 6 slots of 8 generations each, so that it is full, runs through its generations and ends.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arbitrary::Arbitrary;
use graphpool::pool::for_tests::{Layout, LayoutPool, Standard, TinyWith};
use graphpool::{GuestHandle, Handle, HandleTable, InsertError, Kind, pin};
use libfuzzer_sys::fuzz_target;

/// A handle that was made before, by number, or none.
type Which = u8;

#[derive(Arbitrary, Debug)]
enum Call {
    Insert,
    InsertKnowing,
    InsertPanicking,
    Get(Which),
    GetUnderTheGuard(Which),
    Acquire(Which),
    Remove(Which),
    Forge(Which, u64),
    Pin,
    Repin,
    Unpin,
    Flush,
    RetainEven,
    Clear,
    Walk,
    Bind(Which),
    Resolve(Which),
    Unbind(Which),
    ForgeGuest(Which, u32),
    Drain,
}

#[derive(Arbitrary, Debug)]
struct Run {
    layout: u8,
    calls: Vec<Call>,
}

/// A value with memory of its own, for AddressSanitizer to watch.
struct Value {
    number: Box<u64>,
    drops: Arc<AtomicUsize>,
}

impl Drop for Value {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

struct Oracle {
    live: BTreeMap<Handle<Value>, u64>,
    made: Vec<Handle<Value>>,
    bound: BTreeMap<GuestHandle, Handle<Value>>,
    bindings: Vec<GuestHandle>,
}

fn pick<T: Copy>(of: &[T], which: Which) -> Option<T> {
    of.get(usize::from(which) % of.len().max(1)).copied()
}

fn run<L: Layout>(calls: Vec<Call>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut stored = 0;
    let pool: LayoutPool<Value, L> = LayoutPool::new();
    let table = HandleTable::for_layout_pool(&pool, Kind::Zero);
    let mut oracle = Oracle { live: BTreeMap::new(), made: Vec::new(), bound: BTreeMap::new(), bindings: Vec::new() };
    let mut guard = None;
    let value = |number| Value { number: Box::new(number), drops: Arc::clone(&drops) };
    for call in calls {
        match call {
            Call::Insert | Call::InsertKnowing => {
                let number = stored;
                let outcome = if matches!(call, Call::Insert) {
                    pool.insert(value(number)).map_err(|error| drop(error.into_inner()))
                } else {
                    pool.insert_with(|_| value(number)).map_err(|error| assert!(matches!(error, InsertError::Full(_))))
                };
                match outcome {
                    Ok(handle) => {
                        stored += 1;
                        assert!(!oracle.made.contains(&handle), "a handle came twice");
                        oracle.made.push(handle);
                        oracle.live.insert(handle, number);
                    }
                    // What was refused was dropped.
                    Err(()) if matches!(call, Call::Insert) => {
                        drops.fetch_sub(1, Ordering::Relaxed);
                    }
                    Err(()) => {}
                }
            }
            Call::InsertPanicking => {
                let mut shown = None;
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _ = pool.insert_with(|handle| -> Value {
                        shown = Some(handle);
                        std::panic::resume_unwind(Box::new(()))
                    });
                }));
                if let Some(handle) = shown {
                    assert!(!oracle.made.contains(&handle), "a handle came twice");
                    oracle.made.push(handle);
                }
            }
            Call::Get(which) => {
                if let Some(handle) = pick(&oracle.made, which) {
                    let expected = oracle.live.get(&handle).copied();
                    assert_eq!(pool.get(handle, &pin()).map(|value| *value.number), expected);
                    assert_eq!(pool.contains(handle), expected.is_some());
                }
            }
            Call::GetUnderTheGuard(which) => {
                if let (Some(handle), Some(guard)) = (pick(&oracle.made, which), &guard) {
                    let reference = pool.get(handle, guard);
                    assert_eq!(reference.map(|value| *value.number), oracle.live.get(&handle).copied());
                    if reference.is_some() && which % 3 == 0 {
                        // What is removed and flushed under a guard stays where it is.
                        assert!(pool.remove(handle).is_some());
                        pool.flush();
                        assert_eq!(reference.map(|value| *value.number), oracle.live.remove(&handle));
                    }
                }
            }
            Call::Acquire(which) => {
                if let Some(handle) = pick(&oracle.made, which) {
                    let found = pool.acquire(handle).map(|value| *value.number);
                    assert_eq!(found, oracle.live.get(&handle).copied());
                }
            }
            Call::Remove(which) => {
                if let Some(handle) = pick(&oracle.made, which) {
                    assert_eq!(pool.remove(handle).map(|value| *value.number), oracle.live.remove(&handle));
                }
            }
            Call::Forge(which, bits) => {
                let near = pick(&oracle.made, which).map_or(bits, |handle| handle.to_bits() ^ bits);
                if let Some(forged) = Handle::from_bits(near) {
                    let found = pool.get(forged, &pin()).map(|value| *value.number);
                    assert_eq!(found, oracle.live.get(&forged).copied());
                }
            }
            Call::Pin => guard = Some(pin()),
            Call::Repin => {
                if let Some(guard) = &mut guard {
                    guard.repin();
                }
            }
            Call::Unpin => guard = None,
            Call::Flush => {
                pool.flush();
                if guard.is_none() {
                    assert_eq!(pool.stats().awaiting_reclamation, 0);
                    assert_eq!(drops.load(Ordering::Relaxed) as u64, stored - oracle.live.len() as u64);
                }
            }
            Call::RetainEven => {
                let before = oracle.live.len();
                oracle.live.retain(|_, number| *number % 2 == 0);
                assert_eq!(pool.retain(|_, value| *value.number % 2 == 0), before - oracle.live.len());
            }
            Call::Clear => {
                assert_eq!(pool.clear(), oracle.live.len());
                oracle.live.clear();
            }
            Call::Walk => {
                let guard = pin();
                let walked: BTreeMap<_, _> = pool.iter(&guard).map(|(handle, value)| (handle, *value.number)).collect();
                assert_eq!(walked, oracle.live);
            }
            Call::Bind(which) => {
                if let Some(handle) = pick(&oracle.made, which) {
                    let guest_handle = table.bind(handle).expect("there are 2^19");
                    assert!(!oracle.bindings.contains(&guest_handle), "a guest handle came twice");
                    oracle.bindings.push(guest_handle);
                    oracle.bound.insert(guest_handle, handle);
                }
            }
            Call::Resolve(which) => {
                if let Some(guest_handle) = pick(&oracle.bindings, which) {
                    assert_eq!(table.resolve(guest_handle), oracle.bound.get(&guest_handle).copied());
                }
            }
            Call::Unbind(which) => {
                if let Some(guest_handle) = pick(&oracle.bindings, which) {
                    assert_eq!(table.unbind(guest_handle), oracle.bound.remove(&guest_handle));
                }
            }
            Call::ForgeGuest(which, bits) => {
                let near = pick(&oracle.bindings, which).map_or(bits, |guest_handle| guest_handle.to_bits() ^ bits);
                let forged = GuestHandle::from_bits(near);
                assert_eq!(table.resolve(forged), oracle.bound.get(&forged).copied());
            }
            Call::Drain => {
                let drained: BTreeSet<_> = table.drain().collect();
                let expected: BTreeSet<_> = std::mem::take(&mut oracle.bound).into_values().collect();
                assert_eq!(drained, expected);
            }
        }
        assert_eq!((pool.len(), table.len()), (oracle.live.len(), oracle.bound.len()));
    }
    drop(guard);
    drop(pool);
    pin().flush();
    assert_eq!(drops.load(Ordering::Relaxed) as u64, stored, "each value is let go of once");
}

fuzz_target!(|input: Run| {
    match input.layout % 4 {
        0 => run::<TinyWith<1, 1>>(input.calls),
        1 => run::<TinyWith<1, 2>>(input.calls),
        2 => run::<TinyWith<2, 2>>(input.calls),
        _ => run::<Standard>(input.calls),
    }
});
