//! The state of one store.

use std::fmt;

use graphpool::nn::{Encoding, Guest, Target};
#[cfg(feature = "witx")]
use {
    graphpool::backend::wire::Dialect,
    graphpool::nn::{Error, ErrorKind, Step},
    wasmtime::ModuleExport,
};

/// The wasi-nn state of one store: its [`Guest`], and what the host allows beyond the guest's limits.
///
/// A store has one, for both forms. The drop of the last clone of its guest cancels the guest's computes and releases
/// everything that the guest holds. The stores of one instance's threads, which share a memory, share a guest, too:
/// each has the state of a clone.
pub struct WasiNnCtx {
    guest: Guest,
    gpu_falls_back: bool,
    #[cfg(feature = "witx")]
    timeout_is_busy: bool,
    #[cfg(feature = "witx")]
    dialect: Dialect,
    #[cfg(feature = "witx")]
    memory: Option<ModuleExport>,
}

impl WasiNnCtx {
    /// Creates the state of a store from its guest: one guest for each instance.
    #[must_use]
    pub fn new(guest: Guest) -> Self {
        Self {
            guest,
            gpu_falls_back: false,
            #[cfg(feature = "witx")]
            timeout_is_busy: false,
            #[cfg(feature = "witx")]
            dialect: Dialect::Witx,
            #[cfg(feature = "witx")]
            memory: None,
        }
    }

    /// Loads a model for the CPU if its guest asks for the GPU or the TPU, and no backend serves that target. Off by
    /// default: the guest then gets `unsupported_operation`.
    #[must_use]
    pub fn with_fallback_to_cpu(mut self, falls_back: bool) -> Self {
        self.gpu_falls_back = falls_back;
        self
    }

    /// The guest of the store, for limits, usage and cancellation.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The target on which a model is loaded for a guest that asks for `target`.
    #[cfg(any(feature = "witx", feature = "wit"))]
    pub(crate) fn target(&self, encoding: Encoding, target: Target) -> Target {
        if self.gpu_falls_back && !self.guest.supports(encoding, target) { Target::Cpu } else { target }
    }
}

/// Core modules.
#[cfg(feature = "witx")]
impl WasiNnCtx {
    /// Reports a compute past its time limit to core modules as `busy`. Off by default: core modules then get
    /// `runtime_error`, because a guest that retries on `busy` would spend the time again. The component form has a
    /// code of its own for it.
    #[must_use]
    pub fn with_timeout_as_busy(mut self, busy: bool) -> Self {
        self.timeout_is_busy = busy;
        self
    }

    /// Sets the numbers of encodings, targets and tensor types that the guest uses: those of
    /// [`Witx`](Dialect::Witx) by default, which are Wasmtime's; of [`WasmEdge`](Dialect::WasmEdge) or
    /// [`Wamr`](Dialect::Wamr) for guests that were made for these hosts. With `WasmEdge`, `get_output` writes the size
    /// that is needed together with `too_large`, as that host does. Guests that read a language model's text in single
    /// steps know how it has ended by the numbers of `WasmEdge` and `Wamr` alone.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Finds the guest's memory by this export instead of the name `memory`, which saves a look-up of the name in each
    /// call. It is [`Module::get_export_index`](wasmtime::Module::get_export_index) of the module that is
    /// instantiated. A call from an instance of another module in the same store finds that instance's memory by the
    /// name.
    #[must_use]
    pub fn with_memory(mut self, memory: ModuleExport) -> Self {
        self.memory = Some(memory);
        self
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn memory(&self) -> Option<ModuleExport> {
        self.memory
    }

    /// The errno of a call's result.
    pub(crate) fn errno(&self, result: Result<(), Error>) -> u32 {
        match result {
            Ok(()) => 0,
            Err(error) if error.kind() == ErrorKind::Timeout && self.timeout_is_busy => ErrorKind::Busy.errno().into(),
            Err(error) => self.dialect.errno(error.kind()).into(),
        }
    }

    /// The errno of a single step: the end of its run has a number, too.
    pub(crate) fn step_errno(&self, result: Result<Step, Error>) -> u32 {
        match result.map(Step::error_kind) {
            Ok(None) => 0,
            Ok(Some(end)) => self.dialect.errno(end).into(),
            Err(error) => self.errno(Err(error)),
        }
    }
}

impl fmt::Debug for WasiNnCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasiNnCtx").field("guest", &self.guest).finish_non_exhaustive()
    }
}
