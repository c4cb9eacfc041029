//! How a program over a pool is run, and what its calls and answers make of its history.

use std::sync::Arc as StdArc;

use graphpool::pool::Tiny;
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
    /// Of an entry that is there from the start.
    Live,
    /// Of one that was removed before the start. The next insertion takes its place.
    Stale,
    /// The next one at that place, guessed ahead.
    NextOfStale,
    /// The next one at the live entry's place.
    NextOfLive,
    /// The first one at a place that no entry was at, which the next insertion but one takes.
    Fresh,
    /// Of this thread's last insertion.
    Own,
    /// Of the other thread's, as it was told.
    Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Insert,
    Get(Which),
    Acquire(Which),
    Contains(Which),
    Remove(Which),
    Clear,
    /// Tells of the last insertion, and of all that this thread has done.
    Tell,
    /// Goes on only if it was told.
    Hear,
}

use Step::{Acquire, Clear, Contains, Get, Hear, Insert, Remove, Tell};
use Which::{Fresh, Live, NextOfLive, NextOfStale, Own, Stale, Told};

/// What each thread does; the first is the main one's, which has made what the program starts with.
pub type Program = Vec<Vec<Step>>;

/// What is expected of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// An order of the calls at each place.
    AtEachPlace,
    /// One of all calls.
    OfAll,
}

/// What a call does to the history.
#[derive(Debug, Clone)]
enum Event {
    Call(Call),
    /// The entries that it came by, and how many of them it removed.
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
    told: u64,
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
            Told => self.told,
        }
    }

    fn play(&mut self, script: &[Step]) {
        for step in script {
            match *step {
                Tell => self.part.tell(self.own),
                Hear => match self.part.hear() {
                    Some(handle) => self.told = handle,
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
            Tell | Hear => unreachable!("no calls"),
        })
    }
}

/// Runs the program once and checks what came of it.
pub fn execute(program: &Program, order: Order) {
    let pool = new_pool();
    let log = StdArc::new(Log::new());
    let mut main =
        Player { pool: &pool, part: Part { log: &log, known: 0 }, given: [0; 2], own: 0, told: 0, next_value: 1 };
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
                let mut player = Player { pool: &pool, part, given, own: 0, told: 0, next_value: 10 * thread };
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

/// The histories that the events may stand for. A clear is as many calls as it came by entries, at no one time: it
/// removed those that it says it did, found the others live and then lost them, and came by a moment at which each
/// entry that it didn't see was not there.
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
