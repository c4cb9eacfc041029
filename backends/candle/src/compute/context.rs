//! The context in which an operator runs: it allocates memory within the compute's budget and checks for cancellation.
//!
//! Operators allocate with [`ExecContext::output`], [`ExecContext::scratch`] and [`ExecContext::list`], which charge
//! the budget before they allocate. The memory of a tensor is released when its last clone is dropped. So no number in
//! a model or a tensor can make the process allocate more than its host allows.
//!
//! Every loop whose length a guest can choose has a [`Checkpoint`], so that a compute ends soon after its deadline or
//! its cancellation.

use crate::tensor::budget::{Block, Charge, ComputeBudget};
use std::sync::Arc;

use crate::compute::random::RandomStates;
use crate::compute::threads::Threads;
use crate::profile::record::Probe;
use crate::tensor::dim_list::DimList;
use crate::tensor::dims::count;
use crate::tensor::element::Element;
use crate::tensor::value::Value;
use graphpool::backend::{ComputeControl, Error};

/// Units of work between two checks of deadline and cancel token: well under a millisecond of scalar arithmetic.
pub(crate) const CHECK_INTERVAL: usize = 1 << 20;

/// The same for multiplications in vector instructions, of which a processor does about 16 in the time of one unit.
pub(crate) const VECTOR_CHECK_INTERVAL: usize = CHECK_INTERVAL << 4;

/// The most elements that a loop processes between two calls of [`Checkpoint::step`].
pub(crate) const PIECE: usize = 1 << 16;

/// Checks deadline and cancel token once in each [`CHECK_INTERVAL`] units of work.
///
/// One call of [`step`](Self::step) should stand for at most a few times [`PIECE`] units.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// Work since the last check.
    done: usize,
}

impl Checkpoint {
    /// Counts `work` units that are about to be done. An error ends the compute.
    #[inline]
    pub(crate) fn step(&mut self, work: usize, cx: &ExecContext<'_>) -> Result<(), Error> {
        self.done = self.done.saturating_add(work).saturating_add(1);
        if self.done > CHECK_INTERVAL {
            self.done = 0;
            cx.control.check()?;
        }
        Ok(())
    }

    /// Sets every element of `out` to `element`.
    pub(crate) fn set<T: Copy>(&mut self, element: T, out: &mut [T], cx: &ExecContext<'_>) -> Result<(), Error> {
        for piece in out.chunks_mut(PIECE) {
            self.step(piece.len(), cx)?;
            piece.fill(element);
        }
        Ok(())
    }

    /// Appends `elements` to `out`.
    #[inline]
    pub(crate) fn copy<T: Copy>(
        &mut self,
        elements: &[T],
        out: &mut Vec<T>,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        for piece in elements.chunks(PIECE) {
            self.step(piece.len(), cx)?;
            out.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Extends `out` to `len` elements with copies of `element`.
    #[inline]
    pub(crate) fn fill<T: Copy>(
        &mut self,
        element: T,
        len: usize,
        out: &mut Vec<T>,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        while out.len() < len {
            let piece = PIECE.min(len - out.len());
            self.step(piece, cx)?;
            out.resize(out.len() + piece, element);
        }
        Ok(())
    }
}

/// The resources of the compute that an operator runs in.
#[derive(Clone, Copy)]
pub(crate) struct ExecContext<'a> {
    /// Deadline and cancel token.
    pub(crate) control: &'a ComputeControl,
    pub(crate) budget: &'a Arc<ComputeBudget>,
    /// Further threads that the compute can use.
    pub(crate) threads: Option<&'a Arc<Threads>>,
    /// The states of the nodes that draw random numbers; `None` while a model is loaded.
    pub(crate) random_states: Option<&'a RandomStates>,
    /// What times the steps, if the model is profiled.
    pub(crate) probe: Option<&'a Probe>,
}

impl<'a> ExecContext<'a> {
    /// A context for a compute on one thread, without random numbers.
    pub(crate) const fn new(control: &'a ComputeControl, budget: &'a Arc<ComputeBudget>) -> Self {
        Self { control, budget, threads: None, random_states: None, probe: None }
    }

