//! Programs of two and three threads over a table (T1 and T2).

mod play;

use super::pairs;
use crate::support::explore_all;
use play::Step::{self, Bind, Drain, Receive, Resolve, Send, Unbind};
use play::Which::{Bound, Earlier, Fresh, NextOfBound, NextOfStale, Own, Received, Stale};
use play::{Program, Which, execute};

type Script = Vec<Step>;

fn look_ups(which: Which) -> Vec<Script> {
    [Resolve, Unbind].map(|call| vec![call(which)]).to_vec()
}

/// Every call except for the drain, with each guest handle that exists from the start.
fn all_calls() -> Vec<Script> {
    let look_ups = [Bound, Stale, NextOfStale, NextOfBound, Fresh].into_iter().flat_map(look_ups);
    look_ups.chain([vec![Bind]]).collect()
}

fn after(first: &[Step], then: Vec<Script>) -> Vec<Script> {
    then.into_iter().map(|then| [first, &then].concat()).collect()
}

fn explore(name: &str, bound: Option<usize>, programs: Vec<Program>) {
    let models = programs.into_iter().map(|program| move || execute(&program));
    explore_all(&format!("table: {name}"), bound, models);
}

#[test]
fn every_pair_of_calls() {
    let calls = all_calls();
    let programs = calls.iter().enumerate().flat_map(|(at, call)| pairs(std::slice::from_ref(call), &calls[at..]));
    explore("every pair of calls", None, programs.collect());
}

/// Scripts whose second call reuses the index of the bound or of the stale guest handle.
fn reuses() -> Vec<Script> {
    vec![vec![Bind, Resolve(Own)], vec![Bind, Unbind(Own)], vec![Unbind(Bound), Bind], vec![Bind, Bind]]
}

#[test]
fn two_calls_that_reuse_an_index_against_every_look_up() {
    let look_ups: Vec<_> = all_calls().into_iter().filter(|call| *call != [Bind]).collect();
    explore("two calls that reuse an index against every look-up", None, pairs(&reuses(), &look_ups));
}

#[test]
fn two_calls_that_reuse_an_index_against_their_like_within_three_preemptions() {
    let mut programs = pairs(&reuses(), &[vec![Bind]]);
    programs.extend(pairs(&reuses(), &reuses()));
    // The table of a model has room for three more bindings.
    programs.retain(|program| program.iter().flatten().filter(|step| **step == Bind).count() <= 3);
    explore("two calls that reuse an index against their like", Some(3), programs);
}

/// ABA: while one thread takes the top index of the free list, another makes it the top again, with another one below
/// it.
#[test]
fn an_index_that_is_freed_while_it_is_taken_within_three_preemptions() {
    let programs = pairs(&[vec![Unbind(Bound), Bind, Bind]], &[vec![Bind, Bind, Unbind(Earlier)]]);
    explore("an index that is freed while it is taken", Some(3), programs);
}

#[test]
fn a_call_with_a_guest_handle_that_the_other_thread_has_sent() {
    let received = after(&[Receive], look_ups(Received));
    let sends = [vec![Bind, Send], vec![Bind, Send, Unbind(Own)], vec![Bind, Unbind(Own), Send]];
    let mut programs = pairs(&sends, &received);
    let others = after(&[Receive], [Bound, NextOfBound].into_iter().flat_map(look_ups).collect());
    programs.extend(pairs(&[vec![Unbind(Bound), Send]], &others));
    explore("a call with a guest handle that the other thread has sent", None, programs);
}

#[test]
fn three_threads_within_three_preemptions() {
    let programs = [
        [vec![Unbind(Bound)], vec![Unbind(Bound)], vec![Resolve(Bound)]],
        [vec![Unbind(Bound)], vec![Bind], vec![Resolve(NextOfBound)]],
        [vec![Bind], vec![Bind], vec![Resolve(Fresh)]],
        [vec![Bind, Send], vec![Receive, Unbind(Received)], vec![Drain]],
    ];
    explore("three threads", Some(3), programs.map(Vec::from).to_vec());
}

#[test]
fn drain_against_every_call_within_three_preemptions() {
    let others = [all_calls(), vec![vec![Drain], vec![Bind, Bind], vec![Unbind(Bound), Bind]]].concat();
    explore("drain against every call", Some(3), pairs(&[vec![Drain]], &others));
}
