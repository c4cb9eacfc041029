//! The scope of a graph: resolves a name to its definition in the graph itself or in the graphs around it.

use crate::compile::function::Bindings;
use crate::quote::quote;
use crate::tensor::value::Value;
use graphpool::backend::Error;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What a name stands for.
#[derive(Clone)]
pub(crate) enum Definition {
    /// An input of a function that the call leaves out.
    Absent,
    /// A value that is known at load.
    Constant(Value),
    /// The slot of a value that a run computes.
    Slot(usize),
}

/// The names that are defined in one graph, with access to the scope around it.
pub(crate) struct Scope<'a> {
    names: HashMap<&'a str, Definition>,
    outer: Option<&'a dyn Resolve>,
    /// The attributes of the function call that is being expanded.
    pub(crate) bindings: Option<&'a Bindings<'a>>,
    /// Names captured from the outer scope, with their slots in this graph.
    pub(crate) captured: RefCell<Captured>,
    /// The number of slots that are used in the plan.
    pub(crate) slots: &'a Cell<usize>,
}

/// Captured names and their slots: as a list in the order of capture, and as a map.
type Captured = (Vec<(String, usize)>, HashMap<String, usize>);

/// A scope around a graph.
pub(crate) trait Resolve {
    /// The definition of a name. A slot of an outer scope becomes a capture, with a new slot in this scope.
    fn resolve(&self, name: &str) -> Option<Definition>;
}

impl Resolve for Scope<'_> {
    fn resolve(&self, name: &str) -> Option<Definition> {
        if let Some(definition) = self.names.get(name) {
            return Some(definition.clone());
        }
        if let Some(slot) = self.captured.borrow().1.get(name) {
            return Some(Definition::Slot(*slot));
        }
        match self.outer?.resolve(name)? {
            definition @ (Definition::Constant(_) | Definition::Absent) => Some(definition),
            Definition::Slot(_) => {
                let slot = self.new_slot();
                let (order, slots) = &mut *self.captured.borrow_mut();
                order.push((name.to_owned(), slot));
                slots.insert(name.to_owned(), slot);
                Some(Definition::Slot(slot))
            }
        }
    }
}

impl<'a> Scope<'a> {
    pub(crate) fn new(
        slots: &'a Cell<usize>,
        outer: Option<&'a dyn Resolve>,
        bindings: Option<&'a Bindings<'a>>,
    ) -> Self {
        Self { names: HashMap::new(), outer, bindings, captured: RefCell::default(), slots }
    }

    /// The definition of a name; an error if there is none.
    pub(crate) fn resolve_required(&self, name: &str) -> Result<Definition, Error> {
        self.resolve(name).ok_or_else(|| Error::invalid_encoding(format!("value {} has no producer", quote(name))))
    }

    /// A slot that is not used yet.
    pub(crate) fn new_slot(&self) -> usize {
        let slot = self.slots.get();
        self.slots.set(slot + 1);
        slot
    }

    /// Defines a name. Each name can be defined once in a graph.
    pub(crate) fn define(&mut self, name: &'a str, definition: Definition) -> Result<(), Error> {
        match self.names.entry(name) {
            Entry::Occupied(_) => Err(Error::invalid_encoding(format!("value {} is defined twice", quote(name)))),
            Entry::Vacant(entry) => {
                entry.insert(definition);
                Ok(())
            }
        }
    }
}
