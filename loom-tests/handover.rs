//! How ownership of slots passes from thread to thread (I4, I5, I7): as removed, deferred, ready and vacant slots, and
//! with a lane.

use graphpool::pool::for_tests::{Layout, LayoutPool, Tiny, TinyWith};
use graphpool::{Handle, pin, verification};
use loom::sync::Arc;
use loom::thread;

use crate::support::{Payload, Small, explore, explore_all, explore_bounded, new_pool};

/// One slot a chunk, so that chunks are pushed and popped often.
type Singles = TinyWith<0, 3>;

const GENERATIONS: usize = 8;

fn slots<L: Layout>() -> usize {
    L::CHUNKS << L::SLOT_BITS
}

/// Fills every slot that this thread can take.
fn fill<L: Layout>(pool: &LayoutPool<Payload, L>, made: &mut Vec<Handle<Payload>>) {
    while let Ok(handle) = pool.insert(Payload::new(0)) {
        assert!(!made.contains(&handle), "a handle came twice");
        made.push(handle);
    }
}

/// Fills every slot that is left, and asserts that no slot was lost and no handle was given out twice. `kept` is the
/// number of slots in the caches of other lanes, which this thread cannot fill.
fn assert_all_there<L: Layout>(pool: &LayoutPool<Payload, L>, mut made: Vec<Handle<Payload>>, kept: usize) {
    pool.flush();
    assert_eq!(pool.stats().awaiting_reclamation, 0);
    fill(pool, &mut made);
    assert_eq!(pool.len() + kept, slots::<L>(), "a slot was lost");
    let guard = pin();
    let live = made.iter().filter(|handle| pool.get(**handle, &guard).is_some_and(|value| value.read() < 100));
    assert_eq!(live.count() + kept, slots::<L>());
}

/// I2, I5: each removal is released once, whichever thread collects it.
#[test]
fn flush_against_the_removals_of_another_thread_with_2_preemptions() {
    explore_bounded("flush against the removals of another thread", 2, || {
        let pool = Arc::new(LayoutPool::<_, Tiny>::new());
        let made: Vec<_> = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap()).into();
        let flusher = Arc::clone(&pool);
        let flusher = thread::spawn(move || flusher.flush());
        for handle in &made {
            assert!(pool.remove(*handle).unwrap().read() > 0);
        }
        flusher.join().unwrap();
        assert_all_there(&pool, made, 0);
    });
}

/// I2, I5: of two threads that flush at once, one releases each slot.
#[test]
fn flush_against_flush_with_2_preemptions() {
    explore_bounded("flush against flush", 2, || {
        let pool = Arc::new(LayoutPool::<_, Tiny>::new());
        let handles = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap());
        // The guard keeps both from being released until both threads are there to do it.
        let guard = pin();
        for handle in handles {
            drop(pool.remove(handle));
        }
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.flush());
        drop(guard);
        pool.flush();
        other.join().unwrap();
        pool.flush();
        assert_all_there(&pool, handles.to_vec(), 0);
    });
}

