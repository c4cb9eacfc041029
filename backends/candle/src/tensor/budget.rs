//! Budgets of bytes: of a load, and of a compute.
//!
//! Memory is charged before it is allocated, and given back when it is freed.

use graphpool::backend::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A budget of bytes.
#[derive(Debug)]
pub(crate) struct Meter {
    used: AtomicUsize,
    limit: usize,
}

impl Meter {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Takes `bytes` off the budget until the charge is dropped.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Error> {
        // Relaxed: only the sum matters, no data is published through it.
        let update = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        match self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(_) => Ok(Charge { bytes, meter: Some(Arc::clone(self)) }),
            Err(used) => Err(Error::too_large(format!(
                "{bytes} bytes more, with {used} in use, pass the memory limit of {}",
                self.limit
            ))),
        }
    }
}

/// Bytes taken off a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: usize,
    meter: Option<Arc<Meter>>,
}

impl Charge {
    /// A charge on no budget.
    pub(crate) const fn none() -> Self {
        Self { bytes: 0, meter: None }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            // Relaxed: as in `charge`.
            meter.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Bytes that the allocator takes for a block of so many: a multiple of 16 with 8 of its own, and 32 at the least.
pub(crate) const fn allocation(bytes: usize) -> usize {
    match bytes.saturating_add(8).checked_next_multiple_of(16) {
        _ if bytes == 0 => 0,
        Some(whole) if whole > 32 => whole,
        Some(_) => 32,
        None => usize::MAX,
    }
}

/// What a load may take until it is over.
#[derive(Debug)]
pub(crate) struct Budget {
    used: usize,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { used: 0, limit }
    }

    /// Takes bytes that are about to be allocated.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Error> {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            return Err(Error::too_large(format!(
                "to load the model takes {used} bytes or more, the limit is {}",
                self.limit
            )));
        }
        self.used = used;
        Ok(())
    }

    /// Gives back what was taken and is free again.
    pub(crate) const fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Bytes that may still be taken.
    pub(crate) const fn left(&self) -> usize {
        self.limit - self.used
    }
}
