//! Sessions of two guests and their host, with handles of every age, kind and owner, against what plain maps say:
//! versions that are replaced under contexts, names that go and come, computes that are cancelled, graphs that are
//! unloaded and guests that are dropped while they run.

mod expected;

use std::collections::BTreeMap;

use graphpool::GuestHandle;
use graphpool::nn::{Compute, Encoding, Engine, Error, ErrorKind, Guest, Limits, ModelSource, Target, Tensor};
use proptest_state_machine::{StateMachineTest, prop_state_machine};

use self::expected::{CONTEXTS, Call, Expected, GRAPHS, MODELS, Model, Pick, Session, Transition};
use crate::admission::block_on;
use crate::backends::{self, Watch, eventually};

const NAME: &str = "the host's";

struct Played {
    watch: Watch,
    engine: Engine,
    guests: [Guest; 2],
    given: Vec<GuestHandle>,
    /// Computes inside their backend, by their numbers, each with its guest.
    running: BTreeMap<usize, (usize, Compute)>,
}

fn guest(engine: &Engine) -> Guest {
    engine.guest_with(
        Limits::default().with_max_graphs(GRAPHS).with_max_contexts(CONTEXTS).with_max_graph_bytes(MODELS * 100),
    )
}

fn bytes(model: Model) -> Vec<u8> {
    backends::Model { a: model.factor(), b: 0.0, ..backends::Model::default() }.bytes()
}

fn cancelled(result: Result<(), Error>) {
    let error = result.unwrap_err();
    assert!(error.kind() == ErrorKind::RuntimeError && error.message().contains("cancelled"), "{error}");
}

impl Played {
    fn load(&self, guest: usize, bytes: &[u8]) -> Result<GuestHandle, Error> {
        self.guests[guest].load(&[bytes], Encoding::Onnx, Target::Cpu)
    }

    /// Whether the guest has something of that number that isn't what was picked: handles of two guests may be the
    /// same number, each in its own.
    fn is_another(&self, session: &Session, transition: &Transition, handle: GuestHandle) -> bool {
        let picked = if let Pick::Given(picked) = transition.pick { Some(picked) } else { None };
        let mut held = session.graphs.keys().chain(session.contexts.keys());
        held.any(|held| self.given.get(*held) == Some(&handle) && Some(*held) != picked)
    }

    /// Waits for the end of a compute, after which nothing of it is left.
    fn end(&mut self, compute: usize) -> Result<(), Error> {
        let (_, future) = self.running.remove(&compute).unwrap();
        block_on(future)
    }

    fn start(&mut self, expected: &Expected, transition: &Transition, handle: GuestHandle) -> Result<(), Error> {
        let guest = &self.guests[transition.guest];
        if expected.answer.is_err() {
            return block_on(guest.compute_async(handle));
        }
        let compute = expected.started - 1;
        assert_eq!(self.watch.hold_next(), compute);
        self.running.insert(compute, (transition.guest, guest.compute_async(handle)));
        self.watch.wait_for_held(compute);
        Ok(())
    }

    fn restart(&mut self, guest: usize) {
        self.guests[guest] = self::guest(&self.engine);
        let of_guest = |(compute, (of, _)): (&usize, &(usize, Compute))| (*of == guest).then_some(*compute);
        let running: Vec<_> = self.running.iter().filter_map(of_guest).collect();
        for compute in running {
            cancelled(self.end(compute));
        }
    }

    fn call(&mut self, expected: &Expected, transition: &Transition, handle: GuestHandle) -> Result<(), Error> {
        let guest = &self.guests[transition.guest];
        let version = || ModelSource::bytes(bytes(Model::Version(expected.versions)));
        match transition.call {
            Call::Load => {
                let graph = self.load(transition.guest, &bytes(Model::Own(expected.loaded)));
                graph.map(|graph| self.given.push(graph))
            }
            Call::LoadJunk => self.load(transition.guest, b"junk").map(drop),
            Call::LoadByName => guest.load_by_name(NAME).map(|graph| self.given.push(graph)),
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
            Call::Start => self.start(expected, transition, handle),
            Call::Cancel => {
                assert_eq!(guest.cancel(handle)?, expected.cancelled.is_some());
                expected.cancelled.into_iter().for_each(|compute| cancelled(self.end(compute)));
                Ok(())
            }
            Call::Finish(compute) => {
                self.watch.release(compute);
                self.end(compute)
            }
            Call::Restart => {
                self.restart(transition.guest);
                Ok(())
            }
            Call::Replace => Ok(self.engine.replace_model(NAME, version()).map(drop)?),
            Call::ReplaceByJunk => {
                Ok(self.engine.replace_model(NAME, ModelSource::bytes(b"junk".as_slice())).map(drop)?)
            }
            Call::RemoveName => Ok(self.engine.remove_model(NAME)?),
            Call::Register => Ok(self.engine.register_model(NAME, version(), Encoding::Onnx, Target::Cpu)?),
        }
    }
}

impl StateMachineTest for Played {
    type SystemUnderTest = Self;
    type Reference = Expected;

    fn init_test(_: &Expected) -> Self {
        let watch = Watch::default();
        let engine = watch.engine();
        let guests = [guest(&engine), guest(&engine)];
        let played = Self { guests, watch, engine, given: Vec::new(), running: BTreeMap::new() };
        // So that the guests' handles are different numbers, mostly.
        for _ in 0..16 {
            let graph = played.load(1, &bytes(Model::Own(1))).unwrap();
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
        if !state.is_another(&expected.sessions[transition.guest], &transition, handle) {
            let answer = state.call(expected, &transition, handle).map_err(|error| error.kind());
            assert_eq!(answer, expected.answer);
        }
        state
    }

    fn check_invariants(Self { engine, given, running, .. }: &Self, expected: &Expected) {
        let sum = |count: fn(&Session) -> usize| expected.sessions.iter().map(count).sum::<usize>();
        let stats = engine.stats();
        assert_eq!(stats.contexts, sum(|session| session.streams().count()));
        assert_eq!(stats.context_bytes, sum(Session::held));
        assert_eq!(stats.graph_handles, sum(|session| session.graphs.len()));
        assert_eq!((stats.computing, stats.queued, running.len()), (running.len(), 0, expected.running().len()));
        assert_eq!((stats.guests, given.len(), stats.names), (2, expected.given, usize::from(!expected.removed)));
    }

    fn teardown(Self { watch, engine, guests, running, .. }: Self, _: Expected) {
        drop(guests);
        for (_, future) in running.into_values() {
            cancelled(block_on(future));
        }
        let _ = engine.remove_model(NAME);
        eventually(|| {
            let stats = engine.stats();
            [stats.graphs, stats.graph_bytes, stats.graph_handles, stats.contexts, stats.context_bytes] == [0; 5]
        });
        drop(engine);
        watch.all_gone();
    }
}

prop_state_machine! {
    #![proptest_config(crate::regressions::kept_in("tests/regressions/guests.txt"))]
    #[test]
    fn every_call_does_what_a_plain_map_says(sequential 1..250 => Played);
}
