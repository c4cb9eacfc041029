//! The state of one store.

use graphpool::nn::Guest;

/// The wasi-nn state of one store: its [`Guest`], and what the host allows beyond the guest's limits.
///
/// A store has one, for both forms. Its drop cancels the guest's computes and releases everything that the guest holds.
#[derive(Debug)]
pub struct WasiNnCtx {
    guest: Guest,
    gpu_falls_back: bool,
    timeout_is_busy: bool,
}

impl WasiNnCtx {
    /// Creates the state of a store from its guest: one guest for each store.
    #[must_use]
    pub fn new(guest: Guest) -> Self {
        Self { guest, gpu_falls_back: false, timeout_is_busy: false }
    }

    /// Loads a model for the CPU if its guest asks for the GPU or the TPU, and no backend serves that target. Off by
    /// default: the guest then gets `unsupported_operation`.
    #[must_use]
    pub fn with_fallback_to_cpu(mut self, falls_back: bool) -> Self {
        self.gpu_falls_back = falls_back;
        self
    }

    /// Reports a compute past its time limit to core modules as `busy`. Off by default: core modules then get
    /// `runtime_error`, because a guest that retries on `busy` would spend the time again. The component form has a
    /// code of its own for it.
    #[must_use]
    pub fn with_timeout_as_busy(mut self, busy: bool) -> Self {
        self.timeout_is_busy = busy;
        self
    }

    /// The guest of the store, for limits, usage and cancellation.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }
}
