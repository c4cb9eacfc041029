//! A loaded model and the contexts that run it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::check::{self, Port, carrier, shown};
use super::decode::{GraphProto, ModelProto, TensorProto, decode};
use super::fold::Folding;
use super::footprint::{self, Budget};
use super::fuse::Packs;
use super::meter::{Cx, Meter, PIECE, Pace};
use super::narrow;
use super::ops::LATEST_OPSET;
use super::plan::{Compiler, Plan};
use super::run::run;
use super::threads::Threads;
use super::value::{Dims, ElementType, Value};
use crate::backend::{BackendContext, BackendGraph, ComputeControl};
use crate::nn::{Error, TensorDescription, TensorType, TensorView};

/// Everything of a model that its contexts share.
struct Model {
    plan: Plan,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    threads: Option<Arc<Threads>>,
    /// Bytes of all this.
    memory: usize,
}

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
    pub(super) fn load(bytes: &[u8], memory_limit: usize, threads: Option<Arc<Threads>>) -> Result<Self, Error> {
        let mut budget = Budget::new(memory_limit);
        let ModelProto { graph, opset_import, .. } = decode(bytes, &mut budget)?;
        let mut graph = graph.ok_or_else(|| Error::invalid_encoding("no ONNX model: the bytes hold no graph"))?;
        budget.take(narrow::growth(&graph))?;
        let mut opsets = HashMap::new();
        for import in &opset_import {
            let domain = match import.domain.as_deref().unwrap_or("") {
                "ai.onnx" => "",
                domain => domain,
            };
            let version = import.version.unwrap_or(1);
            if domain.is_empty() && !(1..=LATEST_OPSET).contains(&version) {
                let why = format!("the model is of opset {version}; 1 to {LATEST_OPSET} are known here");
                return Err(Error::unsupported(why));
            }
            // Tools that merge models repeat what both import.
            if let Some(before) = opsets.insert(domain, version).filter(|&before| before != version) {
                let why = format!("two operator sets for the domain {}: {before} and {version}", shown(domain));
                return Err(Error::invalid_encoding(why));
            }
        }
        let (inputs, outputs) = ports(&graph)?;
        let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
        if opsets.contains_key("") {
            gather_tensors(&mut graph);
        }
        let initial = initial_values(&mut graph, &mut budget)?;
        // However often a model uses the same weights, they are laid out for few times what the file takes.
        let packs = Packs::new(bytes.len().saturating_mul(4).saturating_add(1 << 20));
        let folding = Folding::new(memory_limit);
        let mut compiler = Compiler { opsets, folding, packs, budget, initial, nodes: 0, nested: 0 };
        let plan = compiler.graph(&graph, &names)?;
        let ports: usize = inputs.iter().chain(&outputs).map(Port::bytes).sum();
        let memory = footprint::of(&plan).saturating_add(compiler.packs.spent()).saturating_add(ports);
        if memory > memory_limit {
            let why = format!("the graph takes {memory} bytes, the limit is {memory_limit}");
            return Err(Error::too_large(why));
        }
        Ok(Self {
            inputs: inputs.iter().map(Port::description).collect(),
            outputs: outputs.iter().map(Port::description).collect(),
            model: Arc::new(Model { plan, inputs, outputs, threads, memory }),
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

    /// Computes the outputs from `inputs`, one for each of [`input_ports`](Self::input_ports), without a context.
    ///
    /// # Errors
    ///
    /// As [`BackendContext::set_input`] and [`BackendContext::compute`].
    pub fn run(&self, inputs: Vec<Value>, control: &ComputeControl) -> Result<Vec<Value>, Error> {
        if inputs.len() != self.model.inputs.len() {
            let why = format!("{} inputs for a model of {}", inputs.len(), self.model.inputs.len());
            return Err(Error::invalid_argument(why));
        }
        for (port, value) in self.model.inputs.iter().zip(&inputs) {
            if port.ty != value.ty() {
                let why = format!("input {} is {:?}, not {:?}", shown(&port.name), port.ty, value.ty());
                return Err(Error::invalid_argument(why));
            }
            fits(port, value.dims())?;
        }
        self.model.run(inputs, control, &Meter::new(control.memory_limit))
    }

    /// Opens a context.
    #[must_use]
    pub fn context(&self) -> CandleContext {
        let inputs = vec![None; self.model.inputs.len()];
        CandleContext { model: Arc::clone(&self.model), inputs, outputs: Vec::new() }
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
fn initial_values(graph: &mut GraphProto, budget: &mut Budget) -> Result<Vec<Value>, Error> {
    let take = |proto: &mut TensorProto| {
        let bytes = proto.bytes();
        budget.take(bytes)?;
        let value = check::take_tensor(proto)?;
        budget.give_back(bytes);
        Ok(value)
    };
    graph.initializer.iter_mut().map(take).collect()
}

/// The inputs that a caller gives values to, and the outputs.
fn ports(graph: &GraphProto) -> Result<(Vec<Port>, Vec<Port>), Error> {
    // Before IR version 4 every weight was also listed as an input.
    let weights: HashSet<&str> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    let is_weight = |name: &Option<String>| name.as_deref().is_some_and(|name| weights.contains(name));
    let inputs = graph.input.iter().filter(|info| !is_weight(&info.name)).map(check::port);
    let outputs = graph.output.iter().map(check::port);
    Ok((inputs.collect::<Result<_, _>>()?, outputs.collect::<Result<_, _>>()?))
}

impl Model {
    fn run(&self, inputs: Vec<Value>, control: &ComputeControl, meter: &Arc<Meter>) -> Result<Vec<Value>, Error> {
        let cx = Cx { threads: self.threads.as_ref(), ..Cx::new(control, meter) };
        let outputs = run(&self.plan, inputs, &cx)?;
        for (port, value) in self.outputs.iter().zip(&outputs) {
            // A model may lie about its outputs; the caller was told what it says.
            if port.ty != value.ty() {
                let why = format!("output {} is {:?}, not {:?}", shown(&port.name), value.ty(), port.ty);
                return Err(Error::runtime_error(why));
            }
        }
        Ok(outputs)
    }
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

/// An output, as it crosses the boundary.
#[derive(Debug)]
struct Carried {
    dims: Vec<u32>,
    ty: TensorType,
    data: Vec<u8>,
}

/// One stream of inferences.
///
/// A tensor whose ONNX type wasi-nn lacks is carried by another: a boolean as U8 (0 or 1), a float of 8 or 4 bits and an
/// integer of 4 or 2 as U8 (its bits, the lowest of the byte), I8, I16 and U16 as I32, U32 and U64 as I64. An input that its own type can't hold is refused, an output past `i64::MAX` is an error.
pub struct CandleContext {
    model: Arc<Model>,
    inputs: Vec<Option<Value>>,
    outputs: Vec<Carried>,
}

impl std::fmt::Debug for CandleContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandleContext").field("inputs", &self.inputs.len()).finish_non_exhaustive()
    }
}

impl BackendContext for CandleContext {
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        let (Some(port), Some(slot)) = (self.model.inputs.get(index), self.inputs.get_mut(index)) else {
            return Err(Error::invalid_argument(format!("input {index} of {}", self.model.inputs.len())));
        };
        let wanted = carrier(port.ty);
        if tensor.ty() != wanted {
            let why = format!("input {} is carried as {wanted:?}, not {:?}", shown(&port.name), tensor.ty());
            return Err(Error::invalid_argument(why));
        }
        let dims: Vec<usize> = tensor.dimensions().iter().map(|&dim| dim as usize).collect();
        fits(port, &dims)?;
        *slot = Some(receive(dims, port, tensor.data())?);
        Ok(())
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (port, input) in self.model.inputs.iter().zip(&self.inputs) {
            let missing = || Error::invalid_argument(format!("input {} is not set", shown(&port.name)));
            inputs.push(input.clone().ok_or_else(missing)?);
        }
        let meter = Meter::new(control.memory_limit);
        let outputs = self.model.run(inputs, control, &meter)?;
        // One value may be many outputs, each of which is a copy here.
        let bytes = outputs.iter().map(|value| value.len().saturating_mul(carrier(value.ty()).size()));
        let _charge = meter.charge(bytes.fold(0, usize::saturating_add))?;
        let cx = Cx::new(control, &meter);
        self.outputs = outputs.iter().map(|value| carry(value, &cx)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        let Some(output) = self.outputs.get(index) else {
            return Err(Error::invalid_argument(format!("output {index}: nothing computed yet")));
        };
        TensorView::new(&output.dims, output.ty, &output.data)
    }

    /// What lies between calls: the inputs as the model has them and the outputs as they cross the boundary. All else
    /// that a compute allocates is given back by its end.
    fn memory(&self) -> usize {
        let inputs = self.inputs.iter().flatten().map(Value::bytes).sum::<usize>();
        inputs + self.outputs.iter().map(|output| output.data.len()).sum::<usize>()
    }
}

/// Refuses dimensions that are not those of the model.
fn fits(port: &Port, dims: &[usize]) -> Result<(), Error> {
    let Some(wanted) = &port.dims else { return Ok(()) };
    let same = wanted.len() == dims.len()
        && wanted.iter().zip(dims).all(|(wanted, &dim)| wanted.is_none_or(|wanted| wanted == dim));
    if same {
        return Ok(());
    }
    // An open size is told as 0.
    let told: Vec<usize> = wanted.iter().map(|dim| dim.unwrap_or(0)).collect();
    let why = format!("input {} is {} (0: any size), not {}", shown(&port.name), Dims(&told), Dims(dims));
    Err(Error::invalid_argument(why))
}

/// An input in the type that the model has for it.
fn receive(dims: Vec<usize>, port: &Port, data: &[u8]) -> Result<Value, Error> {
    fn narrow<T, const N: usize>(
        data: &[u8],
        from: impl Fn([u8; N]) -> Option<T>,
        port: &Port,
    ) -> Result<Vec<T>, Error> {
        let elements: Option<Vec<T>> = data.as_chunks::<N>().0.iter().map(|&bytes| from(bytes)).collect();
        let why = || format!("input {}: an element that {:?} can't hold", shown(&port.name), port.ty);
        elements.ok_or_else(|| Error::invalid_argument(why()))
    }
    match port.ty {
        ElementType::I8 => Value::new(dims, narrow(data, |b| i8::try_from(i32::from_le_bytes(b)).ok(), port)?),
        ElementType::I16 => Value::new(dims, narrow(data, |b| i16::try_from(i32::from_le_bytes(b)).ok(), port)?),
        ElementType::U16 => Value::new(dims, narrow(data, |b| u16::try_from(i32::from_le_bytes(b)).ok(), port)?),
        ElementType::U32 => Value::new(dims, narrow(data, |b| u32::try_from(i64::from_le_bytes(b)).ok(), port)?),
        ElementType::U64 => Value::new(dims, narrow(data, |b| u64::try_from(i64::from_le_bytes(b)).ok(), port)?),
        ty => Value::from_bytes(dims, ty, data),
    }
}

/// An output in the type that carries it.
fn carry(value: &Value, cx: &Cx<'_>) -> Result<Carried, Error> {
    fn widen<T: Copy, const N: usize>(
        elements: &[T],
        to: impl Fn(T) -> [u8; N],
        cx: &Cx<'_>,
    ) -> Result<Vec<u8>, Error> {
        let (mut bytes, mut pace) = (Vec::with_capacity(elements.len() * N), Pace::default());
        for piece in elements.chunks(PIECE) {
            pace.step(piece.len(), cx)?;
            bytes.extend(piece.iter().flat_map(|&element| to(element)));
        }
        Ok(bytes)
    }
    cx.control.check()?;
    let dims = value.dims().iter().map(|&dim| u32::try_from(dim)).collect::<Result<_, _>>();
    let dims = dims.map_err(|_| Error::too_large("an output has a dimension past u32"))?;
    let data = match value.ty() {
        ElementType::I8 => widen(value.elements::<i8>()?, |element| i32::from(element).to_le_bytes(), cx)?,
        ElementType::I16 => widen(value.elements::<i16>()?, |element| i32::from(element).to_le_bytes(), cx)?,
        ElementType::U16 => widen(value.elements::<u16>()?, |element| i32::from(element).to_le_bytes(), cx)?,
        ElementType::U32 => widen(value.elements::<u32>()?, |element| i64::from(element).to_le_bytes(), cx)?,
        ElementType::U64 => {
            let elements = value.elements::<u64>()?;
            if elements.iter().any(|&element| i64::try_from(element).is_err()) {
                return Err(Error::runtime_error("an output of type U64 is past what I64 carries"));
            }
            widen(elements, u64::to_le_bytes, cx)?
        }
        _ => value.to_bytes(),
    };
    Ok(Carried { dims, ty: carrier(value.ty()), data })
}
