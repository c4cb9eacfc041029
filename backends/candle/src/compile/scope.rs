//! The names in force in a graph, those of the graphs around it included.

use crate::compile::function::Bindings;
use crate::quote::quote;
use crate::tensor::value::Value;
use graphpool::backend::Error;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What is known of a name.
#[derive(Clone)]
pub(crate) enum Known {
    /// An input that the use of a function leaves out.
    Absent,
    Constant(Value),
    Slot(usize),
}

/// The names in force in one graph, and those of the graphs around it.
pub(crate) struct Scope<'a> {
    names: HashMap<&'a str, Known>,
    outer: Option<&'a dyn Resolve>,
    /// The attributes of the function that the graph is part of.
    pub(crate) bindings: Option<&'a Bindings<'a>>,
    /// Names taken from outside, in the order in which they were, and the slots that they were given here.
    pub(crate) captured: RefCell<Captured>,
    /// How many slots the plan has.
    pub(crate) slots: &'a Cell<usize>,
}

/// Names with their slots, in their order, and where to find each.
type Captured = (Vec<(String, usize)>, HashMap<String, usize>);

pub(crate) trait Resolve {
    fn resolve(&self, name: &str) -> Option<Known>;
}

impl Resolve for Scope<'_> {
    fn resolve(&self, name: &str) -> Option<Known> {
        if let Some(known) = self.names.get(name) {
            return Some(known.clone());
        }
        if let Some(slot) = self.captured.borrow().1.get(name) {
            return Some(Known::Slot(*slot));
        }
        match self.outer?.resolve(name)? {
            known @ (Known::Constant(_) | Known::Absent) => Some(known),
            Known::Slot(_) => {
                let slot = self.slot();
                let (order, slots) = &mut *self.captured.borrow_mut();
                order.push((name.to_owned(), slot));
                slots.insert(name.to_owned(), slot);
                Some(Known::Slot(slot))
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

    /// What is known of a name that has to be there.
    pub(crate) fn known(&self, name: &str) -> Result<Known, Error> {
        self.resolve(name).ok_or_else(|| Error::invalid_encoding(format!("{} is defined nowhere", quote(name))))
    }

    pub(crate) fn slot(&self) -> usize {
        let slot = self.slots.get();
        self.slots.set(slot + 1);
        slot
    }

    pub(crate) fn define(&mut self, name: &'a str, known: Known) -> Result<(), Error> {
        match self.names.entry(name) {
            Entry::Occupied(_) => Err(Error::invalid_encoding(format!("{} is defined twice", quote(name)))),
            Entry::Vacant(entry) => {
                entry.insert(known);
                Ok(())
            }
        }
    }
}
