//! The accounting of a context's memory.

use crate::nn::Error;
use crate::nn::limits::context_bytes::ContextBytes;

/// The largest table of inputs that is not counted, in bytes. The number of contexts is limited, so the uncounted
/// tables are bounded, too.
const UNCOUNTED: usize = 1 << 10;

/// The memory of a context, counted against the limits of its guest and of the engine.
pub(crate) struct MemoryCharge {
    /// The bytes of each input that is set; allocated for all inputs with the first.
    inputs: Vec<usize>,
    /// The number of the graph's inputs.
    count: usize,
    /// The sum of the inputs: a lower bound for the backend's memory, whatever it reports.
    total: usize,
    reserved: ContextBytes,
}

impl MemoryCharge {
    /// Creates the accounting of an empty context with that many inputs; the reservation is empty.
    pub(crate) fn new(count: usize, reserved: ContextBytes) -> Self {
        Self { inputs: Vec::new(), count, total: 0, reserved }
    }

    /// The bytes of the table of inputs, if it is large enough to count.
    fn table(&self) -> usize {
        let bytes = self.count.saturating_mul(size_of::<usize>());
        if bytes > UNCOUNTED { bytes } else { 0 }
    }

    /// The bytes that count against the guest's limit now.
    fn reserved(&self) -> usize {
        self.reserved.amount()
    }

    /// The bytes that count against the engine's limit now.
    pub(crate) fn counted(&self) -> usize {
        self.reserved.engine_amount()
    }

    /// The most bytes that the context may hold, as long as others take no more.
    pub(crate) fn limit(&self) -> usize {
        self.reserved.limit().saturating_sub(self.table())
    }

    /// The most bytes that the context may hold without those that are counted elsewhere, as long as others take no
    /// more.
    pub(crate) fn own_limit(&self) -> usize {
        self.reserved.engine_limit().saturating_sub(self.table())
    }

    /// Counts `bytes` for the input at `index`, if there is room for them and `set` succeeds.
    pub(crate) fn with(
        &mut self,
        index: usize,
        bytes: usize,
        set: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.inputs.is_empty() {
            self.inputs.resize(self.count, 0);
        }
        let before = self.inputs.get(index).copied().unwrap_or_default();
        let shared = self.reserved().saturating_sub(self.counted());
        self.reserved.resize_shared(self.reserved().saturating_add(bytes.saturating_sub(before)), shared)?;
        let result = set();
        if let (Ok(()), Some(input)) = (&result, self.inputs.get_mut(index)) {
            *input = bytes;
            self.total = (self.total - before).saturating_add(bytes);
        }
        result
    }

    /// Counts no input any more; [`settle`](Self::settle) then gives their bytes back.
    pub(crate) fn clear_inputs(&mut self) {
        self.inputs.fill(0);
        self.total = 0;
    }

    /// Counts the memory that the backend reports now, of which `shared` bytes are counted elsewhere.
    pub(crate) fn settle(&mut self, bytes: usize, shared: usize) -> Result<(), Error> {
        self.reserved.resize_shared(bytes.max(self.total).saturating_add(self.table()), shared.min(bytes))
    }
}
