//! Which threads wait for which others, so that no ring of them waits for ever.
//!
//! A backend may load a model while it loads another. Where what it asks for is under way on its own thread, or on one
//! that waits for something of its own thread's, waiting would never end: so it is told.
//!
//! The threads and what they wait for are a graph, in which each thread waits for one thing at most, and each thing is
//! in one thread's hands at most. Both are changed under one lock, which is held for a walk and no longer.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::nn::Error;
use crate::nn::ids::next_id;
use crate::sync::thread_local;

/// Of the process, as a wait may go through several engines. std's under loom, where no step of it is one of the
/// model's.
static WAITS: LazyLock<Mutex<Waits>> = LazyLock::new(Mutex::default);

// A number that no other thread has.
thread_local! {
    static THREAD: u64 = next_id();
}

#[derive(Default)]
struct Waits {
    /// Whose hands a thing is in.
    holders: HashMap<u64, u64>,
    /// What a thread waits for.
    awaited: HashMap<u64, u64>,
}

/// Something that is in one thread's hands at a time, and that others wait for.
pub(crate) struct Awaited(u64);

/// The current thread has it, until this is dropped.
pub(crate) struct Holding<'a>(&'a Awaited);

/// The current thread waits for it, until this is dropped.
pub(crate) struct Waiting(u64);

impl Awaited {
    pub(crate) fn new() -> Self {
        Self(next_id())
    }

    /// To be called by the thread that has it from now on.
    pub(crate) fn hold(&self) -> Holding<'_> {
        let thread = THREAD.with(|thread| *thread);
        lock().holders.insert(self.0, thread);
        Holding(self)
    }

    /// To be called before a wait for it; an error where that would never end.
    pub(crate) fn wait(&self) -> Result<Waiting, Error> {
        let thread = THREAD.with(|thread| *thread);
        let mut waits = lock();
        let mut thing = self.0;
        while let Some(holder) = waits.holders.get(&thing) {
            if *holder == thread {
                return Err(Error::runtime_error(
                    "a backend made this call inside the load that it would have to wait for",
                ));
            }
            let Some(next) = waits.awaited.get(holder) else { break };
            thing = *next;
        }
        waits.awaited.insert(thread, self.0);
        Ok(Waiting(thread))
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        lock().holders.remove(&self.0.0);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock().awaited.remove(&self.0);
    }
}

fn lock() -> MutexGuard<'static, Waits> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_does_not_wait_for_what_it_has_and_may_for_what_others_have() {
        let (own, others) = (Awaited::new(), Awaited::new());
        let _holding = own.hold();
        assert!(own.wait().is_err());
        thread::scope(|scope| scope.spawn(|| drop(own.wait().unwrap())).join().unwrap());
        drop(others.wait().unwrap());
    }

    #[test]
    fn of_those_in_a_ring_the_last_is_told() {
        let things = [(); 3].map(|()| Awaited::new());
        let (held, over) = (Barrier::new(3), Barrier::new(3));
        let told: Vec<_> = thread::scope(|scope| {
            let waits = |own: usize| {
                let (things, held, over) = (&things, &held, &over);
                move || {
                    let _holding = things[own].hold();
                    held.wait();
                    let waiting = things[(own + 1) % 3].wait();
                    over.wait();
                    waiting.is_err()
                }
            };
            let threads = [0, 1, 2].map(|own| scope.spawn(waits(own)));
            threads.map(|thread| thread.join().unwrap()).into()
        });
        assert_eq!(told.into_iter().filter(|told| *told).count(), 1);
        assert!(lock().awaited.values().all(|thing| things.iter().all(|own| own.0 != *thing)));
    }
}