/// I3: a guard keeps its values alive during a flush by another thread.
#[test]
fn get_against_flush_with_3_preemptions() {
    explore_bounded("get against flush", 3, || {
        let pool = Arc::new(LayoutPool::<_, Tiny>::new());
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

/// I3, I5: a removal during the end of the previous grace period. It is released without a flush, after the guard that
/// was held at the removal.
#[test]
fn remove_against_the_end_of_the_grace_period_before_with_4_preemptions() {
    explore_bounded("remove against the end of the grace period before", 4, || {
        let pool = Arc::new(LayoutPool::<_, Tiny>::new());
        let handles = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap());
        let reader = Arc::clone(&pool);
        let guard = pin();
        drop(pool.remove(handles[0]));
        let reader = thread::spawn(move || {
            let guard = pin();
            let value = reader.get(handles[1], &guard);
            drop(reader.remove(handles[1]));
            assert!(value.is_none_or(|value| value.read() == 2));
        });
        drop(guard);
        reader.join().unwrap();
        assert_eq!(pool.stats().awaiting_reclamation, 0, "no thread is pinned, and no flush was needed");
        assert_all_there(&pool, handles.to_vec(), 0);
    });
}

/// I3: one grace period of more slots than a collection releases. The others are released without a flush, by deferred
/// functions.
#[test]
fn removals_of_several_chunks_against_a_guard_with_4_preemptions() {
    explore_bounded("removals of several chunks against a guard", 4, || {
        let pool = Arc::new(LayoutPool::<_, Tiny>::new());
        let handles = [1, 2, 3, 4, 5].map(|value| pool.insert(Payload::new(value)).unwrap());
        let guard = pin();
        // The last one, alone in its chunk, begins a grace period. The next one is for the two chunks of the others.
        for index in [4, 0, 1, 2, 3] {
            drop(pool.remove(handles[index]));
        }
        let reader = Arc::clone(&pool);
        let reader = thread::spawn(move || {
            assert!(reader.get(handles[0], &pin()).is_none());
        });
        drop(guard);
        reader.join().unwrap();
        assert_eq!(pool.stats().awaiting_reclamation, 0, "no thread is pinned, and no flush was needed");
        assert_all_there(&pool, handles.to_vec(), 0);
    });
}

/// I5: of two threads that remove, one begins the grace period, and the slot of the other is not lost.
#[test]
fn remove_against_remove_of_another_with_3_preemptions() {
    explore_bounded("remove against remove of another", 3, || {
        let pool = Arc::new(LayoutPool::<_, Singles>::new());
        let handles = [1, 2].map(|value| pool.insert(Payload::new(value)).unwrap());
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || drop(other.remove(handles[0])));
        drop(pool.remove(handles[1]));
        other.join().unwrap();
        assert_eq!(pool.stats().awaiting_reclamation, 0, "no thread is pinned, and no flush was needed");
        assert_all_there(&pool, handles.to_vec(), 0);
    });
}

/// I5: a thread that finds no removed slots checks again, and begins a grace period for slots removed in the meantime.
#[test]
fn remove_against_two_removals_of_another_with_3_preemptions() {
    explore_bounded("remove against two removals of another", 3, || {
        let pool = Arc::new(LayoutPool::<_, Singles>::new());
        let handles = [1, 2, 3].map(|value| pool.insert(Payload::new(value)).unwrap());
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            drop(other.remove(handles[0]));
            drop(other.remove(handles[1]));
        });
        drop(pool.remove(handles[2]));
        other.join().unwrap();
        assert_eq!(pool.stats().awaiting_reclamation, 0, "no thread is pinned, and no flush was needed");
        assert_all_there(&pool, handles.to_vec(), 0);
    });
}

/// I6: values that wait for a grace period when the pool is dropped are released, once. (loom reports a leak.)
#[test]
fn drop_of_the_pool_against_a_removal_that_waits_with_3_preemptions() {
    explore_bounded("drop of the pool against a removal that waits", 3, || {
        let pool = new_pool();
        let handles = [1, 2, 3].map(|value| pool.insert(Payload::new(value)).unwrap());
        let reader = Arc::clone(&pool);
        let reader = thread::spawn(move || {
            let guard = pin();
            let value = reader.get(handles[0], &guard);
            drop(reader);
            assert!(value.is_none_or(|value| value.read() == 1));
        });
        drop(pool.remove(handles[0]));
        drop(pool.remove(handles[2]));
        drop(pool);
        reader.join().unwrap();
    });
}

/// I4, I5: no slot is lost when slots are recycled again and again, with more ready slots than are released at once,
/// and with deferred functions in either order.
#[test]
fn slots_are_recycled() {
    explore_all("slots are recycled", None, [false, true].map(|last_first| move || recycle(last_first)));
}

fn recycle(last_first: bool) {
    verification::deferrals_run_last_first(last_first);
    let pool = Arc::new(LayoutPool::<_, Tiny>::new());
    let mut made = Vec::new();
    for _ in 0..3 {
        let guard = pin();
        let handles = [1, 2, 3, 4].map(|value| pool.insert(Payload::new(value)).unwrap());
        for handle in handles {
            assert!(pool.remove(handle).is_some());
        }
        assert!(!handles.iter().any(|handle| made.contains(handle)));
        made.extend(handles);
        drop(guard);
        pool.flush();
    }
    assert_all_there(&pool, made, 0);
}

