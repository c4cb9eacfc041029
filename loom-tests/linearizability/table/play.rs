//! How a program over a table is run, and what its calls and answers make of its history.

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
    /// One that is bound from the start.
    Bound,
    /// One that was unbound before the start. The next binding takes its index.
    Stale,
    /// The next one at that index, guessed ahead.
    NextOfStale,
    /// The next one at the bound one's index.
    NextOfBound,
    /// The first one at an index that was never used.
    Fresh,
    /// This thread's last.
    Own,
    /// Its last but one.
    Earlier,
    /// The other thread's, as it was told.
    Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Bind,
    Resolve(Which),
    Unbind(Which),
    Drain,
    /// Tells of the last binding, and of all that this thread has done.
    Tell,
    /// Goes on only if it was told.
    Hear,
}

use Step::{Bind, Drain, Hear, Resolve, Tell, Unbind};
use Which::{Bound, Earlier, Fresh, NextOfBound, NextOfStale, Own, Stale, Told};

/// What each thread does; the first is the main one's, which has made what the program starts with.
pub type Program = Vec<Vec<Step>>;

/// What a call does to the history.
#[derive(Debug, Clone)]
enum Event {
    Call(Call),
    /// What it gave. No handle is bound twice, so that each says which guest handle it was.
    Drain(Vec<u64>),
}

/// What a guest handle and the next one at its index differ by.
const TAG: u32 = 1 << 1;
/// What guest handles of neighbouring indexes differ by.
const INDEX: u32 = 1 << 13;

struct Player<'a> {
    table: &'a HandleTable<u64>,
    part: Part<'a, Event>,
    /// What this thread may bind.
    handles: Vec<Handle<u64>>,
    /// The bound and the stale one.
    given: [u32; 2],
    own: u32,
    earlier: u32,
    told: u32,
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
            Told => self.told,
        }
    }

    fn play(&mut self, script: &[Step]) {
        for step in script {
            match *step {
                Tell => self.part.tell(self.own.into()),
                Hear => match self.part.hear() {
                    Some(bound) => self.told = u32::try_from(bound).unwrap(),
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
            Tell | Hear => unreachable!("no calls"),
        })
    }
}

/// Runs the program once and checks what came of it.
pub fn execute(program: &Program) {
    let pool = new_pool();
    let table = Arc::new(HandleTable::new(&pool, Kind::Graph));
    // A table doesn't ask whether they are live.
    let first = pool.insert(0).unwrap().to_bits();
    let mut handles = (first..).map(|bits| Handle::from_bits(bits).unwrap());
    let mut handles = || handles.by_ref().take(2).collect::<Vec<_>>();
    let log = StdArc::new(Log::new());
    let part = Part { log: &log, known: 0 };
    let mut main = Player { table: &table, part, handles: handles(), given: [0; 2], own: 0, earlier: 0, told: 0 };
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
                let mut player = Player { table: &table, part, handles, given, own: 0, earlier: 0, told: 0 };
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

/// What the events stand for. A drain is as many calls as there are guest handles, at no one time: it unbound what it
/// gave, and came by a moment at which each other one was not bound.
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
