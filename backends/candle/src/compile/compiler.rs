//! Compiles a graph, its subgraphs and the functions that it uses into a plan.
//!
//! The plan keeps the invariants P1 to P3 of [`exec::plan`](crate::exec::plan): steps are appended in the order of
//! [`order`], and a name is resolved only after it is defined (P1); each output of a step gets a new slot, and
//! `Plan::mark_last_uses` finds the last reads (P2); `Plan::prune` removes the other steps (P3).

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::compile::channels::arrange;
use crate::compile::fold::Folding;
use crate::compile::footprint::attribute_bytes;
use crate::compile::function::{Bindings, Expansion, Function, Functions, MAX_DEPTH, Opsets, bind_attributes, domain};
use crate::compile::fuse::{fuse, role};
use crate::compile::order::{label, order};
use crate::compile::scope::{Definition, Resolve, Scope};
use crate::exec::plan::{Plan, Source, Step};
use crate::format::messages::{GraphProto, NodeProto, TensorProto};
use crate::format::tensors::tensor;
use crate::ops;
use crate::ops::channels::LastForm;
use crate::ops::fusion::{FusionRole, PackedWeights};
use crate::ops::node::{Node, Shared, Subgraph};
use crate::ops::operator::Cost;
use crate::quote::quote;
use crate::tensor::budget::LoadBudget;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The most nodes that a model can have, including those of its subgraphs.
const MAX_NODES: usize = 1 << 20;

/// Bytes that compiling a graph takes for each of its nodes, until the graph is compiled.
const PER_NODE: usize = 64;

/// Bytes that it takes for each name.
pub(crate) const PER_NAME: usize = 128;

/// The state of compiling one model.
pub(crate) struct Compiler<'a> {
    /// The operator sets that the model imports.
    pub(crate) opsets: &'a Opsets<'a>,
    pub(crate) functions: &'a Functions<'a>,
    /// The operator sets that the function being expanded imports. They take precedence over those of the model.
    pub(crate) function_opsets: Option<&'a Opsets<'a>>,
    pub(crate) expansion: Expansion,
    /// The nesting depth of the current graph: subgraphs and function calls around it.
    pub(crate) depth: usize,
    pub(crate) shared: &'a Shared,
    /// Whether the plan runs on a device: its steps get device forms and are not fused.
    pub(crate) on_device: bool,
    pub(crate) folding: Folding,
    pub(crate) packs: PackedWeights,
    pub(crate) budget: LoadBudget,
    /// The values of the outermost graph's initializers, in their order.
    pub(crate) initial: Vec<Value>,
    /// Nodes compiled so far, bounded by [`MAX_NODES`].
    pub(crate) nodes: usize,
    /// Names in subgraphs so far, bounded by [`MAX_SUBGRAPH_NAMES`](crate::compile::order::MAX_SUBGRAPH_NAMES).
    pub(crate) subgraph_names: usize,
}

/// The graphs in a node's attributes, each with the attribute's name, and their plans.
type Subgraphs<'g> = (Vec<(&'g str, Subgraph)>, Vec<Arc<Plan>>);