/// I3, I5: deferred functions of two pools run in either order. Each slot is released once, and no earlier than its
/// guards allow.
#[test]
fn get_against_removals_of_two_pools_with_3_preemptions() {
    let model = |last_first| {
        verification::deferrals_run_last_first(last_first);
        let pools = [(); 2].map(|()| Arc::new(LayoutPool::<_, Tiny>::new()));
        let handles = [0, 1].map(|at| pools[at].insert(Payload::new(at as u64)).unwrap());
        let removers = pools.clone();
        let remover = thread::spawn(move || {
            for (pool, handle) in removers.iter().zip(handles) {
                drop(pool.remove(handle));
            }
        });
        {
            let guard = pin();
            let values = [1, 0].map(|at| pools[at].get(handles[at], &guard));
            assert!(values[0].is_none_or(|value| value.read() == 1));
            assert!(values[1].is_none_or(|value| value.read() == 0));
        }
        remover.join().unwrap();
        for pool in pools {
            assert_all_there(&pool, Vec::new(), 0);
        }
    };
    explore_all(
        "get against removals of two pools",
        Some(3),
        [false, true].map(|last_first| move || model(last_first)),
    );
}

/// I4, I5: a slot that one thread removes and another fills has the next generation, and is written after its last use.
#[test]
fn remove_against_insert_into_the_last_slots_with_3_preemptions() {
    explore_bounded("remove against insert into the last slots", 3, || {
        let pool = Arc::new(LayoutPool::<_, Singles>::new());
        let mut made: Vec<_> = (0..3).map(|_| pool.insert(Payload::new(1)).unwrap()).collect();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.insert(Payload::new(2)).ok());
        drop(pool.remove(made[0]));
        drop(pool.remove(made[2]));
        if let Some(theirs) = other.join().unwrap() {
            assert_eq!(pool.get(theirs, &pin()).unwrap().read(), 2);
            assert!(!made.contains(&theirs));
            made.push(theirs);
        }
        assert_all_there(&pool, made, 0);
    });
}

/// I5: two insertions whose caches are empty get different slots.
#[test]
fn insert_against_insert_into_vacant_chunks_with_5_preemptions() {
    explore_bounded("insert against insert into vacant chunks", 5, || {
        let pool = Arc::new(LayoutPool::<_, Singles>::new());
        let mut made: Vec<_> = (0..3).map(|_| pool.insert(Payload::new(1)).unwrap()).collect();
        for handle in &made {
            drop(pool.remove(*handle));
        }
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.insert(Payload::new(3)).unwrap());
        let mine = pool.insert(Payload::new(4)).unwrap();
        let theirs = other.join().unwrap();
        assert_eq!(pool.get(mine, &pin()).unwrap().read(), 4);
        assert_eq!(pool.get(theirs, &pin()).unwrap().read(), 3);
        made.extend([mine, theirs]);
        assert_all_there(&pool, made, 0);
    });
}

/// I5, I7: threads that borrow a lane for each call use one lane's shard one after the other, or lanes of their own. No
/// slot of the shards is lost, and none is taken twice.
#[test]
fn insert_and_remove_against_insert_with_borrowed_lanes_with_3_preemptions() {
    explore_bounded("insert and remove against insert with borrowed lanes", 3, || {
        verification::threads_borrow_lanes(true);
        let pool = Arc::new(LayoutPool::<_, Tiny>::new());
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            let handle = other.insert(Payload::new(1)).unwrap();
            assert_eq!(other.remove(handle).unwrap().read(), 1);
            handle
        });
        let mine = pool.insert(Payload::new(2)).unwrap();
        let theirs = other.join().unwrap();
        assert_ne!(mine, theirs, "a handle came twice");
        assert_eq!(pool.get(mine, &pin()).unwrap().read(), 2);
        // By both lanes, so that the caches of both are used.
        let mut made = vec![mine, theirs];
        fill(&pool, &mut made);
        let guard = pin();
        let last = Arc::clone(&pool);
        let last = thread::spawn(move || {
            let _other_lane = pin();
            fill(&last, &mut made);
            made
        });
        let made = last.join().unwrap();
        drop(guard);
        assert!(pool.len() + 1 >= slots::<Tiny>(), "a slot was lost");
        assert!(made.iter().filter(|handle| pool.contains(**handle)).count() == pool.len());
    });
}

