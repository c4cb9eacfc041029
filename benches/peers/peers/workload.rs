//! What each subject is made to do.

use std::hint::black_box;
use std::time::Duration;

use crate::measure::{Clock, Contender, on_threads};
use crate::subject::{Churn, Subject};
use crate::subjects::{
    Cells, Concurrent, Dash, Held, MutexSlots, Papaya, Pinned, Plain, Repinned, RwLockSlots, Scc, Sharded, Table,
    Tables,
};

/// Operations between two looks at the clock.
const BURST: usize = 4096;
const FEW: usize = 1024;
const MANY: usize = 1 << 20;

/// The workloads, in the order of the table.
pub const ALL: [&str; 8] = [
    "get-uniform-1k",
    "get-uniform-1m",
    "get-hot",
    "acquire",
    "insert-remove",
    "mixed-98-1-1",
    "mixed-10-45-45",
    "fill-drain",
];

/// Everything that takes part in a workload.
pub fn contenders(workload: &str) -> Vec<Box<dyn Contender>> {
    match workload {
        "get-uniform-1k" => readers::<Table>(Read::Get, FEW, 1 << 14),
        "get-uniform-1m" => readers::<Tables>(Read::Get, MANY, MANY),
        "get-hot" => readers::<Table>(Read::Get, 1, BURST),
        "acquire" => readers::<Table>(Read::Acquire, FEW, 1 << 14),
        "insert-remove" => churners(Change::Pair),
        "mixed-98-1-1" => churners(Change::Mixed { changes_per_200: 4 }),
        "mixed-10-45-45" => churners(Change::Mixed { changes_per_200: 180 }),
        "fill-drain" => churners(Change::FillDrain),
        _ => unreachable!("not a workload: {workload}"),
    }
}

fn readers<T: Subject>(read: Read, count: usize, picks: usize) -> Vec<Box<dyn Contender>> {
    fn one<S: Subject>(read: Read, count: usize, picks: usize) -> Box<dyn Contender> {
        let (subject, keys) = S::filled(count);
        let mut random = Random(1);
        let picks = (0..picks).map(|_| keys[random.below(count)]).collect();
        Box::new(Reading { subject, picks, read })
    }
    vec![
        one::<Plain>(read, count, picks),
        one::<Held>(read, count, picks),
        one::<Repinned>(read, count, picks),
        one::<Pinned>(read, count, picks),
        one::<T>(read, count, picks),
        one::<Sharded>(read, count, picks),
        one::<Concurrent>(read, count, picks),
        one::<RwLockSlots>(read, count, picks),
        one::<MutexSlots>(read, count, picks),
        one::<Dash>(read, count, picks),
        one::<Papaya>(read, count, picks),
        one::<Scc>(read, count, picks),
        one::<Cells>(read, count, picks),
    ]
}

fn churners(change: Change) -> Vec<Box<dyn Contender>> {
    fn one<S: Churn>(change: Change) -> Box<dyn Contender> {
        let (subject, keys) = S::filled(FEW);
        Box::new(Churning { subject, keys, change })
    }
    vec![
        one::<Held>(change),
        one::<Repinned>(change),
        one::<Pinned>(change),
        one::<Table>(change),
        one::<Sharded>(change),
        one::<Concurrent>(change),
        one::<RwLockSlots>(change),
        one::<MutexSlots>(change),
        one::<Dash>(change),
        one::<Papaya>(change),
        one::<Scc>(change),
    ]
}

#[derive(Clone, Copy)]
enum Read {
    Get,
    Acquire,
}

/// Look-ups of keys that were drawn beforehand, so that the drawing is no part of the figure.
struct Reading<S: Subject> {
    subject: S,
    picks: Vec<S::Key>,
    read: Read,
}

