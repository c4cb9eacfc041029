//! What a model takes of the process's memory: while it is loaded, and once it is.

use crate::tensor::budget::allocation;
use std::collections::HashSet;
use std::sync::Arc;

use crate::exec::plan::{Plan, Source, Step};
use crate::format::messages::AttributeProto;
use crate::tensor::value::Value;

/// What an operator keeps of its node's attributes, besides their graphs.
pub(crate) fn attribute_bytes(attributes: &[AttributeProto]) -> usize {
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
            + self.attribute_bytes
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
