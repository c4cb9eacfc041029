//! The limits of one guest, and of all guests of an engine together.

pub(crate) mod context_bytes;
pub(crate) mod usage;

use std::thread;
use std::time::Duration;

/// The limits of one guest. Each bound is inclusive.
///
/// A call that exceeds a bound gives [`TooLarge`](crate::nn::ErrorKind::TooLarge) with the value and the bound in its
/// message, before anything is allocated for it. The exceptions are [`Busy`](crate::nn::ErrorKind::Busy) past
/// [`max_computes`](Self::max_computes) and [`max_loads`](Self::max_loads), and
/// [`Timeout`](crate::nn::ErrorKind::Timeout) past [`max_compute_time`](Self::max_compute_time). `usize::MAX` means
/// unbounded.
///
/// ```
/// use graphpool::nn::Limits;
///
/// let limits = Limits::default().with_max_graphs(2).with_max_contexts(8).with_max_graph_bytes(64 << 20);
/// assert_eq!(limits.max_contexts(), 8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_field_names, reason = "each has the name of its getter")]
pub struct Limits {
    max_graphs: usize,
    max_contexts: usize,
    max_graph_bytes: usize,
    max_tensor_bytes: usize,
    max_tensor_rank: usize,
    max_compute_bytes: usize,
    max_computes: usize,
    max_loads: usize,
    max_context_bytes: usize,
    max_name_bytes: usize,
    max_config_bytes: usize,
    max_compute_time: Duration,
}

impl Default for Limits {
    /// 64 graphs, 256 contexts, 1 GiB of models, 1 GiB in contexts, tensors of 256 MiB and 16 dimensions, 256 computes
    /// at one time, 1 GiB and 60 s for each of them, 16 asynchronous loads at one time, names of 256 bytes and
    /// configurations of 64 KiB.
    fn default() -> Self {
        Self {
            max_graphs: 64,
            max_contexts: 256,
            max_graph_bytes: 1 << 30,
            max_tensor_bytes: 256 << 20,
            max_tensor_rank: 16,
            max_compute_bytes: 1 << 30,
            max_computes: 256,
            max_loads: 16,
            max_context_bytes: 1 << 30,
            max_name_bytes: 256,
            max_config_bytes: 64 << 10,
            max_compute_time: Duration::from_mins(1),
        }
    }
}

