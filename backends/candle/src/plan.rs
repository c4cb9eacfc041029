//! A graph, compiled once into the steps that every context runs.
//!
//! * P1: a step's inputs are constants, or slots that an earlier step, an input or a capture has filled.
//! * P2: a slot is written once in a run, and is emptied at its last use.
//! * P3: every step is needed by some output.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use super::check::{shown, tensor};
use super::decode::{GraphProto, NodeProto, TensorProto};
use super::fold::Folding;
use super::footprint::{Budget, kept};
use super::function::{Bindings, Expansion, Functions, Opsets, bound, domain};
use super::fuse::{Packs, Part, fuse, part};
use super::node::{Node, Shared, Subgraph};
use super::ops::{self, Kernel};
use super::value::Value;
use graphpool::backend::Error;

/// Nodes that a model may have, those of its subgraphs counted.
const MAX_NODES: usize = 1 << 20;

/// Names that subgraphs may read and give, each counted once for every graph around.
const MAX_NESTED: usize = 1 << 20;

/// Where a step finds an input.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// An optional input that was left out.
    Absent,
    /// Known at load.
    Constant(Value),
    /// Computed before.
    Slot {
        /// Which slot.
        index: usize,
        /// Whether nothing reads the slot afterwards.
        last: bool,
    },
}

/// One operator to run.
pub(crate) struct Step {
    /// Operator, node and opset, for messages.
    pub(crate) label: Box<str>,
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Vec<Source>,
    /// The slot that each output goes to; none for one that nobody reads.
    pub(crate) outputs: Vec<Option<usize>>,
    /// How the step may become one with others, until that is settled.
    pub(crate) part: Option<Box<Part>>,
    /// Bytes that the kernel holds besides itself: what it keeps of attributes.
    pub(crate) held: usize,
    /// The graphs that the kernel runs.
    pub(crate) subgraphs: Box<[Arc<Plan>]>,
}

/// A compiled graph.
pub(crate) struct Plan {
    pub(crate) slots: usize,
    /// The slots of the inputs, and after them those of the values captured from outside.
    pub(crate) inputs: Vec<usize>,
    pub(crate) steps: Vec<Step>,
    pub(crate) outputs: Vec<Source>,
}

/// What is known of a name.
#[derive(Clone)]
pub(super) enum Known {
    /// An input that the use of a function leaves out.
    Absent,
    Constant(Value),
    Slot(usize),
}

/// The names in force in one graph, and those of the graphs around it.
pub(super) struct Scope<'a> {
    names: HashMap<&'a str, Known>,
    outer: Option<&'a dyn Resolve>,
    /// The attributes of the function that the graph is part of.
    bindings: Option<&'a Bindings<'a>>,
    /// Names taken from outside, in the order in which they were, and the slots that they were given here.
    captured: RefCell<Captured>,
    /// How many slots the plan has.
    pub(super) slots: &'a Cell<usize>,
}

/// Names with their slots, in their order, and where to find each.
type Captured = (Vec<(String, usize)>, HashMap<String, usize>);

pub(super) trait Resolve {
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
    pub(super) fn new(
        slots: &'a Cell<usize>,
        outer: Option<&'a dyn Resolve>,
        bindings: Option<&'a Bindings<'a>>,
    ) -> Self {
        Self { names: HashMap::new(), outer, bindings, captured: RefCell::default(), slots }
    }

    /// What is known of a name that has to be there.
    pub(super) fn known(&self, name: &str) -> Result<Known, Error> {
        self.resolve(name).ok_or_else(|| Error::invalid_encoding(format!("{} is defined nowhere", shown(name))))
    }

    fn slot(&self) -> usize {
        let slot = self.slots.get();
        self.slots.set(slot + 1);
        slot
    }