/// I4: a slot is exhausted after its last generation, and its first handle, which would be next, stays stale.
#[test]
fn get_against_the_last_generation_of_a_slot_with_3_preemptions() {
    explore_bounded("get against the last generation of a slot", 3, || {
        let pool = Arc::new(LayoutPool::<_, TinyWith<0, 2>>::new());
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
        // Into the same memory, which is chunk 1 now.
        let next = pool.insert(Payload::new(3));
        made.push(last);
        reader.join().unwrap();
        let next = next.unwrap_or_else(|_| pool.insert(Payload::new(3)).unwrap());
        assert!(!made.contains(&next), "a handle came twice");
        assert_eq!(pool.get(next, &pin()).unwrap().read(), 3);
        assert_eq!(pool.stats().exhausted_slots, 1);
    });
}

/// I3, I4: look-ups by old handles and by guessed ones while their chunk is renumbered. Each
/// gives its own value or none.
#[test]
fn get_against_a_chunk_that_is_renumbered_with_3_preemptions() {
    explore_bounded("get against a chunk that is renumbered", 3, || {
        type Two = TinyWith<0, 2>;
        let pool = Arc::new(LayoutPool::<_, Two>::new());
        for _ in 1..GENERATIONS {
            let handle = pool.insert(Payload::new(1)).unwrap();
            drop(pool.remove(handle));
        }
        let last = pool.insert(Payload::new(2)).unwrap();
        // Chunk 1, slot 0, generation 0.
        let guess = Handle::from_bits(last.to_bits() - 7 * Two::GENERATION + 1).unwrap();
        let reader = Arc::clone(&pool);
        let reader = thread::spawn(move || {
            let guard = pin();
            let old = reader.get(last, &guard);
            let new = reader.get(guess, &guard);
            assert!(new.is_none_or(|value| value.read() == 3));
            assert!(old.is_none_or(|value| value.read() == 2));
        });
        drop(pool.remove(last));
        let next = pool.insert(Payload::new(3)).ok();
        reader.join().unwrap();
        let next = next.unwrap_or_else(|| pool.insert(Payload::new(3)).unwrap());
        assert_eq!(next, guess);
        assert_eq!(pool.iter(&pin()).count(), 1, "a walk gives the entry once");
    });
}

/// I1, I6: an `Arc` that is inserted into a slot with recycled memory is stored itself, and the memory is freed. (loom
/// reports a leak.)
#[test]
fn get_against_remove_and_insert_of_an_arc_with_5_preemptions() {
    explore_bounded("get against remove and insert of an Arc", 5, || {
        let pool = new_pool();
        let first = pool.insert(Small::new(1)).unwrap();
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || {
            drop(other.remove(first));
            let own = Arc::new(Small::new(2));
            let handle = other.insert_arc(Arc::clone(&own)).unwrap();
            assert!(Arc::ptr_eq(&other.acquire(handle).unwrap(), &own), "an Arc stays where it is");
            handle
        });
        if let Some(value) = pool.get(first, &pin()) {
            assert_eq!(value.read(), 1);
        }
        let second = other.join().unwrap();
        assert_eq!(pool.acquire(second).unwrap().read(), 2);
        drop(pool.remove(second));
        let third = pool.insert_arc(Arc::new(Small::new(3))).unwrap();
        assert_eq!(pool.acquire(third).unwrap().read(), 3);
    });
}

/// I4: a handle that a maker saw before it panicked is not given out again.
#[test]
fn a_handle_that_a_maker_saw_is_not_given_out_again() {
    explore("a handle that a maker saw is not given out again", || {
        let pool = Arc::new(LayoutPool::<Payload, Tiny>::new());
        let mut shown = None;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = pool.insert_with(|handle| -> Payload {
                shown = Some(handle);
                std::panic::resume_unwind(Box::new(()))
            });
        }));
        assert!(outcome.is_err());
        let next = pool.insert(Payload::new(1)).unwrap();
        let shown = shown.expect("the maker was called");
        assert!(shown != next && !pool.contains(shown));
        assert_all_there(&pool, vec![next, shown], 0);
    });
}
