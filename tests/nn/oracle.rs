//! Sessions of two guests, with handles of every age, kind and owner, against what a plain map says.

use std::collections::{BTreeMap, BTreeSet};

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, Error, ErrorKind, Guest, Limits, ModelSource, Target, Tensor};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use crate::backends::{Model, Watch};

const GRAPHS: usize = 4;
const CONTEXTS: usize = 5;
/// In models, each of which counts 100 bytes.
const MODELS: usize = 5;
/// The factor of the model that the host has registered.
const NAMED: f32 = 0.5;

#[derive(Debug, Clone, Copy)]
enum Call {
    Load,
    LoadJunk,
    LoadByName,
    Unload,
    Init,
    Describe,
    SetInput(i8),
    Compute,
    Output,
    ShortOutput,
    DropContext,
    /// The guest goes, and another one comes.
    Restart,
}

/// Which handle a call is made with.
#[derive(Debug, Clone, Copy)]
enum Pick {
    /// One that some guest was ever given, by its number among all.
    Given(usize),
    MadeUp(u32),
}

/// A call by one of the guests.
#[derive(Debug, Clone, Copy)]
struct Transition {
    guest: usize,
    call: Call,
    pick: Pick,
}

/// What one guest ought to have, by the numbers of its handles among all that were given. A model is its factor, by
/// which its outputs tell it; the host's is `None`.
#[derive(Debug, Clone, Default)]
struct Session {
    graphs: BTreeMap<usize, Option<u16>>,
    contexts: BTreeMap<usize, Stream>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    model: Option<u16>,
    input: Option<i8>,
    output: Option<i8>,
}

impl Session {
    /// Models that a handle or a context keeps, and that count.
    fn models(&self) -> usize {
        let streams = self.contexts.values().map(|stream| stream.model);
        self.graphs.values().copied().chain(streams).flatten().collect::<BTreeSet<_>>().len()
    }

    fn load(&mut self, given: usize, model: Option<u16>) -> Result<(), ErrorKind> {
        if self.graphs.len() == GRAPHS || model.is_some() && self.models() == MODELS {
            return Err(ErrorKind::TooLarge);
        }
        self.graphs.insert(given, model);
        Ok(())
    }

    fn init(&mut self, given: usize, graph: usize) -> Result<(), ErrorKind> {
        let model = *self.graphs.get(&graph).ok_or(ErrorKind::InvalidArgument)?;
        if self.contexts.len() == CONTEXTS {
            return Err(ErrorKind::TooLarge);
        }
        self.contexts.insert(given, Stream { model, input: None, output: None });
        Ok(())
    }

    fn stream(&mut self, context: usize) -> Result<&mut Stream, ErrorKind> {
        self.contexts.get_mut(&context).ok_or(ErrorKind::InvalidArgument)
    }
}

/// What both guests ought to have, and what the last call ought to have given.
#[derive(Debug, Clone)]
struct Expected {
    sessions: [Session; 2],
    given: usize,
    loaded: u16,
    answer: Result<(), ErrorKind>,
    output: Option<[f32; 2]>,
}

fn there<T>(found: Option<T>) -> Result<(), ErrorKind> {
    found.map(drop).ok_or(ErrorKind::InvalidArgument)
}

