//! The specification of a guest's table: a map that gives out no guest handle twice.

use std::collections::BTreeMap;

use super::History;
use super::checker::{Specification, linearize};

/// A call of a table with its answer: the guest handle, and the pool's handle that it is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Bind { handle: u64, bound: u32 },
    Resolve { bound: u32, handle: Option<u64> },
    Unbind { bound: u32, handle: Option<u64> },
}

impl Call {
    pub fn bound(self) -> u32 {
        match self {
            Self::Bind { bound, .. } | Self::Resolve { bound, .. } | Self::Unbind { bound, .. } => bound,
        }
    }
}

/// A table.
pub struct Table;

impl Specification for Table {
    type Operation = Call;
    /// Every guest handle that was ever given out, and the handle of those that are bound.
    type State = BTreeMap<u32, Option<u64>>;

    fn apply(state: &Self::State, call: &Call) -> Option<Self::State> {
        let now = state.get(&call.bound()).copied().flatten();
        let mut next = state.clone();
        let right = match *call {
            Call::Bind { handle, bound } => next.insert(bound, Some(handle)).is_none(),
            Call::Resolve { handle, .. } => handle == now,
            Call::Unbind { bound, handle } => {
                if now.is_some() {
                    next.insert(bound, None);
                }
                handle == now
            }
        };
        right.then_some(next)
    }
}

/// Whether the calls at each index, taken alone, have an order. `index` are the bits of a guest handle that say which.
pub fn each_index_is_linearizable(history: &History<Call>, index: u32) -> bool {
    let index_of = |call: Call| call.bound() & index;
    let mut indexes: Vec<_> = history.operations.iter().map(|operation| index_of(operation.what)).collect();
    indexes.sort_unstable();
    indexes.dedup();
    indexes.iter().all(|index| linearize::<Table>(&history.only(|call| index_of(*call) == *index)).is_some())
}