impl<S: Subject> Contender for Reading<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn round(&self, threads: usize, time: Duration) -> f64 {
        on_threads(threads, time, |thread, clock| {
            let mut reader = self.subject.reader();
            // Each thread begins elsewhere.
            let mut bursts = self.picks.chunks(BURST).cycle().skip(self.picks.len() / BURST * thread / threads);
            clock.run(|| {
                let keys = bursts.next().unwrap_or_default();
                match self.read {
                    Read::Get => keys.iter().for_each(|key| {
                        black_box(self.subject.get(&mut reader, *black_box(key)));
                    }),
                    Read::Acquire => keys.iter().for_each(|key| {
                        black_box(self.subject.acquire(&mut reader, *black_box(key)));
                    }),
                }
                keys.len() as u64
            })
        })
    }
}

#[derive(Clone, Copy)]
enum Change {
    /// An entry is inserted and removed again. The pair is one operation.
    Pair,
    /// Look-ups of handles that stay, and, this often, an insertion or a removal of one of the thread's own, of which
    /// it has up to [`OWN`].
    Mixed { changes_per_200: u32 },
    /// `FILL` entries are inserted and then removed, oldest first. An insertion and a removal are one operation.
    FillDrain,
}

const OWN: usize = 64;
const FILL: usize = 4096;
/// Operations between two rests.
const REST: usize = 64;

/// Insertions and removals by each thread, among 1,024 entries that stay.
struct Churning<S: Churn> {
    subject: S,
    keys: Vec<S::Key>,
    change: Change,
}

impl<S: Churn> Contender for Churning<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn round(&self, threads: usize, time: Duration) -> f64 {
        on_threads(threads, time, |thread, clock| {
            let mut reader = self.subject.reader();
            match self.change {
                Change::Pair => self.pairs(&mut reader, clock),
                Change::Mixed { changes_per_200 } => self.mixed(&mut reader, clock, changes_per_200, thread),
                Change::FillDrain => self.fill_drain(&mut reader, clock),
            }
        })
    }
}

impl<S: Churn> Churning<S> {
    fn pairs(&self, reader: &mut S::Reader<'_>, clock: &Clock) -> f64 {
        clock.run(|| {
            for _ in 0..BURST / REST {
                for _ in 0..REST {
                    let key = self.subject.insert(reader, black_box(7));
                    black_box(self.subject.remove(reader, black_box(key)));
                }
                S::rest(reader);
            }
            BURST as u64
        })
    }

    fn mixed(&self, reader: &mut S::Reader<'_>, clock: &Clock, changes_per_200: u32, thread: usize) -> f64 {
        let mut random = Random(thread as u64 + 1);
        let mut own = Vec::with_capacity(OWN);
        let figure = clock.run(|| {
            for _ in 0..BURST / REST {
                for _ in 0..REST {
                    let draw = random.next();
                    if (draw >> 32) as u32 % 200 >= changes_per_200 {
                        black_box(self.subject.get(reader, self.keys[draw as usize % FEW]));
                    } else if own.is_empty() || (own.len() < OWN && draw & 1 == 0) {
                        own.push(self.subject.insert(reader, draw));
                    } else {
                        let key = own.swap_remove(draw as u32 as usize % own.len());
                        black_box(self.subject.remove(reader, key));
                    }
                }
                S::rest(reader);
            }
            BURST as u64
        });
        for key in own {
            self.subject.remove(reader, key);
        }
        figure
    }

    fn fill_drain(&self, reader: &mut S::Reader<'_>, clock: &Clock) -> f64 {
        let mut keys = Vec::with_capacity(FILL);
        clock.run(|| {
            for value in 0..FILL {
                keys.push(self.subject.insert(reader, value as u64));
                if value % REST == 0 {
                    S::rest(reader);
                }
            }
            for (number, key) in keys.drain(..).enumerate() {
                black_box(self.subject.remove(reader, key));
                if number % REST == 0 {
                    S::rest(reader);
                }
            }
            FILL as u64
        })
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    #[inline]
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 32) as usize % bound
    }
}
