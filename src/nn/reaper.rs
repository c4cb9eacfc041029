//! The thread on which models die.
//!
//! A graph's last reference may go on any thread: one that unloads, one whose compute ends. Freeing gigabytes there, or
//! running a destructor that panics, would make one guest pay for another's model. So a
//! [`Graph`](super::graph::Graph) hands what its backend made to its engine's reaper instead.
//!
//! The reaper also flushes the pools a moment after a removal, until nothing awaits reclamation. A flush looks at every
//! thread that has used the pools, so no guest's call makes one; and as a removed entry is an empty cell, none is
//! urgent.
//!
//! * R1: everything that was handed over is dropped exactly once, whether a thread could be started or not.
//! * R2: no panic of a destructor leaves this module.
//! * R3: what waits keeps its place among the engine's graphs, and in their bytes, until it is dropped; so guests that
//!   load and unload faster than models die meet the engine's limits.
//! * R4: what was given back is room for a load: one that finds none waits, for a second at the most, for what was
//!   handed over before it. No other caller ever pays for another's model.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::panics::shield;
use super::pools::Pools;
use super::stats::Counters;
use super::store::Listed;
use super::usage::Reservation;
use crate::backend::BackendGraph;

/// The pause between a removal and the flush that follows it, so that one flush serves many removals; and the longest
/// between two flushes while a guard somewhere holds up reclamation.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long a load waits for room that models have which are to be dropped.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// What is left of a graph. R1 and R2 are kept by its own drop, wherever that comes: on the thread, in its stead, or in
/// a queue that the thread has left.
struct Remains {
    /// `None` only while it is dropped.
    graph: Option<Box<dyn BackendGraph>>,
    grave: Grave,
    counters: Arc<Counters>,
    /// Where its end is told, if it was handed to the thread.
    told: Option<Arc<Shared>>,
}

/// What ends with a graph's memory.
pub(super) struct Grave {
    /// Bytes that it was counted with.
    pub(super) bytes: usize,
    /// Its place among the graphs of the engine.
    pub(super) listed: Option<Listed>,
    /// R3: what it takes of the engine's limits.
    pub(super) room: Option<(Reservation, Reservation)>,
}

impl Drop for Remains {
    fn drop(&mut self) {
        let graph = self.graph.take();
        // The error is for the guest that called, and no guest has: the panic is counted.
        let _ = shield(&self.counters, || drop(graph));
        drop((self.grave.room.take(), self.grave.listed.take()));
        Counters::died(&self.counters.graphs, 1);
        Counters::died(&self.counters.graph_bytes, self.grave.bytes);
        // R4: last, so that whoever is woken finds the room.
        if let Some(shared) = self.told.take() {
            shared.progress().released += 1;
            shared.released.notify_all();
        }
    }
}

enum Task {
    Bury(Remains),
    Flush,
    End,
}

/// A handle to the thread, which starts with the first task.
pub(super) struct Reaper {
    tasks: Sender<Task>,
    shared: Arc<Shared>,
    /// Taken by the thread when it starts.
    receiver: Mutex<Option<Receiver<Task>>>,
    /// Whether it could be started.
    started: OnceLock<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle and the thread share.
struct Shared {
    pools: Arc<Pools>,
    counters: Arc<Counters>,
    /// A `Flush` is on its way: one is enough.
    flush_asked: AtomicBool,
    progress: Mutex<Progress>,
    /// Wakes those who wait for `progress`.
    released: Condvar,
    /// The thread, once it runs.
    id: OnceLock<ThreadId>,
}

/// How much the thread has done since the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Graphs that were handed to it.
    pub(super) handed_over: u64,
    /// Those of them that are dropped.
    pub(super) released: u64,
    /// Until when somebody waits who has begun to.
    until: Option<Instant>,
}

