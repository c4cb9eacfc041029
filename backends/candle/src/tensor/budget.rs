//! Two memory budgets: [`LoadBudget`] for one load of a model, [`ComputeBudget`] for one compute.
//!
//! Memory is charged to a budget before it is allocated and released when it is freed. A charge past the limit is an
//! error, so no number in a model or a tensor makes the process allocate more than its host allows.
//!
//! * [`LoadBudget`] belongs to the one thread that loads. It is charged and released by explicit calls.
//! * [`ComputeBudget`] is shared by the threads of a compute and by the tensors that they allocate. A [`Charge`] is
//!   released on drop. A [`Block`] is a vector with its charge.

use graphpool::backend::Error;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use crate::tensor::allocation::allocation;
use crate::tensor::recycler::Recycler;

/// The memory budget of one compute, or of the computes of one context, in bytes.
///
/// That of a context keeps what its computes free, in a [`Recycler`], so that a compute like the last one allocates
/// nothing.
///
/// * B1: what is charged is at most the limit, and so is that together with what is kept. What is kept gives way.
/// * B2: what is kept is at most [`KEPT`] times the most that was charged at one time in this compute or the one before,
///   or [`KEPT_LEAST`] if that is more, and at most [`MOST_KEPT`].
#[derive(Debug)]
pub(crate) struct ComputeBudget(Mutex<State>);

/// What a compute may keep, relative to the most that it had in use at one time (B2).
const KEPT: usize = 4;

/// What any compute may keep (B2).
const KEPT_LEAST: usize = 1 << 16;

/// The most that is kept, also while a compute runs: what it freed and has no use for would add to what it has in use.
const MOST_KEPT: usize = 64 << 20;

#[derive(Debug)]
struct State {
    used: usize,
    limit: usize,
    /// The most that was in use in this compute, and in the one before.
    peak: usize,
    last_peak: usize,
    /// `None` where nothing is kept.
    recycler: Option<Recycler>,
}

impl State {
    fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        let used = self.used.checked_add(bytes).filter(|&sum| sum <= self.limit).ok_or_else(|| {
            Error::too_large(format!(
                "the compute has {} of at most {} bytes in use and needs {bytes} more",
                self.used, self.limit
            ))
        })?;
        self.used = used;
        self.peak = self.peak.max(used);
        if let Some(recycler) = &mut self.recycler
            && recycler.bytes() > self.limit - used
        {
            recycler.shrink_to(self.limit - used);
        }
        Ok(())
    }

    /// Releases `bytes`, then lets `give` keep what they were.
    fn release(&mut self, bytes: usize, give: impl FnOnce(&mut Recycler)) {
        self.used = self.used.saturating_sub(bytes);
        let Some(recycler) = &mut self.recycler else { return };
        give(recycler);
        let most = self.peak.max(self.last_peak).saturating_mul(KEPT).clamp(KEPT_LEAST, MOST_KEPT);
        let most = most.min(self.limit.saturating_sub(self.used));
        if recycler.bytes() > most {
            recycler.shrink_to(most);
        }
    }
}

impl ComputeBudget {
    /// A budget of `limit` bytes, which keeps nothing.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { used: 0, limit, peak: 0, last_peak: 0, recycler: None })))
    }

    /// A budget for the computes of a context, each of which [begins](Self::begin).
    pub(crate) fn recycling() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            used: 0,
            limit: 0,
            peak: 0,
            last_peak: 0,
            recycler: Some(Recycler::default()),
        })))
    }

    /// The lock is held for a few instructions, or to free what is kept.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a compute with a limit of `limit` bytes.
    pub(crate) fn begin(&self, limit: usize) {
        let mut state = self.state();
        (state.limit, state.peak, state.last_peak) = (limit, state.used, state.peak);
        if let Some(recycler) = &mut state.recycler {
            recycler.begin();
            recycler.shrink_to(limit);
        }
    }

    /// Ends a compute: frees what it did not use, and all beyond `most` bytes.
    pub(crate) fn end(&self, most: usize) {
        let state = &mut *self.state();
        if let Some(recycler) = &mut state.recycler {
            recycler.free_stale();
            recycler.shrink_to(most.min(state.peak.saturating_mul(KEPT).clamp(KEPT_LEAST, MOST_KEPT)));
        }
    }

    /// Frees all that is kept.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        if let Some(recycler) = &mut state.recycler {
            *recycler = Recycler::default();
        }
    }

    /// Bytes that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.state().recycler.as_ref().map_or(0, Recycler::total_bytes)
    }

    /// An empty vector for `count` items that are charged already: one that is kept, or a new one.
    pub(crate) fn spare<T: Send + 'static>(&self, count: usize) -> Result<Vec<T>, Error> {
        let kept = self.state().recycler.as_mut().and_then(|recycler| recycler.take_vec(count));
        kept.map_or_else(|| reserved(count), Ok)
    }

    /// Keeps the memory of a vector.
    pub(crate) fn keep<T: Send + 'static>(&self, mut vec: Vec<T>) {
        vec.clear();
        self.state().release(0, |recycler| recycler.give_vec(vec));
    }

    /// Charges `bytes` until the returned charge is dropped.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Error> {
        self.state().charge(bytes)?;
        Ok(Charge { bytes, budget: Some(Arc::clone(self)) })
    }

    /// Charges an empty vector for `count` items and allocates it, or takes one that is kept.
    pub(crate) fn allocate<T: Send + 'static>(self: &Arc<Self>, count: usize) -> Result<(Vec<T>, Charge), Error> {
        let bytes = count.saturating_mul(size_of::<T>());
        let mut state = self.state();
        let kept = state.recycler.as_mut().and_then(|recycler| recycler.take_vec(count));
        let charged = state.charge(bytes);
        drop(state);
        charged?;
        let charge = Charge { bytes, budget: Some(Arc::clone(self)) };
        if let Some(vec) = kept {
            return Ok((vec, charge));
        }
        Ok((reserved(count)?, charge))
    }
}