    pub(super) fn define(&mut self, name: &'a str, known: Known) -> Result<(), Error> {
        match self.names.entry(name) {
            Entry::Occupied(_) => Err(Error::invalid_encoding(format!("{} is defined twice", shown(name)))),
            Entry::Vacant(entry) => {
                entry.insert(known);
                Ok(())
            }
        }
    }
}

/// Bytes that compiling takes for each node of a graph, and for each name in it, until it is done.
const PER_NODE: usize = 64;
pub(crate) const PER_NAME: usize = 128;

/// What compiling needs besides the graph: the opsets, and what folding may still take.
pub(crate) struct Compiler<'a> {
    pub(crate) opsets: &'a Opsets<'a>,
    pub(crate) functions: &'a Functions<'a>,
    /// The operator sets of the function that is compiled.
    pub(crate) local: Option<&'a Opsets<'a>>,
    pub(crate) expansion: Expansion,
    /// Graphs and uses of functions that what is compiled lies in.
    pub(crate) depth: usize,
    pub(crate) shared: &'a Shared,
    pub(crate) folding: Folding,
    pub(crate) packs: Packs,
    pub(crate) budget: Budget,
    /// The values of the outermost graph's initializers, in their order.
    pub(crate) initial: Vec<Value>,
    pub(crate) nodes: usize,
    /// Names in subgraphs, as [`MAX_NESTED`] counts them.
    pub(crate) nested: usize,
}

