//! A loaded model and the contexts that run it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::check::{self, Port, carrier, shown};
use super::decode::{GraphProto, ModelProto, TensorProto, ValueInfoProto, decode};
use super::fold::Folding;
use super::footprint::{self, Budget};
use super::function::{self, Expansion, Functions};
use super::fuse::Packs;
use super::meter::{Cx, Meter, PIECE, Pace};
use super::narrow;
use super::node::Shared;
use super::ops::labels;
use super::plan::{Compiler, PER_NAME, Plan};
use super::random::Randoms;
use super::run::run;
use super::texts::{Text, Texts};
use super::threads::Threads;
use super::value::{Dims, ElementType, Value};
use super::{external, strings};
use graphpool::backend::{BackendContext, BackendGraph, ComputeControl};
use graphpool::backend::{Error, TensorDescription, TensorType, TensorView};

/// Everything of a model that its contexts share.
struct Model {
    plan: Plan,
    /// Those that have to be given, and after them those that have a default.
    inputs: Vec<Port>,
    defaults: Vec<Value>,
    outputs: Vec<Port>,
    texts: Texts,
    /// Nodes that draw numbers at random.
    randoms: usize,
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
    pub(super) fn load(
        bytes: &[u8],
        directory: Option<&Path>,
        memory_limit: usize,
        threads: Option<Arc<Threads>>,
    ) -> Result<Self, Error> {
        let mut budget = Budget::new(memory_limit);
        let mut model = decode(bytes, &mut budget)?;
        let outside = external::embed(&mut model, directory, budget.left())?;
        budget.take(outside)?;
        let ModelProto { ir_version, graph, opset_import, functions } = model;
        let mut graph = graph.ok_or_else(|| Error::invalid_encoding("no ONNX model: the bytes hold no graph"))?;
        budget.take(narrow::growth(&graph))?;
        let (opsets, functions) = (function::opsets(&opset_import)?, Functions::new(&functions)?);
        // In older files every weight is an input as well, and none is meant to be given.
        let table = PER_NAME.saturating_mul(graph.initializer.len());
        budget.take(table)?;
        let Ports { inputs, outputs, defaults } = ports(&graph, ir_version.unwrap_or(0) >= 4)?;
        budget.give_back(table);
        let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
        if opsets.contains_key("") {
            gather_tensors(&mut graph);
        }
        let shared = Shared::new(budget.left());
        let initial = initial_values(&mut graph, &shared, &mut budget)?;
        let defaults: Vec<Value> = defaults.iter().filter_map(|&place| initial.get(place).cloned()).collect();
        // However often a model uses the same weights, they are laid out for few times what the file takes.
        let packs = Packs::new(bytes.len().saturating_add(outside).saturating_mul(4).saturating_add(1 << 20));
        let mut compiler = Compiler {
            opsets: &opsets,
            functions: &functions,
            local: None,
            expansion: Expansion::new(budget.left()),
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
        let own = defaults.iter().map(Value::bytes).fold(shared.held(), usize::saturating_add);
        let Shared { texts, randoms, .. } = shared;
        let (texts, randoms) = (texts.into_inner(), randoms.get());
        let memory = [spent, ports, own, texts.bytes()].into_iter().fold(footprint::of(&plan), usize::saturating_add);
        if memory > memory_limit {
            let why = format!("the graph takes {memory} bytes, the limit is {memory_limit}");
            return Err(Error::too_large(why));
        }
        let given = inputs.len() - defaults.len();
        for (port, default) in inputs.iter().skip(given).zip(&defaults) {
            if port.ty != default.ty() || fits(port, default.dims()).is_err() {
                let (name, dims) = (shown(&port.name), Dims(default.dims()));
                let why = format!("the default of the input {name} is {:?} {dims}, and the input is not", default.ty());
                return Err(Error::invalid_encoding(why));
            }
        }
        Ok(Self {
            inputs: inputs.iter().map(Port::description).collect(),
            outputs: outputs.iter().map(Port::description).collect(),
            model: Arc::new(Model { plan, inputs, defaults, outputs, texts, randoms, threads, memory }),
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
                let why = format!("input {} is {:?}, not {:?}", shown(&port.name), port.ty, value.ty());
                return Err(Error::invalid_argument(why));
            }
            fits(port, value.dims())?;
        }
        inputs.extend(defaults.iter().skip(inputs.len() - least).cloned());
        self.model.run(inputs, control, &Meter::new(control.memory_limit), &Randoms::new(self.model.randoms))
    }

    /// A tensor of strings, for [`run`](Self::run). Of a string that the model doesn't name no more is kept than that.
    ///
    /// # Errors
    ///
    /// As [`Value::new`].
    pub fn strings(&self, dims: Vec<usize>, strings: &[&str]) -> Result<Value, Error> {
        Value::new(dims, strings.iter().map(|text| self.model.texts.find(text)).collect::<Vec<Text>>())
    }

    /// The strings of a tensor that [`run`](Self::run) gave.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) for a tensor of another type,
    /// [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) where one of the strings is none of the model's.
    pub fn strings_of(&self, value: &Value) -> Result<Vec<&str>, Error> {
        let texts =
            value.elements::<Text>()?.iter().map(|&text| self.model.texts.get(text).ok_or_else(strings::foreign));
        texts.collect()
    }

    /// Opens a context.
    #[must_use]
    pub fn context(&self) -> CandleContext {
        let inputs = vec![None; self.model.inputs.len()];
        let randoms = Randoms::new(self.model.randoms);
        CandleContext { model: Arc::clone(&self.model), inputs, outputs: Vec::new(), randoms }
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
fn initial_values(graph: &mut GraphProto, shared: &Shared, budget: &mut Budget) -> Result<Vec<Value>, Error> {
    let take = |proto: &mut TensorProto| {
        let bytes = proto.bytes();
        budget.take(bytes)?;
        let value = check::take_tensor(proto, &shared.texts)?;
        budget.give_back(bytes);
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
            None => inputs.push(check::port(info)?),
            Some(_) if !overridable => {}
            Some(weight) => {
                overridden.push(check::port(info)?);
                defaults.push(*weight);
            }
        }
    }
    inputs.append(&mut overridden);
    let maps = labels::maps(graph);
    let output = |info: &ValueInfoProto| {
        let map = maps.get(info.name.as_deref().unwrap_or("")).filter(|_| !check::is_tensor(info));
        map.map_or_else(|| check::port(info), |map| Ok(map.clone()))
    };
    let outputs = graph.output.iter().map(output).collect::<Result<_, _>>()?;
    Ok(Ports { inputs, defaults, outputs })
}

impl Model {
    fn run(
        &self,
        inputs: Vec<Value>,
        control: &ComputeControl,
        meter: &Arc<Meter>,
        randoms: &Randoms,
    ) -> Result<Vec<Value>, Error> {
        let cx = Cx { threads: self.threads.as_ref(), randoms: Some(randoms), ..Cx::new(control, meter) };
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
/// A tensor whose ONNX type wasi-nn lacks is carried by another: a boolean as U8 (0 or 1), a float of 8 or 4 bits and
/// an integer of 4 or 2 as U8 (its bits, the lowest of the byte), I8, I16 and U16 as I32, U32 and U64 as I64. An input
/// that its own type can't hold is refused, an output past `i64::MAX` is an error.
///
/// A tensor of strings is carried as U8 with one dimension more, the last: each string's bytes, in UTF-8, and after
/// them zeros up to that dimension's size, which for an output is that of the longest string and at least 1. An output
/// of `["yes", "no"]` has the dimensions 2×3 and the bytes `yesno\0`. So a string ends at its zeros.
pub struct CandleContext {
    model: Arc<Model>,
    inputs: Vec<Option<Value>>,
    outputs: Vec<Carried>,
    /// How far each node that draws numbers at random has come.
    randoms: Randoms,
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
        let mut dims: Vec<usize> = tensor.dimensions().iter().map(|&dim| dim as usize).collect();
        if port.ty == ElementType::String {
            let Some(width) = dims.pop() else {
                let why = format!("input {} has no dimension for its strings' bytes", shown(&port.name));
                return Err(Error::invalid_argument(why));
            };
            fits(port, &dims)?;
            *slot = Some(strings::receive(dims, width, tensor.data(), &self.model.texts, &port.name)?);
            return Ok(());
        }
        fits(port, &dims)?;
        *slot = Some(receive(dims, port, tensor.data())?);
        Ok(())
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        let Model { inputs: ports, defaults, texts, .. } = &*self.model;
        let least = ports.len() - defaults.len();
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (place, (port, input)) in ports.iter().zip(&self.inputs).enumerate() {
            let default = place.checked_sub(least).and_then(|place| defaults.get(place));
            let missing = || Error::invalid_argument(format!("input {} is not set", shown(&port.name)));
            inputs.push(input.as_ref().or(default).cloned().ok_or_else(missing)?);
        }
        let meter = Meter::new(control.memory_limit);
        let outputs = self.model.run(inputs, control, &meter, &self.randoms)?;
        let cx = Cx::new(control, &meter);
        // One value may be many outputs, each of which is a copy here.
        let bytes = outputs.iter().map(|value| {
            let each = match value.ty() {
                ElementType::String => strings::width(value, texts, &cx)?,
                ty => carrier(ty).size(),
            };
            Ok(value.len().saturating_mul(each))
        });
        let bytes = bytes.collect::<Result<Vec<_>, Error>>()?;
        let _charge = meter.charge(bytes.into_iter().fold(0, usize::saturating_add))?;
        self.outputs = outputs.iter().map(|value| carry(value, texts, &cx)).collect::<Result<_, _>>()?;
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
        inputs + self.outputs.iter().map(|output| output.data.len()).sum::<usize>() + self.randoms.bytes()
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
fn carry(value: &Value, texts: &Texts, cx: &Cx<'_>) -> Result<Carried, Error> {
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
    let dims = value.dims().iter().map(|&dim| u32::try_from(dim)).collect::<Result<Vec<_>, _>>();
    let mut dims = dims.map_err(|_| Error::too_large("an output has a dimension past u32"))?;
    let data = match value.ty() {
        ElementType::String => {
            let width = strings::width(value, texts, cx)?;
            dims.push(u32::try_from(width).map_err(|_| Error::too_large("an output has a string past u32"))?);
            strings::carry(value, width, texts, cx)?
        }
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
