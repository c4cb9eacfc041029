//! A loaded model and the contexts that run it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::compile::compiler::{Compiler, PER_NAME};
use crate::compile::fold::Folding;
use crate::compile::function::{Expansion, Functions};
use crate::compile::{footprint, function};
use crate::compute::random::RandomStates;
use crate::compute::threads::Threads;
use crate::context::CandleContext;
use crate::format::decode::decode;
use crate::format::messages::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use crate::format::ports::Port;
use crate::format::{external, ports as file_ports, tensors};
use crate::model::{Model, fits};
use crate::ops::fusion::PackedWeights;
use crate::ops::labels;
use crate::ops::node::Shared;
use crate::quote::quote;
use crate::strings;
use crate::tensor::budget::{ComputeBudget, LoadBudget};
use crate::tensor::dims::Dims;
use crate::tensor::string_table::StringId;
use crate::tensor::value::Value;
use graphpool::backend::{BackendContext, BackendGraph, ComputeControl, Error, TensorDescription};

/// A model, compiled. Cheap to open contexts of: they share its weights.
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

impl CandleGraph {
    pub(crate) fn load(
        bytes: &[u8],
        directory: Option<&Path>,
        memory_limit: usize,
        threads: Option<Arc<Threads>>,
    ) -> Result<Self, Error> {
        let mut budget = LoadBudget::new(memory_limit);
        let mut model = decode(bytes, &mut budget)?;
        let outside = external::embed(&mut model, directory, budget.remaining())?;
        budget.charge(outside)?;
        let ModelProto { ir_version, graph, opset_import, functions } = model;
        let mut graph = graph.ok_or_else(|| Error::invalid_encoding("no ONNX model: the bytes hold no graph"))?;
        budget.charge(tensors::growth(&graph))?;
        let (opsets, functions) = (function::opsets(&opset_import)?, Functions::new(&functions)?);
        // In older files every weight is an input as well, and none is meant to be given.
        let table = PER_NAME.saturating_mul(graph.initializer.len());
        budget.charge(table)?;
        let Ports { inputs, outputs, defaults } = ports(&graph, ir_version.unwrap_or(0) >= 4)?;
        budget.release(table);
        let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
        if opsets.contains_key("") {
            gather_tensors(&mut graph);
        }
        let shared = Shared::new(budget.remaining());
        let initial = initial_values(&mut graph, &shared, &mut budget)?;
        let defaults: Vec<Value> = defaults.iter().filter_map(|&place| initial.get(place).cloned()).collect();
        // However often a model uses the same weights, they are laid out for few times what the file takes.
        let packs = PackedWeights::new(bytes.len().saturating_add(outside).saturating_mul(4).saturating_add(1 << 20));
        let mut compiler = Compiler {
            opsets: &opsets,
            functions: &functions,
            local: None,
            expansion: Expansion::new(budget.remaining()),
            depth: 0,
            shared: &shared,
            folding: Folding::new(memory_limit),
            packs,
            budget,
            initial,
            nodes: 0,
            nested: 0,
        };
        let plan = compiler.graph(&graph, &names)?;
        let spent = compiler.packs.spent();
        let ports: usize = inputs.iter().chain(&outputs).map(Port::bytes).sum();
        let own = defaults.iter().map(Value::bytes).fold(shared.attribute_bytes(), usize::saturating_add);
        let Shared { string_table, random_nodes, .. } = shared;
        let (string_table, random_nodes) = (string_table.into_inner(), random_nodes.get());
        let memory =
            [spent, ports, own, string_table.bytes()].into_iter().fold(footprint::of(&plan), usize::saturating_add);
        if memory > memory_limit {
            let why = format!("the graph takes {memory} bytes, the limit is {memory_limit}");
            return Err(Error::too_large(why));
        }
        let given = inputs.len() - defaults.len();
        for (port, default) in inputs.iter().skip(given).zip(&defaults) {
            if port.ty != default.ty() || fits(port, default.dims()).is_err() {
                let (name, dims) = (quote(&port.name), Dims(default.dims()));
                let why = format!("the default of the input {name} is {:?} {dims}, and the input is not", default.ty());
                return Err(Error::invalid_encoding(why));
            }
        }
        Ok(Self {
            inputs: inputs.iter().map(Port::description).collect(),
            outputs: outputs.iter().map(Port::description).collect(),
            model: Arc::new(Model { plan, inputs, defaults, outputs, string_table, random_nodes, threads, memory }),
        })
    }

