//! Tests of the reaper with real threads.

use std::sync::Barrier;
use std::thread;
use std::thread::ThreadId;

use super::*;

/// Records the thread that drops it, after it has met `at` twice, if that is given.
struct Placed {
    places: Arc<Mutex<Vec<ThreadId>>>,
    at: Option<Arc<Barrier>>,
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Some(barrier) = &self.at {
            barrier.wait();
            barrier.wait();
        }
        self.places.lock().unwrap().push(thread::current().id());
    }
}

struct Scene {
    reaper: Reaper,
    places: Arc<Mutex<Vec<ThreadId>>>,
}

impl Scene {
    fn new() -> Self {
        Self { reaper: Reaper::new(|| false), places: Arc::default() }
    }

    fn drop_later(&self, at: Option<&Arc<Barrier>>) {
        self.reaper.drop_later(Placed { places: Arc::clone(&self.places), at: at.cloned() });
    }

    /// The numbers of values dropped on this thread and on others.
    fn places(&self) -> (usize, usize) {
        let places = self.places.lock().unwrap();
        let here = places.iter().filter(|place| **place == thread::current().id()).count();
        (here, places.len() - here)
    }
}

#[test]
fn garbage_is_dropped_on_the_thread_and_all_of_it_by_its_end() {
    let scene = Scene::new();
    for _ in 0..10 {
        scene.drop_later(None);
    }
    scene.reaper.finish();
    assert_eq!(scene.places(), (0, 10));
    // The thread has ended, so the next value is dropped here.
    scene.drop_later(None);
    scene.reaper.flush_soon();
    scene.reaper.finish();
    assert_eq!(scene.places(), (1, 10));
}

#[test]
fn without_a_thread_garbage_is_dropped_where_it_is_handed_over() {
    let scene = Scene::new();
    scene.reaper.0.lock().thread = Thread::None;
    scene.drop_later(None);
    assert_eq!(scene.places(), (1, 0));
    scene.reaper.finish();
}

#[test]
fn however_much_waits_none_is_dropped_where_it_is_handed_over() {
    let scene = Scene::new();
    let barrier = Arc::new(Barrier::new(2));
    scene.drop_later(Some(&barrier));
    barrier.wait();
    // The thread is inside the first destructor.
    for _ in 0..999 {
        scene.drop_later(None);
    }
    assert_eq!(scene.places(), (0, 0));
    barrier.wait();
    scene.reaper.finish();
    assert_eq!(scene.places(), (0, 1_000));
}

/// R2: destructors that panic, and payloads whose destructors do.
#[test]
fn a_destructor_that_panics_does_not_end_the_thread() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            std::panic::panic_any(PanicsAgain);
        }
    }
    struct PanicsAgain;
    impl Drop for PanicsAgain {
        fn drop(&mut self) {
            panic!("the payload");
        }
    }
    let scene = Scene::new();
    scene.reaper.drop_later(Panics);
    scene.drop_later(None);
    scene.reaper.finish();
    assert_eq!(scene.places(), (0, 1));
}

/// A destructor hands over more values, like one of a value that owns another.
#[test]
fn what_a_destructor_hands_over_is_dropped_by_the_end() {
    struct Nested(Arc<Reaper>, Arc<Mutex<usize>>, usize);
    impl Drop for Nested {
        fn drop(&mut self) {
            *self.1.lock().unwrap() += 1;
            if self.2 > 0 {
                self.0.drop_later(Nested(Arc::clone(&self.0), Arc::clone(&self.1), self.2 - 1));
            }
        }
    }
    let (reaper, count) = (Arc::new(Reaper::new(|| false)), Arc::default());
    reaper.drop_later(Nested(Arc::clone(&reaper), Arc::clone(&count), 100_000));
    reaper.finish();
    assert_eq!(*count.lock().unwrap(), 100_001);
}
