//! The search for a sequential order: Wing and Gong's (*Testing and verifying concurrent objects*, 1993), with Lowe's
//! memory of visited states (*Testing for linearizability*, 2017).

use std::collections::HashSet;
use std::hash::Hash;

use super::{History, Set};

/// How an object answers calls of one thread.
pub trait Specification {
    /// A call with its answer.
    type Operation;
    type State: Clone + Eq + Hash + Default;

    /// The state after the operation; `None` if the state does not allow its answer.
    fn apply(state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

/// A sequential order of all operations, by their indexes in the history, that keeps the history's order and in which
/// every answer is the specification's. `None` if there is no such order.
pub fn linearize<S: Specification>(history: &History<S::Operation>) -> Option<Vec<usize>> {
    let operations = &history.operations;
    let all = operations.iter().enumerate().fold(0, |set, (at, _)| set | 1 << at);
    let mut seen: HashSet<(Set, S::State)> = HashSet::new();
    let mut steps = vec![Step { done: 0, last: 0, state: S::State::default(), next: 0 }];
    while let Some(step) = steps.last_mut() {
        if step.done == all {
            return Some(steps.iter().skip(1).map(|step| step.last).collect());
        }
        let Some(operation) = operations.get(step.next) else {
            steps.pop();
            continue;
        };
        let at = step.next;
        step.next += 1;
        if step.done >> at & 1 == 1 || operation.after & !step.done != 0 {
            continue;
        }
        if let Some(state) = S::apply(&step.state, &operation.what) {
            let done = step.done | 1 << at;
            if seen.insert((done, state.clone())) {
                steps.push(Step { done, last: at, state, next: 0 });
            }
        }
    }
    None
}

/// A node of the search: the operations that are in order so far, the last of them, and the operation to try next.
struct Step<S> {
    done: Set,
    last: usize,
    state: S,
    next: usize,
}