impl Expected {
    fn call(&mut self, transition: &Transition) -> Result<(), ErrorKind> {
        let Self { sessions, given, loaded, .. } = self;
        let session = &mut sessions[transition.guest];
        // A number that nobody was given names nothing.
        let handle = if let Pick::Given(handle) = transition.pick { handle } else { usize::MAX };
        match transition.call {
            Call::Load => {
                *loaded += 1;
                session.load(*given, Some(*loaded))
            }
            Call::LoadByName => session.load(*given, None),
            Call::LoadJunk if session.graphs.len() == GRAPHS || session.models() == MODELS => Err(ErrorKind::TooLarge),
            Call::LoadJunk => Err(ErrorKind::InvalidEncoding),
            Call::Unload => there(session.graphs.remove(&handle)),
            Call::Init => session.init(*given, handle),
            Call::Describe if session.graphs.contains_key(&handle) => Ok(()),
            Call::Describe => session.stream(handle).map(|_| ()),
            Call::SetInput(input) => session.stream(handle).map(|stream| stream.input = Some(input)),
            Call::Compute => {
                let stream = session.stream(handle)?;
                there(stream.input)?;
                stream.output = stream.input;
                Ok(())
            }
            Call::Output => {
                let stream = session.stream(handle)?;
                let (factor, x) = (stream.model.map_or(NAMED, f32::from), stream.output.map(f32::from));
                self.output = x.map(|x| [factor * x, factor * 2.0 * x]);
                there(self.output)
            }
            Call::ShortOutput => there(session.stream(handle)?.output).and(Err(ErrorKind::TooLarge)),
            Call::DropContext => there(session.contexts.remove(&handle)),
            Call::Restart => {
                *session = Session::default();
                Ok(())
            }
        }
    }
}

impl ReferenceStateMachine for Expected {
    type State = Self;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { sessions: Default::default(), given: 0, loaded: 0, answer: Ok(()), output: None }).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Transition> {
        let sessions = state.sessions.each_ref();
        let fitting: Vec<_> = (0..2)
            .flat_map(|guest| {
                let Session { graphs, contexts } = sessions[guest];
                let graphs = graphs.keys().map(move |handle| (guest, true, *handle));
                graphs.chain(contexts.keys().map(move |handle| (guest, false, *handle)))
            })
            .collect();
        let of_graph = prop_oneof![1 => Just(Call::Unload), 3 => Just(Call::Init), 1 => Just(Call::Describe)];
        let of_context = prop_oneof![
            4 => any::<i8>().prop_map(Call::SetInput),
            4 => Just(Call::Compute),
            4 => Just(Call::Output),
            1 => Just(Call::ShortOutput),
            1 => Just(Call::Describe),
            1 => Just(Call::DropContext),
        ];
        let load = prop_oneof![
            6 => Just(Call::Load),
            2 => Just(Call::LoadByName),
            1 => Just(Call::LoadJunk),
            1 => Just(Call::Restart),
        ];
        let given = (0..state.given.max(1)).prop_map(Pick::Given);
        let any_pick = prop_oneof![4 => given, 1 => any::<u32>().prop_map(Pick::MadeUp)];
        let any_call = prop_oneof![of_graph.clone(), of_context.clone()];
        let transition = |(guest, call, pick)| Transition { guest, call, pick };
        let loads = (0..2_usize, load, Just(Pick::MadeUp(0))).prop_map(transition);
        let wild = (0..2_usize, any_call, any_pick).prop_map(transition);
        if fitting.is_empty() {
            return prop_oneof![4 => loads, 1 => wild].boxed();
        }
        let fits = (prop::sample::select(fitting), of_graph, of_context).prop_map(
            move |((guest, is_graph, handle), of_graph, of_context)| {
                transition((guest, if is_graph { of_graph } else { of_context }, Pick::Given(handle)))
            },
        );
        prop_oneof![2 => loads, 8 => fits, 3 => wild].boxed()
    }

    fn apply(mut state: Self, transition: &Transition) -> Self {
        state.output = None;
        state.answer = state.call(transition);
        let gives = matches!(transition.call, Call::Load | Call::LoadByName | Call::Init);
        state.given += usize::from(gives && state.answer.is_ok());
        state
    }
}

struct Played {
    watch: Watch,
    engine: Engine,
    guests: [Guest; 2],
    given: Vec<GuestHandle>,
}

fn guest(engine: &Engine) -> Guest {
    engine.guest_with(Limits::default().graphs(GRAPHS).contexts(CONTEXTS).model_bytes(MODELS * 100))
}

fn affine(a: f32) -> Vec<u8> {
    Model { a, b: 0.0, ..Model::default() }.bytes()
}

impl Played {
    fn load(&self, guest: usize, bytes: &[u8]) -> Result<GuestHandle, Error> {
        self.guests[guest].load(&[bytes], Encoding::Onnx, Target::Cpu)
    }

