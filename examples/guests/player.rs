//! One guest, played: it loads, opens, computes, checks, drops and probes in random order.

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Error, Guest, Target};

use crate::probe::{self, Kind, Origin};
use crate::random::Random;
use crate::record::{self, Row};
use crate::run::World;

/// Graphs and contexts that a guest has at the most, and dropped handles of each kind that it remembers.
const GRAPHS: usize = 3;
const CONTEXTS: usize = 4;
const REMEMBERED: usize = 32;

/// What the guests of one thread have done.
#[derive(Default)]
pub struct Tally {
    /// Guests made.
    pub guests: u64,
    /// Inferences whose outputs were looked at.
    pub inferences: u64,
    /// Handles given out, of graphs and of contexts.
    pub handles: u64,
    /// Probes, by [`Origin`].
    pub probes: [u64; 3],
    /// Probes that were not refused.
    pub resolved: u64,
    /// Inferences with an output that differed from the recorded one.
    pub wrong: u64,
    /// For each row that was inferred, whether its likeliest class was the right one.
    pub right: Vec<Option<bool>>,
}

/// A context and how far its inference is.
struct Context {
    handle: GuestHandle,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Its inputs are to be set.
    Idle,
    /// Its inputs are those of this row.
    Filled(usize),
    /// Its outputs are those of this row.
    Computed(usize),
}

/// A guest, what it has, and what it had.
pub struct Player<'a> {
    world: &'a World,
    guest: Guest,
    graphs: Vec<GuestHandle>,
    contexts: Vec<Context>,
    dropped_graphs: Vec<GuestHandle>,
    dropped_contexts: Vec<GuestHandle>,
    /// Inferences that it still makes.
    left: usize,
}

impl<'a> Player<'a> {
    /// A new guest, which has nothing.
    pub fn new(world: &'a World, tally: &mut Tally, random: &mut Random) -> Self {
        tally.guests += 1;
        Self {
            world,
            guest: world.engine.guest(),
            graphs: Vec::new(),
            contexts: Vec::new(),
            dropped_graphs: Vec::new(),
            dropped_contexts: Vec::new(),
            left: 8 + random.below(64),
        }
    }

    /// Whether the guest has done what it came for.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Does one thing or another. An error is a call that should have succeeded.
    pub fn step(&mut self, tally: &mut Tally, random: &mut Random) -> Result<(), Error> {
        if self.graphs.is_empty() && self.contexts.is_empty() {
            return self.load(tally, random);
        }
        match random.below(100) {
            0..6 if self.graphs.len() < GRAPHS => self.load(tally, random),
            6..20 if self.contexts.len() < CONTEXTS => self.open(tally, random),
            20..26 => self.unload(tally, random),
            26..38 => self.close(tally, random),
            38..50 => {
                self.probe(tally, random);
                Ok(())
            }
            _ if self.contexts.is_empty() => self.open(tally, random),
            _ => self.advance(tally, random),
        }
    }

    /// Ends the guest: half of them tidy up, in random order; the others are just gone, like an instance that traps.
    pub fn leave(mut self, tally: &mut Tally, random: &mut Random) -> Result<(), Error> {
        if random.one_in(2) {
            while !self.graphs.is_empty() || !self.contexts.is_empty() {
                if random.one_in(2) { self.unload(tally, random)? } else { self.close(tally, random)? }
            }
        }
        Ok(())
    }

    fn load(&mut self, tally: &mut Tally, random: &mut Random) -> Result<(), Error> {
        let World { record, .. } = self.world;
        // By name a model is built once; from bytes it may be built anew, which is long work for a big one.
        let rarity = 8 + record.model.len() / 65_536;
        let graph = if random.one_in(rarity) {
            self.guest.load(&[&record.model], Encoding::Onnx, Target::Cpu)?
        } else {
            self.guest.load_by_name(&record.name)?
        };
        self.graphs.push(graph);
        self.given(Kind::Graph, graph, tally, random);
        Ok(())
    }

    fn open(&mut self, tally: &mut Tally, random: &mut Random) -> Result<(), Error> {
        if self.graphs.is_empty() {
            return self.load(tally, random);
        }
        let graph = self.graphs[random.below(self.graphs.len())];
        let handle = self.guest.init_execution_context(graph)?;
        self.contexts.push(Context { handle, stage: Stage::Idle });
        self.given(Kind::Context, handle, tally, random);
        Ok(())
    }

    fn given(&self, kind: Kind, handle: GuestHandle, tally: &mut Tally, random: &mut Random) {
        tally.handles += 1;
        self.world.progress.handle();
        self.world.board.post(kind, handle, random);
    }