impl Compiler<'_> {
    /// Compiles a model's graph. `inputs` are the names that a run gives values to, in their order.
    pub(crate) fn graph(&mut self, graph: &GraphProto, inputs: &[&str]) -> Result<Plan, Error> {
        self.compile(graph, inputs, None, None).map(|(plan, _)| plan)
    }

    fn compile<'g>(
        &mut self,
        graph: &'g GraphProto,
        inputs: &[&'g str],
        outer: Option<&'g dyn Resolve>,
        bindings: Option<&'g Bindings<'g>>,
    ) -> Result<(Plan, Vec<String>), Error> {
        if !graph.sparse_initializer.is_empty() {
            return Err(Error::unsupported("sparse initializers are not supported"));
        }
        self.nodes = self.nodes.saturating_add(graph.node.len());
        if self.nodes > MAX_NODES {
            return Err(Error::too_large(format!("the model has more than {MAX_NODES} nodes")));
        }
        let names = graph.node.iter().map(|node| node.input.len() + node.output.len()).sum::<usize>();
        let names = names + graph.initializer.len() + graph.input.len() + graph.output.len();
        let transient = graph.node.len() * PER_NODE + names * PER_NAME;
        self.budget.take(transient + graph.node.len() * size_of::<Step>())?;
        let mut initial = std::mem::take(&mut self.initial).into_iter();
        self.enter()?;
        let slots = Cell::new(0);
        let mut scope = Scope::new(&slots, outer, bindings);
        let mut input_slots = Vec::with_capacity(inputs.len());
        for &name in inputs {
            let slot = scope.slot();
            scope.define(name, Known::Slot(slot))?;
            input_slots.push(slot);
        }
        let given: HashSet<&str> = if outer.is_none() { inputs.iter().copied().collect() } else { HashSet::new() };
        for initializer in &graph.initializer {
            let name = initializer.name.as_deref().unwrap_or("");
            let value = match initial.next() {
                Some(value) => value,
                None => self.owned(initializer)?,
            };
            // One of the model that is an input too is what the input is where nobody sets it.
            if given.contains(name) {
                continue;
            }
            scope.define(name, Known::Constant(value))?;
        }

        let mut steps = Vec::with_capacity(graph.node.len());
        for index in order(&graph.node, &mut self.nested)? {
            let Some(node) = graph.node.get(index) else { continue };
            self.node(node, &mut scope, &mut steps)?;
        }

        let mut outputs = Vec::with_capacity(graph.output.len());
        for output in &graph.output {
            let name = output.name.as_deref().unwrap_or("");
            outputs.push(match scope.resolve(name) {
                Some(Known::Constant(value)) => Source::Constant(value),
                Some(Known::Slot(index)) => Source::Slot { index, last: false },
                Some(Known::Absent) | None => {
                    return Err(Error::invalid_encoding(format!("output {} has no producer", shown(name))));
                }
            });
        }
        let (captured, _) = scope.captured.into_inner();
        input_slots.extend(captured.iter().map(|(_, slot)| *slot));
        self.depth -= 1;
        let mut plan = Plan { slots: slots.get(), inputs: input_slots, steps, outputs };
        plan.prune();
        self.packs.leave(self.budget.left());
        let before = self.packs.spent();
        fuse(&mut plan, &mut self.packs);
        self.budget.take(self.packs.spent().saturating_sub(before))?;
        plan.release();
        plan.steps.shrink_to_fit();
        self.budget.give_back(transient + graph.node.len().saturating_sub(plan.steps.len()) * size_of::<Step>());
        Ok((plan, captured.into_iter().map(|(name, _)| name).collect()))
    }

    /// A tensor of the model, which keeps its own data as well.
    fn owned(&mut self, proto: &TensorProto) -> Result<Value, Error> {
        self.budget.take(proto.bytes())?;
        tensor(proto, &self.shared.texts)
    }

    pub(super) fn node<'g>(
        &mut self,
        node: &'g NodeProto,
        scope: &mut Scope<'g>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Error> {
        let name = node.op_type.as_deref().unwrap_or("");
        let domain = domain(node.domain.as_deref());
        let mut bound = bound(node, scope.bindings)?;
        let functions = self.functions;
        if let Some(function) = functions.find(node) {
            return self.call(function, node, &bound, scope, steps);
        }
        let opset = self.local.and_then(|local| local.get(domain)).or_else(|| self.opsets.get(domain)).copied();
        let label = label(node, domain, opset);
        let explain = |error: Error| Error::new(error.kind(), format!("{label}: {}", error.message()));
        let opset =
            opset.ok_or_else(|| Error::unsupported(format!("{label}: the model imports no operator set for it")))?;
        let operator = ops::find(domain, name, opset).map_err(|why| Error::unsupported(format!("{label}: {why}")))?;

        let mut inputs = Vec::with_capacity(node.input.len());
        for input in &node.input {
            inputs.push(match (input.as_str(), scope.resolve(input)) {
                ("", _) | (_, Some(Known::Absent)) => Source::Absent,
                (_, Some(Known::Constant(value))) => Source::Constant(value),
                (_, Some(Known::Slot(index))) => Source::Slot { index, last: false },
                (_, None) => {
                    let why = format!("{label}: input {} has no producer", shown(input));
                    return Err(Error::invalid_encoding(why));
                }
            });
        }
        let (least, most) = operator.inputs;
        if inputs.len() < least || inputs.len() > most {
            return Err(Error::invalid_encoding(format!("{label}: {} inputs", inputs.len())));
        }
        if inputs.iter().take(least).any(|input| matches!(input, Source::Absent)) {
            return Err(Error::invalid_encoding(format!("{label}: an input that must be given is left out")));
        }

        let subgraphs = self.subgraphs(node, scope, &mut inputs)?;
        let constants = inputs.iter().map(|input| match input {
            Source::Constant(value) => Some(value.clone()),
            _ => None,
        });
        let plans = subgraphs.iter().map(|(_, subgraph)| Arc::clone(&subgraph.plan)).collect();
        let tensors = bound.attribute.iter().filter_map(|attribute| attribute.t.as_ref()).map(TensorProto::bytes);
        self.budget.take(tensors.fold(0, usize::saturating_add))?;
        self.folding.leave(self.budget.left());
        let proto = node;
        // What the use of a function leaves out, its nodes leave out.
        for place in 0..node.input.len() {
            if matches!(inputs.get(place), Some(Source::Absent)) && !node.input[place].is_empty() {
                bound.to_mut().input[place].clear();
            }
        }
        let node = Node::new(&bound, opset, constants.collect(), subgraphs, self.shared);
        let kernel = (operator.build)(&node).map_err(explain)?;
        node.all_read().map_err(explain)?;

        if let Some(values) = self.folding.fold(name, &kernel, &inputs, node.outputs()) {
            if name != "Constant" {
                self.budget.take(values.iter().map(Value::bytes).sum())?;
            }
            for (output, value) in proto.output.iter().zip(values) {
                if !output.is_empty() {
                    scope.define(output, Known::Constant(value))?;
                }
            }
            return Ok(());
        }
        let mut outputs = Vec::with_capacity(node.outputs());
        for output in proto.output.iter().take(node.outputs()) {
            if output.is_empty() {
                outputs.push(None);
            } else {
                let slot = scope.slot();
                scope.define(output, Known::Slot(slot))?;
                outputs.push(Some(slot));
            }
        }
        let part = part(domain, name, &node).map(Box::new);
        let (label, held) = (label.into_boxed_str(), kept(&node.proto.attribute));
        let step = Step { label, kernel, inputs, outputs, part, held, subgraphs: plans };
        self.budget.take(step.bytes())?;
        steps.push(step);
        Ok(())
    }

    /// Compiles the graphs in a node's attributes; what they take from outside becomes inputs of the node.
    fn subgraphs<'g>(
        &mut self,
        node: &'g NodeProto,
        scope: &Scope<'g>,
        inputs: &mut Vec<Source>,
    ) -> Result<Vec<(&'g str, Subgraph)>, Error> {
        let mut subgraphs = Vec::new();
        for attribute in &node.attribute {
            let Some(graph) = &attribute.g else { continue };
            let formal: Vec<&str> = graph.input.iter().filter_map(|input| input.name.as_deref()).collect();
            let (plan, captured) = self.compile(graph, &formal, Some(scope), scope.bindings)?;
            let mut places = Vec::with_capacity(captured.len());
            for name in captured {
                if let Some(Known::Slot(index)) = scope.resolve(&name) {
                    places.push(inputs.len());
                    inputs.push(Source::Slot { index, last: false });
                }
            }
            let name = attribute.name.as_deref().unwrap_or("");
            subgraphs.push((name, Subgraph { plan: Arc::new(plan), captures: places }));
        }
        Ok(subgraphs)
    }
}

