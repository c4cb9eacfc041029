//! The search for an order: Wing and Gong's (*Testing and verifying concurrent objects*, 1993), with Lowe's memory of
//! where it has been (*Testing for linearizability*, 2017).

use std::collections::HashSet;
use std::hash::Hash;

use super::{History, Set};

/// What a thing does when it is called by one thread.
pub trait Specification {
    /// A call with its answer.
    type Operation;
    type State: Clone + Eq + Hash + Default;

    /// The state after the operation; `None` where it can't be answered so in this state.
    fn apply(state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

/// An order of all operations, by their places in the history, in which each comes after those that it is after and
/// answers as the specification does. `None` where there is no such order.
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

/// A point of the search: what was put in order so far, by what last, and which operation to try next.
struct Step<S> {
    done: Set,
    last: usize,
    state: S,
    next: usize,
}
