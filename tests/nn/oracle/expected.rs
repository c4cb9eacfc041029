//! What two guests and their host ought to have after any sequence of calls: plain maps.

use std::collections::{BTreeMap, BTreeSet};

use graphpool::nn::ErrorKind;
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

pub const GRAPHS: usize = 4;
pub const CONTEXTS: usize = 5;
/// In models, each of which counts 100 bytes.
pub const MODELS: usize = 5;

#[derive(Debug, Clone, Copy)]
pub enum Call {
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
    /// A compute begins, and stays inside its backend.
    Start,
    Cancel,
    /// The compute that was started as the so manyeth is let go on.
    Finish(usize),
    /// The guest goes, whatever it computes, and another one comes.
    Restart,
    /// The host replaces the named model.
    Replace,
    ReplaceByJunk,
    RemoveName,
    Register,
}

/// Which handle a call is made with.
#[derive(Debug, Clone, Copy)]
pub enum Pick {
    /// One that some guest was ever given, by its number among all.
    Given(usize),
    MadeUp(u32),
}

/// A call by one of the guests, or by the host.
#[derive(Debug, Clone, Copy)]
pub struct Transition {
    pub guest: usize,
    pub call: Call,
    pub pick: Pick,
}

/// A model is its factor, by which its outputs tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// A guest's own, which counts for it.
    Own(u16),
    /// A version of the host's.
    Version(u16),
}

impl Model {
    pub fn factor(self) -> f32 {
        match self {
            Self::Own(number) => f32::from(number),
            Self::Version(number) => f32::from(number) + 0.5,
        }
    }
}

/// What a graph's handle names.
#[derive(Debug, Clone, Copy)]
pub enum Named {
    Own(u16),
    /// A name, by its number among all that were registered: whatever version of it is current.
    Name(usize),
}

/// What one guest ought to have, by the numbers of its handles among all that were given.
#[derive(Debug, Clone, Default)]
pub struct Session {
    pub graphs: BTreeMap<usize, Named>,
    pub contexts: BTreeMap<usize, Stream>,
    /// Contexts that were dropped while they computed: they count until they are done.
    pub dropped: BTreeMap<usize, Stream>,
}

#[derive(Debug, Clone, Copy)]
pub struct Stream {
    model: Model,
    input: Option<i8>,
    output: Option<i8>,
    /// The number of the compute that it is inside of.
    pub running: Option<usize>,
}

impl Session {
    /// Contexts that count, those that were dropped with them.
    pub fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.contexts.values().chain(self.dropped.values())
    }

    /// Bytes of inputs.
    pub fn held(&self) -> usize {
        self.streams().filter(|stream| stream.input.is_some()).count() * 8
    }

    /// Models of its own that a handle, a context or a compute keeps.
    fn models(&self) -> usize {
        let streams = self.streams().map(|stream| stream.model);
        let graphs = self.graphs.values().filter_map(|graph| match graph {
            Named::Own(number) => Some(Model::Own(*number)),
            Named::Name(_) => None,
        });
        graphs.chain(streams).filter(|model| matches!(model, Model::Own(_))).collect::<BTreeSet<_>>().len()
    }

    fn is_full(&self) -> Result<(), ErrorKind> {
        if self.graphs.len() == GRAPHS { Err(ErrorKind::TooLarge) } else { Ok(()) }
    }

    /// A context that no compute is inside of.
    fn idle(&mut self, context: usize) -> Result<&mut Stream, ErrorKind> {
        let stream = self.contexts.get_mut(&context).ok_or(ErrorKind::InvalidArgument)?;
        if stream.running.is_some() { Err(ErrorKind::Busy) } else { Ok(stream) }
    }

    fn drop_context(&mut self, context: usize) -> Result<(), ErrorKind> {
        let stream = self.contexts.remove(&context).ok_or(ErrorKind::InvalidArgument)?;
        if stream.running.is_some() {
            self.dropped.insert(context, stream);
        }
        Ok(())
    }

    fn finish(&mut self, compute: usize) {
        for stream in self.contexts.values_mut().filter(|stream| stream.running == Some(compute)) {
            (stream.running, stream.output) = (None, stream.input);
        }
        self.dropped.retain(|_, stream| stream.running != Some(compute));
    }
}

