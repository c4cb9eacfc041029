//! Two memory budgets: [`LoadBudget`] for one load of a model, [`ComputeBudget`] for one compute.
//!
//! Memory is charged to a budget before it is allocated and released when it is freed. A charge past the limit is an
//! error, so no number in a model or a tensor makes the process allocate more than its host allows.
//!
//! * [`LoadBudget`] belongs to the one thread that loads. It is charged and released by explicit calls.
//! * [`ComputeBudget`] is shared by the threads of a compute and by the tensors that they allocate. A [`Charge`] is
//!   released on drop.

use graphpool::backend::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory budget of one compute, in bytes.
#[derive(Debug)]
pub(crate) struct ComputeBudget {
    used: AtomicUsize,
    limit: usize,
}

impl ComputeBudget {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Charges `bytes` until the returned charge is dropped.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Error> {
        // Relaxed: only the sum matters; no other data is published through it.
        let update = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        match self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(_) => Ok(Charge { bytes, budget: Some(Arc::clone(self)) }),
            Err(used) => Err(Error::too_large(format!(
                "the compute has {used} of at most {} bytes in use and needs {bytes} more",
                self.limit
            ))),
        }
    }
}

/// Bytes charged to a [`ComputeBudget`], released on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: usize,
    budget: Option<Arc<ComputeBudget>>,
}

impl Charge {
    /// A charge of 0 bytes to no budget.
    pub(crate) const fn none() -> Self {
        Self { bytes: 0, budget: None }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            // Relaxed: as in `charge`.
            budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Bytes that the allocator takes for a block of `bytes`: 8 more, rounded up to a multiple of 16, at least 32; 0 for 0.
pub(crate) const fn allocation(bytes: usize) -> usize {
    match bytes.saturating_add(8).checked_next_multiple_of(16) {
        _ if bytes == 0 => 0,
        Some(whole) if whole > 32 => whole,
        Some(_) => 32,
        None => usize::MAX,
    }
}

/// The memory budget of one load, in bytes.
#[derive(Debug)]
pub(crate) struct LoadBudget {
    used: usize,
    limit: usize,
}

impl LoadBudget {
    /// A budget of `limit` bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { used: 0, limit }
    }

    /// Charges `bytes` that are about to be allocated.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            return Err(Error::too_large(format!(
                "the load has {} of at most {} bytes in use and needs {bytes} more",
                self.used, self.limit
            ))
            .by_limit());
        }
        self.used = used;
        Ok(())
    }

    /// Releases `bytes` that were charged and are freed.
    pub(crate) const fn release(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// The most bytes.
    #[cfg(feature = "ggml")]
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that can still be charged.
    pub(crate) const fn remaining(&self) -> usize {
        self.limit - self.used
    }
}