    /// Drops a graph. Contexts that were opened on it go on.
    fn unload(&mut self, tally: &mut Tally, random: &mut Random) -> Result<(), Error> {
        let Some(graph) = random.take(&mut self.graphs) else { return Ok(()) };
        self.guest.unload(graph)?;
        remember(&mut self.dropped_graphs, graph, random);
        self.try_handle(Kind::Graph, Origin::Stale, graph, tally, random);
        Ok(())
    }

    fn close(&mut self, tally: &mut Tally, random: &mut Random) -> Result<(), Error> {
        let Some(context) = random.take(&mut self.contexts) else { return Ok(()) };
        self.guest.drop_context(context.handle)?;
        remember(&mut self.dropped_contexts, context.handle, random);
        self.try_handle(Kind::Context, Origin::Stale, context.handle, tally, random);
        Ok(())
    }

    /// Takes one context's inference a step further, so that those of other contexts come between.
    fn advance(&mut self, tally: &mut Tally, random: &mut Random) -> Result<(), Error> {
        let rows = &self.world.record.rows;
        let place = random.below(self.contexts.len());
        let Context { handle, stage } = self.contexts[place];
        self.contexts[place].stage = match stage {
            Stage::Idle => {
                let row = self.world.next_row();
                for (index, tensor) in &rows[row].inputs {
                    self.guest.set_input(handle, *index, tensor.view())?;
                }
                Stage::Filled(row)
            }
            Stage::Filled(row) => {
                self.guest.compute(handle)?;
                Stage::Computed(row)
            }
            Stage::Computed(row) => {
                self.check(handle, row, tally)?;
                Stage::Idle
            }
        };
        Ok(())
    }

    /// Compares the outputs of a context with the recorded ones.
    fn check(&mut self, context: GuestHandle, row: usize, tally: &mut Tally) -> Result<(), Error> {
        let record = &self.world.record;
        let Row { outputs, label, .. } = &record.rows[row];
        let mut agrees = true;
        for (index, expected) in outputs {
            let output = self.guest.output(context, *index)?;
            agrees &= record::agrees(output.view(), expected.view(), record.tolerance);
            if let (0, Some(label)) = (*index, *label) {
                tally.right[row] = Some(record::likeliest(output.view()) == Some(usize::from(label)));
            }
        }
        tally.inferences += 1;
        tally.wrong += u64::from(!agrees);
        self.world.progress.inference();
        self.left = self.left.saturating_sub(1);
        Ok(())
    }

    /// Tries a handle that the guest must not be able to use.
    fn probe(&mut self, tally: &mut Tally, random: &mut Random) {
        let kind = if random.one_in(2) { Kind::Graph } else { Kind::Context };
        let dropped = if kind == Kind::Graph { &self.dropped_graphs } else { &self.dropped_contexts };
        let (origin, handle) = match random.below(4) {
            0 | 1 if dropped.is_empty() => return,
            0 | 1 => (Origin::Stale, dropped[random.below(dropped.len())]),
            2 => (Origin::Forged, GuestHandle::from_bits(random.bits() as u32)),
            _ if random.one_in(4) => match self.of_other_kind(kind) {
                Some(handle) => (Origin::Foreign, handle),
                None => return,
            },
            _ => (Origin::Foreign, GuestHandle::from_bits(self.world.board.pick(kind, random))),
        };
        self.try_handle(kind, origin, handle, tally, random);
    }

    /// A live handle of the guest's own, of the kind that is not wanted.
    fn of_other_kind(&self, wanted: Kind) -> Option<GuestHandle> {
        match wanted {
            Kind::Graph => self.contexts.first().map(|context| context.handle),
            Kind::Context => self.graphs.first().copied(),
        }
    }

    fn try_handle(&self, kind: Kind, origin: Origin, handle: GuestHandle, tally: &mut Tally, random: &mut Random) {
        let own = match kind {
            Kind::Graph => self.graphs.contains(&handle),
            Kind::Context => self.contexts.iter().any(|context| context.handle == handle),
        };
        let refused = match origin {
            // A handle that was dropped and given out again: the very thing that must not be.
            Origin::Stale if own => false,
            // A guest's handles mean something in that guest alone, so a forged or a foreign one may by chance be one
            // of its own, which it has every right to.
            Origin::Forged | Origin::Foreign if own => return,
            _ => probe::refused(&self.guest, kind, handle, &self.world.record.rows[0], random),
        };
        tally.probes[origin as usize] += 1;
        tally.resolved += u64::from(!refused);
    }
}

/// Keeps a dropped handle for later probes, in the place of some other once there are many.
fn remember(dropped: &mut Vec<GuestHandle>, handle: GuestHandle, random: &mut Random) {
    if dropped.len() < REMEMBERED {
        dropped.push(handle);
    } else {
        dropped[random.below(REMEMBERED)] = handle;
    }
}
