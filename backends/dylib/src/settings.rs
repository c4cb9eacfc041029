//! What a host declares of a library, because its interface does not tell it.

use std::time::Duration;

use graphpool::backend::{Encoding, Target, TensorDescription};

/// What a host declares of a library.
///
/// ```
/// use graphpool::backend::Encoding;
/// use graphpool_dylib::{DylibSettings, Serialized};
///
/// let settings = DylibSettings::new([Encoding::TensorFlowLite]).with_serialized(Serialized::Library);
/// ```
#[derive(Debug, Clone)]
pub struct DylibSettings {
    pub(crate) name: Option<String>,
    pub(crate) encodings: Vec<Encoding>,
    pub(crate) targets: Vec<Target>,
    pub(crate) serialized: Serialized,
    pub(crate) mapping: Mapping,
    pub(crate) kept_mapped: bool,
    pub(crate) needs_deinit: bool,
    pub(crate) contexts_per_load: u32,
    pub(crate) max_wait: Duration,
    pub(crate) max_output_bytes: usize,
    pub(crate) inputs: Vec<TensorDescription>,
    pub(crate) outputs: Vec<TensorDescription>,
}

/// Which calls into a library exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Serialized {
    /// One call at a time in each context that `init_backend` has made; calls in different ones run at the same time.
    /// WAMR calls its libraries in this way.
    Context,
    /// One call at a time in the whole library, for libraries that are not thread-safe. Backends that share a mapping
    /// of the library take turns, too.
    ///
    /// A slow compute then delays every guest of the library, up to [`with_max_wait`](DylibSettings::with_max_wait),
    /// and guests of other backends: a compute that waits here holds one of the engine's
    /// [`max_computing`](graphpool::nn::EngineLimits::max_computing) places.
    Library,
}

/// How a library's file is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mapping {
    /// From a private copy in memory. The file may be replaced or overwritten at any time, and a library that is opened
    /// again is a new one with its own static variables, also if the old one is still mapped. The copy has no
    /// directory: a library that finds others by `$ORIGIN` needs [`InPlace`](Self::InPlace). On systems other than
    /// Linux and Android this is the same as `InPlace`.
    Copy,
    /// From the file. The file must not be overwritten while it is in use. If a library of the same path or file is
    /// mapped, the system returns that mapping, and the static variables are shared. So a file that replaces another
    /// may not be seen as long as the old one is mapped.
    InPlace,
}

/// The number of inputs and of outputs that a model may have if nothing else is declared.
const UNKNOWN_TENSORS: usize = 16;

impl DylibSettings {
    /// Settings for a library that loads models of these encodings for the CPU.
    ///
    /// The library gets the encoding of each request. Declare [`Encoding::Autodetect`] only for a library that
    /// recognises models by their bytes.
    #[must_use]
    pub fn new(encodings: impl IntoIterator<Item = Encoding>) -> Self {
        Self {
            name: None,
            encodings: encodings.into_iter().collect(),
            targets: vec![Target::Cpu],
            serialized: Serialized::Context,
            mapping: Mapping::Copy,
            kept_mapped: false,
            needs_deinit: true,
            contexts_per_load: 1,
            max_wait: Duration::from_secs(10),
            max_output_bytes: 64 << 20,
            inputs: unknown(UNKNOWN_TENSORS, 0),
            outputs: unknown(UNKNOWN_TENSORS, 1),
        }
    }

    /// Sets the name of the backend; by default the name of the file without `lib` and its extension.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Sets the targets that the library has.
    #[must_use]
    pub fn with_targets(self, targets: impl IntoIterator<Item = Target>) -> Self {
        Self { targets: targets.into_iter().collect(), ..self }
    }

    /// Sets which calls exclude each other; [`Serialized::Context`] by default.
    #[must_use]
    pub fn with_serialized(self, serialized: Serialized) -> Self {
        Self { serialized, ..self }
    }

    /// Sets how the file is mapped; [`Mapping::Copy`] by default.
    #[must_use]
    pub fn with_mapping(self, mapping: Mapping) -> Self {
        Self { mapping, ..self }
    }

