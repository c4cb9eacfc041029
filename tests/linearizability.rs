//! The checker of histories, on histories that have an order and on histories that have none.

mod history;

use history::checker::linearize;
use history::pool::{Call, Pool, each_place_is_linearizable};
use history::{Clock, History, Timed, table};

const H: u64 = 7;
const OTHER: u64 = 8;

fn insert(value: u64, handle: u64) -> Call {
    Call::Insert { value, handle }
}

fn get(handle: u64, value: Option<u64>) -> Call {
    Call::Get { handle, value }
}

fn contains(handle: u64, live: bool) -> Call {
    Call::Contains { handle, live }
}

fn remove(handle: u64, value: Option<u64>) -> Call {
    Call::Remove { handle, value }
}

/// Each call with the moments at which it was made and answered.
fn history(calls: &[(u64, u64, Call)]) -> History<Call> {
    calls.iter().map(|(called, answered, what)| Timed { what: *what, called: *called, answered: *answered }).collect()
}

fn has_an_order(calls: &[(u64, u64, Call)]) -> bool {
    linearize::<Pool>(&history(calls)).is_some()
}

#[test]
fn calls_one_after_the_other_have_their_own_order() {
    let calls = [
        (0, 1, contains(H, false)),
        (2, 3, insert(1, H)),
        (4, 5, get(H, Some(1))),
        (6, 7, remove(H, Some(1))),
        (8, 9, get(H, None)),
        (10, 11, remove(H, None)),
        (12, 13, insert(2, OTHER)),
    ];
    assert_eq!(linearize::<Pool>(&history(&calls)), Some((0..7).collect()));
    assert!(has_an_order(&[]));
}

#[test]
fn calls_that_overlap_may_be_answered_in_either_order() {
    for value in [None, Some(1)] {
        assert!(has_an_order(&[(0, 1, insert(1, H)), (2, 5, remove(H, Some(1))), (3, 4, get(H, value))]));
        assert!(has_an_order(&[(0, 3, insert(1, H)), (1, 2, get(H, value))]));
    }
    // The order that explains it is not that of the calls.
    let calls = [(0, 9, get(H, Some(1))), (1, 8, insert(1, H)), (2, 7, contains(H, false))];
    assert_eq!(linearize::<Pool>(&history(&calls)), Some(vec![2, 1, 0]));
}

#[test]
fn a_handle_that_comes_twice_has_no_order() {
    assert!(!has_an_order(&[(0, 1, insert(1, H)), (2, 3, insert(2, H))]));
    assert!(!has_an_order(&[(0, 3, insert(1, H)), (1, 2, insert(2, H))]));
    // Nor after it was removed, when it is another entry's.
    assert!(!has_an_order(&[(0, 1, insert(1, H)), (2, 3, remove(H, Some(1))), (4, 5, insert(2, H))]));
}

#[test]
fn a_value_before_its_insertion_has_no_order() {
    assert!(!has_an_order(&[(0, 1, get(H, Some(1))), (2, 3, insert(1, H))]));
    assert!(!has_an_order(&[(0, 1, contains(H, true)), (2, 3, insert(1, H))]));
    assert!(!has_an_order(&[(0, 1, remove(H, Some(1)))]));
}

#[test]
fn a_value_after_its_removal_has_no_order() {
    assert!(!has_an_order(&[(0, 1, insert(1, H)), (2, 3, remove(H, Some(1))), (4, 5, get(H, Some(1)))]));
    assert!(!has_an_order(&[(0, 1, insert(1, H)), (2, 3, remove(H, Some(1))), (4, 5, contains(H, true))]));
    // Of two reads of one thread's the later one can't be older, though both overlap the removal.
    let reads = |first, second| {
        let calls = [(0, 1, insert(1, H)), (2, 9, remove(H, Some(1))), (3, 4, get(H, first)), (5, 6, get(H, second))];
        has_an_order(&calls)
    };
    assert!(reads(Some(1), None) && reads(None, None) && reads(Some(1), Some(1)));
    assert!(!reads(None, Some(1)));
}

#[test]
fn a_live_value_that_is_missed_has_no_order() {
    assert!(!has_an_order(&[(0, 1, insert(1, H)), (2, 3, get(H, None))]));
    assert!(!has_an_order(&[(0, 1, insert(1, H)), (2, 3, contains(H, false)), (4, 5, get(H, Some(1)))]));
    assert!(!has_an_order(&[(0, 1, insert(1, H)), (2, 3, remove(H, None))]));
}

#[test]
fn another_entrys_value_has_no_order() {
    let calls = |seen| [(0, 1, insert(1, H)), (2, 3, insert(2, OTHER)), (4, 5, get(H, Some(seen)))];
    assert!(has_an_order(&calls(1)));
    assert!(!has_an_order(&calls(2)));
}

#[test]
fn two_removals_that_both_win_have_no_order() {
    let calls = |second| [(0, 1, insert(1, H)), (2, 5, remove(H, Some(1))), (3, 4, remove(H, second))];
    assert!(has_an_order(&calls(None)));
    assert!(!has_an_order(&calls(Some(1))));
    // And none may lose where nobody wins.
    assert!(!has_an_order(&[(0, 1, insert(1, H)), (2, 5, remove(H, None)), (3, 4, remove(H, None))]));
}

#[test]
fn two_insertions_that_miss_each_other_have_no_order_together_but_one_at_each_place() {
    let calls =
        [(0, 1, insert(1, H)), (2, 3, contains(OTHER, false)), (4, 5, insert(2, OTHER)), (6, 7, contains(H, false))];
    // Threads of two calls each that nothing else orders.
    let mut threads = history(&calls);
    for (at, after) in [(0, 0), (1, 0b0001), (2, 0), (3, 0b0100)] {
        threads.operations[at].after = after;
    }
    assert!(linearize::<Pool>(&threads).is_none());
    assert!(each_place_is_linearizable(&threads, u64::MAX));
    assert!(!each_place_is_linearizable(&history(&calls), u64::MAX));
}

#[test]
fn the_search_ends_where_a_plain_one_would_not() {
    // Twenty reads at one time and one that can't be: 20! orders, 2^20 sets of them but two states.
    let mut calls = vec![(0, 1, insert(1, H))];
    calls.extend((0..16).map(|_| (2, 3, get(H, Some(1)))));
    calls.push((2, 3, get(H, Some(2))));
    assert!(!has_an_order(&calls));
}

#[test]
fn a_table_that_gives_a_number_twice_or_away_twice_has_no_order() {
    use table::Call::{Bind, Resolve, Unbind};
    let has_an_order = |calls: &[table::Call]| {
        let clock = Clock::default();
        let timed = calls.iter().map(|call| clock.time(|| *call));
        linearize::<table::Table>(&timed.collect()).is_some()
    };
    let (bind, unbind) = (Bind { handle: 1, bound: 5 }, Unbind { bound: 5, handle: Some(1) });
    let resolve = |handle| Resolve { bound: 5, handle };
    assert!(has_an_order(&[resolve(None), bind, resolve(Some(1)), unbind, resolve(None)]));
    assert!(!has_an_order(&[bind, bind]));
    assert!(!has_an_order(&[bind, unbind, bind]));
    assert!(!has_an_order(&[bind, unbind, unbind]));
    assert!(!has_an_order(&[bind, resolve(None)]));
    assert!(!has_an_order(&[bind, resolve(Some(2))]));
    assert!(!has_an_order(&[bind, unbind, resolve(Some(1))]));
    assert!(!has_an_order(&[resolve(Some(1)), bind]));
}
