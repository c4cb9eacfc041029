//! The accounting of a context's memory.

use std::sync::{Arc as StdArc, Mutex as StdMutex, MutexGuard, PoisonError};

use crate::backend::{self, ComputeControl};
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
    room: StdArc<Room>,
}

/// The reservation of a context, which its compute can change ([`reserve`](backend::Room::reserve)).
///
/// One call uses a context at a time, so nobody waits for the lock: std's, also in the models.
#[derive(Debug)]
struct Room(StdMutex<Reserved>);

#[derive(Debug)]
struct Reserved {
    bytes: ContextBytes,
    /// The bytes of the table of inputs, if it is large enough to count.
    table: usize,
    /// What was counted against the limits of the guest and of the engine when the call of the backend began.
    least: (usize, usize),
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Reserved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl backend::Room for Room {
    fn reserve(&self, bytes: usize, shared: usize) -> Result<(), Error> {
        let mut reserved = self.lock();
        let (least, least_own) = reserved.least;
        let table = reserved.table;
        let own = bytes.saturating_sub(shared).saturating_add(table).max(least_own);
        let amount = bytes.saturating_add(table).max(least).max(own);
        reserved.bytes.resize_shared(amount, amount - own)
    }
}

impl Reserved {
    /// Counts `amount` from now on, of which `shared` bytes are counted elsewhere.
    fn count(&mut self, amount: usize, shared: usize) -> Result<(), Error> {
        let result = self.bytes.resize_shared(amount, shared);
        self.least = (self.bytes.amount(), self.bytes.engine_amount());
        result
    }
}

impl MemoryCharge {
    /// Creates the accounting of an empty context with that many inputs; `bytes` is empty.
    pub(crate) fn new(count: usize, bytes: ContextBytes) -> Self {
        let table = count.saturating_mul(size_of::<usize>());
        let table = if table > UNCOUNTED { table } else { 0 };
        let least = (bytes.amount(), bytes.engine_amount());
        let room = StdArc::new(Room(StdMutex::new(Reserved { bytes, table, least })));
        Self { inputs: Vec::new(), count, total: 0, room }
    }

    /// The bytes that count against the engine's limit now.
    pub(crate) fn counted(&self) -> usize {
        self.room.lock().bytes.engine_amount()
    }

    /// Sets in `control` what the context may hold, as long as others take no more, and what it reserves more from.
    pub(crate) fn limit_in(&self, control: &mut ComputeControl) {
        let reserved = self.room.lock();
        control.context_memory_limit = reserved.bytes.limit().saturating_sub(reserved.table);
        control.own_memory_limit = reserved.bytes.engine_limit().saturating_sub(reserved.table);
        let room: StdArc<dyn backend::Room> = StdArc::<Room>::clone(&self.room);
        control.room = Some(StdArc::downgrade(&room));
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
        {
            let mut reserved = self.room.lock();
            let (amount, own) = (reserved.bytes.amount(), reserved.bytes.engine_amount());
            reserved.count(amount.saturating_add(bytes.saturating_sub(before)), amount.saturating_sub(own))?;
        }
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
        let mut reserved = self.room.lock();
        let amount = bytes.max(self.total).saturating_add(reserved.table);
        reserved.count(amount, shared.min(bytes))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::nn::Limits;
    use crate::nn::limits::usage::Usage;

    #[test]
    fn a_compute_reserves_from_both_limits_and_keeps_what_the_context_had() {
        let [guest, engine] = [1_000, 500].map(|bytes| Usage::new(&Limits::default().with_max_context_bytes(bytes)));
        let new = || MemoryCharge::new(1, ContextBytes::new(&guest, &engine).unwrap());
        let left = || (guest.context_bytes.left(), engine.context_bytes.left());
        let (mut charge, mut other) = (new(), new());
        charge.with(0, 100, || Ok(())).unwrap();
        let (mut control, mut others) = (ComputeControl::default(), ComputeControl::default());
        charge.limit_in(&mut control);
        other.limit_in(&mut others);
        assert_eq!((others.context_memory_limit, others.own_memory_limit), (400, 400));
        control.reserve_context_memory(300, 0).unwrap();
        assert_eq!(left(), (700, 200));
        // Both were told that there are 400 bytes more.
        assert!(others.reserve_context_memory(201, 0).is_err());
        assert_eq!(left(), (700, 200));
        others.reserve_context_memory(300, 100).unwrap();
        assert_eq!(left(), (400, 0));
        // Less again, but no less than before the compute.
        control.reserve_context_memory(0, 0).unwrap();
        assert_eq!(left(), (600, 200));
        charge.settle(150, 0).unwrap();
        other.settle(300, 100).unwrap();
        assert_eq!(left(), (550, 150));
        drop((charge, other));
        assert_eq!(left(), (1_000, 500));
        // There is no context any more.
        control.reserve_context_memory(300, 0).unwrap();
        assert_eq!(left(), (1_000, 500));
    }
}