macro_rules! accessors {
    ($($(#[doc = $doc:expr])* $bound:ident $setter:ident,)*) => {
        $(
            $(#[doc = $doc])*
            #[must_use]
            pub const fn $bound(&self) -> usize {
                self.$bound
            }

            #[doc = concat!("The same with another [`", stringify!($bound), "`](Self::", stringify!($bound), ").")]
            #[must_use]
            pub const fn $setter(mut self, bound: usize) -> Self {
                self.$bound = bound;
                self
            }
        )*
    };
}

macro_rules! engine_bounds {
    ($($bounds:tt)*) => {
        impl EngineLimits {
            accessors! { $($bounds)* }
        }
    };
}

macro_rules! bounds {
    ($($(#[doc = $doc:expr])* $bound:ident $setter:ident),* $(,)?) => {
        impl Limits {
            /// No limits, for guests that are as trusted as the host.
            #[must_use]
            pub const fn unlimited() -> Self {
                Self { $($bound: usize::MAX,)* max_compute_time: Duration::MAX }
            }

            /// The lower of each pair of bounds.
            #[must_use]
            pub fn at_most(self, other: &Self) -> Self {
                Self {
                    $($bound: self.$bound.min(other.$bound),)*
                    max_compute_time: self.max_compute_time.min(other.max_compute_time),
                }
            }

            accessors! { $($(#[doc = $doc])* $bound $setter,)* }
        }
    };
}

bounds! {
    /// Graph handles that the guest may hold at one time, of models from bytes and by name together.
    max_graphs with_max_graphs,
    /// Contexts that the guest may hold at one time; a context counts until the last call inside it has ended.
    max_contexts with_max_contexts,
    /// Bytes of the models that the guest has loaded from bytes, as their backend counts them
    /// ([`BackendGraph::memory`](crate::backend::BackendGraph::memory)). A model counts until its handle and its last
    /// context are gone. Named models belong to the host, and count for no guest.
    max_graph_bytes with_max_graph_bytes,
    /// Bytes of the data of one input tensor.
    max_tensor_bytes with_max_tensor_bytes,
    /// Dimensions of one input tensor.
    max_tensor_rank with_max_tensor_rank,
    /// Bytes of tensors, intermediate ones and outputs together, that may be alive at one time in one compute; the
    /// backend enforces it.
    max_compute_bytes with_max_compute_bytes,
    /// Computes that the guest may have at one time, running and waiting together.
    max_computes with_max_computes,
    /// Loads that the guest may have at one time by [`load_async`](crate::nn::Guest::load_async) and its forms by name,
    /// running and waiting together. A load that was cancelled while its build ran counts until the build ends.
    max_loads with_max_loads,
    /// Bytes that the guest's contexts may hold together between calls, as their backends count them
    /// ([`BackendContext::memory`](crate::backend::BackendContext::memory)), and at least those of their inputs; a
    /// graph with more than 128 inputs adds 8 bytes for each of them. What the host
    /// [reserves](crate::nn::Guest::reserve) for the guest counts, too. An input over the limit is refused before it is
    /// copied; a context that exceeds the limit after a compute is lost.
    max_context_bytes with_max_context_bytes,
    /// Bytes of a model's name.
    max_name_bytes with_max_name_bytes,
    /// Bytes of the configuration with which the guest loads a named model.
    max_config_bytes with_max_config_bytes,
}

impl Limits {
    /// The longest time of a compute, including the wait for its turn. A backend that does not check its
    /// [`ComputeControl`](crate::backend::ComputeControl) runs to its end regardless. `Duration::MAX` means unbounded.
    #[must_use]
    pub const fn max_compute_time(&self) -> Duration {
        self.max_compute_time
    }

    /// Sets [`max_compute_time`](Self::max_compute_time).
    #[must_use]
    pub const fn with_max_compute_time(mut self, bound: Duration) -> Self {
        self.max_compute_time = bound;
        self
    }
}

/// The limits of one engine, over all of its guests. Each bound is inclusive.
///
/// A request that would fit if other guests held less gives [`Busy`](crate::nn::ErrorKind::Busy), and may succeed
/// later; a request that exceeds the bound by itself gives [`TooLarge`](crate::nn::ErrorKind::TooLarge). A load that
/// finds no room waits up to a second for models that are being released. For the bounds of single tensors and computes
/// see [`EngineBuilder::with_ceiling`](crate::nn::EngineBuilder::with_ceiling).
///
/// ```
/// use graphpool::nn::EngineLimits;
///
/// let limits = EngineLimits::default().with_max_graph_bytes(8 << 30).with_max_computing(4).with_max_queued(64);
/// assert_eq!(limits.max_computing(), 4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::struct_field_names, reason = "each has the name of its getter")]
pub struct EngineLimits {
    max_graphs: usize,
    max_contexts: usize,
    max_graph_bytes: usize,
    max_context_bytes: usize,
    max_computing: usize,
    max_suspended: usize,
    max_queued: usize,
    max_resolved_names: usize,
    max_loading: usize,
    max_queued_loads: usize,
}

impl Default for EngineLimits {
    /// As many running computes as the machine has processors, 128 suspended and 1,024 waiting ones; as many running
    /// and waiting asynchronous loads; 4,096 graphs, 65,536 contexts, and no bound on the bytes of either; 1,024 names
    /// from the resolver.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self {
            max_graphs: 4_096,
            max_contexts: 65_536,
            max_graph_bytes: usize::MAX,
            max_context_bytes: usize::MAX,
            max_computing: processors,
            max_suspended: 128,
            max_queued: 1_024,
            max_resolved_names: 1_024,
            max_loading: processors,
            max_queued_loads: 1_024,
        }
    }
}

engine_bounds! {
    /// Models in memory. A model that several guests share counts once.
    max_graphs with_max_graphs,
    /// Contexts in memory.
    max_contexts with_max_contexts,
    /// Bytes of the models in memory, named ones included, as their backends count them. The files of a named model
    /// count while it is built, from before they are read. The bytes that an asynchronous load is given count until it
    /// ends.
    max_graph_bytes with_max_graph_bytes,
    /// Bytes that the contexts in memory hold between calls, counted as [`Limits::max_context_bytes`] does, except for
    /// those that a graph [counts](crate::backend::BackendContext::shared_memory), because its contexts share them.
    max_context_bytes with_max_context_bytes,
    /// Computes that run at one time; others wait for their turn, and guests take turns. At least 1.
    max_computing with_max_computing,
    /// Computes that [sleep](crate::backend::ComputeControl::suspend) in their backend, beside those that run, until
    /// others have worked for them, as the sessions of a language model do for each other. Each keeps a thread. Where
    /// as many sleep and run as both bounds allow together, further computes wait for their turn.
    max_suspended with_max_suspended,
    /// Computes that wait at one time. If the queue is full, a further compute gets a place only if another guest has
    /// at least two more computes there than its own guest: then the newest compute of that guest ends with
    /// [`Busy`](crate::nn::ErrorKind::Busy). Otherwise the further compute does.
    max_queued with_max_queued,
    /// Models that the [resolver](crate::nn::EngineBuilder::with_resolver) gave, in memory at one time. One more takes
    /// the place of the one that no handle and no context uses and that was loaded the longest ago, approximately: its
    /// name is removed, as by [`remove_model`](crate::nn::Engine::remove_model), and a later load of the name asks the
    /// resolver again. If guests hold all of them, a load of one more gives [`Busy`](crate::nn::ErrorKind::Busy).
    max_resolved_names with_max_resolved_names,
    /// Asynchronous loads that work at one time, on threads of the engine; others wait for their turn, and guests take
    /// turns. At least 1. A load that waits for another load's build does not count.
    max_loading with_max_loading,
    /// Asynchronous loads that wait for their turn at one time, with the rule of [`max_queued`](Self::max_queued).
    max_queued_loads with_max_queued_loads,
}
