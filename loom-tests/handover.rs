//! How slots pass from thread to thread (I5, I7): through rings, claims, magazines and the depot.

use graphpool::pool::TinyWith;
use graphpool::{Handle, Pool, pin, verification};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Payload, explore, explore_bounded};

/// A removal waits in its ring for the next one, or for a flush.
type Pairs = TinyWith<2, 2>;
/// The third slot that a thread has vacant goes to the depot.
type Singles = TinyWith<1, 1>;

/// 2 + 4.
const SLOTS: usize = 6;
/// Of one slot.
const GENERATIONS: usize = 8;

/// Fills every slot that this thread can have.
fn fill<L: graphpool::pool::Layout>(pool: &Pool<Payload, L>, made: &mut Vec<Handle<Payload>>) {
    while let Ok(handle) = pool.insert(Payload::new(0)) {
        assert!(!made.contains(&handle), "a handle came twice");
        made.push(handle);
    }
}

/// Fills every slot that is left, and asserts that none was lost and that no handle comes twice.
fn assert_all_there<L: graphpool::pool::Layout>(pool: &Pool<Payload, L>, mut made: Vec<Handle<Payload>>) {
    fill(pool, &mut made);
    assert_eq!(pool.len(), SLOTS, "a slot was lost");
    let guard = pin();
    let live = made.iter().filter(|handle| pool.get(**handle, &guard).is_some_and(|value| value.read() < 100));
    assert_eq!(live.count(), SLOTS);
}

/// I2, I5: each removal is released once, whether the ring's thread claims it or another does.
#[test]
fn flush_against_the_removals_of_another_thread() {
    explore_bounded("flush against the removals of another thread", 3, || {
        let pool = Arc::new(Pool::<_, Pairs>::with_layout());
        let made: Vec<_> = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap()).into();
        let flusher = Arc::clone(&pool);
        let flusher = thread::spawn(move || flusher.flush());
        for handle in &made {
            assert!(pool.remove(*handle).unwrap().read() > 0);
        }
        flusher.join().unwrap();
        pool.flush();
        assert_eq!(pool.stats().awaiting_reclamation, 0);
    });
}

/// I2, I5: what two threads claim at once is one thread's.
#[test]
fn flush_against_flush() {
    explore_bounded("flush against flush", 3, || {
        let pool = Arc::new(Pool::<_, Pairs>::with_layout());
        let handle = pool.insert(Payload::new(1)).unwrap();
        drop(pool.remove(handle));
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.flush());
        pool.flush();
        other.join().unwrap();
        assert_eq!(pool.stats().awaiting_reclamation, 0);
    });
}

/// I3: who holds a guard keeps its values from a flush by another thread, too.
#[test]
fn get_against_flush() {
    explore_bounded("get against flush", 3, || {
        let pool = Arc::new(Pool::<_, Pairs>::with_layout());
        let handle = pool.insert(Payload::new(1)).unwrap();
        let remover = Arc::clone(&pool);
        let remover = thread::spawn(move || {
            drop(remover.remove(handle));
            remover.flush();
        });
        {
            let guard = pin();
            if let Some(value) = pool.get(handle, &guard) {
                assert_eq!(value.read(), 1);
            }
        }
        remover.join().unwrap();
    });
}

/// I6, I7: what a thread removed and left in its ring is released by another one's flush.
#[test]
fn garbage_of_an_ended_thread_is_flushed_by_another() {
    explore("garbage of an ended thread is flushed by another", || {
        let pool = garbage_of_an_ended_thread();
        assert_eq!(pool.stats().awaiting_reclamation, 1);
        pool.flush();
        assert_eq!(pool.stats().awaiting_reclamation, 0);
    });
}

/// I6: … and otherwise by the pool's end. (loom reports what is never let go of.)
#[test]
fn garbage_of_an_ended_thread_goes_with_the_pool() {
    explore("garbage of an ended thread goes with the pool", || drop(garbage_of_an_ended_thread()));
}

fn garbage_of_an_ended_thread() -> Arc<Pool<Payload, Pairs>> {
    let pool = Arc::new(Pool::with_layout());
    let kept = pool.insert(Payload::new(1)).unwrap();
    let ended = Arc::clone(&pool);
    let ended = thread::spawn(move || {
        let handle = ended.insert(Payload::new(2)).unwrap();
        assert_eq!(ended.remove(handle).unwrap().read(), 2);
    });
    assert_eq!(pool.get(kept, &pin()).unwrap().read(), 1);
    ended.join().unwrap();
    pool
}