    /// The inputs with the types that the model has for them.
    #[must_use]
    pub fn input_ports(&self) -> &[Port] {
        &self.model.inputs
    }

    /// The outputs with the types that the model has for them.
    #[must_use]
    pub fn output_ports(&self) -> &[Port] {
        &self.model.outputs
    }

    /// Computes the outputs from `inputs`, one for each of [`input_ports`](Self::input_ports), without a context. Those
    /// at the end that have a default may be left out. Nodes that draw numbers at random begin anew.
    ///
    /// # Errors
    ///
    /// As [`BackendContext::set_input`] and [`BackendContext::compute`].
    pub fn run(&self, mut inputs: Vec<Value>, control: &ComputeControl) -> Result<Vec<Value>, Error> {
        let Model { inputs: ports, defaults, .. } = &*self.model;
        let least = ports.len() - defaults.len();
        if inputs.len() < least || inputs.len() > ports.len() {
            let why = format!("{} inputs for a model of {}", inputs.len(), ports.len());
            return Err(Error::invalid_argument(why));
        }
        for (port, value) in ports.iter().zip(&inputs) {
            if port.ty != value.ty() {
                let why = format!("input {} is {:?}, not {:?}", quote(&port.name), port.ty, value.ty());
                return Err(Error::invalid_argument(why));
            }
            fits(port, value.dims())?;
        }
        inputs.extend(defaults.iter().skip(inputs.len() - least).cloned());
        self.model.run(
            inputs,
            control,
            &ComputeBudget::new(control.memory_limit),
            &RandomStates::new(self.model.random_nodes),
        )
    }

    /// A tensor of strings, for [`run`](Self::run). Of a string that the model doesn't name no more is kept than that.
    ///
    /// # Errors
    ///
    /// As [`Value::new`].
    pub fn strings(&self, dims: Vec<usize>, strings: &[&str]) -> Result<Value, Error> {
        Value::new(dims, strings.iter().map(|text| self.model.string_table.find(text)).collect::<Vec<StringId>>())
    }

    /// The strings of a tensor that [`run`](Self::run) gave.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) for a tensor of another type,
    /// [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) where one of the strings is none of the model's.
    pub fn strings_of(&self, value: &Value) -> Result<Vec<&str>, Error> {
        let strings = value
            .elements::<StringId>()?
            .iter()
            .map(|&id| self.model.string_table.get(id).ok_or_else(strings::unknown_string));
        strings.collect()
    }

    /// Opens a context.
    #[must_use]
    pub fn context(&self) -> CandleContext {
        CandleContext::new(Arc::clone(&self.model))
    }
}

/// Makes initializers of the large constants among the nodes, whose data can be taken out of the model as theirs is.
fn gather_tensors(graph: &mut GraphProto) {
    const LARGE: usize = 1 << 12;
    let GraphProto { node, initializer, .. } = graph;
    node.retain_mut(|node| {
        let is_constant = node.op_type.as_deref() == Some("Constant") && node.input.is_empty();
        let own = matches!(node.domain.as_deref().unwrap_or(""), "" | "ai.onnx");
        let ([attribute], [output]) = (node.attribute.as_mut_slice(), node.output.as_slice()) else { return true };
        let is_value = attribute.name.as_deref() == Some("value") && attribute.r#type == Some(4);
        let plain = attribute.ref_attr_name.is_none() && !output.is_empty();
        if !(is_constant && own && is_value && plain) {
            return true;
        }
        let Some(mut tensor) = attribute.t.take_if(|tensor| tensor.bytes() >= LARGE) else { return true };
        tensor.name = Some(output.clone());
        initializer.push(tensor);
        false
    });
}

/// The values of the initializers, each taken out of the model before the next one is made.
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

/// What a model's graph takes and gives.
struct Ports {
    /// Those without a default first.
    inputs: Vec<Port>,
    /// The places of the defaults among the initializers.
    defaults: Vec<usize>,
    outputs: Vec<Port>,
}

/// The inputs and outputs of a graph. Where `overridable`, an input that is a weight too can be given instead of it.
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
}