    /// Sets whether the library stays mapped for good; by default it is unmapped after its last use.
    ///
    /// This is for libraries that leave something behind which calls them later: threads of their own, destructors of
    /// threads' values, signal handlers, callbacks. Each [private copy](Mapping::Copy) that is opened then takes its
    /// memory until the process ends, so a host that replaces such a library again and again takes more and more. A
    /// library that lacks a function is unmapped, as each further load opens it again.
    #[must_use]
    pub fn with_kept_mapped(self, kept: bool) -> Self {
        Self { kept_mapped: kept, ..self }
    }

    /// Accepts a library without `deinit_backend`. Such a library never frees the memory of a model or of a context.
    #[must_use]
    pub fn without_deinit(self) -> Self {
        Self { needs_deinit: false, ..self }
    }

    /// Sets the number of execution contexts that are opened from one load of a model; 1 by default, and at least 1.
    ///
    /// The interface has no function that closes an execution context or unloads a graph: `deinit_backend` alone frees
    /// them. So a graph loads its model again, in a new `init_backend` context, whenever this many execution contexts
    /// were opened from the last load. `deinit_backend` is called when the last of them is closed. A larger number
    /// saves memory and time for large models; memory of closed contexts is then kept longer.
    #[must_use]
    pub fn with_contexts_per_load(self, contexts: u32) -> Self {
        Self { contexts_per_load: contexts.max(1), ..self }
    }

    /// Sets how long a call waits for other calls before it fails with `Busy`; 10 seconds by default. It waits for
    /// calls that exclude it, and for a load that it is to [share](Self::with_contexts_per_load). All waits of one call
    /// count together; what the library takes for the call itself does not count. A compute also stops waiting at its
    /// deadline, and when it is cancelled.
    ///
    /// The wait is on the thread of the call. A compute that waits holds one of the engine's
    /// [`max_computing`](graphpool::nn::EngineLimits::max_computing) places for that time, and can delay the computes
    /// of other backends. A load, the opening of a context and the setting of an input wait on the caller's thread,
    /// which is one of the executor's in an asynchronous host. Choose a short time where that matters.
    #[must_use]
    pub fn with_max_wait(self, wait: Duration) -> Self {
        Self { max_wait: wait, ..self }
    }

    /// Sets the size in bytes up to which an output is read; 64 MiB by default. The memory limit of a compute applies,
    /// too.
    #[must_use]
    pub fn with_max_output_bytes(self, bytes: usize) -> Self {
        Self { max_output_bytes: bytes, ..self }
    }

    /// Declares the inputs of every model that the library loads. By default a model may have up to 16 inputs of any
    /// type and shape, named by their indexes, and the library checks them.
    #[must_use]
    pub fn with_inputs(self, inputs: impl IntoIterator<Item = TensorDescription>) -> Self {
        Self { inputs: inputs.into_iter().collect(), ..self }
    }

    /// Declares the outputs of every model that the library loads. By default a model may have 1 to 16 outputs, named
    /// by their indexes, and each is read as a vector of bytes (u8).
    ///
    /// The interface tells the bytes of an output only. A description with a type gives them that type. The dimensions
    /// are those of the description if at most one size is open and the number of bytes fits; else the output is a
    /// vector.
    #[must_use]
    pub fn with_outputs(self, outputs: impl IntoIterator<Item = TensorDescription>) -> Self {
        Self { outputs: outputs.into_iter().collect(), ..self }
    }

    /// Sets the number of inputs and outputs that a model may have, in place of [`with_inputs`](Self::with_inputs) and
    /// [`with_outputs`](Self::with_outputs). Every output is read after each compute, in the order of the indexes, up
    /// to the first that the library refuses.
    #[must_use]
    pub fn with_unknown_tensors(self, inputs: usize, outputs: usize) -> Self {
        Self { inputs: unknown(inputs, 0), outputs: unknown(outputs, 1), ..self }
    }
}

/// Descriptions of tensors of any type and shape, of which the first `certain` exist in every model.
fn unknown(count: usize, certain: usize) -> Vec<TensorDescription> {
    let describe = |index: usize| TensorDescription::new(index.to_string(), None, None).with_optional(index >= certain);
    (0..count).map(describe).collect()
}
