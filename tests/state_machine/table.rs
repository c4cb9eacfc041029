//! A guest's table, called by one thread.

use std::collections::BTreeMap;

use graphpool::{BindError, GuestHandle, Handle, HandleTable, Kind, Pool};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

/// What may be bound: so many entries of the pool.
const ENTRIES: usize = 8;

/// A binding is named by its number among all that were ever made.
#[derive(Debug, Clone)]
enum Call {
    Bind(usize),
    /// Of another pool's handle.
    BindForeign,
    Resolve(usize),
    Unbind(usize),
    /// Of a number that differs from a binding's in these bits.
    Forge(usize, u32),
    Drain,
}

#[derive(Debug, Clone, Default)]
struct Expected {
    made: usize,
    /// The entry of each binding.
    bound: BTreeMap<usize, usize>,
    found: Option<usize>,
    /// The entries of the bindings that the last call ended.
    drained: Vec<usize>,
}

impl ReferenceStateMachine for Expected {
    type State = Self;
    type Transition = Call;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Call> {
        let bind = (0..ENTRIES).prop_map(Call::Bind);
        if state.made == 0 {
            return bind.boxed();
        }
        let binding = prop_oneof![0..state.made, state.made.saturating_sub(4)..state.made];
        let bits = prop_oneof![(0..32_u32).prop_map(|bit| 1 << bit), any::<u32>(), Just(2_u32)];
        prop_oneof![
            8 => bind,
            1 => Just(Call::BindForeign),
            5 => binding.clone().prop_map(Call::Resolve),
            6 => binding.clone().prop_map(Call::Unbind),
            4 => (binding, bits).prop_map(|(binding, bits)| Call::Forge(binding, bits)),
            1 => Just(Call::Drain),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, call: &Call) -> bool {
        match call {
            Call::Resolve(binding) | Call::Unbind(binding) => *binding < state.made,
            Call::Forge(binding, bits) => *binding < state.made && *bits != 0,
            _ => true,
        }
    }

    fn apply(mut state: Self, call: &Call) -> Self {
        match call {
            Call::Bind(entry) => {
                state.bound.insert(state.made, *entry);
                state.made += 1;
            }
            Call::Resolve(binding) => state.found = state.bound.get(binding).copied(),
            Call::Unbind(binding) => state.found = state.bound.remove(binding),
            Call::Drain => state.drained = std::mem::take(&mut state.bound).into_values().collect(),
            Call::Forge(..) | Call::BindForeign => {}
        }
        state
    }
}

struct Played {
    pool: Pool<usize>,
    foreign: Pool<usize>,
    table: HandleTable<usize>,
    handles: Vec<Handle<usize>>,
    made: Vec<GuestHandle>,
}

impl Played {
    fn entry(&self, handle: Option<Handle<usize>>) -> Option<usize> {
        let entry = |handle| self.handles.iter().position(|known| *known == handle).expect("it was never bound");
        handle.map(entry)
    }
}

impl StateMachineTest for Played {
    type SystemUnderTest = Self;
    type Reference = Expected;

    fn init_test(_: &Expected) -> Self {
        let (pool, foreign) = (Pool::new(), Pool::new());
        let table = HandleTable::new(&pool, Kind::One);
        let handles = (0..ENTRIES).map(|entry| pool.insert(entry).unwrap()).collect();
        Self { pool, foreign, table, handles, made: Vec::new() }
    }

    fn apply(mut state: Self, expected: &Expected, call: Call) -> Self {
        let table = &state.table;
        match call {
            Call::Bind(entry) => {
                let bound = table.bind(state.handles[entry]).unwrap();
                assert!(!state.made.contains(&bound), "a guest handle came twice");
                assert_eq!(bound.kind(), Kind::One);
                state.made.push(bound);
            }
            Call::BindForeign => {
                let foreign = state.foreign.insert(0).unwrap();
                assert_eq!(table.bind(foreign), Err(BindError::ForeignHandle));
            }
            Call::Resolve(binding) => assert_eq!(state.entry(table.resolve(state.made[binding])), expected.found),
            Call::Unbind(binding) => assert_eq!(state.entry(table.unbind(state.made[binding])), expected.found),
            Call::Forge(binding, bits) => {
                let forged = GuestHandle::from_bits(state.made[binding].to_bits() ^ bits);
                let named = state.made.iter().position(|made| *made == forged);
                let entry = named.and_then(|binding| expected.bound.get(&binding).copied());
                assert_eq!(state.entry(table.resolve(forged)), entry);
                assert!(entry.is_some() || table.unbind(forged).is_none());
            }
            Call::Drain => {
                let mut drained: Vec<_> = table.drain().filter_map(|handle| state.entry(Some(handle))).collect();
                drained.sort_unstable();
                let mut expected = expected.drained.clone();
                expected.sort_unstable();
                assert_eq!(drained, expected);
            }
        }
        state
    }

    fn check_invariants(state: &Self, expected: &Expected) {
        assert_eq!(state.table.len(), expected.bound.len());
        assert_eq!(state.table.is_empty(), expected.bound.is_empty());
        assert_eq!(state.pool.len(), ENTRIES, "a table owns nothing");
    }
}

prop_state_machine! {
    #![proptest_config(crate::regressions::kept_in("tests/regressions/table.txt"))]
    #[test]
    fn the_table_answers_as_a_map_does(sequential 1..200 => Played);
}