/// I4, I5: a ring that is used round and round loses nothing.
#[test]
fn a_ring_goes_round() {
    explore("a ring goes round", || {
        let pool = Arc::new(Pool::<_, Pairs>::with_layout());
        let mut made = Vec::new();
        for value in 1..=5 {
            let handle = pool.insert(Payload::new(value)).unwrap();
            assert_eq!(pool.remove(handle).unwrap().read(), value);
            made.push(handle);
        }
        pool.flush();
        assert_eq!(pool.stats().awaiting_reclamation, 0);
        assert_all_there(&pool, made);
    });
}

/// A pool of which `removed` entries were removed, one after the other, and `live` are left.
fn used_pool(live: usize, removed: usize) -> (Arc<Pool<Payload, Singles>>, Vec<Handle<Payload>>) {
    let pool = Arc::new(Pool::<_, Singles>::with_layout());
    let made: Vec<_> = (0..live + removed).map(|_| pool.insert(Payload::new(1)).unwrap()).collect();
    for handle in &made[live..] {
        drop(pool.remove(*handle));
    }
    (pool, made)
}

/// I4, I5: a slot that one thread gives to the depot and another takes comes with its word, and is written after its
/// last use.
#[test]
fn give_to_the_depot_against_take() {
    explore_bounded("give to the depot against take", 3, || {
        // Two in the magazines; the next goes over.
        let (pool, mut made) = used_pool(1, 2);
        let taker = Arc::clone(&pool);
        let taker = thread::spawn(move || taker.insert(Payload::new(2)).unwrap());
        drop(pool.remove(made[0]));
        let handles = taker.join().unwrap();
        assert_eq!(pool.get(handles, &pin()).unwrap().read(), 2);
        assert!(!made.contains(&handles));
        made.push(handles);
        assert_all_there(&pool, made);
    });
}

/// I5: a magazine that is given while a taker has the depot's other ones in hand is not lost, nor are those.
#[test]
fn give_to_the_depot_against_the_return_of_the_rest() {
    explore_bounded("give to the depot against the return of the rest", 3, || {
        // Two in the magazines and two in the depot, of which one goes back.
        let (pool, mut made) = used_pool(1, 4);
        let taker = Arc::clone(&pool);
        let taker = thread::spawn(move || taker.insert(Payload::new(2)).unwrap());
        drop(pool.remove(made[0]));
        made.push(taker.join().unwrap());
        assert_all_there(&pool, made);
    });
}

/// I5: what a taker puts back on top of others' magazines is linked to them for the next one.
#[test]
fn give_and_take_against_the_return_of_the_rest() {
    explore_bounded("give and take against the return of the rest", 3, || {
        let (pool, mut made) = used_pool(1, 4);
        let taker = Arc::clone(&pool);
        let taker = thread::spawn(move || taker.insert(Payload::new(2)).unwrap());
        drop(pool.remove(made[0]));
        // Two from the magazines, and two from the depot or from new places; the pool counts as full while the taker has
        // all of the depot in hand.
        for _ in 0..4 {
            let Ok(handle) = pool.insert(Payload::new(3)) else { break };
            assert!(!made.contains(&handle), "a handle came twice");
            made.push(handle);
        }
        made.push(taker.join().unwrap());
        assert_all_there(&pool, made);
    });
}

/// I5: two givers both add.
#[test]
fn give_to_the_depot_against_give() {
    explore_bounded("give to the depot against give", 3, || {
        let pool = Arc::new(Pool::<_, Singles>::with_layout());
        let mut made: Vec<_> = (0..SLOTS).map(|_| pool.insert(Payload::new(1)).unwrap()).collect();
        let (mine, theirs) = (made[..3].to_vec(), made[3..].to_vec());
        let other = Arc::clone(&pool);
        let remove = |pool: &Pool<_, _>, handles: &[Handle<Payload>]| {
            for handle in handles {
                drop(pool.remove(*handle));
            }
        };
        remove(&pool, &mine[..2]);
        let other = thread::spawn(move || {
            remove(&other, &theirs);
            // What it has in its magazines would stay with its number.
            std::iter::from_fn(|| other.insert(Payload::new(2)).ok()).collect::<Vec<_>>()
        });
        drop(pool.remove(mine[2]));
        made.extend(other.join().unwrap());
        assert_all_there(&pool, made);
    });
}

