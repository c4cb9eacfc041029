//! A queue of requests that are computed several at a time, on the threads that wait for them.
//!
//! A thread brings its request and either *leads* a pass or waits. A leader takes its own request and those that came
//! after it, computes all of them together, gives each back to its thread, and goes on with its own. The first request
//! that waits then leads the next pass. A leader does not begin while threads of the last pass are *expected*: those
//! that were in it come again soon, and a pass that begins without them is one more for them. This is flat combining
//! (D. Hendler, I. Incze, N. Shavit, M. Tzafrir: "Flat combining and the synchronization-parallelism tradeoff", SPAA
//! 2010) with waits that sleep.
//!
//! ```text
//!              a pass is free, nobody is expected
//!   join ──────────────────────────────▶ LEADS ──────────────▶ back, with the others of its pass
//!    │                                     ▲   finish, or drop
//!    │ otherwise     first, when a pass ends│
//!    └──────────▶ WAITS ───────────────────┘
//!                   │  └─ taken by a leader ─▶ IN A PASS ────▶ back, when the pass ends
//!                   └─ stopped, or late ──────────────────────▶ back at once
//! ```
//!
//! * B1, order: passes take requests in the order in which they came. So no request waits while a thread that came
//!   later has its turn, nor while one has a second turn.
//! * B2, bounds: at most [`passes`](BatchQueue::new) passes run at one time. The costs in a pass are at most `most`
//!   together, and at most an equal share for each of the passes of all that is there or expected, except for a single
//!   request that costs more.
//! * B3, progress: a request waits only while `passes` leaders compute or are about to. Each of them, when it ends or
//!   leaves, makes the first request that waits a leader. A leader waits for a thread only if that was in the last pass
//!   and has neither come again nor [said goodbye](BatchQueue::say_goodbye), and only for a share of the time that the
//!   pass took.
//! * B4, return: each request comes back to its own thread exactly once, whatever its pass did.
//! * B5, departure: a request that waits and is stopped or late leaves at once, and no pass has it. One that is in a
//!   pass comes back when the pass ends.
//! * B10, sleep: a thread that waits is suspended, by the guard that `suspend` of [`join`](BatchQueue::join) gives,
//!   which is made and dropped without the lock. A leader begins after that.
//! * B6, failure: a pass that is cut off, as by a panic, gives its requests back as cut off. Those that wait go on.
//!
//! Why B3: an arrival leads if fewer than `passes` do. Otherwise it waits, and each end of a pass and each departure of
//! a leader that has not begun calls [`hand_on`](State::hand_on), which lowers the number of leaders only if every
//! request that waits is a leader itself. Why B1: arrivals go to the back; the leaders that wait are the first ones in
//! the queue, as `hand_on` chooses the first that is none; and a leader takes those behind it up to the next leader.

use super::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use std::{fmt, mem, ptr};

/// A queue of requests `R`.
pub(crate) struct BatchQueue<R> {
    state: Mutex<State<R>>,
    most: usize,
    passes: usize,
    patience: fn(Duration) -> Duration,
}

struct State<R> {
    /// In the order in which they came. Those that lead are the first.
    waiting: VecDeque<Waiting<R>>,
    /// Requests whose passes have ended, by ticket, and whether the passes were completed.
    ended: BTreeMap<u64, (R, bool)>,
    /// Leaders that compute, and those that wait and are about to.
    leaders: usize,
    /// The ticket of the last request that came.
    last: u64,
    /// The costs of the requests that are in passes.
    running: usize,
    /// The seats whose threads are expected, by address, and until when leaders wait for them.
    expected: BTreeMap<usize, Instant>,
}

struct Waiting<R> {
    ticket: u64,
    cost: usize,
    request: R,
    seat: Arc<Seat>,
    /// Whether its thread leads the next pass.
    leads: bool,
}

/// Where a thread waits. It serves one request at a time, and any number one after the other. Who keeps one for several
/// requests says goodbye after the last.
#[derive(Debug)]
pub(crate) struct Seat {
    changed: Condvar,
}

impl Seat {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { changed: Condvar::new() })
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }
}

/// What has become of a request.
pub(crate) enum Joined<'a, R> {
    /// The caller computes it, with others.
    Leads(Leader<'a, R>),
    /// Another thread has computed it.
    Computed(R),
    /// The pass that it was in was cut off.
    CutOff(R),
    /// It was stopped or late before a pass took it.
    Left(R),
}

