//! Runs a program over a table, and checks the history of its calls and answers.

use std::sync::Arc as StdArc;

use graphpool::{GuestHandle, Handle, HandleTable, Kind};
use loom::sync::Arc;
use loom::thread;

use super::super::{Log, Part};
use crate::history::table::{Call, each_index_is_linearizable};
use crate::history::{History, Set};
use crate::support::new_pool;

/// Which guest handle a call is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// A guest handle that is bound from the start.
    Bound,
    /// A guest handle that was unbound before the start. The next binding takes its index.
    Stale,
    /// The next guest handle at that index, guessed.
    NextOfStale,
    /// The next guest handle at the bound one's index, guessed.
    NextOfBound,
    /// The first guest handle at an index that was never used.
    Fresh,
    /// This thread's last binding.
    Own,
    /// This thread's second-last binding.
    Earlier,
    /// The guest handle that the other thread has sent.
    Received,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Bind,
    Resolve(Which),
    Unbind(Which),
    Drain,
    /// Sends the guest handle of the last binding.
    Send,
    /// Receives a handle, or ends the script if none was sent yet.
    Receive,
}

use Step::{Bind, Drain, Receive, Resolve, Send, Unbind};
use Which::{Bound, Earlier, Fresh, NextOfBound, NextOfStale, Own, Received, Stale};

/// A script for each thread. The first is the main thread's, which has made the bindings that the program starts with.
pub type Program = Vec<Vec<Step>>;

/// What is recorded of a call.
#[derive(Debug, Clone)]
enum Event {
    Call(Call),
    /// The handles that it gave. No handle is bound twice, so that each tells its guest handle.
    Drain(Vec<u64>),
}

/// The difference between a guest handle and the next one at its index.
const TAG: u32 = 1 << 1;
/// The difference between guest handles of neighbouring indexes.
const INDEX: u32 = 1 << 13;

struct Player<'a> {
    table: &'a HandleTable<u64>,
    part: Part<'a, Event>,
    /// Handles that this thread may bind.
    handles: Vec<Handle<u64>>,
    /// The bound and the stale one.
    given: [u32; 2],
    own: u32,
    earlier: u32,
    received: u32,
}

impl Player<'_> {
    fn which(&self, which: Which) -> u32 {
        let [bound, stale] = self.given;
        match which {
            Bound => bound,
            Stale => stale,
            NextOfStale => stale + TAG,
            NextOfBound => bound + TAG,
            Fresh => bound + INDEX,
            Own => self.own,
            Earlier => self.earlier,
            Received => self.received,
        }
    }

    fn play(&mut self, script: &[Step]) {
        for step in script {
            match *step {
                Send => self.part.send(self.own.into()),
                Receive => match self.part.receive() {
                    Some(bound) => self.received = u32::try_from(bound).unwrap(),
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
        let table = self.table;
        Event::Call(match step {
            Bind => {
                let handle = self.handles.pop().expect("a script has two bindings at most");
                self.earlier = self.own;
                self.own = table.bind(handle).unwrap().to_bits();
                Call::Bind { handle: handle.to_bits(), bound: self.own }
            }
            Resolve(which) => {
                let bound = self.which(which);
                Call::Resolve { bound, handle: table.resolve(GuestHandle::from_bits(bound)).map(Handle::to_bits) }
            }
            Unbind(which) => {
                let bound = self.which(which);
                Call::Unbind { bound, handle: table.unbind(GuestHandle::from_bits(bound)).map(Handle::to_bits) }
            }
            Drain => return Event::Drain(table.drain().map(Handle::to_bits).collect()),
            Send | Receive => unreachable!("no calls"),
        })
    }
}

/// Runs the program once and checks its history.
pub fn execute(program: &Program) {
    let pool = new_pool();
    let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::Zero));
    // A table binds any handle of the pool, live or not.
    let first = pool.insert(0).unwrap().to_bits();
    let mut handles = (first..).map(|bits| Handle::from_bits(bits).unwrap());
    let mut handles = || handles.by_ref().take(2).collect::<Vec<_>>();
    let log = StdArc::new(Log::new());
    let part = Part { log: &log, known: 0 };
    let mut main = Player { table: &table, part, handles: handles(), given: [0; 2], own: 0, earlier: 0, received: 0 };
    main.play(&[Bind]);
    main.given[1] = main.own;
    main.play(&[Bind, Unbind(Stale)]);
    main.given[0] = main.own;
    main.handles = handles();
    let (given, known) = (main.given, main.part.known);
    let others: Vec<_> = program[1..]
        .iter()
        .map(|script| {
            let (table, log, script, handles) = (Arc::clone(&table), StdArc::clone(&log), script.clone(), handles());
            thread::spawn(move || {
                let part = Part { log: &log, known };
                let mut player = Player { table: &table, part, handles, given, own: 0, earlier: 0, received: 0 };
                player.play(&script);
                player.part.known
            })
        })
        .collect();
    main.play(&program[0]);
    for other in others {
        main.part.known |= other.join().unwrap();
    }
    main.play(&[Bound, Stale, NextOfStale, NextOfBound, Fresh].map(Resolve));
    let Ok(log) = StdArc::try_unwrap(log).map(Log::into_history) else { unreachable!("all have joined") };
    assert!(each_index_is_linearizable(&reading(&log), !(INDEX - 1)), "no order of {program:?}: {log:#?}");
}

/// The history that the events stand for. A drain stands for one call for each guest handle, not at one time: it
/// unbound the handles that it gave, and found each other guest handle unbound at some moment.
fn reading(log: &History<Event>) -> History<Call> {
    let bindings = log.operations.iter().filter_map(|operation| match operation.what {
        Event::Call(Call::Bind { handle, bound }) => Some((handle, bound)),
        _ => None,
    });
    let bindings: Vec<(u64, u32)> = bindings.collect();
    let mut history = History::default();
    let mut sets: Vec<Set> = Vec::new();
    for operation in &log.operations {
        let after = (0..sets.len()).filter(|at| operation.after >> at & 1 == 1).fold(0, |set, at| set | sets[at]);
        sets.push(match &operation.what {
            Event::Call(call) => history.push(*call, after),
            Event::Drain(given) => bindings.iter().fold(0, |set, &(handle, bound)| {
                let times = given.iter().filter(|given| **given == handle).count();
                let call = Call::Unbind { bound, handle: Some(handle) };
                let unbound = (0..times).fold(0, |set, _| set | history.push(call, after));
                let missed = times == 0;
                let missed = if missed { history.push(Call::Resolve { bound, handle: None }, after) } else { 0 };
                set | unbound | missed
            }),
        });
    }
    history
}
