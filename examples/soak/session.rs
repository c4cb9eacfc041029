//! What guests and their host do, at random, and what they find wrong.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, Error, ErrorKind, Guest, ModelError, ModelSource, Target, Tensor};

use crate::backend::{MANNERS, model};

/// Guests that each thread keeps.
const GUESTS: usize = 40;
/// Named models: `n0` and on. The version of a name is in its factor: `name × 1000 + version`.
const NAMES: u64 = 6;

/// What was done, and what was wrong.
#[derive(Default)]
pub struct Tally {
    guests: AtomicU64,
    right: AtomicU64,
    refused: AtomicU64,
    cancelled: AtomicU64,
    stale_refused: AtomicU64,
    wrong: AtomicU64,
    stale_resolved: AtomicU64,
    unexplained: AtomicU64,
}

impl Tally {
    /// All of it in a line.
    pub fn line(&self) -> String {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!(
            "{} guests, {} right, {} refused, {} cancels, {} stale refused; {} wrong, {} stale resolved, {} unexplained",
            get(&self.guests),
            get(&self.right),
            get(&self.refused),
            get(&self.cancelled),
            get(&self.stale_refused),
            get(&self.wrong),
            get(&self.stale_resolved),
            get(&self.unexplained),
        )
    }

    /// What must not be.
    pub fn failures(&self) -> Vec<String> {
        [
            (&self.wrong, "wrong outputs"),
            (&self.stale_resolved, "stale handles resolved"),
            (&self.unexplained, "refusals that nothing explains"),
        ]
        .into_iter()
        .map(|(count, what)| (count.load(Ordering::Relaxed), what))
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

fn one(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

struct Player {
    guest: Guest,
    /// With the factor of those that are not named, and the name of those that are.
    graphs: Vec<(GuestHandle, Model)>,
    contexts: Vec<Stream>,
    /// Handles that were given back.
    stale: VecDeque<GuestHandle>,
}

#[derive(Clone, Copy)]
struct Model {
    factor: u64,
    named: bool,
    good: bool,
}

struct Stream {
    handle: GuestHandle,
    model: Model,
    /// The version of a named model that its first output has shown.
    seen: Option<f32>,
}

impl Player {
    fn new(engine: &Engine, tally: &Tally) -> Self {
        one(&tally.guests);
        Self { guest: engine.guest(), graphs: Vec::new(), contexts: Vec::new(), stale: VecDeque::new() }
    }

    fn step(&mut self, random: &mut Random, tally: &Tally) {
        let pick = random.below(1 << 20) as usize;
        match random.below(20) {
            0..=2 => self.load(random, tally),
            3..=4 => self.load_by_name(random, tally),
            5..=8 => self.open(pick, tally),
            9 if !self.graphs.is_empty() => {
                let (graph, _) = self.graphs.swap_remove(pick % self.graphs.len());
                self.gone(graph, &self.guest.unload(graph), tally);
            }
            10 if !self.contexts.is_empty() => {
                let stream = self.contexts.swap_remove(pick % self.contexts.len());
                self.gone(stream.handle, &self.guest.drop_context(stream.handle), tally);
            }
            11 if !self.stale.is_empty() => {
                let stale = self.stale[pick % self.stale.len()];
                let calls = [self.guest.compute(stale), self.guest.unload(stale), self.guest.drop_context(stale)];
                for call in calls {
                    let refused = call.is_err_and(|error| error.kind() == ErrorKind::InvalidArgument);
                    one(if refused { &tally.stale_refused } else { &tally.stale_resolved });
                }
            }
            12 if !self.contexts.is_empty() => {
                // Dropped before it is done, and cancelled by that.
                let stream = &self.contexts[pick % self.contexts.len()];
                drop(self.guest.compute_async(stream.handle));
                one(&tally.cancelled);
            }
            13 if self.contexts.len() > 1 => {
                let (first, second) = (pick % self.contexts.len(), (pick + 1) % self.contexts.len());
                let futures = [first, second].map(|place| self.guest.compute_async(self.contexts[place].handle));
                let _ = self.guest.cancel(self.contexts[first].handle);
                one(&tally.cancelled);
                for future in futures {
                    drop(finish(future));
                }
            }
            _ => self.infer(pick, random, tally),
        }
    }

    fn load(&mut self, random: &mut Random, tally: &Tally) {
        // Mostly good ones, from few factors so that guests share them.
        let manner = if random.below(3) > 0 { 'g' } else { MANNERS[random.below(MANNERS.len() as u64) as usize] };
        let factor = 1 + random.below(20);
        let bytes = model(factor as u32, manner);
        let good = matches!(manner, 'g' | 's');
        match self.guest.load(&[&bytes], Encoding::Onnx, Target::Cpu) {
            Ok(graph) => self.graphs.push((graph, Model { factor, named: false, good })),
            Err(error) => Self::refused(&error, good, tally),
        }
    }

    fn load_by_name(&mut self, random: &mut Random, tally: &Tally) {
        let factor = random.below(NAMES);
        match self.guest.load_by_name(&format!("n{factor}")) {
            Ok(graph) => self.graphs.push((graph, Model { factor, named: true, good: true })),
            // The host has removed it for a moment.
            Err(error) if error.kind() == ErrorKind::NotFound => one(&tally.refused),
            Err(error) => Self::refused(&error, true, tally),
        }
    }

    fn open(&mut self, pick: usize, tally: &Tally) {
        let Some(&(graph, model)) = self.graphs.get(pick % self.graphs.len().max(1)) else { return };
        match self.guest.init_execution_context(graph) {
            Ok(handle) => self.contexts.push(Stream { handle, model, seen: None }),
            Err(error) => Self::refused(&error, model.good, tally),
        }
    }

    fn infer(&mut self, pick: usize, random: &mut Random, tally: &Tally) {
        let count = self.contexts.len().max(1);
        let Some(stream) = self.contexts.get(pick % count) else { return };
        let Stream { handle, model, seen } = *stream;
        let x = random.below(1_000) as f32;
        let Ok(input) = Tensor::from_f32(vec![1], &[x]) else { return };
        let computed = self.guest.set_input(handle, 0, input.view()).and_then(|()| match random.below(3) {
            0 => finish(self.guest.compute_async(handle)),
            1 => self.guest.compute_within(handle, Duration::from_millis(random.below(8))),
            _ => self.guest.compute(handle),
        });
        let output = match computed.and_then(|()| self.guest.output(handle, 0)) {
            Ok(output) => output.to_f32().unwrap_or_default(),
            Err(error) => return Self::refused(&error, model.good, tally),
        };
        let factor = if x > 0.0 { output[0] / x } else { 0.0 };
        let right = match (model.named, seen) {
            _ if x == 0.0 => output == [0.0],
            (false, _) => output == [x * model.factor as f32],
            // Within one context it is always the same version; of the name that was asked for.
            (true, Some(version)) => output == [x * version],
            (true, None) => (factor.round() as u64) / 1_000 == model.factor + 1,
        };
        one(if right { &tally.right } else { &tally.wrong });
        if x > 0.0 {
            self.contexts[pick % count].seen = Some(factor.round());
        }
    }

    fn gone(&mut self, handle: GuestHandle, result: &Result<(), Error>, tally: &Tally) {
        if result.is_err() {
            one(&tally.unexplained);
        }
        self.stale.push_back(handle);
        if self.stale.len() > 50 {
            self.stale.pop_front();
        }
    }

    /// A model that misbehaves may be refused with anything; a good one only where a limit, another's use of the same
    /// context, a deadline or a cancel says so.
    fn refused(error: &Error, good: bool, tally: &Tally) {
        let explained = !good
            || matches!(error.kind(), ErrorKind::Busy | ErrorKind::TooLarge | ErrorKind::Timeout)
            || error.message().contains("cancelled");
        if !explained {
            eprintln!("soak: {error}");
        }
        one(if explained { &tally.refused } else { &tally.unexplained });
    }
}

/// One thread's guests, each of which is replaced by another at times, with whatever it has.
pub fn play(engine: &Engine, seed: u64, tally: &Tally, stop: &AtomicBool) {
    let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut players: Vec<_> = (0..GUESTS).map(|_| Player::new(engine, tally)).collect();
    while !stop.load(Ordering::Relaxed) {
        let place = random.below(GUESTS as u64) as usize;
        players[place].step(random, tally);
        if random.below(200) == 0 {
            let old = std::mem::replace(&mut players[place], Player::new(engine, tally));
            // In the middle of a compute, where there is one.
            let running = old.contexts.first().map(|stream| old.guest.compute_async(stream.handle));
            drop(old);
            if let Some(future) = running {
                let _ = finish(future);
            }
        }
    }
}

/// Registers, reloads and removes the named models.
pub fn host(engine: &Engine, tally: &Tally, stop: &AtomicBool) {
    let random = &mut Random(0x5eed);
    let source = |name: u64, version: u64| ModelSource::bytes(model(((name + 1) * 1_000 + version) as u32, 'g'));
    let register = |name: u64| engine.register_model(&format!("n{name}"), source(name, 0), Encoding::Onnx, Target::Cpu);
    let fine = |result: Result<(), ModelError>| {
        let explained = result.is_ok() || result.is_err_and(|error| error.kind() == ErrorKind::Busy);
        one(if explained { &tally.right } else { &tally.unexplained });
    };
    (0..NAMES).for_each(|name| fine(register(name)));
    let mut version = 0;
    while !stop.load(Ordering::Relaxed) {
        version = (version + 1) % 999;
        let name = random.below(NAMES);
        let called = format!("n{name}");
        match random.below(10) {
            0 => {
                fine(engine.remove_model(&called));
                fine(register(name));
            }
            1 => drop(engine.replace_model(&called, ModelSource::bytes(model(1, MANNERS[3])))),
            _ => fine(engine.replace_model(&called, source(name, version)).map(drop)),
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Polls until it is done: this is no executor.
fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
        thread::sleep(Duration::from_micros(50));
    }
}