impl<R> BatchQueue<R> {
    /// A queue for `passes` passes at one time, in each of which the requests cost at most `most` together. `patience`
    /// is how long a leader waits for those of the last pass, from the time that it took.
    pub(crate) fn new(most: usize, passes: usize, patience: fn(Duration) -> Duration) -> Arc<Self> {
        let state = State {
            waiting: VecDeque::new(),
            ended: BTreeMap::new(),
            leaders: 0,
            last: 0,
            running: 0,
            expected: BTreeMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state), most, passes: passes.max(1), patience })
    }

    /// Waits until the request was computed, until the caller is to compute it, until `deadline`, or until `stopped`
    /// returns `true`.
    ///
    /// `stopped` is called with the queue locked, whenever the seat is [woken](Self::wake); it must be quick, and stay
    /// `true`. `suspend` is called if the thread has to wait (B10).
    pub(crate) fn join<S>(
        &self,
        request: R,
        cost: usize,
        seat: &Arc<Seat>,
        deadline: Option<Instant>,
        stopped: impl Fn() -> bool,
        suspend: impl FnOnce() -> S,
    ) -> Joined<'_, R> {
        let mut state = self.lock();
        state.expected.remove(&seat.address());
        let leads = state.leaders < self.passes;
        state.leaders += usize::from(leads);
        state.last += 1;
        let ticket = state.last;
        state.waiting.push_back(Waiting { ticket, cost, request, seat: Arc::clone(seat), leads });
        let at = state.waiting.len() - 1;
        if leads && self.patience(&state, at, Instant::now()).is_zero() {
            return Joined::Leads(self.lead(state, at));
        }
        let leaders = self.ready(&state);
        drop(state);
        notify(leaders);
        let mut suspended = Some(suspend());
        let mut state = self.lock();
        loop {
            if let Some((request, completed)) = state.ended.remove(&ticket) {
                // B10.
                drop(state);
                return if completed { Joined::Computed(request) } else { Joined::CutOff(request) };
            }
            let Ok(at) = state.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket) else {
                // B5: it is in a pass.
                state = wait(seat, state, None);
                continue;
            };
            let now = Instant::now();
            let mut left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            if left == Some(Duration::ZERO) || stopped() {
                return Self::leave(state, at);
            }
            if state.waiting[at].leads {
                let patience = self.patience(&state, at, now);
                if suspended.is_none() || patience.is_zero() {
                    match suspended.take() {
                        None => return Joined::Leads(self.lead(state, at)),
                        Some(suspended) => {
                            // B10. Those who come meanwhile are in the pass.
                            drop(state);
                            drop(suspended);
                            state = self.lock();
                            continue;
                        }
                    }
                }
                left = Some(left.map_or(patience, |left| left.min(patience)));
            }
            state = wait(seat, state, left);
        }
    }

    /// The thread of a seat will not come again soon.
    pub(crate) fn say_goodbye(&self, seat: &Seat) {
        let leaders = {
            let mut state = self.lock();
            if state.expected.remove(&seat.address()).is_some() { self.ready(&state) } else { Vec::new() }
        };
        notify(leaders);
    }

    /// Makes the thread that waits at a seat call its `stopped`.
    pub(crate) fn wake(&self, seat: &Seat) {
        // The lock: the thread has called `stopped` after what made it true, or sleeps already.
        drop(self.lock());
        seat.changed.notify_all();
    }

    /// B5: takes out a request that waits.
    fn leave<'a>(mut state: MutexGuard<'_, State<R>>, at: usize) -> Joined<'a, R> {
        let Some(own) = state.waiting.remove(at) else { unreachable!("the caller has found it there") };
        let next = if own.leads { state.hand_on() } else { None };
        drop(state);
        notify(next);
        Joined::Left(own.request)
    }

    /// B1 and B2: takes the leader's request and those behind it.
    fn lead(&self, mut state: MutexGuard<'_, State<R>>, at: usize) -> Leader<'_, R> {
        let share = self.share(&state);
        let mut left = share.saturating_sub(state.waiting[at].cost);
        let fits = |waiting: &&Waiting<R>| {
            let fits = !waiting.leads && waiting.cost <= left;
            left = left.saturating_sub(waiting.cost);
            fits
        };
        let end = at + 1 + state.waiting.range(at + 1..).take_while(fits).count();
        let (mut requests, mut seats, mut tickets, mut cost) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for taken in state.waiting.drain(at..end) {
            cost += taken.cost;
            requests.push(taken.request);
            seats.push(taken.seat);
            tickets.push(taken.ticket);
        }
        // The leader's own.
        tickets.remove(0);
        let began = Instant::now();
        state.running += cost;
        state.expected.retain(|_, until| *until > began);
        Leader { queue: self, requests, seats, tickets, cost, began }
    }

    /// B2: the most that a pass takes now.
    fn share(&self, state: &State<R>) -> usize {
        let there = state.waiting.iter().fold(state.running, |sum, waiting| sum + waiting.cost);
        // Mostly a request costs one.
        (there + state.expected.len()).div_ceil(self.passes).min(self.most)
    }

    /// How long the leader at this place still waits for those that are expected: not at all once it has its share.
    fn patience(&self, state: &State<R>, at: usize, now: Instant) -> Duration {
        let others = state.waiting.range(at + 1..).take_while(|waiting| !waiting.leads);
        let gathered = others.fold(state.waiting[at].cost, |sum, waiting| sum + waiting.cost);
        match state.expected.values().max() {
            Some(until) if gathered < self.share(state) => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    /// The seats of the leaders that need not wait any longer.
    fn ready(&self, state: &State<R>) -> Vec<Arc<Seat>> {
        let now = Instant::now();
        let leaders = state.waiting.iter().enumerate().take_while(|(_, waiting)| waiting.leads);
        let ready = leaders.filter(|&(at, _)| self.patience(state, at, now).is_zero());
        ready.map(|(_, waiting)| Arc::clone(&waiting.seat)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
impl<R> BatchQueue<R> {
    /// The requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }
}

impl<R> State<R> {
    /// B3: gives the place of a leader that has ended to the first request that waits and does not lead. The seat is
    /// the one to wake.
    fn hand_on(&mut self) -> Option<Arc<Seat>> {
        let Some(next) = self.waiting.iter_mut().find(|waiting| !waiting.leads) else {
            self.leaders -= 1;
            return None;
        };
        next.leads = true;
        Some(Arc::clone(&next.seat))
    }
}

/// The requests of a pass, and the right to compute them. Its drop cuts the pass off.
pub(crate) struct Leader<'a, R> {
    queue: &'a BatchQueue<R>,
    /// The leader's own is the first. Empty when the pass has ended.
    requests: Vec<R>,
    seats: Vec<Arc<Seat>>,
    /// Of the others.
    tickets: Vec<u64>,
    /// Of all requests.
    cost: usize,
    began: Instant,
}

impl<R> Leader<'_, R> {
    /// The requests, the leader's own first and the others in the order in which they came.
    pub(crate) fn requests(&mut self) -> &mut [R] {
        &mut self.requests
    }

    /// Ends the pass: the others have their requests back, and the caller its own.
    pub(crate) fn finish(mut self) -> R {
        let Some(own) = self.end(true) else { unreachable!("only the drop comes after this") };
        own
    }

    /// B4 and B6.
    fn end(&mut self, completed: bool) -> Option<R> {
        let mut requests = mem::take(&mut self.requests).into_iter();
        let own = requests.next()?;
        let now = Instant::now();
        let patience = (self.queue.patience)(now - self.began);
        let next = {
            let mut state = self.queue.lock();
            let tickets = self.tickets.drain(..);
            state.ended.extend(tickets.zip(requests.map(|request| (request, completed))));
            state.running -= self.cost;
            if let Some(until) = now.checked_add(patience).filter(|until| completed && *until > now) {
                state.expected.extend(self.seats.iter().map(|seat| (seat.address(), until)));
            }
            state.hand_on()
        };
        // The next leader last: those before it come again for its pass.
        notify(self.seats.drain(1..).chain(next));
        Some(own)
    }
}

impl<R> Drop for Leader<'_, R> {
    fn drop(&mut self) {
        drop(self.end(false));
    }
}

impl<R> fmt::Debug for BatchQueue<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchQueue").field("most", &self.most).field("passes", &self.passes).finish_non_exhaustive()
    }
}

fn notify(seats: impl IntoIterator<Item = Arc<Seat>>) {
    for seat in seats {
        seat.changed.notify_all();
    }
}

fn wait<'a, R>(seat: &Seat, state: MutexGuard<'a, State<R>>, left: Option<Duration>) -> MutexGuard<'a, State<R>> {
    match left {
        None => seat.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        Some(left) => seat.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
    }
}

// By its path, as this file is also included from elsewhere.
#[cfg(all(test, not(loom)))]
#[path = "queue/tests.rs"]
mod tests;