/// An empty vector for `count` items.
fn reserved<T>(count: usize) -> Result<Vec<T>, Error> {
    let mut vec = Vec::new();
    let failed = |_| Error::too_large(format!("the allocation of {count} items of {} bytes failed", size_of::<T>()));
    vec.try_reserve_exact(count).map_err(failed)?;
    Ok(vec)
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

    /// Whether this is a charge to a budget.
    pub(crate) fn is_some(&self) -> bool {
        self.budget.is_some()
    }

    /// A charge of 0 bytes, so that the budget keeps the memory of what has it.
    pub(crate) fn nothing(budget: &Arc<ComputeBudget>) -> Self {
        Self { bytes: 0, budget: Some(Arc::clone(budget)) }
    }

    /// Lets the budget keep an item.
    pub(crate) fn give<T: Send + 'static>(&self, item: T, bytes: usize) {
        if let Some(budget) = &self.budget {
            budget.state().release(0, |recycler| recycler.give(item, 0, bytes));
        }
    }

    /// Takes an item that the budget keeps, without a charge.
    pub(crate) fn take<T: Send + 'static>(&self, key: usize) -> Option<T> {
        self.budget.as_ref()?.state().recycler.as_mut()?.take(key)
    }

    /// Releases the bytes, and lets `give` keep what they were.
    pub(crate) fn release(mut self, give: impl FnOnce(&mut Recycler)) {
        if let Some(budget) = self.budget.take() {
            budget.state().release(self.bytes, give);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.state().release(self.bytes, |_| {});
        }
    }
}

/// A vector that is charged, and that the budget keeps when it is dropped.
#[derive(Debug)]
pub(crate) struct Block<T: Send + 'static> {
    items: Vec<T>,
    charge: Charge,
}

impl<T: Send + 'static> Block<T> {
    pub(crate) const fn new(items: Vec<T>, charge: Charge) -> Self {
        Self { items, charge }
    }

    /// A block without memory.
    pub(crate) const fn none() -> Self {
        Self { items: Vec::new(), charge: Charge::none() }
    }
}

impl<T: Send + 'static> Deref for Block<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.items
    }
}

impl<T: Send + 'static> DerefMut for Block<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.items
    }
}

impl<T: Send + 'static> Drop for Block<T> {
    fn drop(&mut self) {
        if self.charge.is_some() {
            let mut items = std::mem::take(&mut self.items);
            // Outside of the lock, which values take when they are dropped.
            items.clear();
            std::mem::replace(&mut self.charge, Charge::none()).release(|recycler| recycler.give_vec(items));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compute_keeps_little_while_it_runs() {
        let budget = ComputeBudget::recycling();
        budget.begin(1 << 40);
        // More than is kept, in use all the time.
        let (_used, _charge) = budget.allocate::<u8>(MOST_KEPT * 4).unwrap();
        for part in [1, 2, 3, 5, 7] {
            let (vec, charge) = budget.allocate::<u8>(MOST_KEPT / 8 * part).unwrap();
            charge.release(|recycler| recycler.give_vec(vec));
            let kept = budget.kept();
            assert!(kept > 0 && kept <= MOST_KEPT + (1 << 16), "{kept} bytes are kept");
        }
    }
}
