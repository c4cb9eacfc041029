//! Deadlock detection: records which threads wait for which others, and refuses a wait that would close a cycle.
//!
//! A backend may load a model while it loads another. If the requested build is under way on its own thread, or on a
//! thread that waits for its own thread, the wait would never end: so the load returns an error.
//!
//! Threads and resources form a graph: each thread waits for at most one resource, and each resource is held by at most
//! one thread. One lock protects the graph, and is held only to walk it.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::nn::Error;
use crate::nn::ids::next_id;
use crate::sync::thread_local;

/// One for the process, because a wait may pass through several engines. std's even under loom: none of its steps is a
/// step of the model.
static WAITS: LazyLock<Mutex<Waits>> = LazyLock::new(Mutex::default);

// Unique to the thread.
thread_local! {
    static THREAD: u64 = next_id();
}

#[derive(Default)]
struct Waits {
    /// The thread that holds each resource.
    holders: HashMap<u64, u64>,
    /// The resource that each thread waits for.
    awaited: HashMap<u64, u64>,
}

/// A resource that one thread holds at a time, and that others wait for.
pub(crate) struct Awaited(u64);

/// The current thread holds the resource, until the drop.
pub(crate) struct Holding(u64);

/// The current thread waits for the resource, until the drop.
pub(crate) struct Waiting(u64);

impl Awaited {
    pub(crate) fn new() -> Self {
        Self(next_id())
    }

    /// Records the current thread as the holder.
    pub(crate) fn hold(&self) -> Holding {
        let thread = THREAD.with(|thread| *thread);
        lock().holders.insert(self.0, thread);
        Holding(self.0)
    }

    /// Records that the current thread is about to wait; an error if the wait would never end.
    pub(crate) fn wait(&self) -> Result<Waiting, Error> {
        let thread = THREAD.with(|thread| *thread);
        let mut waits = lock();
        let mut thing = self.0;
        while let Some(holder) = waits.holders.get(&thing) {
            if *holder == thread {
                return Err(Error::runtime_error(
                    "a backend or a resolver made this call inside the load that it would have to wait for",
                ));
            }
            let Some(next) = waits.awaited.get(holder) else { break };
            thing = *next;
        }
        waits.awaited.insert(thread, self.0);
        Ok(Waiting(thread))
    }
}

/// Whether the current thread holds anything that others wait for: it is inside a load.
pub(crate) fn holds_any() -> bool {
    let thread = THREAD.with(|thread| *thread);
    lock().holders.values().any(|holder| *holder == thread)
}

impl Drop for Holding {
    fn drop(&mut self) {
        lock().holders.remove(&self.0);
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
    fn the_last_thread_of_a_cycle_is_refused() {
        let things = [(); 3].map(|()| Awaited::new());
        let (held, over) = (Barrier::new(3), Barrier::new(3));
        let refused: Vec<_> = thread::scope(|scope| {
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
        assert_eq!(refused.into_iter().filter(|refused| *refused).count(), 1);
        assert!(lock().awaited.values().all(|thing| things.iter().all(|own| own.0 != *thing)));
    }
}
