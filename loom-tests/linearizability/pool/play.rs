//! Runs a program over a pool, and checks the history of its calls and answers.

use std::sync::Arc as StdArc;

use graphpool::pool::for_tests::Tiny;
use graphpool::{Handle, pin};
use loom::sync::Arc;
use loom::thread;

use super::super::{Log, Part};
use crate::history::checker::linearize;
use crate::history::pool::{self, Call, each_place_is_linearizable};
use crate::history::{History, Operation};
use crate::support::{Payload, Pool, begin, new_pool};

/// Which handle a call is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Of an entry that is live from the start.
    Live,
    /// Of an entry that was removed before the start. The next insertion takes its place.
    Stale,
    /// The next handle at that place, guessed.
    NextOfStale,
    /// The next handle at the live entry's place, guessed.
    NextOfLive,
    /// The first handle at an unused place, which the second insertion takes.
    Fresh,
    /// Of this thread's last insertion.
    Own,
    /// The handle that the other thread has sent.
    Received,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Insert,
    Get(Which),
    Acquire(Which),
    Contains(Which),
    Remove(Which),
    Clear,
    /// Sends the handle of the last insertion.
    Send,
    /// Receives a handle, or ends the script if none was sent yet.
    Receive,
}

use Step::{Acquire, Clear, Contains, Get, Insert, Receive, Remove, Send};
use Which::{Fresh, Live, NextOfLive, NextOfStale, Own, Received, Stale};

/// A script for each thread. The first is the main thread's, which has made the entries that the program starts with.
pub type Program = Vec<Vec<Step>>;

/// The order that a history must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// An order of the calls at each place.
    AtEachPlace,
    /// An order of all calls.
    OfAll,
}

/// What is recorded of a call.
#[derive(Debug, Clone)]
enum Event {
    Call(Call),
    /// The entries that it found, and how many of them it removed.
    Clear {
        seen: Vec<(u64, u64)>,
        removed: usize,
    },
}

fn handle_of(bits: u64) -> Handle<Payload> {
    Handle::from_bits(bits).expect("it has the pool's tag")
}

struct Player<'a> {
    pool: &'a Pool<Payload>,
    part: Part<'a, Event>,
    /// The live and the stale one.
    given: [u64; 2],
    own: u64,
    received: u64,
    next_value: u64,
}

impl Player<'_> {
    fn which(&self, which: Which) -> u64 {
        let [live, stale] = self.given;
        match which {
            Live => live,
            Stale => stale,
            NextOfStale => stale + Tiny::GENERATION,
            NextOfLive => live + Tiny::GENERATION,
            Fresh => live + 1,
            Own => self.own,
            Received => self.received,
        }
    }

    fn play(&mut self, script: &[Step]) {
        for step in script {
            match *step {
                Send => self.part.send(self.own),
                Receive => match self.part.receive() {
                    Some(handle) => self.received = handle,
                    None => return,
                },
                _ => {
                    let event = self.call(*step);
                    self.part.record(event);
                }
            }
        }
    }

    fn call(&mut self, step: Step) -> Event {
        let pool = self.pool;
        Event::Call(match step {
            Insert => {
                let value = self.next_value;
                self.next_value += 1;
                self.own = pool.insert(Payload::new(value)).unwrap().to_bits();
                Call::Insert { value, handle: self.own }
            }
            Get(which) => {
                let handle = self.which(which);
                let guard = pin();
                Call::Get { handle, value: pool.get(handle_of(handle), &guard).map(Payload::read) }
            }
            Acquire(which) => {
                let handle = self.which(which);
                Call::Get { handle, value: pool.acquire(handle_of(handle)).map(|value| value.read()) }
            }
            Contains(which) => {
                let handle = self.which(which);
                Call::Contains { handle, live: pool.contains(handle_of(handle)) }
            }
            Remove(which) => {
                let handle = self.which(which);
                Call::Remove { handle, value: pool.remove(handle_of(handle)).map(|value| value.read()) }
            }
            Clear => {
                let mut seen = Vec::new();
                let removed = pool.retain(|handle, value| {
                    seen.push((handle.to_bits(), value.read()));
                    false
                });
                return Event::Clear { seen, removed };
            }
            Send | Receive => unreachable!("no calls"),
        })
    }
}