/// An operator, its node and its opset, for messages.
fn label(node: &NodeProto, domain: &str, opset: Option<i64>) -> String {
    use std::fmt::Write as _;
    let mut label: String = node.op_type.as_deref().unwrap_or("").chars().take(40).collect();
    if !domain.is_empty() {
        label = format!("{label} of {}", shown(domain));
    }
    // The first output names a node that has no name.
    let name = node.name.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = name.or_else(|| node.output.first().map(String::as_str)) {
        label = format!("{label} {}", shown(name));
    }
    if let Some(opset) = opset {
        // Writing to a string can't fail.
        let _ = write!(label, " (opset {opset})");
    }
    label
}

/// The names that a node reads, those that its subgraphs take from outside included; `nested` counts what is in these.
fn reads<'g>(node: &'g NodeProto, names: &mut Vec<&'g str>, nested: &mut usize) -> Result<(), Error> {
    names.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
    for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        // A name of the subgraph's own may be that of any value outside: of the node's output, where models are merged.
        let mut own: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        own.extend(graph.input.iter().filter_map(|input| input.name.as_deref()));
        own.extend(graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()));
        let count = graph.node.iter().map(|node| node.input.len() + 1).sum::<usize>() + graph.output.len();
        *nested = nested.saturating_add(count).saturating_add(own.len());
        if *nested > MAX_NESTED {
            return Err(Error::too_large(format!("the model's subgraphs name more than {MAX_NESTED} values")));
        }
        let mut inside = Vec::new();
        for node in &graph.node {
            reads(node, &mut inside, nested)?;
        }
        inside.extend(graph.output.iter().filter_map(|output| output.name.as_deref()));
        names.extend(inside.into_iter().filter(|name| !own.contains(name)));
    }
    Ok(())
}