    /// Whether the guest has something of that number that isn't what was picked: handles of two guests may be the
    /// same number, each in its own.
    fn is_another(&self, expected: &Expected, transition: &Transition, handle: GuestHandle) -> bool {
        let Session { graphs, contexts } = &expected.sessions[transition.guest];
        let picked = if let Pick::Given(picked) = transition.pick { Some(picked) } else { None };
        let mut held = graphs.keys().chain(contexts.keys());
        held.any(|held| self.given.get(*held) == Some(&handle) && Some(*held) != picked)
    }

    fn call(&mut self, expected: &Expected, transition: &Transition, handle: GuestHandle) -> Result<(), Error> {
        let guest = &self.guests[transition.guest];
        match transition.call {
            Call::Load => self.load(transition.guest, &affine(f32::from(expected.loaded))).map(|h| self.given.push(h)),
            Call::LoadJunk => self.load(transition.guest, b"junk").map(drop),
            Call::LoadByName => guest.load_by_name("the host's").map(|graph| self.given.push(graph)),
            Call::Unload => guest.unload(handle),
            Call::Init => guest.init_execution_context(handle).map(|context| self.given.push(context)),
            Call::Describe => guest.inputs(handle).and(guest.outputs(handle)).map(drop),
            Call::SetInput(x) => {
                let x = f32::from(x);
                guest.set_input(handle, 0, Tensor::from_f32(vec![2], &[x, 2.0 * x])?.view())
            }
            Call::Compute => guest.compute(handle),
            Call::Output => guest.output(handle, 0).map(|output| {
                assert_eq!(output.to_f32().unwrap(), expected.output.expect("there is one"));
            }),
            Call::ShortOutput => guest.get_output(handle, 0, &mut [0; 7]).map(drop),
            Call::DropContext => guest.drop_context(handle),
            Call::Restart => {
                self.guests[transition.guest] = self::guest(&self.engine);
                Ok(())
            }
        }
    }
}

impl StateMachineTest for Played {
    type SystemUnderTest = Self;
    type Reference = Expected;

    fn init_test(_: &Expected) -> Self {
        let watch = Watch::default();
        let engine = watch.engine();
        engine.register_model("the host's", ModelSource::bytes(affine(NAMED)), Encoding::Onnx, Target::Cpu).unwrap();
        let played = Self { guests: [guest(&engine), guest(&engine)], watch, engine, given: Vec::new() };
        // So that the guests' handles are different numbers, mostly.
        for _ in 0..16 {
            let graph = played.load(1, &affine(1.0)).unwrap();
            let context = played.guests[1].init_execution_context(graph).unwrap();
            played.guests[1].drop_context(context).and(played.guests[1].unload(graph)).unwrap();
        }
        played
    }

    fn apply(mut state: Self, expected: &Expected, transition: Transition) -> Self {
        let handle = match transition.pick {
            Pick::Given(handle) => state.given.get(handle).copied().unwrap_or(GuestHandle::from_bits(0)),
            Pick::MadeUp(bits) => GuestHandle::from_bits(bits),
        };
        if !state.is_another(expected, &transition, handle) {
            let answer = state.call(expected, &transition, handle).map_err(|error| error.kind());
            assert_eq!(answer, expected.answer);
        }
        state
    }

    fn check_invariants(Self { engine, given, .. }: &Self, expected: &Expected) {
        let [one, two] = &expected.sessions;
        let stats = engine.stats();
        assert_eq!(stats.contexts, one.contexts.len() + two.contexts.len());
        assert_eq!(stats.graph_handles, one.graphs.len() + two.graphs.len());
        assert_eq!((stats.guests, given.len()), (2, expected.given));
    }

    fn teardown(state: Self, _: Expected) {
        let Self { watch, engine, guests, .. } = state;
        drop((guests, engine));
        watch.all_gone();
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/guests.txt"))),
        ..ProptestConfig::default()
    })]
    #[test]
    fn every_call_does_what_a_plain_map_says(sequential 1..250 => Played);
}