/// Runs the program once and checks its history.
pub fn execute(program: &Program, order: Order) {
    let pool = new_pool();
    let log = StdArc::new(Log::new());
    let mut main =
        Player { pool: &pool, part: Part { log: &log, known: 0 }, given: [0; 2], own: 0, received: 0, next_value: 1 };
    main.play(&[Insert]);
    main.given[1] = main.own;
    main.play(&[Insert, Remove(Stale)]);
    main.given[0] = main.own;
    let (given, known) = (main.given, main.part.known);
    begin();
    let others: Vec<_> = (1..)
        .zip(&program[1..])
        .map(|(thread, script)| {
            let (pool, log, script) = (Arc::clone(&pool), StdArc::clone(&log), script.clone());
            thread::spawn(move || {
                let part = Part { log: &log, known };
                let mut player = Player { pool: &pool, part, given, own: 0, received: 0, next_value: 10 * thread };
                player.play(&script);
                player.part.known
            })
        })
        .collect();
    main.play(&program[0]);
    for other in others {
        main.part.known |= other.join().unwrap();
    }
    main.play(&[Live, Stale, NextOfStale, NextOfLive, Fresh].map(Contains));
    let Ok(log) = StdArc::try_unwrap(log).map(Log::into_history) else { unreachable!("all have joined") };
    let has_an_order = |history: &History<Call>| match order {
        Order::AtEachPlace => each_place_is_linearizable(history, Tiny::GENERATION - 1),
        Order::OfAll => linearize::<pool::Pool>(history).is_some(),
    };
    assert!(readings(&log).iter().any(has_an_order), "no order of {program:?} {order:?}: {log:#?}");
}

/// The histories that the events may stand for. A clear stands for several calls, not at one time: it found each entry
/// live that it saw, removed as many of them as it says, lost the others to another removal, and found each other entry
/// absent at some moment.
fn readings(log: &History<Event>) -> Vec<History<Call>> {
    let inserted = log.operations.iter().filter_map(|operation| match operation.what {
        Event::Call(Call::Insert { handle, .. }) => Some(handle),
        _ => None,
    });
    let inserted: Vec<u64> = inserted.collect();
    let mut readings = vec![(History::default(), Vec::new())];
    for operation in &log.operations {
        readings = readings.iter().flat_map(|(history, sets)| read(operation, history, sets, &inserted)).collect();
    }
    readings.into_iter().map(|(history, _)| history).collect()
}

/// A history so far, and for each event the set of its calls.
type Reading = (History<Call>, Vec<u64>);

fn read(operation: &Operation<Event>, history: &History<Call>, sets: &[u64], inserted: &[u64]) -> Vec<Reading> {
    let after = (0..sets.len()).filter(|at| operation.after >> at & 1 == 1).fold(0, |set, at| set | sets[at]);
    let reading = |calls: &dyn Fn(&mut History<Call>) -> u64| {
        let mut history = history.clone();
        let set = calls(&mut history);
        (history, [sets, &[set]].concat())
    };
    match &operation.what {
        Event::Call(call) => vec![reading(&|history| history.push(*call, after))],
        Event::Clear { seen, removed } => (0..1_u32 << seen.len())
            .filter(|won| won.count_ones() as usize == *removed)
            .map(|won| {
                reading(&|history| {
                    let mut set = 0;
                    for (at, &(handle, value)) in seen.iter().enumerate() {
                        let sighted = history.push(Call::Get { handle, value: Some(value) }, after);
                        let value = (won >> at & 1 == 1).then_some(value);
                        set |= sighted | history.push(Call::Remove { handle, value }, after | sighted);
                    }
                    for &handle in inserted.iter().filter(|handle| seen.iter().all(|seen| seen.0 != **handle)) {
                        set |= history.push(Call::Contains { handle, live: false }, after);
                    }
                    set
                })
            })
            .collect(),
    }
}
