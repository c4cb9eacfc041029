//! The specification of a pool: a map that gives out no handle twice.

use std::collections::BTreeMap;

use super::checker::{Specification, linearize};
use super::{History, Operation};

/// A call of a pool with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Insert {
        value: u64,
        handle: u64,
    },
    /// `get` and `acquire`.
    Get {
        handle: u64,
        value: Option<u64>,
    },
    Contains {
        handle: u64,
        live: bool,
    },
    Remove {
        handle: u64,
        value: Option<u64>,
    },
}

impl Call {
    pub fn handle(self) -> u64 {
        match self {
            Self::Insert { handle, .. }
            | Self::Get { handle, .. }
            | Self::Contains { handle, .. }
            | Self::Remove { handle, .. } => handle,
        }
    }
}

/// A pool.
pub struct Pool;

impl Specification for Pool {
    type Operation = Call;
    /// Every handle that was ever given, and the value of those that are live.
    type State = BTreeMap<u64, Option<u64>>;

    fn apply(state: &Self::State, call: &Call) -> Option<Self::State> {
        let live = state.get(&call.handle()).copied().flatten();
        let mut next = state.clone();
        let right = match *call {
            // A handle is given out once.
            Call::Insert { value, handle } => next.insert(handle, Some(value)).is_none(),
            Call::Get { value, .. } => value == live,
            Call::Contains { live: is_live, .. } => is_live == live.is_some(),
            Call::Remove { handle, value } => {
                if live.is_some() {
                    next.insert(handle, None);
                }
                value == live
            }
        };
        right.then_some(next)
    }
}

/// Whether the calls at each place, taken alone, have an order. `place` are the bits of a handle that say where.
pub fn each_place_is_linearizable(history: &History<Call>, place: u64) -> bool {
    let place_of = |call: Call| call.handle() & place;
    let mut places: Vec<_> = history.operations.iter().map(|Operation { what, .. }| place_of(*what)).collect();
    places.sort_unstable();
    places.dedup();
    places.iter().all(|place| linearize::<Pool>(&history.only(|call| place_of(*call) == *place)).is_some())
}
