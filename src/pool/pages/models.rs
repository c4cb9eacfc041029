//! Walks over pages while they are made, under loom.

use super::Pages;
use crate::model_support::explore_bounded;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};

/// I6: a walk that sees a page sees its elements, though a higher page was made first. loom reports a race otherwise.
#[test]
fn walk_against_the_allocation_of_two_pages_with_3_preemptions() {
    explore_bounded("pages: walk against the allocation of two pages", 3, || {
        let pages = Arc::new(Pages::<AtomicU64, 1, 2>::new());
        let others = [0, 1].map(|number| {
            let pages = Arc::clone(&pages);
            loom::thread::spawn(move || {
                pages.get_or_grow(number).store(1, Ordering::Relaxed);
            })
        });
        assert!(pages.iter().all(|number| number.load(Ordering::Relaxed) < 2));
        for other in others {
            other.join().expect("no panic");
        }
        assert_eq!(pages.iter().map(|number| number.load(Ordering::Relaxed)).sum::<u64>(), 2);
    });
}