impl Compiler<'_> {
    /// Compiles a model's graph. `inputs` are the names of the values that a run is called with, in their order.
    pub(crate) fn graph(&mut self, graph: &GraphProto, inputs: &[&str]) -> Result<Plan, Error> {
        self.compile(graph, inputs, None, None).map(|(plan, _)| plan)
    }

    /// Compiles a graph and returns the names that it captures from `outer`, in the order of the plan's last inputs.
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
            return Err(Error::too_large(format!(
                "the model has more than {MAX_NODES} nodes, the most that are supported"
            )));
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
            let slot = scope.new_slot();
            scope.define(name, Definition::Slot(slot))?;
            input_slots.push(slot);
        }
        let given: HashSet<&str> = if outer.is_none() { inputs.iter().copied().collect() } else { HashSet::new() };
        for initializer in &graph.initializer {
            let name = initializer.name.as_deref().unwrap_or("");
            let value = match initial.next() {
                Some(value) => value,
                None => self.copy_tensor(initializer)?,
            };
            // An initializer of the model's graph that is an input too is that input's default.
            if given.contains(name) {
                continue;
            }
            scope.define(name, Definition::Constant(value))?;
        }

        let mut steps = Vec::with_capacity(graph.node.len());
        for index in order(&graph.node, &mut self.subgraph_names)? {
            let Some(node) = graph.node.get(index) else { continue };
            self.node(node, &mut scope, &mut steps)?;
        }

        let mut outputs = Vec::with_capacity(graph.output.len());
        for output in &graph.output {
            let name = output.name.as_deref().unwrap_or("");
            outputs.push(match scope.resolve(name) {
                Some(Definition::Constant(value)) => Source::Constant(value),
                Some(Definition::Slot(index)) => Source::Slot { index, last: false },
                Some(Definition::Absent) | None => {
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
        if !self.on_device {
            fuse(&mut plan, &mut self.packs);
            self.budget.charge(arrange(&mut plan))?;
        }
        self.budget.charge(self.packs.spent().saturating_sub(before))?;
        plan.mark_last_uses();
        plan.steps.shrink_to_fit();
        self.budget.release(transient + graph.node.len().saturating_sub(plan.steps.len()) * size_of::<Step>());
        Ok((plan, captured.into_iter().map(|(name, _)| name).collect()))
    }

    /// Converts a tensor whose message stays in memory; so the value is charged in addition to the message.
    fn copy_tensor(&mut self, proto: &TensorProto) -> Result<Value, Error> {
        self.budget.charge(proto.bytes())?;
        tensor(proto, &self.shared.string_table)
    }

    /// Compiles one node: appends its step, defines its outputs as constants, or expands the function that it calls.
    pub(crate) fn node<'g>(
        &mut self,
        node: &'g NodeProto,
        scope: &mut Scope<'g>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Error> {
        let name = node.op_type.as_deref().unwrap_or("");
        let domain = domain(node.domain.as_deref());
        let mut bound = bind_attributes(node, scope.bindings)?;
        let functions = self.functions;
        if let Some(function) = functions.find(node) {
            return self.call(function, node, &bound, scope, steps);
        }
        let opset =
            self.function_opsets.and_then(|opsets| opsets.get(domain)).or_else(|| self.opsets.get(domain)).copied();
        let label = label(node, domain, opset);
        let explain = |error: Error| Error::new(error.kind(), format!("{label}: {}", error.message()));
        let opset = opset
            .ok_or_else(|| Error::unsupported(format!("{label}: the model imports no operator set of this domain")))?;
        let operator = ops::find(domain, name, opset).map_err(|why| Error::unsupported(format!("{label}: {why}")))?;

        let mut inputs = Vec::with_capacity(node.input.len());
        for input in &node.input {
            inputs.push(match (input.as_str(), scope.resolve(input)) {
                ("", _) | (_, Some(Definition::Absent)) => Source::Absent,
                (_, Some(Definition::Constant(value))) => Source::Constant(value),
                (_, Some(Definition::Slot(index))) => Source::Slot { index, last: false },
                (_, None) => {
                    let why = format!("{label}: input {} has no producer", quote(input));
                    return Err(Error::invalid_encoding(why));
                }
            });
        }
        let (least, most) = operator.inputs;
        if inputs.len() < least || inputs.len() > most {
            let most = if most == usize::MAX { "any number".to_owned() } else { most.to_string() };
            let why = format!("{label}: the operator takes {least} to {most} inputs, not {}", inputs.len());
            return Err(Error::invalid_encoding(why));
        }
        if inputs.iter().take(least).any(|input| matches!(input, Source::Absent)) {
            return Err(Error::invalid_encoding(format!("{label}: a required input is left out")));
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
        // An input that a function call leaves out is also left out by the nodes of the function that read it.
        for index in 0..node.input.len() {
            if matches!(inputs.get(index), Some(Source::Absent)) && !node.input[index].is_empty() {
                bound.to_mut().input[index].clear();
            }
        }
        let node = Node::new(&bound, opset, constants.collect(), subgraphs, self.shared);
        let kernel = (operator.build)(&node).map_err(explain)?;
        node.all_read().map_err(explain)?;

        if let Some(values) = self.folding.fold(operator.cost, &kernel, &inputs, node.outputs()) {
            if operator.cost != Cost::Free {
                self.budget.charge(values.iter().map(Value::bytes).sum())?;
            }
            if let (Some(FusionRole::Dequantizer), Some(result)) = (role(operator, &node), values.first()) {
                self.packs.remember(&node.constants, node.int("axis")?.unwrap_or(1), result);
            }
            for (output, value) in proto.output.iter().zip(values) {
                if !output.is_empty() {
                    scope.define(output, Definition::Constant(value))?;
                }
            }
            return Ok(());
        }
        if let ("", "Identity", Some((slot, output))) = (domain, name, only(&inputs, proto)) {
            return scope.define(output, Definition::Slot(slot));
        }
        let mut outputs = Vec::with_capacity(node.outputs());
        for output in proto.output.iter().take(node.outputs()) {
            if output.is_empty() {
                outputs.push(None);
            } else {
                let slot = scope.new_slot();
                scope.define(output, Definition::Slot(slot))?;
                outputs.push(Some(slot));
            }
        }
        let role = if self.on_device { None } else { role(operator, &node).map(Box::new) };
        let last_form = if self.on_device { None } else { LastForm::of(operator, &node, role.as_deref()) };
        #[cfg(feature = "candle")]
        let form = self.form(operator, &node).map_err(explain)?;
        let (label, attribute_bytes) = (label.into_boxed_str(), attribute_bytes(&node.proto.attribute));
        let step = Step {
            label,
            kernel,
            #[cfg(feature = "candle")]
            form,
            inputs,
            outputs,
            role,
            last: last_form,
            attribute_bytes,
            subgraphs: plans.into_boxed_slice(),
        };
        self.budget.charge(step.bytes())?;
        steps.push(step);
        Ok(())
    }

    /// The device form of a node, if the plan runs on a device and the node has one.
    #[cfg(feature = "candle")]
    fn form(
        &self,
        operator: &ops::operator::Operator,
        node: &Node<'_>,
    ) -> Result<Option<crate::device::args::DeviceForm>, Error> {
        use crate::device::args::Stop;
        let Some(build) = operator.form.filter(|_| self.on_device) else { return Ok(None) };
        match build(node) {
            Ok(form) => Ok(Some(form)),
            Err(Stop::HostOnly) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Compiles the graphs in a node's attributes. Values that they capture become further inputs of the node.
    fn subgraphs<'g>(
        &mut self,
        node: &'g NodeProto,
        scope: &Scope<'g>,
        inputs: &mut Vec<Source>,
    ) -> Result<Subgraphs<'g>, Error> {
        let (mut subgraphs, mut plans) = (Vec::new(), Vec::new());
        for attribute in &node.attribute {
            let Some(graph) = &attribute.g else { continue };
            let formal: Vec<&str> = graph.input.iter().filter_map(|input| input.name.as_deref()).collect();
            let (plan, outer_names) = self.compile(graph, &formal, Some(scope), scope.bindings)?;
            let mut captures = Vec::with_capacity(outer_names.len());
            for name in outer_names {
                if let Some(Definition::Slot(index)) = scope.resolve(&name) {
                    captures.push(inputs.len());
                    inputs.push(Source::Slot { index, last: false });
                }
            }
            let name = attribute.name.as_deref().unwrap_or("");
            let plan = Arc::new(plan);
            plans.push(Arc::clone(&plan));
            subgraphs.push((name, Subgraph { graph: plan, captures }));
        }
        Ok((subgraphs, plans))
    }
}

/// The slot of a node's only input and the name of its only output, of an Identity: another name of a value needs no
/// step, which would keep its producer and its readers from being fused.
fn only<'g>(inputs: &[Source], node: &'g NodeProto) -> Option<(usize, &'g str)> {
    match (inputs, node.output.as_slice()) {
        (&[Source::Slot { index, .. }], [output]) if !output.is_empty() => Some((index, output)),
        _ => None,
    }
}

impl<'a> Compiler<'a> {
    /// Expands a call of a function: compiles the function's nodes in place of `node`.
    ///
    /// The names of `node` are those of `scope`; `bound` is `node` with its attributes' values.
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
        // Only the innermost function adds its name.
        let explain = |error: Error| match error.message() {
            message if message.starts_with("function ") => error,
            message => Error::new(error.kind(), format!("function {name}: {message}")),
        };
        if node.input.len() > proto.input.len() || node.output.len() > proto.output.len() {
            let (inputs, outputs) = (node.input.len(), node.output.len());
            let (most_inputs, most_outputs) = (proto.input.len(), proto.output.len());
            let why = format!(
                "a call has {inputs} inputs and {outputs} outputs, and {most_inputs} and {most_outputs} are declared"
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
                let definition = match given {
                    "" => Definition::Absent,
                    given => scope.resolve_required(given).map_err(explain)?,
                };
                inner.define(formal, definition).map_err(explain)?;
            }
            let before = self.function_opsets.replace(&function.opsets);
            for index in order(&proto.node, &mut self.subgraph_names).map_err(explain)? {
                let Some(node) = proto.node.get(index) else { continue };
                self.node(node, &mut inner, steps).map_err(explain)?;
            }
            self.function_opsets = before;
            let outputs = proto.output.iter().zip(&node.output);
            let used = outputs.filter(|(_, name)| !name.is_empty());
            used.map(|(formal, _)| inner.resolve_required(formal).map_err(explain)).collect::<Result<Vec<_>, _>>()?
        };
        self.depth -= 1;
        for (name, definition) in node.output.iter().filter(|name| !name.is_empty()).zip(outputs) {
            scope.define(name, definition)?;
        }
        Ok(())
    }

    /// Enters a graph or a function call. The caller decrements the depth at its end.
    pub(crate) fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::too_large(format!("graphs and function calls are nested more than {MAX_DEPTH} deep")));
        }
        Ok(())
    }
}
