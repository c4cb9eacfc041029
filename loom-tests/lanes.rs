//! What threads do with lanes that they borrow for each call (I7).

use graphpool::pool::Tiny;
use graphpool::{Pool, pin, verification};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Payload, explore_bounded};

/// I7: what is released outside of any call is counted for a lane that is held until then.
#[test]
fn the_end_of_a_guard_against_remove_with_borrowed_lanes_with_2_preemptions() {
    explore_bounded("the end of a guard against remove with borrowed lanes", 2, || {
        verification::lanes_are_lent(true);
        let pool = Arc::new(Pool::<_, Tiny>::with_layout());
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
