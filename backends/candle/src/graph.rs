//! The load of a model from its bytes to a compiled graph, and the graph as a backend's user sees it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::CandleBackend;
use crate::compile::compiler::{Compiler, PER_NAME};
use crate::compile::fold::Folding;
use crate::compile::function::{Expansion, Functions};
use crate::compile::{footprint, function};
use crate::compute::random::RandomStates;
use crate::context::CandleContext;
use crate::format::decode::decode;
use crate::format::messages::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use crate::format::ports::Port;
use crate::format::{external, ports as file_ports, tensors};
use crate::model::{Model, check_dims};
use crate::ops::fusion::PackedWeights;
use crate::ops::labels;
use crate::ops::node::Shared;
use crate::place::bytes as placement_bytes;
use crate::profile::record::Outline;
use crate::quote::quote;
use crate::strings;
use crate::tensor::budget::{ComputeBudget, LoadBudget};
use crate::tensor::dims::Dims;
use crate::tensor::string_table::StringId;
use crate::tensor::value::Value;
use graphpool::backend::{BackendContext, BackendGraph, ComputeControl, Error, TensorDescription};

/// A compiled model.
///
/// It is immutable and can be shared by any number of threads. Contexts share its weights, so opening one allocates
/// little.
pub struct CandleGraph {
    model: Arc<Model>,
    inputs: Vec<TensorDescription>,
    outputs: Vec<TensorDescription>,
}

impl std::fmt::Debug for CandleGraph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let model = &*self.model;
        f.debug_struct("CandleGraph").field("inputs", &model.inputs).field("outputs", &model.outputs).finish()
    }
}

impl CandleBackend {
    /// Loads a model from its bytes, for callers that use ONNX's element types instead of wasi-nn's.
    ///
    /// The load and the loaded graph take at most `memory_limit` bytes each. The model can't have data in other files.
    ///
    /// # Errors
    ///
    /// * [`InvalidEncoding`](graphpool::backend::ErrorKind::InvalidEncoding) for bytes that are not a valid ONNX model.
    /// * [`UnsupportedOperation`](graphpool::backend::ErrorKind::UnsupportedOperation) for an operator, an opset, an
    ///   attribute or an element type that is not supported.
    /// * [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) for a model that needs more memory than the limit, or
    ///   exceeds a fixed bound such as the number of nodes.
    pub fn load_graph(&self, model: &[u8], memory_limit: usize) -> Result<CandleGraph, Error> {
        CandleGraph::load(model, None, memory_limit, self)
    }
}

impl CandleGraph {
    /// Decodes, checks and compiles a model. `directory` is where its external data is, if it may have any.
    ///
    /// The load charges all that it allocates to a budget of `memory_limit` bytes, and the graph takes at most as many.
    pub(crate) fn load(
        bytes: &[u8],
        directory: Option<&Path>,
        memory_limit: usize,
        backend: &CandleBackend,
    ) -> Result<Self, Error> {
        let CandleBackend { threads, place, profile, .. } = backend;
        let mut budget = LoadBudget::new(memory_limit);
        let mut model = decode(bytes, &mut budget)?;
        let external_bytes = external::embed(&mut model, directory, budget.remaining())?;
        budget.charge(external_bytes)?;
        let ModelProto { ir_version, graph, opset_import, functions } = model;
        let mut graph =
            graph.ok_or_else(|| Error::invalid_encoding("the bytes are not an ONNX model: they contain no graph"))?;
        budget.charge(tensors::unpacked_growth(&graph))?;
        let (opsets, functions) = (function::opsets(&opset_import)?, Functions::new(&functions)?);
        // Before IR version 4, a file listed every weight as an input too, and a caller could not set it.
        let table = PER_NAME.saturating_mul(graph.initializer.len());
        budget.charge(table)?;
        let Ports { inputs, outputs, defaults } = ports(&graph, ir_version.unwrap_or(0) >= 4)?;
        budget.release(table);
        let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
        if opsets.contains_key("") {
            constants_to_initializers(&mut graph);
        }
        let shared = Shared::new(budget.remaining());
        let initial = initial_values(&mut graph, &shared, &mut budget)?;
        let defaults: Vec<Value> = defaults.iter().filter_map(|&index| initial.get(index).cloned()).collect();
        // A small file can use the same weights in many layouts, so the bound follows from the file's length.
        let packs =
            PackedWeights::new(bytes.len().saturating_add(external_bytes).saturating_mul(4).saturating_add(1 << 20));
        let mut compiler = Compiler {
            opsets: &opsets,
            functions: &functions,
            function_opsets: None,
            expansion: Expansion::new(budget.remaining()),
            depth: 0,
            shared: &shared,
            on_device: place.is_device(),
            folding: Folding::new(memory_limit),
            packs,
            budget,
            initial,
            nodes: 0,
            subgraph_names: 0,
        };
        let plan = compiler.graph(&graph, &names)?;
        let packed = compiler.packs.spent();
        let placement = place.placement(&plan, &mut compiler.budget)?;
        let ports: usize = inputs.iter().chain(&outputs).map(Port::bytes).sum();
        let own = defaults.iter().map(Value::bytes).fold(shared.attribute_bytes(), usize::saturating_add);
        let Shared { string_table, random_nodes, .. } = shared;
        let (string_table, random_nodes) = (string_table.into_inner(), random_nodes.get());
        let outline = profile.as_ref().map(|profile| {
            let mut outline = profile.outline();
            plan.outline(None, &mut outline);
            outline
        });
        let probe_bytes = outline.as_ref().map_or(0, Outline::probe_bytes);
        let memory = [packed, ports, own, string_table.bytes(), placement_bytes(placement.as_ref()), probe_bytes]
            .into_iter()
            .fold(footprint::of(&plan), usize::saturating_add);
        if memory > memory_limit {
            let why = format!("the graph needs {memory} bytes, and the limit is {memory_limit}");
            return Err(Error::too_large(why));
        }
        let required = inputs.len() - defaults.len();
        for (port, default) in inputs.iter().skip(required).zip(&defaults) {
            if port.ty != default.ty() || check_dims(port, default.dims()).is_err() {
                let (name, dims) = (quote(&port.name), Dims(default.dims()));
                let why = format!(
                    "the default of input {name} is {:?} {dims}, which the input's type or shape excludes",
                    default.ty()
                );
                return Err(Error::invalid_encoding(why));
            }
        }
        let probe = profile.as_ref().zip(outline);
        let probe = probe.and_then(|(profile, outline)| profile.probe(bytes, place.is_device(), outline));
        Ok(Self {
            inputs: inputs.iter().map(Port::description).collect(),
            outputs: outputs.iter().map(Port::description).collect(),
            model: Arc::new(Model {
                plan,
                inputs,
                defaults,
                outputs,
                string_table,
                random_nodes,
                threads: threads.clone(),
                memory,
                placement,
                probe: probe.map(Arc::new),
            }),
        })
    }

