//! The memory that one compute takes, and what an operator gets to allocate with.
//!
//! Nothing an operator makes exists before it is charged: [`ExecContext::output`] and [`ExecContext::scratch`] refuse what the budget
//! doesn't hold, and what they grant is given back when the tensor's last clone goes. So no number in a model or a
//! tensor can make the process allocate more than its host allows.

use crate::tensor::budget::{Charge, ComputeBudget};
use std::sync::Arc;

use crate::compute::random::RandomStates;
use crate::compute::threads::Threads;
use crate::tensor::dims::count;
use crate::tensor::element::Element;
use crate::tensor::value::Value;
use graphpool::backend::{ComputeControl, Error};

/// Steps of a loop between two looks at the compute's token: well under a millisecond of scalar arithmetic.
pub(crate) const CHECK_INTERVAL: usize = 1 << 20;

/// The same for multiplications of vectors, of which a processor does some 16 in the time of one step.
pub(crate) const VECTOR_CHECK_INTERVAL: usize = CHECK_INTERVAL << 4;

/// Elements that are gone through without a look at the compute's token, at the most.
pub(crate) const PIECE: usize = 1 << 16;

/// Looks at the compute's token every so much work. What is one step takes no longer than a few times [`PIECE`].
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    done: usize,
}

impl Checkpoint {
    /// Counts so much work, which is about to be done.
    #[inline]
    pub(crate) fn step(&mut self, work: usize, cx: &ExecContext<'_>) -> Result<(), Error> {
        self.done = self.done.saturating_add(work).saturating_add(1);
        if self.done > CHECK_INTERVAL {
            self.done = 0;
            cx.control.check()?;
        }
        Ok(())
    }

    /// Makes every element of `out` this one.
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

    /// Makes `out` as long as `len`, with more of `element`.
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

/// What an operator runs in: the budget and the token of its compute, and the threads that it may be spread over.
#[derive(Clone, Copy)]
pub(crate) struct ExecContext<'a> {
    pub(crate) control: &'a ComputeControl,
    pub(crate) budget: &'a Arc<ComputeBudget>,
    pub(crate) threads: Option<&'a Arc<Threads>>,
    /// How far the nodes that draw numbers at random have come; none while the model is loaded.
    pub(crate) random_states: Option<&'a RandomStates>,
}

impl<'a> ExecContext<'a> {
    /// For a compute on one thread.
    pub(crate) const fn new(control: &'a ComputeControl, budget: &'a Arc<ComputeBudget>) -> Self {
        Self { control, budget, threads: None, random_states: None }
    }

    /// Room for a tensor of `dims`, charged.
    pub(crate) fn output<T: Element>(&self, dims: &[usize]) -> Result<Output<'a, T>, Error> {
        let count = count(dims)?;
        let charge = self.budget.charge(count * size_of::<T>())?;
        let mut elements = Vec::new();
        elements
            .try_reserve_exact(count)
            .map_err(|_| Error::too_large(format!("no memory for {count} elements of {:?}", T::TYPE)))?;
        Ok(Output { dims: dims.into(), elements, count, charge, cx: *self })
    }

    /// Room for `count` elements that no tensor will hold, charged.
    pub(crate) fn scratch<T: Element>(&self, count: usize) -> Result<(Vec<T>, Charge), Error> {
        let output = self.output::<T>(&[count])?;
        Ok((output.elements, output.charge))
    }

    /// `count` elements that are `element` each, charged.
    pub(crate) fn filled<T: Element>(&self, element: T, count: usize) -> Result<(Vec<T>, Charge), Error> {
        let (mut elements, charge) = self.scratch::<T>(count)?;
        Checkpoint::default().fill(element, count, &mut elements, self)?;
        Ok((elements, charge))
    }

    /// Room for a list of up to `count` places, charged.
    pub(crate) fn list<T>(&self, count: usize) -> Result<(Vec<T>, Charge), Error> {
        let charge = self.budget.charge(count.saturating_mul(size_of::<T>()))?;
        let mut list = Vec::new();
        list.try_reserve_exact(count).map_err(|_| Error::too_large(format!("no memory for a list of {count}")))?;
        Ok((list, charge))
    }

    /// Charges what is going to be allocated.
    pub(crate) fn charge<T: Element>(&self, dims: &[usize]) -> Result<Charge, Error> {
        self.budget.charge(count(dims)? * size_of::<T>())
    }
}

/// Room for one tensor.
pub(crate) struct Output<'a, T> {
    dims: Arc<[usize]>,
    elements: Vec<T>,
    count: usize,
    charge: Charge,
    cx: ExecContext<'a>,
}

impl<T: Element> Output<'_, T> {
    /// The tensor of these elements; as many as there is room for.
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

    /// The tensor that `write` makes out of one whose every element is `element`. It is not asked for a tensor without
    /// elements, whose dimensions may be of any size.
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

    /// The tensor of what `push` appends. It is not asked for a tensor without elements, as in [`write`](Self::write).
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
