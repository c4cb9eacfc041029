//! Destructors and makers of values that use the pool that calls them (I4, I5).

use std::cell::Cell;

use graphpool::pool::for_tests::{LayoutPool, Tiny, TinyWith};
use graphpool::{Handle, pin};
use loom::sync::Arc;
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread;

use crate::support::{Payload, explore, explore_bounded};

/// I5: an insertion releases a value whose destructor inserts. No slot that either of them finds vacant is lost.
#[test]
fn insert_that_releases_a_destructor_that_inserts_with_1_preemption() {
    type Four = TinyWith<1, 2>;
    #[derive(Default)]
    struct Renewed {
        pool: Option<Arc<LayoutPool<Renewed, Four>>>,
        other: Option<Ends>,
    }
    struct Ends(Sender<()>, Receiver<()>);
    // SAFETY: only the destructor uses the channels.
    unsafe impl Sync for Ends {}
    impl Drop for Renewed {
        fn drop(&mut self) {
            if let Some(pool) = self.pool.take() {
                let _ = pool.insert(Renewed::default());
            }
            if let Some(Ends(pin, pinned)) = self.other.take() {
                pin.send(()).unwrap();
                pinned.recv().unwrap();
            }
        }
    }
    fn fill(pool: &LayoutPool<Renewed, Four>) -> usize {
        std::iter::from_fn(|| pool.insert(Renewed::default()).ok()).count()
    }
    explore_bounded("insert that releases a destructor that inserts", 1, || {
        let pool = Arc::new(LayoutPool::<_, Four>::new());
        let ((pin_now, is_to_pin), (pinned, is_pinned), (over, is_over)) = (channel(), channel(), channel());
        let handles = [(); 2].map(|()| pool.insert(Renewed::default()).unwrap());
        let first = pool.insert(Renewed { other: Some(Ends(pin_now, is_pinned)), pool: None }).unwrap();
        let renewed = pool.insert(Renewed { pool: Some(Arc::clone(&pool)), other: None }).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            // After the second grace period has begun, so that the guard delays only functions deferred at its end.
            is_to_pin.recv().unwrap();
            let guard = pin();
            pinned.send(()).unwrap();
            is_over.recv().unwrap();
            let _ = other.insert(Renewed::default());
            drop(guard);
            // So that its cache is empty when it ends.
            fill(&other);
        });
        {
            let _guard = pin();
            // Two chunks, of which one is released at once: the one that was pushed last.
            for handle in [first, renewed, handles[0], handles[1]] {
                drop(pool.remove(handle));
            }
        }
        over.send(()).unwrap();
        other.join().unwrap();
        pool.clear();
        pool.flush();
        assert_eq!(fill(&pool), 4, "a slot was lost");
    });
}

/// A destructor that drops another pool does not end the scope that postpones further destructors on its thread.
#[test]
fn destructors_that_drop_other_pools_do_not_nest() {
    thread_local! {
        static RUNNING: Cell<bool> = const { Cell::new(false) };
        /// A count, since a panic in a destructor would be caught.
        static INSIDE: Cell<u32> = const { Cell::new(0) };
    }
    type Chain = Arc<LayoutPool<Chained, Tiny>>;
    struct Chained {
        next: Option<(Chain, Handle<Chained>)>,
        other: Option<LayoutPool<Payload, Tiny>>,
    }
    impl Drop for Chained {
        fn drop(&mut self) {
            INSIDE.set(INSIDE.get() + u32::from(RUNNING.replace(true)));
            if let Some((pool, next)) = self.next.take() {
                remove(&pool, next);
            }
            drop(self.other.take());
            RUNNING.set(false);
        }
    }
    /// The pool's reference is the last one.
    fn remove(pool: &LayoutPool<Chained, Tiny>, handle: Handle<Chained>) {
        let _guard = pin();
        drop(pool.remove(handle));
    }
    explore("destructors that drop other pools do not nest", || {
        let pool = Arc::new(LayoutPool::<_, Tiny>::new());
        let mut next = None;
        for _ in 0..3 {
            let other = LayoutPool::new();
            other.insert(Payload::new(1)).unwrap();
            let handle = pool.insert(Chained { next: next.take(), other: Some(other) }).unwrap();
            next = Some((Arc::clone(&pool), handle));
        }
        let (_, first) = next.unwrap();
        remove(&pool, first);
        pool.flush();
        assert!(pool.is_empty() && pool.stats().awaiting_reclamation == 0);
        assert_eq!(INSIDE.get(), 0, "a destructor ran inside another");
    });
}

/// I4, I5: a slot that a maker's panic leaves unfilled is marked as vacant after its word is the next key.
#[test]
fn insert_against_a_maker_that_panics_with_3_preemptions() {
    explore_bounded("insert against a maker that panics", 3, || {
        let pool = Arc::new(LayoutPool::<Payload, Tiny>::new());
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _ = other.insert_with(|_| -> Payload { std::panic::resume_unwind(Box::new(())) });
            }));
            assert!(outcome.is_err());
        });
        let mine = pool.insert(Payload::new(1)).unwrap();
        other.join().unwrap();
        assert_eq!(pool.get(mine, &pin()).map(Payload::read), Some(1));
    });
}