/// The nodes in an order in which each comes after what it reads; the order of the file, where that is one.
pub(super) fn order(nodes: &[NodeProto], nested: &mut usize) -> Result<Vec<usize>, Error> {
    let outputs = nodes.iter().map(|node| node.output.len()).sum();
    let mut producers = HashMap::with_capacity(outputs);
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if producers.insert(output.as_str(), index).is_some() {
                return Err(Error::invalid_encoding(format!("{} is defined twice", shown(output))));
            }
        }
    }
    // Who makes what is read, and who reads it.
    let mut waits_for = vec![0_usize; nodes.len()];
    let mut edges = Vec::with_capacity(nodes.iter().map(|node| node.input.len()).sum());
    let mut names = Vec::new();
    for (index, (node, waits)) in nodes.iter().zip(&mut waits_for).enumerate() {
        names.clear();
        reads(node, &mut names, nested)?;
        names.sort_unstable();
        names.dedup();
        for &producer in names.iter().filter_map(|name| producers.get(name)) {
            *waits += 1;
            edges.push((producer, index));
        }
    }
    drop(producers);
    edges.sort_unstable();
    let readers = |producer: usize| {
        let first = edges.partition_point(|&(of, _)| of < producer);
        edges.iter().skip(first).take_while(move |&&(of, _)| of == producer).map(|&(_, reader)| reader)
    };
    let ready = waits_for.iter().enumerate().filter(|(_, waits)| **waits == 0);
    let mut ready: BinaryHeap<_> = ready.map(|(index, _)| Reverse(index)).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for reader in readers(index) {
            if let Some(waits) = waits_for.get_mut(reader) {
                *waits -= 1;
                if *waits == 0 {
                    ready.push(Reverse(reader));
                }
            }
        }
    }
    if order.len() < nodes.len() {
        let stuck = waits_for.iter().position(|&waits| waits > 0).and_then(|index| nodes.get(index));
        let label = stuck.map(|node| label(node, "", None)).unwrap_or_default();
        return Err(Error::invalid_encoding(format!("{label}: part of a cycle, or behind one")));
    }
    Ok(order)
}

impl Plan {
    /// Drops the steps that no output needs, and the outputs that nobody reads.
    fn prune(&mut self) {
        let mut needed = vec![false; self.slots];
        let need = |source: &Source, needed: &mut Vec<bool>| {
            if let Source::Slot { index, .. } = source
                && let Some(needed) = needed.get_mut(*index)
            {
                *needed = true;
            }
        };
        for output in &self.outputs {
            need(output, &mut needed);
        }
        let mut kept = vec![false; self.steps.len()];
        for (step, kept) in self.steps.iter_mut().zip(&mut kept).rev() {
            for output in &mut step.outputs {
                *output = output.filter(|&slot| needed.get(slot) == Some(&true));
            }
            if step.outputs.iter().any(Option::is_some) {
                for input in &step.inputs {
                    need(input, &mut needed);
                }
                *kept = true;
            }
        }
        let mut kept = kept.into_iter();
        self.steps.retain(|_| kept.next().unwrap_or(false));
    }

    /// Marks the last use of each slot.
    fn release(&mut self) {
        let mut used = vec![false; self.slots];
        let steps = self.steps.iter_mut().rev().flat_map(|step| step.inputs.iter_mut().rev());
        for source in self.outputs.iter_mut().rev().chain(steps) {
            if let Source::Slot { index, last } = source
                && let Some(used) = used.get_mut(*index)
            {
                *last = !*used;
                *used = true;
            }
        }
    }
}