    /// Where the steps of the model run, if it is on a device. `None` if it is on the host.
    #[cfg(feature = "candle")]
    #[must_use]
    pub fn device_report(&self) -> Option<crate::DeviceReport> {
        self.model.placement.as_ref().map(crate::exec::device::Placement::report)
    }

    /// The inputs with their types in the model, in the order of [`run`](Self::run): those with a default are last.
    #[must_use]
    pub fn input_ports(&self) -> &[Port] {
        &self.model.inputs
    }

    /// The outputs with their types in the model, in the order of [`run`](Self::run)'s result.
    #[must_use]
    pub fn output_ports(&self) -> &[Port] {
        &self.model.outputs
    }

    /// The steps of its plan.
    #[cfg(test)]
    pub(crate) fn steps(&self) -> usize {
        self.model.plan.steps.len()
    }

    /// Computes the outputs from `inputs`, one for each of [`input_ports`](Self::input_ports), without a context.
    ///
    /// Inputs at the end that have a default may be left out. Nodes that draw random numbers start from their initial
    /// states. `inputs` are not charged to the memory limit of `control`; all that the compute allocates is.
    ///
    /// # Errors
    ///
    /// * [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) for a wrong number, type or shape of
    ///   inputs, and for elements that an operator rejects.
    /// * [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) where the compute needs more than the memory limit.
    /// * [`Timeout`](graphpool::backend::ErrorKind::Timeout) after the deadline.
    /// * [`UnsupportedOperation`](graphpool::backend::ErrorKind::UnsupportedOperation) for an operator on an element
    ///   type that it does not support.
    /// * [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) after a cancellation, and for an output of
    ///   another type than the model declares.
    pub fn run(&self, inputs: Vec<Value>, control: &ComputeControl) -> Result<Vec<Value>, Error> {
        match &self.model.probe {
            None => self.run_now(inputs, control),
            Some(probe) => probe.compute(|| self.run_now(inputs, control)),
        }
    }

    fn run_now(&self, mut inputs: Vec<Value>, control: &ComputeControl) -> Result<Vec<Value>, Error> {
        let Model { inputs: ports, defaults, .. } = &*self.model;
        let (required, most) = (ports.len() - defaults.len(), ports.len());
        if inputs.len() < required || inputs.len() > most {
            let why = format!("the model takes {required} to {most} inputs, not {}", inputs.len());
            return Err(Error::invalid_argument(why));
        }
        for (port, value) in ports.iter().zip(&inputs) {
            if port.ty != value.ty() {
                let why = format!("input {} has the type {:?}, not {:?}", quote(&port.name), port.ty, value.ty());
                return Err(Error::invalid_argument(why));
            }
            check_dims(port, value.dims())?;
        }
        inputs.extend(defaults.iter().skip(inputs.len() - required).cloned());
        let (budget, states) = (ComputeBudget::new(control.memory_limit), RandomStates::new(self.model.random_nodes));
        let mut outputs = Vec::with_capacity(self.model.outputs.len());
        self.model.run(inputs.into_iter(), &mut outputs, control, &budget, &states)?;
        Ok(outputs)
    }