impl Reaper {
    pub(super) fn new(pools: Arc<Pools>, counters: Arc<Counters>) -> Arc<Self> {
        let (tasks, receiver) = mpsc::channel();
        Arc::new(Self {
            tasks,
            shared: Arc::new(Shared {
                pools,
                counters,
                flush_asked: AtomicBool::new(false),
                progress: Mutex::default(),
                released: Condvar::new(),
                id: OnceLock::new(),
            }),
            receiver: Mutex::new(Some(receiver)),
            started: OnceLock::new(),
            thread: Mutex::new(None),
        })
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Has `graph` dropped on the thread, or drops it here where there is none.
    pub(super) fn bury(&self, graph: Box<dyn BackendGraph>, grave: Grave) {
        let mut remains = Remains { graph: Some(graph), grave, counters: Arc::clone(self.counters()), told: None };
        if self.started() {
            self.shared.progress().handed_over += 1;
            remains.told = Some(Arc::clone(&self.shared));
            // Refused by a thread that has ended: then it comes back, and is dropped here.
            drop(self.tasks.send(Task::Bury(remains)));
        }
    }

    /// How much the thread has done: to be looked at before it is found that there is no room.
    pub(super) fn progress(&self) -> Progress {
        *self.shared.progress()
    }

    /// The same for whoever has waited since `seen`.
    pub(super) fn progress_since(&self, seen: Progress) -> Progress {
        Progress { until: seen.until.or_else(|| Instant::now().checked_add(ROOM_WAIT)), ..self.progress() }
    }

    /// Waits until `released` graphs are, where that many were handed over when `seen` was; R4. `false` where there is
    /// nothing to wait for, or it has taken too long.
    pub(super) fn wait(&self, seen: Progress, released: u64) -> bool {
        let Shared { id, released: woken, .. } = &*self.shared;
        if seen.released == seen.handed_over || seen.handed_over < released {
            return false;
        }
        // A destructor that loads.
        if id.get() == Some(&thread::current().id()) {
            return false;
        }
        let until = seen.until.or_else(|| Instant::now().checked_add(ROOM_WAIT));
        let mut progress = self.shared.progress();
        while progress.released < released {
            let left = until.map_or(ROOM_WAIT, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            progress = woken.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Has the thread flush the pools a moment later. Where there is no thread, they collect in their own time.
    pub(super) fn flush_soon(&self) {
        // AcqRel: pairs with the swap of the thread. Either that finds `true`, and its flush comes after the caller's
        // removal, or it came first, and another `Flush` is sent.
        if !self.shared.flush_asked.swap(true, Ordering::AcqRel) && self.started() {
            // Refused only by a thread that has ended, whose pools go with the engine.
            let _ = self.tasks.send(Task::Flush);
        }
    }

    /// Ends the thread, once it has done all that was asked of it. Waits for it, except on the thread itself.
    pub(super) fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = self.tasks.send(Task::End);
            if thread.thread().id() != thread::current().id() {
                // It catches every panic that it can meet.
                let _ = thread.join();
            }
        }
    }

    fn started(&self) -> bool {
        *self.started.get_or_init(|| {
            let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(receiver) = receiver else { return false };
            let shared = Arc::clone(&self.shared);
            match spawn(move || shared.run(&receiver)) {
                Ok(thread) => {
                    *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
                    true
                }
                Err(_) => false,
            }
        })
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper").field("started", &self.started.get()).finish_non_exhaustive()
    }
}

/// Under loom a thread that the model does not know cannot touch the pools, so there is none.
#[cfg(loom)]
fn spawn(_: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(loom))]
fn spawn(f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("graphpool-reaper".into()).spawn(f)
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, tasks: &Receiver<Task>) {
        let _ = self.id.set(thread::current().id());
        // When to flush, and the pause before that.
        let mut next: Option<(Instant, Duration)> = None;
        loop {
            let task = match next {
                None => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((at, _)) => tasks.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match task {
                Ok(Task::Bury(remains)) => drop(remains),
                Ok(Task::Flush) => next = next.or_else(|| Some((Instant::now() + PAUSES.0, PAUSES.0))),
                Err(RecvTimeoutError::Timeout) => next = self.flush(next.map_or(PAUSES.0, |(_, pause)| pause)),
                Ok(Task::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // What the destructors of the last graphs have let go of.
        while let Ok(task) = tasks.try_recv() {
            drop(task);
        }
    }

    /// Flushes, and says when to flush again where a guard holds something up.
    fn flush(&self, pause: Duration) -> Option<(Instant, Duration)> {
        // Acquire: pairs with the AcqRel of `Reaper::flush_soon`.
        self.flush_asked.swap(false, Ordering::AcqRel);
        self.pools.flush();
        let pause = PAUSES.1.min(pause * 2);
        (self.pools.awaiting_reclamation() > 0).then(|| (Instant::now() + pause, pause))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::backend::BackendContext;
    use crate::nn::{Error, TensorDescription};

    /// Tells where it was dropped, after it has met `at` where that is given.
    struct Dying {
        places: Arc<Mutex<Vec<ThreadId>>>,
        at: Option<Arc<Barrier>>,
    }

    impl Drop for Dying {
        fn drop(&mut self) {
            if let Some(barrier) = &self.at {
                barrier.wait();
                barrier.wait();
            }
            self.places.lock().unwrap().push(thread::current().id());
        }
    }

    impl BackendGraph for Dying {
        fn inputs(&self) -> &[TensorDescription] {
            &[]
        }

        fn outputs(&self) -> &[TensorDescription] {
            &[]
        }

        fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
            Err(Error::unsupported("none"))
        }

        fn memory(&self) -> usize {
            1
        }
    }

    struct Scene {
        reaper: Arc<Reaper>,
        places: Arc<Mutex<Vec<ThreadId>>>,
    }

    impl Scene {
        fn new() -> Self {
            Self { reaper: Reaper::new(Arc::new(Pools::new()), Arc::default()), places: Arc::default() }
        }

        fn bury(&self, at: Option<&Arc<Barrier>>) {
            let counters = self.reaper.counters();
            Counters::born(&counters.graphs, 1);
            Counters::born(&counters.graph_bytes, 1);
            let graph = Dying { places: Arc::clone(&self.places), at: at.cloned() };
            self.reaper.bury(Box::new(graph), Grave { bytes: 1, listed: None, room: None });
        }

        /// How many were dropped on this thread, and how many on others.
        fn places(&self) -> (usize, usize) {
            let places = self.places.lock().unwrap();
            let here = places.iter().filter(|place| **place == thread::current().id()).count();
            (here, places.len() - here)
        }

        fn alive(&self) -> usize {
            let stats = self.reaper.counters().read();
            assert_eq!(stats.graphs, stats.graph_bytes);
            stats.graphs
        }
    }

    #[test]
    fn a_graph_dies_on_the_thread_and_all_are_dead_when_it_ends() {
        let scene = Scene::new();
        for _ in 0..10 {
            scene.bury(None);
        }
        scene.reaper.finish();
        assert_eq!((scene.places(), scene.alive()), ((0, 10), 0));
        // It has ended, so the next dies here.
        scene.bury(None);
        scene.reaper.flush_soon();
        scene.reaper.finish();
        assert_eq!((scene.places(), scene.alive()), ((1, 10), 0));
    }

    #[test]
    fn without_a_thread_a_graph_dies_where_it_is_handed_over() {
        let scene = Scene::new();
        scene.reaper.started.set(false).unwrap();
        scene.bury(None);
        assert_eq!((scene.places(), scene.alive()), ((1, 0), 0));
        scene.reaper.finish();
    }

    #[test]
    fn however_many_wait_none_dies_where_it_is_handed_over() {
        let scene = Scene::new();
        let barrier = Arc::new(Barrier::new(2));
        scene.bury(Some(&barrier));
        barrier.wait();
        // The thread is inside the first one's destructor.
        for _ in 0..999 {
            scene.bury(None);
        }
        assert_eq!((scene.places(), scene.alive()), ((0, 0), 1_000));
        barrier.wait();
        scene.reaper.finish();
        assert_eq!((scene.places(), scene.alive()), ((0, 1_000), 0));
    }
}
