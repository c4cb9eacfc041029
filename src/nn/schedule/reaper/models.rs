//! Loom models of the reaper, whose thread is a thread of the model.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::model_support::{explore, explore_bounded};
use crate::nn::schedule::threads::modelled::Threads;
use crate::sync::atomic::AtomicUsize;

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn ended(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

/// R1: values that two threads hand over are dropped once each before the reaper has finished.
#[test]
fn two_hand_over() {
    explore("reaper: two hand over", || {
        let _threads = Threads::new();
        let (reaper, count) = (Arc::new(Reaper::new(|| false)), Arc::new(AtomicUsize::new(0)));
        let (other, its) = (Arc::clone(&reaper), Arc::clone(&count));
        let other = thread::spawn(move || other.drop_later(Counted(its)));
        reaper.drop_later(Counted(Arc::clone(&count)));
        other.join().unwrap();
        reaper.finish();
        assert_eq!(ended(&count), 2);
    });
}

/// R1: a value that is handed over while the reaper finishes is dropped, on either thread.
#[test]
fn handing_over_against_finishing() {
    explore("reaper: handing over against finishing", || {
        let _threads = Threads::new();
        let (reaper, count) = (Arc::new(Reaper::new(|| false)), Arc::new(AtomicUsize::new(0)));
        // Makes the thread run.
        reaper.flush_soon();
        let (other, its) = (Arc::clone(&reaper), Arc::clone(&count));
        let other = thread::spawn(move || other.drop_later(Counted(its)));
        reaper.finish();
        other.join().unwrap();
        assert_eq!(ended(&count), 1);
    });
}

/// R4: a caller that waits for room is woken once the values that were handed over before it are dropped.
#[test]
fn waiting_for_room() {
    explore("reaper: waiting for room", || {
        let _threads = Threads::new();
        let (reaper, count) = (Arc::new(Reaper::new(|| false)), Arc::new(AtomicUsize::new(0)));
        // The thread may be asleep then.
        reaper.flush_soon();
        reaper.drop_later(Counted(Arc::clone(&count)));
        let (other, its) = (Arc::clone(&reaper), Arc::clone(&count));
        let other = thread::spawn(move || {
            let seen = other.progress();
            assert_eq!(seen.handed_over, 1);
            assert!(other.wait(seen, seen.handed_over) || seen.dropped == 1);
            assert_eq!(ended(&its), 1);
        });
        other.join().unwrap();
    });
}

/// R5: a flush follows each of two removals, even if one was under way already.
#[test]
fn two_removals_against_a_flush_with_4_preemptions() {
    explore_bounded("reaper: two removals against a flush", 4, || {
        let _threads = Threads::new();
        let removed = Arc::new(AtomicUsize::new(0));
        let flushed = Arc::new((loom::sync::Mutex::new(0), loom::sync::Condvar::new()));
        let (seen, told) = (Arc::clone(&removed), Arc::clone(&flushed));
        let reaper = Arc::new(Reaper::new(move || {
            let removed = seen.load(Ordering::Relaxed);
            *told.0.lock().unwrap() = removed;
            told.1.notify_one();
            false
        }));
        let (other, its) = (Arc::clone(&reaper), Arc::clone(&removed));
        let remove = |reaper: &Reaper, removed: &AtomicUsize| {
            removed.fetch_add(1, Ordering::Relaxed);
            reaper.flush_soon();
        };
        let other = thread::spawn(move || remove(&other, &its));
        remove(&reaper, &removed);
        let mut last = flushed.0.lock().unwrap();
        while *last < 2 {
            last = flushed.1.wait(last).unwrap();
        }
        drop(last);
        other.join().unwrap();
    });
}
