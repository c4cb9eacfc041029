//! The node that an operator's constructor reads: attributes by type, inputs known at load, the opset.
//!
//! A node with an attribute that its constructor did not read is refused, because the attribute would have no effect.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::compute::context::ExecContext;
use crate::format::messages::{AttributeProto, NodeProto};
use crate::format::tensors::tensor;
use crate::quote::quote;
use crate::tensor::element::ElementType;
use crate::tensor::string_table::{StringId, StringTable};
use crate::tensor::value::{Value, Values};
use graphpool::backend::Error;

/// A compiled operator.
pub(crate) type OpFn = Box<dyn Fn(Args, &ExecContext<'_>) -> Result<Values, Error> + Send + Sync>;

/// A compiled graph that is an attribute of an operator, which runs it.
pub(crate) trait RunGraph: Send + Sync {
    /// The number of its inputs, captures included.
    fn inputs(&self) -> usize;

    /// The number of its outputs.
    fn outputs(&self) -> usize;

    /// Computes the outputs from the inputs and, after them, the captures.
    fn run(&self, inputs: Values, cx: &ExecContext<'_>) -> Result<Values, Error>;

    /// As [`run`](Self::run), on a device.
    #[cfg(feature = "candle")]
    fn run_on_device(
        &self,
        inputs: Vec<crate::device::tensor::Placed>,
        dx: &crate::device::context::DeviceContext<'_>,
    ) -> Result<Vec<crate::device::tensor::Placed>, Error>;
}

/// A compiled graph of an attribute, with the values that it captures.
#[derive(Clone)]
pub(crate) struct Subgraph {
    pub(crate) graph: Arc<dyn RunGraph>,
    /// The inputs of the node that are the values captured by the graph, in the order of its inputs.
    pub(crate) captures: Vec<usize>,
}

/// The state that the nodes of a model share at load.
pub(crate) struct Shared {
    /// The strings in attributes and tensors.
    pub(crate) string_table: RefCell<StringTable>,
    /// Number of nodes that draw random numbers.
    pub(crate) random_nodes: Cell<usize>,
    /// Bytes that operators keep of their attributes, at most `limit`.
    attribute_bytes: Cell<usize>,
    limit: usize,
}

impl Shared {
    /// Bytes that operators keep of their attributes.
    pub(crate) fn attribute_bytes(&self) -> usize {
        self.attribute_bytes.get()
    }

    pub(crate) fn new(limit: usize) -> Self {
        Self {
            string_table: RefCell::new(StringTable::new()),
            random_nodes: Cell::new(0),
            attribute_bytes: Cell::new(0),
            limit,
        }
    }
}

/// A node at load.
pub(crate) struct Node<'a> {
    pub(crate) proto: &'a NodeProto,
    /// The version of the operator set that the model imports.
    pub(crate) opset: i64,
    /// The inputs whose value is known at load.
    pub(crate) constants: Vec<Option<Value>>,
    pub(crate) subgraphs: Vec<(&'a str, Subgraph)>,
    shared: &'a Shared,
    read: RefCell<HashSet<&'a str>>,
}

impl<'a> Node<'a> {
    pub(crate) fn new(
        proto: &'a NodeProto,
        opset: i64,
        constants: Vec<Option<Value>>,
        subgraphs: Vec<(&'a str, Subgraph)>,
        shared: &'a Shared,
    ) -> Self {
        Self { proto, opset, constants, subgraphs, shared, read: RefCell::default() }
    }

    /// Whether the node has an input at `index`.
    pub(crate) fn has_input(&self, index: usize) -> bool {
        self.proto.input.get(index).is_some_and(|name| !name.is_empty())
    }

    /// Refuses a node that leaves out one of these inputs.
    pub(crate) fn require_inputs(&self, inputs: &[usize]) -> Result<(), Error> {
        match inputs.iter().find(|&&index| !self.has_input(index)) {
            Some(index) => Err(Error::invalid_encoding(format!("input {index} is left out"))),
            None => Ok(()),
        }
    }

    /// The number of outputs up to the last one with a name.
    pub(crate) fn outputs(&self) -> usize {
        self.proto.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1)
    }

    /// The input at `index`, if it is known at load.
    pub(crate) fn constant(&self, index: usize) -> Option<&Value> {
        self.constants.get(index)?.as_ref()
    }

    /// Refuses a node with more than `outputs` outputs.
    pub(crate) fn limit_outputs(&self, outputs: usize) -> Result<(), Error> {
        if self.outputs() > outputs {
            return Err(Error::unsupported(format!(
                "the node has {} outputs, and at most {outputs} are supported",
                self.outputs()
            )));
        }
        Ok(())
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        let found = self.proto.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))?;
        self.read.borrow_mut().insert(found.name.as_deref()?);
        Some(found)
    }

    fn get<T>(
        &self,
        name: &str,
        number: i32,
        value: impl Fn(&'a AttributeProto) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(attribute) = self.attribute(name) else { return Ok(None) };
        if attribute.ref_attr_name.as_deref().is_some_and(|name| !name.is_empty()) {
            return Err(Error::invalid_encoding(format!("attribute {name} refers to a function's attribute")));
        }
        // Files older than IR version 2 leave the type out.
        if ![0, number].contains(&attribute.r#type.unwrap_or(0)) {
            return Err(Error::invalid_encoding(format!("attribute {name} has the wrong type")));
        }
        value(attribute).map(Some).ok_or_else(|| Error::invalid_encoding(format!("attribute {name} has no value")))
    }

    /// An integer.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>, Error> {
        // Protobuf writers may leave a 0 out.
        self.get(name, 2, |attribute| Some(attribute.i.unwrap_or(0)))
    }

    /// An integer that is 0 or 1.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Error> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    /// A float.
    pub(crate) fn float(&self, name: &str, default: f32) -> Result<f32, Error> {
        Ok(self.get(name, 1, |attribute| Some(attribute.f.unwrap_or(0.0)))?.unwrap_or(default))
    }

    /// A float without a default.
    pub(crate) fn float_option(&self, name: &str) -> Result<Option<f32>, Error> {
        self.get(name, 1, |attribute| Some(attribute.f.unwrap_or(0.0)))
    }

    /// A string.
    pub(crate) fn string(&self, name: &str, default: &'static str) -> Result<&'a str, Error> {
        let string = self.get(name, 3, |attribute| str::from_utf8(attribute.s.as_deref().unwrap_or_default()).ok())?;
        Ok(string.unwrap_or(default))
    }

    /// An element type, by ONNX's number.
    pub(crate) fn element_type(&self, name: &str) -> Result<Option<ElementType>, Error> {
        let Some(number) = self.int(name)? else { return Ok(None) };
        let ty = i32::try_from(number).ok().and_then(ElementType::from_onnx);
        ty.map(Some).ok_or_else(|| Error::unsupported(format!("element type {number} is not supported")))
    }

    /// Integers.
    pub(crate) fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, Error> {
        self.get(name, 7, |attribute| Some(attribute.ints.as_slice()))
    }

    /// Floats.
    pub(crate) fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, Error> {
        self.get(name, 6, |attribute| Some(attribute.floats.as_slice()))
    }

    /// Strings.
    pub(crate) fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>, Error> {
        self.get(name, 8, |attribute| attribute.strings.iter().map(|bytes| str::from_utf8(bytes).ok()).collect())
    }

    /// A tensor.
    pub(crate) fn tensor(&self, name: &str) -> Result<Option<Value>, Error> {
        let found = self.get(name, 4, |attribute| attribute.t.as_ref())?;
        found.map(|found| tensor(found, &self.shared.string_table)).transpose()
    }

    /// Strings, as numbers in the model's table of strings.
    pub(crate) fn string_ids(&self, name: &str) -> Result<Option<Vec<StringId>>, Error> {
        let Some(strings) = self.strings(name)? else { return Ok(None) };
        let mut table = self.shared.string_table.borrow_mut();
        Ok(Some(strings.into_iter().map(|text| table.intern(text)).collect()))
    }

    /// A string, as its number in the model's table of strings.
    pub(crate) fn string_id(&self, name: &str, default: &'static str) -> Result<StringId, Error> {
        let string = self.string(name, default)?;
        Ok(self.shared.string_table.borrow_mut().intern(string))
    }

    /// Counts bytes that the operator keeps of its attributes.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) if all operators together keep more than the limit of the
    /// load.
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), Error> {
        let (all, limit) = (self.shared.attribute_bytes.get().saturating_add(bytes), self.shared.limit);
        if all > limit {
            return Err(Error::too_large(format!(
                "operators keep {all} bytes of attributes, and at most {limit} are allowed"
            )));
        }
        self.shared.attribute_bytes.set(all);
        Ok(())
    }

    /// The number of this node among those that draw random numbers.
    pub(crate) fn random_index(&self) -> usize {
        let number = self.shared.random_nodes.get();
        self.shared.random_nodes.set(number + 1);
        number
    }

    /// The attributes of these names, for an operator that this one is composed of.
    pub(crate) fn attributes(&self, names: &[&str]) -> Vec<AttributeProto> {
        names.iter().filter_map(|name| self.attribute(name)).cloned().collect()
    }

    /// Marks attributes as read although they have no effect on inference.
    pub(crate) fn ignore(&self, names: &[&str]) {
        for name in names {
            self.attribute(name);
        }
    }

    /// A graph.
    pub(crate) fn subgraph(&self, name: &str) -> Result<Subgraph, Error> {
        self.attribute(name);
        let found = self.subgraphs.iter().find(|(found, _)| *found == name);
        found
            .map(|(_, graph)| graph.clone())
            .ok_or_else(|| Error::invalid_encoding(format!("the graph {name} is missing")))
    }

    /// Refuses attributes that were not read.
    pub(crate) fn all_read(&self) -> Result<(), Error> {
        let read = self.read.borrow();
        for attribute in &self.proto.attribute {
            let name = attribute.name.as_deref().unwrap_or("");
            if !read.contains(name) {
                return Err(Error::unsupported(format!("attribute {} is not supported", quote(name))));
            }
        }
        Ok(())
    }
}

/// The inputs of one call of an operator. A value whose last use this is was moved here from the plan's slots.
pub(crate) struct Args {
    values: SmallVec<[Option<Value>; 8]>,
}

impl Args {
    #[inline]
    pub(crate) fn new(values: impl IntoIterator<Item = Option<Value>>) -> Self {
        let mut args = Self { values: SmallVec::new() };
        // Faster than to extend: a value is written in place.
        values.into_iter().for_each(|value| args.values.push(value));
        args
    }

    /// The number of inputs, omitted ones included.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The input at `index`.
    pub(crate) fn get(&self, index: usize) -> Result<&Value, Error> {
        self.option(index).ok_or_else(|| Error::invalid_argument(format!("input {index} is missing")))
    }

    /// The input at `index`, if given.
    pub(crate) fn option(&self, index: usize) -> Option<&Value> {
        self.values.get(index)?.as_ref()
    }

    /// Takes the input at `index`. Its last owner can overwrite it in place, which saves an allocation.
    pub(crate) fn take(&mut self, index: usize) -> Result<Value, Error> {
        let value = self.values.get_mut(index).and_then(Option::take);
        value.ok_or_else(|| Error::invalid_argument(format!("input {index} is missing")))
    }
}
