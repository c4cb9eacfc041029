//! What a model takes of the process's memory: while it is loaded, and once it is.

use std::collections::HashSet;
use std::sync::Arc;

use super::decode::AttributeProto;
use super::plan::{Plan, Source, Step};
use super::value::Value;
use graphpool::backend::Error;

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

/// What an operator keeps of its node's attributes, besides their graphs.
pub(crate) fn kept(attributes: &[AttributeProto]) -> usize {
    let each = |attribute: &AttributeProto| {
        let lists = allocation(8 * attribute.ints.len()) + allocation(4 * attribute.floats.len());
        // Few operators keep a string, in whatever form; none keeps a short one, which names a mode.
        let string = attribute.s.as_ref().map_or(0, Vec::len).saturating_mul(4);
        lists + allocation(if string > 64 { string } else { 0 })
    };
    attributes.iter().map(each).fold(0, usize::saturating_add)
}

impl Step {
    /// Bytes of the step's own allocations.
    pub(crate) fn bytes(&self) -> usize {
        allocation(self.label.len())
            + allocation(self.inputs.capacity() * size_of::<Source>())
            + allocation(self.outputs.capacity() * size_of::<Option<usize>>())
            + allocation(size_of_val(&*self.kernel))
            + allocation(size_of_val(&*self.subgraphs))
            + self.held
    }
}

/// Adds up plans and constants, each once however many uses it has.
#[derive(Default)]
struct Footprint {
    seen: HashSet<usize>,
    bytes: usize,
}

/// Bytes that a plan takes with the constants that its steps read, but for what kernels hold laid out.
pub(crate) fn of(plan: &Plan) -> usize {
    let mut footprint = Footprint::default();
    footprint.plan(plan);
    footprint.bytes
}

impl Footprint {
    fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn source(&mut self, source: &Source) {
        let Source::Constant(value) = source else { return };
        self.value(value);
    }

    fn value(&mut self, value: &Value) {
        let [dims, elements] = value.blocks();
        for (address, bytes) in [dims, elements] {
            if self.seen.insert(address) {
                self.add(bytes);
            }
        }
    }

    fn plan(&mut self, plan: &Plan) {
        self.add(allocation(plan.steps.capacity() * size_of::<Step>()));
        self.add(allocation(plan.inputs.capacity() * size_of::<usize>()));
        self.add(allocation(plan.outputs.capacity() * size_of::<Source>()));
        for step in &plan.steps {
            self.add(step.bytes());
            step.inputs.iter().for_each(|source| self.source(source));
            for subgraph in &step.subgraphs {
                if self.seen.insert(Arc::as_ptr(subgraph).addr()) {
                    self.add(allocation(size_of::<Plan>() + 2 * size_of::<usize>()));
                    self.plan(subgraph);
                }
            }
        }
        plan.outputs.iter().for_each(|source| self.source(source));
    }
}
