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
    /// So many steps of it.
    Drain(usize),
}

#[derive(Debug, Clone, Default)]
struct Expected {
    made: usize,
    /// The entry of each binding.
    bound: BTreeMap<usize, usize>,
    found: Option<usize>,
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
            1 => (0..4_usize).prop_map(Call::Drain),
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
            // Which ones it takes is the table's affair: `apply` below unbinds the same.
            Call::Drain(_) | Call::Forge(..) | Call::BindForeign => {}
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
