//! A graph, compiled once into the steps that every context runs.
//!
//! * P1: a step's inputs are constants, or slots that an earlier step, an input or a capture has filled.
//! * P2: a slot is written once in a run, and is emptied at its last use.
//! * P3: every step is needed by some output.

use crate::compile::function::{Function, MAX_DEPTH};
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::compile::fold::Folding;
use crate::compile::footprint::attribute_bytes;
use crate::compile::function::{Bindings, Expansion, Functions, Opsets, bound, domain};
use crate::compile::fuse::{fuse, role};
use crate::compile::order::{label, order};
use crate::compile::scope::{Known, Resolve, Scope};
use crate::exec::plan::{Plan, Source, Step};
use crate::format::messages::{GraphProto, NodeProto, TensorProto};
use crate::format::tensors::tensor;
use crate::ops;
use crate::ops::fusion::PackedWeights;
use crate::ops::node::{Node, Shared, Subgraph};
use crate::ops::operator::Cost;
use crate::quote::quote;
use crate::tensor::budget::LoadBudget;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Nodes that a model may have, those of its subgraphs counted.
const MAX_NODES: usize = 1 << 20;

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
    pub(crate) packs: PackedWeights,
    pub(crate) budget: LoadBudget,
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
        self.budget.charge(transient + graph.node.len() * size_of::<Step>())?;
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
                    return Err(Error::invalid_encoding(format!("output {} has no producer", quote(name))));
                }
            });
        }
        let (captured, _) = scope.captured.into_inner();
        input_slots.extend(captured.iter().map(|(_, slot)| *slot));
        self.depth -= 1;
        let mut plan = Plan { slots: slots.get(), inputs: input_slots, steps, outputs };
        plan.prune();
        self.packs.limit_to(self.budget.remaining());
        let before = self.packs.spent();
        fuse(&mut plan, &mut self.packs);
        self.budget.charge(self.packs.spent().saturating_sub(before))?;
        plan.release();
        plan.steps.shrink_to_fit();
        self.budget.release(transient + graph.node.len().saturating_sub(plan.steps.len()) * size_of::<Step>());
        Ok((plan, captured.into_iter().map(|(name, _)| name).collect()))
    }

    /// A tensor of the model, which keeps its own data as well.
    fn owned(&mut self, proto: &TensorProto) -> Result<Value, Error> {
        self.budget.charge(proto.bytes())?;
        tensor(proto, &self.shared.string_table)
    }

    pub(crate) fn node<'g>(
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
                    let why = format!("{label}: input {} has no producer", quote(input));
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

        let (subgraphs, plans) = self.subgraphs(node, scope, &mut inputs)?;
        let constants = inputs.iter().map(|input| match input {
            Source::Constant(value) => Some(value.clone()),
            _ => None,
        });
        let tensors = bound.attribute.iter().filter_map(|attribute| attribute.t.as_ref()).map(TensorProto::bytes);
        self.budget.charge(tensors.fold(0, usize::saturating_add))?;
        self.folding.limit_to(self.budget.remaining());
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

        if let Some(values) = self.folding.fold(operator.cost, &kernel, &inputs, node.outputs()) {
            if operator.cost != Cost::Free {
                self.budget.charge(values.iter().map(Value::bytes).sum())?;
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
        let role = role(operator, &node).map(Box::new);
        let (label, attribute_bytes) = (label.into_boxed_str(), attribute_bytes(&node.proto.attribute));
        let step = Step { label, kernel, inputs, outputs, role, attribute_bytes, subgraphs: plans.into_boxed_slice() };
        self.budget.charge(step.bytes())?;
        steps.push(step);
        Ok(())
    }

    /// Compiles the graphs in a node's attributes; what they take from outside becomes inputs of the node.
    fn subgraphs<'g>(
        &mut self,
        node: &'g NodeProto,
        scope: &Scope<'g>,
        inputs: &mut Vec<Source>,
    ) -> Result<(Vec<(&'g str, Subgraph)>, Vec<Arc<Plan>>), Error> {
        let (mut subgraphs, mut plans) = (Vec::new(), Vec::new());
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
            let plan = Arc::new(plan);
            plans.push(Arc::clone(&plan));
            subgraphs.push((name, Subgraph { graph: plan, captures: places }));
        }
        Ok((subgraphs, plans))
    }
}

impl<'a> Compiler<'a> {
    /// Compiles a use of a function: `node`, whose names are those of `scope` and whose attributes those of `bound`.
    pub(crate) fn call<'g>(
        &mut self,
        function: &'a Function<'a>,
        node: &'g NodeProto,
        bound: &NodeProto,
        scope: &mut Scope<'g>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Error> {
        let proto = function.proto;
        let name = quote(proto.name.as_deref().unwrap_or(""));
        // The innermost function says where it is.
        let explain = |error: Error| match error.message() {
            told if told.starts_with("function ") => error,
            told => Error::new(error.kind(), format!("function {name}: {told}")),
        };
        if node.input.len() > proto.input.len() || node.output.len() > proto.output.len() {
            let given = (node.input.len(), node.output.len());
            let why = format!(
                "{} inputs and {} outputs of {} and {}",
                given.0,
                given.1,
                proto.input.len(),
                proto.output.len()
            );
            return Err(explain(Error::invalid_encoding(why)));
        }
        let bindings = Bindings::new(proto, bound).map_err(explain)?;
        self.enter().map_err(explain)?;
        self.expansion.count(&proto.node).map_err(explain)?;
        let outputs = {
            let mut inner = Scope::new(scope.slots, None, Some(&bindings));
            for (place, formal) in proto.input.iter().enumerate() {
                let given = node.input.get(place).map_or("", String::as_str);
                let known = match given {
                    "" => Known::Absent,
                    given => scope.known(given).map_err(explain)?,
                };
                inner.define(formal, known).map_err(explain)?;
            }
            let before = self.local.replace(&function.opsets);
            for index in order(&proto.node, &mut self.nested).map_err(explain)? {
                let Some(node) = proto.node.get(index) else { continue };
                self.node(node, &mut inner, steps).map_err(explain)?;
            }
            self.local = before;
            let outputs = proto.output.iter().zip(&node.output);
            let wanted = outputs.filter(|(_, name)| !name.is_empty());
            wanted.map(|(formal, _)| inner.known(formal).map_err(explain)).collect::<Result<Vec<_>, _>>()?
        };
        self.depth -= 1;
        for (name, known) in node.output.iter().filter(|name| !name.is_empty()).zip(outputs) {
            scope.define(name, known)?;
        }
        Ok(())
    }

    /// Goes one deeper into graphs and functions.
    pub(crate) fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::too_large(format!("graphs and functions are nested more than {MAX_DEPTH} deep")));
        }
        Ok(())
    }
}
