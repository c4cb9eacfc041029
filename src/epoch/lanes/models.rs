//! Threads that hold lanes, under loom.

use super::Lanes;
use crate::model_support::{explore, explore_bounded};
use crate::sync::{Arc, UnsafeCell};

/// A lane's state: its holder writes it, and the next holder reads it.
#[derive(Debug)]
struct Turns(UnsafeCell<u32>);

impl Default for Turns {
    fn default() -> Self {
        Self(UnsafeCell::new(0))
    }
}

// SAFETY: loom reports every race on the cell.
unsafe impl Sync for Turns {}
// SAFETY: as above.
unsafe impl Send for Turns {}

/// Holds a lane and gives it back. loom reports two holders at once, and a holder that does not see what the last one
/// did.
fn hold(lanes: &Lanes<Turns>) -> usize {
    let lane = lanes.take(None);
    // SAFETY: lanes live as long as the list.
    let lane = unsafe { &*lane };
    // SAFETY: this thread holds the lane (L1).
    lane.state.0.with_mut(|turns| unsafe { *turns += 1 });
    let number = lane.number();
    lane.give_back();
    number
}

fn turns(lanes: &Lanes<Turns>) -> u32 {
    let (first, second) = (lanes.take(None), lanes.take(None));
    [first, second]
        .map(|lane| {
            // SAFETY: lanes live as long as the list, and these are held.
            unsafe { (*lane).state.0.with(|turns| *turns) }
        })
        .iter()
        .sum()
}

/// L1, L2: two threads that take a lane hold different lanes, or one lane after the other.
#[test]
fn a_holder_against_a_holder() {
    explore("lanes: a holder against a holder", || {
        let lanes = Arc::new(Lanes::<Turns>::new());
        let others = Arc::clone(&lanes);
        let other = loom::thread::spawn(move || hold(&others));
        let numbers = [hold(&lanes), other.join().expect("no panic")];
        assert!(numbers.iter().all(|number| *number < 2));
        assert_eq!(turns(&lanes), 2);
    });
}

/// L1, L2: three threads that take a lane, where one lane exists before.
#[test]
fn two_holders_against_a_third_with_3_preemptions() {
    explore_bounded("lanes: two holders against a third", 3, || {
        let lanes = Arc::new(Lanes::<Turns>::new());
        assert_eq!(hold(&lanes), 0);
        let others = [(); 2].map(|()| {
            let lanes = Arc::clone(&lanes);
            loom::thread::spawn(move || hold(&lanes))
        });
        hold(&lanes);
        for other in others {
            other.join().expect("no panic");
        }
    });
}

/// L1: lanes that are held at once have different numbers, below the number of lanes.
#[test]
fn two_that_keep_their_lanes() {
    explore("lanes: two that keep their lanes", || {
        let lanes = Arc::new(Lanes::<Turns>::new());
        let others = Arc::clone(&lanes);
        // SAFETY: lanes live as long as the list.
        let keep = |lanes: &Lanes<Turns>| unsafe { &*lanes.take(None) }.number();
        let other = loom::thread::spawn(move || keep(&others));
        let mut numbers = [keep(&lanes), other.join().expect("no panic")];
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1]);
    });
}
