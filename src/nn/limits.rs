//! What one guest may have and ask for, and what all of them may together.

use std::thread;
use std::time::Duration;

/// Bounds of one guest. Each is inclusive: a guest may have exactly as much as it says.
///
/// Past a bound a call gives [`TooLarge`](super::ErrorKind::TooLarge) with the value and the bound in its message,
/// before anything is allocated for it; but [`Busy`](super::ErrorKind::Busy) past [`computes`](Self::computes), and
/// [`Timeout`](super::ErrorKind::Timeout) past [`compute_time`](Self::compute_time). `usize::MAX` is no bound.
///
/// ```
/// use graphpool::nn::Limits;
///
/// let limits = Limits::default().graphs(2).contexts(8).model_bytes(64 << 20);
/// assert_eq!(limits.max_contexts(), 8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    graphs: usize,
    contexts: usize,
    model_bytes: usize,
    tensor_bytes: usize,
    tensor_rank: usize,
    compute_memory: usize,
    computes: usize,
    context_bytes: usize,
    name_bytes: usize,
    compute_time: Duration,
}

impl Default for Limits {
    /// 64 graphs, 256 contexts, 1 GiB of models, 1 GiB in contexts, tensors of 256 MiB and 16 dimensions, 256
    /// computes at one time, 1 GiB and 60 s for each of them, names of 256 bytes.
    fn default() -> Self {
        Self {
            graphs: 64,
            contexts: 256,
            model_bytes: 1 << 30,
            tensor_bytes: 256 << 20,
            tensor_rank: 16,
            compute_memory: 1 << 30,
            computes: 256,
            context_bytes: 1 << 30,
            name_bytes: 256,
            compute_time: Duration::from_mins(1),
        }
    }
}

macro_rules! accessors {
    ($($(#[doc = $doc:expr])* $field:ident $getter:ident,)*) => {
        $(
            $(#[doc = $doc])*
            #[must_use]
            pub const fn $field(mut self, bound: usize) -> Self {
                self.$field = bound;
                self
            }

            #[doc = concat!("The bound that [`", stringify!($field), "`](Self::", stringify!($field), ") sets.")]
            #[must_use]
            pub const fn $getter(&self) -> usize {
                self.$field
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
    ($($(#[doc = $doc:expr])* $field:ident $getter:ident),* $(,)?) => {
        impl Limits {
            /// No bound on anything: for guests that are trusted like the host itself.
            #[must_use]
            pub const fn unlimited() -> Self {
                Self { $($field: usize::MAX,)* compute_time: Duration::MAX }
            }

            /// Of each bound the lower one.
            #[must_use]
            pub fn at_most(self, other: &Self) -> Self {
                Self {
                    $($field: self.$field.min(other.$field),)*
                    compute_time: self.compute_time.min(other.compute_time),
                }
            }

            accessors! { $($(#[doc = $doc])* $field $getter,)* }
        }
    };
}

bounds! {
    /// Graph handles that the guest may hold at one time, loaded and by name together.
    graphs max_graphs,
    /// Contexts that the guest may hold at one time; one that a call still uses counts until that call ends.
    contexts max_contexts,
    /// Bytes of the models that the guest has loaded itself, as their backend counts them
    /// ([`BackendGraph::memory`](crate::backend::BackendGraph::memory)). A model counts until neither its handle nor
    /// a context of it is left. Named models are the host's, and count for no guest.
    model_bytes max_model_bytes,
    /// Bytes of the data of one input tensor.
    tensor_bytes max_tensor_bytes,
    /// Dimensions of one input tensor.
    tensor_rank max_tensor_rank,
    /// Bytes of tensors, intermediate ones and outputs together, that one compute may have alive at one time; the
    /// backend keeps to it.
    compute_memory max_compute_memory,
    /// Computes that the guest may have at one time, running and waiting together.
    computes max_computes,
    /// Bytes that the guest's contexts may hold together between calls, as their backends count them
    /// ([`BackendContext::memory`](crate::backend::BackendContext::memory)), and at least those of their inputs; and 8
    /// for each input of a graph that has more than 128. An input is refused before it is taken; a context whose
    /// compute leaves it with more is lost.
    context_bytes max_context_bytes,
    /// Bytes of a model's name.
    name_bytes max_name_bytes,
}

impl Limits {
    /// Time that a compute may take, the wait for its turn included. A backend that does not look at its
    /// [`ComputeControl`](crate::backend::ComputeControl) goes on to its end all the same. `Duration::MAX` is no bound.
    #[must_use]
    pub const fn compute_time(mut self, bound: Duration) -> Self {
        self.compute_time = bound;
        self
    }

    /// The bound that [`compute_time`](Self::compute_time) sets.
    #[must_use]
    pub const fn max_compute_time(&self) -> Duration {
        self.compute_time
    }
}

/// Bounds of one engine, over all of its guests. Each is inclusive.
///
/// What would fit if others had less gives [`Busy`](super::ErrorKind::Busy), and the same call may succeed later; what
/// is more than the bound by itself gives [`TooLarge`](super::ErrorKind::TooLarge). What was given back is no longer
/// counted: a load that finds no room waits for models that are being released, for up to a second. For bounds of
/// single tensors and computes see [`EngineBuilder::ceiling`](super::EngineBuilder::ceiling).
///
/// ```
/// use graphpool::nn::EngineLimits;
///
/// let limits = EngineLimits::default().model_bytes(8 << 30).computes(4).queue(64);
/// assert_eq!(limits.max_computes(), 4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    graphs: usize,
    contexts: usize,
    model_bytes: usize,
    context_bytes: usize,
    computes: usize,
    queue: usize,
}

impl Default for EngineLimits {
    /// As many computes as the machine has processors, and 1,024 that wait; 4,096 graphs, 65,536 contexts, and no bound
    /// on the bytes of either.
    fn default() -> Self {
        let computes = thread::available_parallelism().map_or(1, usize::from);
        Self {
            graphs: 4_096,
            contexts: 65_536,
            model_bytes: usize::MAX,
            context_bytes: usize::MAX,
            computes,
            queue: 1_024,
        }
    }
}

engine_bounds! {
    /// Models in memory. One that many guests share is one.
    graphs max_graphs,
    /// Contexts in memory.
    contexts max_contexts,
    /// Bytes of the models in memory, those of names with them, as their backends count them. The files of a named
    /// model count while it is built, from before they are read.
    model_bytes max_model_bytes,
    /// Bytes that the contexts in memory hold between calls, counted as [`Limits::context_bytes`] does.
    context_bytes max_context_bytes,
    /// Computes that run at one time; others wait for their turn, and guests take turns. At least 1.
    computes max_computes,
    /// Computes that wait at one time. Where as many do, a guest that has at least two more of them than the guest of
    /// the next one makes room for it, and its newest is told [`Busy`](super::ErrorKind::Busy); where there is no such
    /// guest, the next one is.
    queue max_queue,
}