    /// A tensor of strings for [`run`](Self::run): `strings` are the elements of a tensor of `dims`, row-major.
    ///
    /// A string that the model does not contain is not stored: it equals no string of the model, and an output can't
    /// have it.
    ///
    /// # Errors
    ///
    /// As [`Value::new`].
    pub fn strings(&self, dims: Vec<usize>, strings: &[&str]) -> Result<Value, Error> {
        Value::new(dims, strings.iter().map(|text| self.model.string_table.find(text)).collect::<Vec<StringId>>())
    }

    /// The strings of a tensor that [`run`](Self::run) of this graph returned, row-major.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) for a tensor of another type,
    /// [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) for a string that the model does not contain.
    pub fn strings_of(&self, value: &Value) -> Result<Vec<&str>, Error> {
        let strings = value
            .elements::<StringId>()?
            .iter()
            .map(|&id| self.model.string_table.get(id).ok_or_else(strings::unknown_string));
        strings.collect()
    }

    /// Opens a context. It allocates a few bytes for each input and for each node that draws random numbers.
    #[must_use]
    pub fn context(&self) -> CandleContext {
        CandleContext::new(Arc::clone(&self.model))
    }
}

/// Turns `Constant` nodes with large tensors into initializers.
///
/// The decoded form of an initializer is freed as soon as its value is made; that of a node is not.
fn constants_to_initializers(graph: &mut GraphProto) {
    const LARGE: usize = 1 << 12;
    let GraphProto { node, initializer, .. } = graph;
    node.retain_mut(|node| {
        let is_constant = node.op_type.as_deref() == Some("Constant") && node.input.is_empty();
        let is_onnx = matches!(node.domain.as_deref().unwrap_or(""), "" | "ai.onnx");
        let ([attribute], [output]) = (node.attribute.as_mut_slice(), node.output.as_slice()) else { return true };
        let is_value = attribute.name.as_deref() == Some("value") && attribute.r#type == Some(4);
        let plain = attribute.ref_attr_name.is_none() && !output.is_empty();
        if !(is_constant && is_onnx && is_value && plain) {
            return true;
        }
        let Some(mut tensor) = attribute.t.take_if(|tensor| tensor.bytes() >= LARGE) else { return true };
        tensor.name = Some(output.clone());
        initializer.push(tensor);
        false
    });
}

/// The values of the initializers. The decoded form of each is freed before the next value is made.
fn initial_values(graph: &mut GraphProto, shared: &Shared, budget: &mut LoadBudget) -> Result<Vec<Value>, Error> {
    let take = |proto: &mut TensorProto| {
        let bytes = proto.bytes();
        budget.charge(bytes)?;
        let value = tensors::take_tensor(proto, &shared.string_table)?;
        budget.release(bytes);
        Ok(value)
    };
    graph.initializer.iter_mut().map(take).collect()
}

/// The inputs and outputs of a model's graph.
struct Ports {
    /// First the inputs without a default.
    inputs: Vec<Port>,
    /// For each input with a default, the index of its initializer.
    defaults: Vec<usize>,
    outputs: Vec<Port>,
}

/// The inputs and outputs of a graph. An input that is an initializer too is an input with a default where
/// `overridable`, and no input otherwise.
fn ports(graph: &GraphProto, overridable: bool) -> Result<Ports, Error> {
    let weights: HashMap<&str, usize> =
        graph.initializer.iter().enumerate().map(|(at, one)| (one.name.as_deref().unwrap_or(""), at)).collect();
    let (mut inputs, mut overridden, mut defaults) = (Vec::new(), Vec::new(), Vec::new());
    for info in &graph.input {
        match weights.get(info.name.as_deref().unwrap_or("")) {
            None => inputs.push(file_ports::port(info)?),
            Some(_) if !overridable => {}
            Some(weight) => {
                overridden.push(file_ports::port(info)?);
                defaults.push(*weight);
            }
        }
    }
    inputs.append(&mut overridden);
    let maps = labels::maps(graph);
    let output = |info: &ValueInfoProto| {
        let map = maps.get(info.name.as_deref().unwrap_or("")).filter(|_| !file_ports::is_tensor(info));
        map.map_or_else(|| file_ports::port(info), |map| Ok(map.clone()))
    };
    let outputs = graph.output.iter().map(output).collect::<Result<_, _>>()?;
    Ok(Ports { inputs, defaults, outputs })
}

impl BackendGraph for CandleGraph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.outputs
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(self.context()))
    }

    fn memory(&self) -> usize {
        self.model.memory
    }

    #[cfg(feature = "candle")]
    fn placement(&self) -> Option<graphpool::backend::Placement> {
        let report = self.device_report()?;
        Some(graphpool::backend::Placement::new(report.device_steps, report.host_steps, report.transfers))
    }
}
