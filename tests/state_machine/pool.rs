//! A pool, called by one thread.

use std::collections::BTreeMap;

use graphpool::{Handle, Pool, pin};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

/// An entry is named by its number among all that were ever inserted.
#[derive(Debug, Clone)]
enum Call {
    Insert(u32),
    InsertKnowing,
    Get(usize),
    Acquire(usize),
    Contains(usize),
    Remove(usize),
    /// Of a number that differs from an entry's handle in these bits.
    Forge(usize, u64),
    RetainEven,
    Clear,
    Flush,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Given(u32),
    /// The entry's own handle.
    Handle,
}

impl Value {
    fn is_even(self) -> bool {
        matches!(self, Self::Given(value) if value % 2 == 0)
    }
}

/// What the pool ought to have, and to have answered last.
#[derive(Debug, Clone, Default)]
struct Expected {
    inserted: usize,
    live: BTreeMap<usize, Value>,
    found: Option<Value>,
    removed: usize,
}

impl ReferenceStateMachine for Expected {
    type State = Self;
    type Transition = Call;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Call> {
        let insert = prop_oneof![4 => any::<u32>().prop_map(Call::Insert), 1 => Just(Call::InsertKnowing)];
        if state.inserted == 0 {
            return insert.boxed();
        }
        // The newest ones are the likeliest to be live.
        let count = state.inserted;
        let entry = prop_oneof![0..count, count.saturating_sub(4)..count];
        let bits = prop_oneof![(0..64_u32).prop_map(|bit| 1 << bit), any::<u64>(), Just(1 << 33)];
        prop_oneof![
            10 => insert,
            5 => entry.clone().prop_map(Call::Get),
            3 => entry.clone().prop_map(Call::Acquire),
            3 => entry.clone().prop_map(Call::Contains),
            8 => entry.clone().prop_map(Call::Remove),
            4 => (entry, bits).prop_map(|(entry, bits)| Call::Forge(entry, bits)),
            1 => Just(Call::RetainEven),
            1 => Just(Call::Clear),
            2 => Just(Call::Flush),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, call: &Call) -> bool {
        match call {
            Call::Get(entry) | Call::Acquire(entry) | Call::Contains(entry) | Call::Remove(entry) => {
                *entry < state.inserted
            }
            Call::Forge(entry, bits) => *entry < state.inserted && *bits != 0,
            _ => true,
        }
    }

    fn apply(mut state: Self, call: &Call) -> Self {
        let before = state.live.len();
        match call {
            Call::Insert(_) | Call::InsertKnowing => {
                let value = if let Call::Insert(value) = call { Value::Given(*value) } else { Value::Handle };
                state.live.insert(state.inserted, value);
                state.inserted += 1;
            }
            Call::Get(entry) | Call::Acquire(entry) | Call::Contains(entry) => {
                state.found = state.live.get(entry).copied();
            }
            Call::Remove(entry) => state.found = state.live.remove(entry),
            Call::RetainEven => state.live.retain(|_, value| value.is_even()),
            Call::Clear => state.live.clear(),
            Call::Forge(..) | Call::Flush => {}
        }
        state.removed = before.saturating_sub(state.live.len());
        state
    }
}

struct Entry {
    value: Value,
    handle: Option<u64>,
}

struct Played {
    pool: Pool<Entry>,
    handles: Vec<Handle<Entry>>,
}

impl Played {
    fn expect_inserted(&mut self, handle: Handle<Entry>) {
        assert!(!self.handles.contains(&handle), "a handle came twice");
        self.handles.push(handle);
    }

    fn seen(&self, entry: usize, found: Option<&Entry>) -> Option<Value> {
        let Entry { value, handle } = found?;
        assert!(*value != Value::Handle || *handle == Some(self.handles[entry].to_bits()), "it was told its handle");
        Some(*value)
    }
}

impl StateMachineTest for Played {
    type SystemUnderTest = Self;
    type Reference = Expected;

    fn init_test(_: &Expected) -> Self {
        Self { pool: Pool::new(), handles: Vec::new() }
    }

    fn apply(mut state: Self, expected: &Expected, call: Call) -> Self {
        let pool = &state.pool;
        match call {
            Call::Insert(value) => {
                let handle = pool.insert(Entry { value: Value::Given(value), handle: None }).unwrap();
                state.expect_inserted(handle);
            }
            Call::InsertKnowing => {
                let entry = |handle: Handle<Entry>| Entry { value: Value::Handle, handle: Some(handle.to_bits()) };
                let handle = pool.insert_with(entry).unwrap();
                state.expect_inserted(handle);
            }
            Call::Get(entry) => {
                assert_eq!(state.seen(entry, pool.get(state.handles[entry], &pin())), expected.found);
            }
            Call::Acquire(entry) => {
                assert_eq!(state.seen(entry, pool.acquire(state.handles[entry]).as_deref()), expected.found);
            }
            Call::Contains(entry) => {
                assert_eq!(pool.contains(state.handles[entry]), expected.found.is_some());
            }
            Call::Remove(entry) => {
                assert_eq!(state.seen(entry, pool.remove(state.handles[entry]).as_deref()), expected.found);
            }
            Call::Forge(entry, bits) => {
                if let Some(forged) = Handle::from_bits(state.handles[entry].to_bits() ^ bits) {
                    let live = |entry| expected.live.contains_key(&entry);
                    let named = state.handles.iter().position(|handle| *handle == forged).is_some_and(live);
                    assert_eq!(pool.contains(forged), named);
                    assert_eq!(pool.get(forged, &pin()).is_some(), named);
                    assert_eq!(pool.acquire(forged).is_some(), named);
                    assert!(named || pool.remove(forged).is_none());
                }
            }
            Call::RetainEven => {
                let removed = pool.retain(|_, entry| entry.value.is_even());
                assert_eq!(removed, expected.removed);
            }
            Call::Clear => assert_eq!(pool.clear(), expected.removed),
            Call::Flush => pool.flush(),
        }
        state
    }

    fn check_invariants(Self { pool, .. }: &Self, expected: &Expected) {
        let stats = pool.stats();
        assert_eq!(pool.len(), expected.live.len());
        assert_eq!(pool.is_empty(), expected.live.is_empty());
        assert_eq!((stats.inserted, stats.live), (expected.inserted as u64, expected.live.len() as u64));
        assert_eq!(stats.removed, stats.inserted - stats.live);
    }

    fn teardown(state: Self, expected: Expected) {
        let guard = pin();
        let walked: BTreeMap<_, _> = state.pool.iter(&guard).map(|(handle, entry)| (handle, entry.value)).collect();
        let live = expected.live.iter().map(|(entry, value)| (state.handles[*entry], *value));
        assert_eq!(walked, live.collect());
    }
}

prop_state_machine! {
    #![proptest_config(crate::regressions::kept_in("tests/regressions/pool.txt"))]
    #[test]
    fn the_pool_answers_as_a_map_does(sequential 1..150 => Played);
}