/// I5: two takers take different slots.
#[test]
fn take_from_the_depot_against_take() {
    explore_bounded("take from the depot against take", 3, || {
        let (pool, mut made) = used_pool(0, 4);
        // Empties this thread's magazines.
        made.extend([(); 2].map(|()| pool.insert(Payload::new(2)).unwrap()));
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.insert(Payload::new(3)).unwrap());
        let mine = pool.insert(Payload::new(4)).unwrap();
        let theirs = other.join().unwrap();
        assert_eq!(pool.get(mine, &pin()).unwrap().read(), 4);
        assert_eq!(pool.get(theirs, &pin()).unwrap().read(), 3);
        made.extend([mine, theirs]);
        assert_all_there(&pool, made);
    });
}

/// I5, I7: a thread that ends leaves its shard to the next that gets its number, with what it has vacated; or that one
/// comes before the end and has a number of its own. Nothing of what the two had is lost, and nothing is had by both.
#[test]
fn the_end_of_a_thread_against_the_next_with_its_number_with_3_preemptions() {
    explore_bounded("the end of a thread against the next with its number", 3, || {
        verification::used_again(true);
        let pool = Arc::new(Pool::<_, Singles>::with_layout());
        let ends = Arc::clone(&pool);
        let ends = thread::spawn(move || {
            let handle = ends.insert(Payload::new(1)).unwrap();
            assert_eq!(ends.remove(handle).unwrap().read(), 1);
            handle
        });
        let next = Arc::clone(&pool);
        let next = thread::spawn(move || next.insert(Payload::new(2)).unwrap());
        let (first, second) = (ends.join().unwrap(), next.join().unwrap());
        assert_ne!(first, second, "a handle came twice");
        // A join may return before the thread's thread-locals are gone.
        while !verification::all_given_back() {
            thread::yield_now();
        }
        // This thread has the lower number from here on, and the last one the other.
        let mut made = vec![first, second];
        fill(&pool, &mut made);
        let last = Arc::clone(&pool);
        let last = thread::spawn(move || {
            fill(&last, &mut made);
            made
        });
        assert_all_there(&pool, last.join().unwrap());
    });
}

/// I4: a slot at its last generation is given up, and its first handle, one more than its last, stays stale.
#[test]
fn get_against_the_end_of_a_slot() {
    explore_bounded("get against the end of a slot", 3, || {
        let pool = Arc::new(Pool::<_, TinyWith<1, 2>>::with_layout());
        let mut made: Vec<Handle<Payload>> = Vec::new();
        for _ in 1..GENERATIONS {
            let handle = pool.insert(Payload::new(1)).unwrap();
            drop(pool.remove(handle));
            made.push(handle);
        }
        let last = pool.insert(Payload::new(2)).unwrap();
        let (reader, first) = (Arc::clone(&pool), made[0]);
        let reader = thread::spawn(move || {
            let guard = pin();
            assert!(reader.get(first, &guard).is_none());
            if let Some(value) = reader.get(last, &guard) {
                assert_eq!(value.read(), 2);
            }
        });
        drop(pool.remove(last));
        let next = pool.insert(Payload::new(3)).unwrap();
        made.push(last);
        assert!(!made.contains(&next), "a handle came twice");
        reader.join().unwrap();
        assert_eq!(pool.stats().retired_slots, 1);
    });
}

/// I4: a handle that a maker saw before it panicked is not given out again.
#[test]
fn a_handle_that_was_shown_is_not_given_out_again() {
    explore("a handle that was shown is not given out again", || {
        let pool = Arc::new(Pool::<Payload, Pairs>::with_layout());
        let mut shown = None;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = pool.insert_with(|handle| -> Payload {
                shown = Some(handle);
                std::panic::resume_unwind(Box::new(()))
            });
        }));
        assert!(outcome.is_err());
        let next = pool.insert(Payload::new(1)).unwrap();
        assert!(shown.is_some_and(|shown| shown != next && !pool.contains(shown)));
        assert_all_there(&pool, vec![next]);
    });
}