    /// Allocates a tensor of `dims`, to be filled.
    pub(crate) fn output<T: Element>(&self, dims: &[usize]) -> Result<Output<'a, T>, Error> {
        let count = count(dims)?;
        let (elements, charge) = self.budget.allocate(count)?;
        Ok(Output { dims: dims.into(), elements, count, charge, cx: *self })
    }

    /// Allocates an empty vector for `count` elements, to be those of a tensor. It is charged as long as the charge lives.
    pub(crate) fn scratch<T: Element>(&self, count: usize) -> Result<(Vec<T>, Charge), Error> {
        crate::tensor::dims::count(&[count])?;
        self.budget.allocate(count)
    }

    /// Allocates a vector of `count` copies of `element`, to be those of a tensor.
    pub(crate) fn filled<T: Element>(&self, element: T, count: usize) -> Result<(Vec<T>, Charge), Error> {
        let (mut elements, charge) = self.scratch::<T>(count)?;
        Checkpoint::default().fill(element, count, &mut elements, self)?;
        Ok((elements, charge))
    }

    /// Allocates an empty vector for `count` items of any type.
    pub(crate) fn list<T: Send + 'static>(&self, count: usize) -> Result<(Vec<T>, Charge), Error> {
        self.budget.allocate(count)
    }

    /// Allocates an empty vector for `count` items, which the next compute finds again.
    pub(crate) fn block<T: Send + 'static>(&self, count: usize) -> Result<Block<T>, Error> {
        let (items, charge) = self.budget.allocate(count)?;
        Ok(Block::new(items, charge))
    }

    /// As [`block`](Self::block), with `count` copies of `item`.
    pub(crate) fn full_block<T: Copy + Send + 'static>(&self, item: T, count: usize) -> Result<Block<T>, Error> {
        let mut block = self.block(count)?;
        Checkpoint::default().fill(item, count, &mut block, self)?;
        Ok(block)
    }

    /// Charges the elements of a tensor of `dims` that the caller is about to allocate.
    pub(crate) fn charge<T: Element>(&self, dims: &[usize]) -> Result<Charge, Error> {
        self.budget.charge(count(dims)? * size_of::<T>())
    }
}

/// A tensor that is allocated and charged but not filled yet.
pub(crate) struct Output<'a, T> {
    dims: DimList,
    elements: Vec<T>,
    count: usize,
    charge: Charge,
    cx: ExecContext<'a>,
}

impl<T: Element> Output<'_, T> {
    /// Fills the tensor from an iterator, which has to give as many elements as the tensor has. Further ones are
    /// ignored.
    pub(crate) fn collect(mut self, elements: impl Iterator<Item = T>) -> Result<Value, Error> {
        let mut elements = elements.fuse();
        while self.elements.len() < self.count {
            self.cx.control.check()?;
            let (before, piece) = (self.elements.len(), PIECE.min(self.count - self.elements.len()));
            self.elements.extend(elements.by_ref().take(piece));
            if self.elements.len() == before {
                break;
            }
        }
        self.finish()
    }

    /// Fills the tensor with `element`, then lets `write` overwrite the elements.
    ///
    /// `write` is not called for a tensor without elements: the other dimensions of such a tensor can have any size,
    /// and a loop over them would take long.
    pub(crate) fn write(
        mut self,
        element: T,
        write: impl FnOnce(&mut [T]) -> Result<(), Error>,
    ) -> Result<Value, Error> {
        Checkpoint::default().fill(element, self.count, &mut self.elements, &self.cx)?;
        if self.count > 0 {
            write(&mut self.elements)?;
        }
        self.finish()
    }

    /// Lets `push` append the elements. As in [`write`](Self::write), it is not called for a tensor without elements.
    pub(crate) fn append(mut self, push: impl FnOnce(&mut Vec<T>) -> Result<(), Error>) -> Result<Value, Error> {
        if self.count > 0 {
            push(&mut self.elements)?;
        }
        self.finish()
    }

    fn finish(self) -> Result<Value, Error> {
        Value::charged(self.dims, self.elements, self.charge)
    }
}
