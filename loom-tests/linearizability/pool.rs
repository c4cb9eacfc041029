//! Programs of two and three threads over a pool (I1 to I5).

mod play;

use super::pairs;
use crate::support::explore_all;
use play::Step::{self, Acquire, Clear, Contains, Get, Insert, Receive, Remove, Send};
use play::Which::{Fresh, Live, NextOfLive, NextOfStale, Own, Received, Stale};
use play::{Order, Program, Which, execute};

type Script = Vec<Step>;

fn look_ups(which: Which) -> Vec<Script> {
    [Get, Acquire, Contains, Remove].map(|call| vec![call(which)]).to_vec()
}

/// A look-up of each kind, with each handle that exists from the start.
fn all_look_ups() -> Vec<Script> {
    [Live, Stale, NextOfStale, NextOfLive, Fresh].into_iter().flat_map(look_ups).collect()
}

fn after(first: &[Step], then: Vec<Script>) -> Vec<Script> {
    then.into_iter().map(|then| [first, &then].concat()).collect()
}

/// Whether one thread may remove an entry that another reads under a guard. Then each call has tens of thousands of
/// executions, since the steps of the collector and of the guard may come in any order.
fn is_large(program: &Program) -> bool {
    let has = |script: &Script, is: fn(&Step) -> bool| script.iter().any(is);
    let removes = |script| has(script, |step| matches!(step, Clear | Remove(_)) && *step != Remove(Stale));
    let pins = |script| has(script, |step| matches!(step, Clear | Get(_) | Acquire(_)));
    (0..2).any(|at| removes(&program[at]) && pins(&program[1 - at]))
}

fn explore(name: &str, programs: Vec<Program>) {
    let (large, small): (Vec<_>, Vec<_>) = programs.into_iter().partition(is_large);
    explore_within(name, None, small);
    if !large.is_empty() {
        explore_within(&format!("{name} (the large ones)"), Some(3), large);
    }
}

fn explore_within(name: &str, bound: Option<usize>, programs: Vec<Program>) {
    let models = programs.into_iter().map(|program| move || execute(&program, Order::AtEachPlace));
    explore_all(&format!("pool: {name}"), bound, models);
}

#[test]
fn every_pair_of_look_ups_and_removals() {
    let calls = all_look_ups();
    let programs = calls.iter().enumerate().flat_map(|(at, call)| pairs(std::slice::from_ref(call), &calls[at..]));
    explore_within("every pair of look-ups and removals", None, programs.collect());
}

#[test]
fn an_insertion_against_every_call() {
    let mut programs = pairs(&[vec![Insert]], &all_look_ups());
    programs.extend(pairs(&all_look_ups(), &[vec![Insert]]));
    programs.push(vec![vec![Insert], vec![Insert]]);
    explore_within("an insertion against every call", None, programs);
}

/// The insertion takes the place of the entry that was removed before the start, or by its thread just before.
#[test]
fn a_removal_and_an_insertion_against_every_call_within_three_preemptions() {
    let reuse = [vec![Remove(Live), Insert]];
    let others = [all_look_ups(), vec![vec![Insert]]].concat();
    let programs = [pairs(&reuse, &others), pairs(&others, &reuse)].concat();
    explore_within("a removal and an insertion against every call", Some(3), programs);
}

#[test]
fn an_insertion_and_a_call_with_its_handle_against_every_call_within_three_preemptions() {
    let own = after(&[Insert], [Get, Contains, Remove].map(|call| vec![call(Own)]).to_vec());
    let others = [[NextOfStale, Fresh].into_iter().flat_map(look_ups).collect(), vec![vec![Insert]]].concat();
    let programs = [pairs(&own, &others), pairs(&others, &own)].concat();
    explore_within("an insertion and a call with its handle against every call", Some(3), programs);
}

#[test]
fn a_call_with_a_handle_that_the_other_thread_has_sent() {
    let received = after(&[Receive], look_ups(Received));
    let sends = [vec![Insert, Send], vec![Insert, Send, Remove(Own)], vec![Insert, Remove(Own), Send]];
    let mut programs = [pairs(&sends, &received), pairs(&received, &sends)].concat();
    let removes = [vec![Remove(Live), Send]];
    let others = after(&[Receive], [Live, NextOfLive].into_iter().flat_map(look_ups).collect());
    programs.extend([pairs(&removes, &others), pairs(&others, &removes)].concat());
    explore("a call with a handle that the other thread has sent", programs);
}

#[test]
fn clear_against_every_call_within_three_preemptions() {
    let others = [all_look_ups(), vec![vec![Insert], vec![Clear]]].concat();
    explore_within("clear against every call", Some(3), pairs(&[vec![Clear]], &others));
}

/// The look-up pins, which is a fence: of two threads that each write and then look up, one sees the other's write.
#[test]
fn what_threads_write_at_two_places_has_one_order_where_they_pin_before_they_look_with_3_preemptions() {
    let program = vec![vec![Insert, Acquire(Fresh)], vec![Insert, Acquire(NextOfStale)]];
    let models = [move || execute(&program, Order::OfAll)];
    explore_all("pool: writes at two places and look-ups that pin", Some(3), models);
}

/// An order of all calls is not promised, so the other tests check one place at a time.
#[test]
#[should_panic(expected = "no order of [[Insert, Contains(Fresh)], [Insert, Contains(NextOfStale)]]")]
fn what_threads_write_at_two_places_may_have_no_one_order_where_they_dont_pin() {
    let program: Program = vec![vec![Insert, Contains(Fresh)], vec![Insert, Contains(NextOfStale)]];
    loom::model(move || execute(&program, Order::OfAll));
}

#[test]
fn three_threads_within_three_preemptions() {
    let programs = [
        [vec![Remove(Live)], vec![Remove(Live)], vec![Get(Live)]],
        [vec![Remove(Live), Insert], vec![Contains(Live)], vec![Contains(NextOfLive)]],
        [vec![Insert], vec![Insert], vec![Contains(Fresh)]],
        [vec![Insert, Remove(Own)], vec![Contains(NextOfStale)], vec![Remove(NextOfStale)]],
        [vec![Receive, Contains(Received)], vec![Insert, Send], vec![Remove(Fresh)]],
    ];
    explore_within("three threads", Some(3), programs.map(Vec::from).to_vec());
}
