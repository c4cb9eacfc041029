//! Computes the memory that compiled steps and plans take, including the allocator's overhead.

use crate::tensor::budget::allocation;
use std::collections::HashSet;
use std::sync::Arc;

use crate::exec::plan::{Plan, Source, Step};
use crate::format::messages::AttributeProto;
use crate::tensor::value::Value;

/// The most bytes that an operator keeps of its node's attributes. Graphs are counted separately, as plans.
pub(crate) fn attribute_bytes(attributes: &[AttributeProto]) -> usize {
    let each = |attribute: &AttributeProto| {
        let lists = allocation(8 * attribute.ints.len()) + allocation(4 * attribute.floats.len());
        // Short strings name a mode, which no operator keeps. A long string is kept in a parsed form, if at all.
        let string = attribute.s.as_ref().map_or(0, Vec::len).saturating_mul(4);
        lists + allocation(if string > 64 { string } else { 0 })
    };
    attributes.iter().map(each).fold(0, usize::saturating_add)
}

impl Step {
    /// Bytes of the step's allocations, without its constants and the plans of its subgraphs.
    pub(crate) fn bytes(&self) -> usize {
        allocation(self.label.len())
            + allocation(self.inputs.capacity() * size_of::<Source>())
            + allocation(self.outputs.capacity() * size_of::<Option<usize>>())
            + allocation(size_of_val(&*self.kernel))
            + allocation(size_of_val(&*self.subgraphs))
            + self.attribute_bytes
            + self.form_bytes()
    }

    /// Bytes of the device form.
    #[cfg(feature = "candle")]
    fn form_bytes(&self) -> usize {
        self.form.as_ref().map_or(0, |form| allocation(size_of_val(&**form)) + self.attribute_bytes)
    }

    #[cfg(not(feature = "candle"))]
    #[expect(clippy::unused_self, reason = "steps have a form only with candle")]
    fn form_bytes(&self) -> usize {
        0
    }
}

/// Adds up plans and constants. A plan or a constant that is used several times counts once.
#[derive(Default)]
struct Footprint {
    /// Addresses of what is counted already.
    seen: HashSet<usize>,
    bytes: usize,
}

/// Bytes that a plan takes with the constants that its steps read. Packed weights are not included.
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
