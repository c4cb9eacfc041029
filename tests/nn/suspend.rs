//! Computes that sleep in their backend until others have worked for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use graphpool::backend::ComputeControl;
use graphpool::nn::{EngineLimits, Error, ErrorKind};

use crate::admission::block_on;
use crate::backends::eventually;
use crate::scripted::{Scripted, context};

/// Computes that sleep until so many of them do, as those that share one pass over a model.
#[derive(Default)]
struct Meeting {
    state: Mutex<(usize, usize)>,
    changed: Condvar,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

impl Meeting {
    /// Sleeps until `size` computes are here, then works.
    fn meet(&self, size: usize, control: &ComputeControl) -> Result<(), Error> {
        self.work();
        {
            let _suspension = control.suspend();
            let mut state = self.state.lock().unwrap();
            state.0 += 1;
            if state.0 == size {
                *state = (0, state.1 + 1);
                self.changed.notify_all();
            } else {
                let round = state.1;
                while state.1 == round {
                    let waited = self.changed.wait_timeout(state, Duration::from_millis(5)).unwrap();
                    state = waited.0;
                    if state.1 == round
                        && let Err(error) = control.check()
                    {
                        state.0 -= 1;
                        return Err(error);
                    }
                }
            }
        }
        control.check()?;
        self.work();
        Ok(())
    }

    fn work(&self) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        thread::yield_now();
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn asleep(&self) -> usize {
        self.state.lock().unwrap().0
    }
}

#[test]
fn computes_that_sleep_leave_room_for_others_and_no_more_run_than_may() {
    for most in [1, 2] {
        let meeting = Arc::new(Meeting::default());
        let its = Arc::clone(&meeting);
        let engine = Scripted::controlled(move |size, control| its.meet(size.into(), control))
            .engine(EngineLimits::default().with_max_computing(most));
        let guests = [(); 8].map(|()| engine.guest());
        for _ in 0..20 {
            // Half of them on threads of the engine.
            let contexts = guests.each_ref().map(|guest| context(guest, 8));
            let futures = [0, 1, 2, 3].map(|index| guests[index].compute_async(contexts[index]));
            thread::scope(|scope| {
                for index in 4..8 {
                    let (guest, context) = (&guests[index], contexts[index]);
                    scope.spawn(move || guest.compute(context).unwrap());
                }
            });
            for future in futures {
                block_on(future).unwrap();
            }
            for (guest, context) in guests.iter().zip(contexts) {
                guest.drop_context(context).unwrap();
            }
        }
        assert!(meeting.most_running.load(Ordering::SeqCst) <= most);
        let stats = engine.stats();
        assert_eq!((stats.computes, stats.computing, stats.suspended, stats.queued), (160, 0, 0, 0));
    }
}

#[test]
fn no_more_sleep_than_may_and_the_others_wait_for_their_turns() {
    let meeting = Arc::new(Meeting::default());
    let its = Arc::clone(&meeting);
    let limits = EngineLimits::default().with_max_computing(1).with_max_suspended(2).with_max_queued(1);
    let engine = Scripted::controlled(move |size, control| its.meet(size.into(), control)).engine(limits);
    let guests = [(); 5].map(|()| engine.guest());
    let contexts = guests.each_ref().map(|guest| context(guest, 4));
    let mut futures = Vec::new();
    for asleep in 1..=3 {
        futures.push(guests[asleep].compute_async(contexts[asleep]));
        eventually(|| meeting.asleep() == asleep && engine.stats().suspended == asleep);
    }
    // Three are admitted, the fourth waits, the fifth is refused.
    futures.push(guests[4].compute_async(contexts[4]));
    eventually(|| engine.stats().queued == 1);
    assert_eq!(engine.stats().computing, 0);
    assert_eq!(guests[0].compute(contexts[0]).unwrap_err().kind(), ErrorKind::Busy);
    // One that is cancelled makes room for the one that waits.
    assert_eq!(guests[1].cancel(contexts[1]), Ok(true));
    assert_eq!(block_on(futures.remove(0)).unwrap_err().message(), "compute: cancelled");
    eventually(|| meeting.asleep() == 3);
    drop(futures);
    eventually(|| {
        let stats = engine.stats();
        (stats.computing, stats.suspended, stats.queued) == (0, 0, 0)
    });
}

#[test]
fn a_compute_that_is_late_or_cancelled_ends_while_another_has_its_place() {
    let (meeting, gate) = (Arc::new(Meeting::default()), Arc::new(Mutex::new(())));
    let (its, closed) = (Arc::clone(&meeting), Arc::clone(&gate));
    // Model 0 runs as long as the gate is closed.
    let engine = Scripted::controlled(move |size, control| {
        if size == 0 {
            drop(closed.lock().unwrap());
            return Ok(());
        }
        its.meet(size.into(), control)
    })
    .engine(EngineLimits::default().with_max_computing(1));
    let (one, other) = (engine.guest(), engine.guest());
    let (sleeps, runs) = (context(&one, 2), context(&other, 0));
    let held = gate.lock().unwrap();
    let late = one.compute_async_within(sleeps, Duration::from_millis(100));
    eventually(|| meeting.asleep() == 1 || engine.stats().timeouts == 1);
    let running = other.compute_async(runs);
    eventually(|| engine.stats().computing == 1 && meeting.asleep() == 0);
    // The one that runs is still there.
    assert_eq!(block_on(late).unwrap_err().kind(), ErrorKind::Timeout);
    let cancelled = one.compute_async(sleeps);
    assert_eq!(one.cancel(sleeps), Ok(true));
    assert_eq!(block_on(cancelled).unwrap_err().kind(), ErrorKind::RuntimeError);
    drop(held);
    block_on(running).unwrap();
    assert_eq!((engine.stats().computing, engine.stats().suspended), (0, 0));
}

#[test]
fn contexts_that_grow_at_the_same_time_keep_to_the_limits_together() {
    let meeting = Arc::new(Meeting::default());
    let its = Arc::clone(&meeting);
    // Each is told of 1,000 bytes, and none ends before all have asked for 400.
    let engine = Scripted::controlled(move |size, control| {
        its.meet(size.into(), control)?;
        let reserved = control.reserve_context_memory(400, 0);
        its.meet(size.into(), control)?;
        reserved
    })
    .engine(EngineLimits::default().with_max_computing(1).with_max_context_bytes(1_000));
    let guests = [(); 3].map(|()| engine.guest());
    let contexts = guests.each_ref().map(|guest| context(guest, 3));
    // What they have not taken is given back, and no context is lost.
    for _ in 0..2 {
        let computes = [0, 1, 2].map(|index| guests[index].compute_async(contexts[index]));
        let results = computes.map(block_on);
        let refused: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(refused.len(), 1, "{results:?}");
        assert_eq!(refused[0].kind(), ErrorKind::Busy, "{results:?}");
    }
    assert_eq!(engine.stats().context_bytes, 0);
}
