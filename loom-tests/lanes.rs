//! Threads that borrow a lane for each call (I7).

use graphpool::pool::for_tests::{LayoutPool, Tiny};
use graphpool::{pin, verification};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Payload, explore_bounded};

/// I7: a release that the drop of a guard runs is counted in a lane that the thread still holds.
#[test]
fn the_drop_of_a_guard_against_remove_with_borrowed_lanes_with_2_preemptions() {
    explore_bounded("the drop of a guard against remove with borrowed lanes", 2, || {
        verification::threads_borrow_lanes(true);
        let pool = Arc::new(LayoutPool::<_, Tiny>::new());
        let handles = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap());
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || drop(other.remove(handles[1])));
        {
            let _guard = pin();
            drop(pool.remove(handles[0]));
        }
        other.join().unwrap();
        assert_eq!(pool.stats().awaiting_reclamation, 0, "both were released, and both are counted");
    });
}
