//! Random calls of two guests, with handles of every age, kind and owner, against what a plain map says.

use std::collections::BTreeMap;

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, Error, ErrorKind, Guest, Limits, Target, Tensor};
use proptest::prelude::*;

use crate::backends::{Model, Watch};

const GRAPHS: usize = 4;
const CONTEXTS: usize = 5;
/// In models, each of which counts 100 bytes.
const MODELS: usize = 5;

#[derive(Debug, Clone, Copy)]
enum Call {
    Load,
    Unload,
    Init,
    SetInput,
    Compute,
    Output,
    DropContext,
}

/// Which handle a call is made with.
#[derive(Debug, Clone, Copy)]
enum Pick {
    /// One that would do.
    Fitting(usize),
    /// One that either guest was ever given, counted from the last.
    Given(usize),
    MadeUp(u32),
}

fn calls() -> impl Strategy<Value = Vec<(bool, Call, Pick)>> {
    let call = prop_oneof![
        2 => Just(Call::Load),
        1 => Just(Call::Unload),
        2 => Just(Call::Init),
        3 => Just(Call::SetInput),
        4 => Just(Call::Compute),
        4 => Just(Call::Output),
        1 => Just(Call::DropContext),
    ];
    let pick = prop_oneof![
        12 => (0..CONTEXTS).prop_map(Pick::Fitting),
        4 => (0..12_usize).prop_map(Pick::Given),
        1 => any::<u32>().prop_map(Pick::MadeUp),
    ];
    prop::collection::vec((any::<bool>(), call, pick), 1..300)
}

/// What one guest ought to have. A model is its factor `a`, by which its outputs tell it.
#[derive(Default)]
struct Expected {
    graphs: BTreeMap<u32, u16>,
    contexts: BTreeMap<u32, Stream>,
}

#[derive(Clone, Copy)]
struct Stream {
    model: u16,
    input: bool,
    output: bool,
}

impl Expected {
    /// Models that a handle or a context keeps.
    fn models(&self) -> usize {
        let mut models: Vec<_> = self.graphs.values().copied().collect();
        models.extend(self.contexts.values().map(|stream| stream.model));
        models.sort_unstable();
        models.dedup();
        models.len()
    }
}

struct Play {
    guests: [(Guest, Expected); 2],
    given: Vec<GuestHandle>,
    loaded: u16,
}

impl Play {
    fn new(engine: &Engine) -> Self {
        let limits = Limits::default().graphs(GRAPHS).contexts(CONTEXTS).model_bytes(MODELS * 100);
        let guests = [(); 2].map(|()| (engine.guest_with(limits), Expected::default()));
        Self { guests, given: Vec::new(), loaded: 0 }
    }

    fn handle(&self, second: bool, call: Call, pick: Pick) -> GuestHandle {
        let expected = &self.guests[usize::from(second)].1;
        let bits = match (pick, call) {
            (Pick::Fitting(place), Call::Load | Call::Unload | Call::Init) => {
                expected.graphs.keys().nth(place).copied()
            }
            (Pick::Fitting(place), _) => expected.contexts.keys().nth(place).copied(),
            (Pick::Given(age), _) => self.given.iter().rev().nth(age).map(|handle| handle.to_bits()),
            (Pick::MadeUp(bits), _) => Some(bits),
        };
        GuestHandle::from_bits(bits.unwrap_or_default())
    }

    /// Makes the call, and says what came of it and what ought to have.
    fn call(
        &mut self,
        second: bool,
        call: Call,
        handle: GuestHandle,
    ) -> (Result<(), ErrorKind>, Result<(), ErrorKind>) {
        let (guest, expected) = &mut self.guests[usize::from(second)];
        let bits = handle.to_bits();
        let there = |there: bool| if there { Ok(()) } else { Err(ErrorKind::InvalidArgument) };
        match call {
            Call::Load => {
                let room = expected.graphs.len() < GRAPHS && expected.models() < MODELS;
                self.loaded += 1;
                let bytes = Model { a: f32::from(self.loaded), b: 0.0, ..Model::default() }.bytes();
                let result = guest.load(&[&bytes], Encoding::Onnx, Target::Cpu).map(|graph| {
                    assert_eq!(expected.graphs.insert(graph.to_bits(), self.loaded), None);
                    self.given.push(graph);
                });
                (kind(result), if room { Ok(()) } else { Err(ErrorKind::TooLarge) })
            }
            Call::Unload => (kind(guest.unload(handle)), there(expected.graphs.remove(&bits).is_some())),
            Call::Init => {
                let model = expected.graphs.get(&bits).copied();
                let room = expected.contexts.len() < CONTEXTS;
                let result = guest.init_execution_context(handle).map(|context| {
                    let stream = Stream { model: model.unwrap(), input: false, output: false };
                    assert!(expected.contexts.insert(context.to_bits(), stream).is_none());
                    self.given.push(context);
                });
                (kind(result), there(model.is_some()).and(if room { Ok(()) } else { Err(ErrorKind::TooLarge) }))
            }
            Call::SetInput => {
                let stream = expected.contexts.get_mut(&bits).map(|stream| stream.input = true);
                let input = Tensor::from_f32(vec![2], &[1.0, 2.0]).unwrap();
                (kind(guest.set_input(handle, 0, input.view())), there(stream.is_some()))
            }
            Call::Compute => {
                let stream = expected.contexts.get_mut(&bits).filter(|stream| stream.input);
                let ready = stream.map(|stream| stream.output = true);
                (kind(guest.compute(handle)), there(ready.is_some()))
            }
            Call::Output => {
                let stream = expected.contexts.get(&bits).filter(|stream| stream.output);
                let result = guest.output(handle, 0).map(|output| {
                    let a = f32::from(stream.unwrap().model);
                    assert_eq!(output.to_f32().unwrap(), [a, 2.0 * a]);
                });
                (kind(result), there(stream.is_some()))
            }
            Call::DropContext => (kind(guest.drop_context(handle)), there(expected.contexts.remove(&bits).is_some())),
        }
    }
}

fn kind(result: Result<(), Error>) -> Result<(), ErrorKind> {
    result.map_err(|error| error.kind())
}

proptest! {
    #[test]
    fn every_call_does_what_a_plain_map_says(calls in calls()) {
        let watch = Watch::default();
        let engine = watch.engine();
        let mut play = Play::new(&engine);
        for (second, call, pick) in calls {
            let (result, expected) = play.call(second, call, play.handle(second, call, pick));
            prop_assert_eq!(result, expected, "{:?} {:?}", call, pick);
            let [one, two] = [0, 1].map(|guest| play.guests[guest].1.contexts.len());
            prop_assert_eq!(engine.stats().contexts, one + two);
        }
        drop((play, engine));
        watch.all_gone();
    }
}
