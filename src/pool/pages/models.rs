//! Walks over pages that are made meanwhile, under loom.

use super::{Doubling, Pages};
use crate::model_support::explore_bounded;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};

/// I6: a walk that was told of a page by one that was made after it sees what is in it. loom reports it where not.
#[test]
fn walk_against_the_making_of_two_pages_with_3_preemptions() {
    explore_bounded("pages: walk against the making of two pages", 3, || {
        let pages = Arc::new(Pages::<AtomicU64, Doubling<1, 2>>::new());
        let others = [0, 1].map(|number| {
            let pages = Arc::clone(&pages);
            loom::thread::spawn(move || {
                pages.get_or_grow(number).expect("in bounds").store(1, Ordering::Relaxed);
            })
        });
        assert!(pages.iter().all(|number| number.load(Ordering::Relaxed) < 2));
        for other in others {
            other.join().expect("no panic");
        }
        assert_eq!(pages.iter().map(|number| number.load(Ordering::Relaxed)).sum::<u64>(), 2);
    });
}