/// What all ought to have, and what the last call ought to have given.
#[derive(Debug, Clone)]
pub struct Expected {
    pub sessions: [Session; 2],
    /// The current version of each name that was ever registered; all but the last were removed.
    pub names: Vec<u16>,
    /// Whether the last one has been removed, too.
    pub removed: bool,
    pub given: usize,
    pub loaded: u16,
    pub versions: u16,
    pub started: usize,
    pub answer: Result<(), ErrorKind>,
    pub output: Option<[f32; 2]>,
    /// Whether a cancel finds a compute, and which.
    pub cancelled: Option<usize>,
}

fn there<T>(found: Option<T>) -> Result<(), ErrorKind> {
    found.map(drop).ok_or(ErrorKind::InvalidArgument)
}

impl Expected {
    /// Computes that are inside their backend.
    pub fn running(&self) -> Vec<usize> {
        self.sessions.iter().flat_map(Session::streams).filter_map(|stream| stream.running).collect()
    }

    fn call(&mut self, transition: &Transition) -> Result<(), ErrorKind> {
        let registered = if self.removed { Err(ErrorKind::NotFound) } else { Ok(self.names.len() - 1) };
        let Self { sessions, given, loaded, .. } = self;
        let session = &mut sessions[transition.guest];
        // A number that nobody was given names nothing.
        let handle = if let Pick::Given(handle) = transition.pick { handle } else { usize::MAX };
        match transition.call {
            Call::Load => {
                *loaded += 1;
                session.is_full()?;
                if session.models() == MODELS {
                    return Err(ErrorKind::TooLarge);
                }
                session.graphs.insert(*given, Named::Own(*loaded));
            }
            Call::LoadByName => {
                session.is_full()?;
                session.graphs.insert(*given, Named::Name(registered?));
            }
            Call::LoadJunk => {
                session.is_full()?;
                let room = session.models() < MODELS;
                return Err(if room { ErrorKind::InvalidEncoding } else { ErrorKind::TooLarge });
            }
            Call::Unload => there(session.graphs.remove(&handle))?,
            Call::Init => {
                let model = match *session.graphs.get(&handle).ok_or(ErrorKind::InvalidArgument)? {
                    Named::Own(number) => Model::Own(number),
                    Named::Name(name) => Model::Version(self.names[name]),
                };
                if session.streams().count() == CONTEXTS {
                    return Err(ErrorKind::TooLarge);
                }
                session.contexts.insert(*given, Stream { model, input: None, output: None, running: None });
            }
            Call::Describe if session.graphs.contains_key(&handle) => {}
            Call::Describe => there(session.contexts.get(&handle))?,
            Call::SetInput(input) => session.idle(handle)?.input = Some(input),
            Call::Compute => {
                let stream = session.idle(handle)?;
                there(stream.input)?;
                stream.output = stream.input;
            }
            Call::Output => {
                let stream = session.idle(handle)?;
                let (factor, x) = (stream.model.factor(), stream.output.map(f32::from));
                self.output = x.map(|x| [factor * x, factor * 2.0 * x]);
                there(self.output)?;
            }
            Call::ShortOutput => {
                there(session.idle(handle)?.output)?;
                return Err(ErrorKind::TooLarge);
            }
            Call::DropContext => session.drop_context(handle)?,
            Call::Start => {
                let stream = session.idle(handle)?;
                there(stream.input)?;
                stream.running = Some(self.started);
                self.started += 1;
            }
            Call::Cancel => {
                let stream = session.contexts.get_mut(&handle).ok_or(ErrorKind::InvalidArgument)?;
                // It ends without an output, and leaves the one before.
                self.cancelled = stream.running.take();
            }
            Call::Finish(compute) => sessions.iter_mut().for_each(|session| session.finish(compute)),
            Call::Restart => *session = Session::default(),
            Call::Replace => {
                self.versions += 1;
                self.names[registered?] = self.versions;
            }
            Call::ReplaceByJunk => {
                registered?;
                return Err(ErrorKind::InvalidEncoding);
            }
            Call::RemoveName => {
                registered?;
                self.removed = true;
            }
            Call::Register => {
                self.versions += 1;
                if !self.removed {
                    return Err(ErrorKind::InvalidArgument);
                }
                self.names.push(self.versions);
                self.removed = false;
            }
        }
        Ok(())
    }
}

