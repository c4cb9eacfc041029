//! The memory that one compute takes, and what an operator gets to allocate with.
//!
//! Nothing an operator makes exists before it is charged: [`Cx::output`] and [`Cx::scratch`] refuse what the budget
//! doesn't hold, and what they grant is given back when the tensor's last clone goes. So no number in a model or a
//! tensor can make the process allocate more than its host allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::threads::Crew;
use super::value::{Element, Value, count};
use crate::backend::ComputeControl;
use crate::nn::Error;

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

/// What an operator runs in: the budget and the token of its compute, and the threads that it may be spread over.
pub(crate) struct Cx<'a> {
    pub(crate) control: &'a ComputeControl,
    pub(crate) meter: &'a Arc<Meter>,
    pub(crate) crew: Option<&'a Crew<'a>>,
}

impl<'a> Cx<'a> {
    /// For a compute on one thread.
    pub(crate) const fn new(control: &'a ComputeControl, meter: &'a Arc<Meter>) -> Self {
        Self { control, meter, crew: None }
    }

    /// Room for a tensor of `dims`, charged.
    pub(crate) fn output<T: Element>(&self, dims: &[usize]) -> Result<Output<T>, Error> {
        let count = count(dims)?;
        let charge = self.meter.charge(count * size_of::<T>())?;
        let mut elements = Vec::new();
        elements
            .try_reserve_exact(count)
            .map_err(|_| Error::too_large(format!("no memory for {count} elements of {:?}", T::TYPE)))?;
        Ok(Output { dims: dims.to_vec(), elements, count, charge })
    }

    /// Room for `count` elements that no tensor will hold, charged.
    pub(crate) fn scratch<T: Element>(&self, count: usize) -> Result<(Vec<T>, Charge), Error> {
        let output = self.output::<T>(&[count])?;
        Ok((output.elements, output.charge))
    }

    /// Charges what candle is going to allocate.
    pub(crate) fn charge<T: Element>(&self, dims: &[usize]) -> Result<Charge, Error> {
        self.meter.charge(count(dims)? * size_of::<T>())
    }
}

/// Room for one tensor.
pub(crate) struct Output<T> {
    dims: Vec<usize>,
    elements: Vec<T>,
    count: usize,
    charge: Charge,
}

impl<T: Element> Output<T> {
    /// The tensor of these elements; as many as there is room for.
    pub(crate) fn collect(mut self, elements: impl Iterator<Item = T>) -> Result<Value, Error> {
        self.elements.extend(elements.take(self.count));
        self.finish()
    }

    /// The tensor that `write` makes out of one whose every element is `element`.
    pub(crate) fn write(mut self, element: T, write: impl FnOnce(&mut [T])) -> Result<Value, Error> {
        self.elements.resize(self.count, element);
        write(&mut self.elements);
        self.finish()
    }

    /// As [`write`](Self::write) with a `write` that may fail.
    pub(crate) fn try_write(
        mut self,
        element: T,
        write: impl FnOnce(&mut [T]) -> Result<(), Error>,
    ) -> Result<Value, Error> {
        self.elements.resize(self.count, element);
        write(&mut self.elements)?;
        self.finish()
    }

    /// The tensor of what `push` appends.
    pub(crate) fn append(mut self, push: impl FnOnce(&mut Vec<T>)) -> Result<Value, Error> {
        push(&mut self.elements);
        self.finish()
    }

    /// As [`append`](Self::append) with a `push` that may fail.
    pub(crate) fn try_append(mut self, push: impl FnOnce(&mut Vec<T>) -> Result<(), Error>) -> Result<Value, Error> {
        push(&mut self.elements)?;
        self.finish()
    }

    fn finish(self) -> Result<Value, Error> {
        Value::charged(self.dims, self.elements, self.charge)
    }
}