impl ReferenceStateMachine for Expected {
    type State = Self;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Self> {
        let (sessions, names) = Default::default();
        let counts = Self {
            sessions,
            names,
            removed: true,
            given: 0,
            loaded: 0,
            versions: 0,
            started: 0,
            answer: Ok(()),
            output: None,
            cancelled: None,
        };
        Just(counts).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Transition> {
        let sessions = state.sessions.each_ref();
        let fitting: Vec<_> = (0..2)
            .flat_map(|guest| {
                let Session { graphs, contexts, .. } = sessions[guest];
                let graphs = graphs.keys().map(move |handle| (guest, true, *handle));
                graphs.chain(contexts.keys().map(move |handle| (guest, false, *handle)))
            })
            .collect();
        let of_graph = prop_oneof![1 => Just(Call::Unload), 3 => Just(Call::Init), 1 => Just(Call::Describe)];
        let of_context = prop_oneof![
            4 => any::<i8>().prop_map(Call::SetInput),
            4 => Just(Call::Compute),
            4 => Just(Call::Output),
            2 => Just(Call::Start),
            1 => Just(Call::Cancel),
            1 => Just(Call::ShortOutput),
            1 => Just(Call::Describe),
            1 => Just(Call::DropContext),
        ];
        let load = prop_oneof![
            6 => Just(Call::Load),
            3 => Just(Call::LoadByName),
            1 => Just(Call::LoadJunk),
            1 => Just(Call::Restart),
            2 => Just(Call::Replace),
            1 => Just(Call::ReplaceByJunk),
            1 => Just(Call::RemoveName),
            2 => Just(Call::Register),
        ];
        let given = (0..state.given.max(1)).prop_map(Pick::Given);
        let any_pick = prop_oneof![4 => given, 1 => any::<u32>().prop_map(Pick::MadeUp)];
        let any_call = prop_oneof![of_graph.clone(), of_context.clone()];
        let transition = |(guest, call, pick)| Transition { guest, call, pick };
        let mut calls = vec![
            (2, (0..2_usize, load, Just(Pick::MadeUp(0))).prop_map(transition).boxed()),
            (3, (0..2_usize, any_call, any_pick).prop_map(transition).boxed()),
        ];
        if !fitting.is_empty() {
            let fits = (prop::sample::select(fitting), of_graph, of_context).prop_map(
                move |((guest, is_graph, handle), of_graph, of_context)| {
                    transition((guest, if is_graph { of_graph } else { of_context }, Pick::Given(handle)))
                },
            );
            calls.push((8, fits.boxed()));
        }
        let running = state.running();
        if !running.is_empty() {
            let finish = prop::sample::select(running);
            calls.push((1, finish.prop_map(move |run| transition((0, Call::Finish(run), Pick::MadeUp(0)))).boxed()));
        }
        prop::strategy::Union::new_weighted(calls).boxed()
    }

    /// A compute can be finished while it runs, which matters where a sequence is made shorter.
    fn preconditions(state: &Self, transition: &Transition) -> bool {
        !matches!(transition.call, Call::Finish(run) if !state.running().contains(&run))
    }

    fn apply(mut state: Self, transition: &Transition) -> Self {
        (state.output, state.cancelled) = (None, None);
        state.answer = state.call(transition);
        let gives = matches!(transition.call, Call::Load | Call::LoadByName | Call::Init);
        state.given += usize::from(gives && state.answer.is_ok());
        state
    }
}
