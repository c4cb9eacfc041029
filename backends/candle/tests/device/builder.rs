//! Random models, runs of one on the host and on a device, and comparisons of the results.

use candle_core::Device;
use graphpool::backend::{ComputeControl, Error, ErrorKind};
use graphpool_candle::messages::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};
use graphpool_candle::{CandleBackend, CandleGraph, Element, ElementType, Value};
use half::{bf16, f16};
use prost::Message as _;

/// A generator of random numbers (`SplitMix64`).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True in one of `times` calls.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// A dimension, which is seldom 0.
    pub fn dim(&mut self) -> usize {
        self.pick(&[1, 1, 2, 2, 3, 3, 4, 5, 6, 2, 3, 1, 2, 0])
    }

    pub fn dims(&mut self, ranks: std::ops::Range<usize>) -> Vec<usize> {
        let rank = ranks.start + self.below(ranks.end - ranks.start);
        (0..rank).map(|_| self.dim()).collect()
    }

    /// Dimensions that broadcast to `dims`, or nearly.
    pub fn narrower(&mut self, dims: &[usize]) -> Vec<usize> {
        let from = if self.once_in(3) { self.below(dims.len() + 1) } else { 0 };
        let mut own: Vec<usize> = dims[from..].iter().map(|&dim| if self.once_in(3) { 1 } else { dim }).collect();
        if self.once_in(20) {
            own.push(2);
        }
        own
    }

    pub fn float_type(&mut self) -> ElementType {
        use ElementType::{Bf16, F16, F32, F64};
        self.pick(&[F32, F32, F32, F64, F16, Bf16])
    }

    pub fn any_type(&mut self) -> ElementType {
        use ElementType::{Bool, I8, I16, I32, I64, U8, U16, U32, U64};
        if self.once_in(3) { self.pick(&[I64, I32, U8, Bool, I16, U32, I8, U16, U64]) } else { self.float_type() }
    }

    /// A number with few digits, or one that is special.
    fn number(&mut self, special: bool) -> f64 {
        if special && self.once_in(4) {
            let list = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e-40, 300.0, 0.5, -0.5, 2.5, -1.5];
            return self.pick(&list);
        }
        (self.below(65) as f64 - 32.0) / 4.0
    }

    /// A tensor of `ty`.
    pub fn tensor(&mut self, ty: ElementType, dims: &[usize]) -> Value {
        let special = self.once_in(3);
        let numbers: Vec<f64> = (0..dims.iter().product::<usize>()).map(|_| self.number(special)).collect();
        tensor(ty, dims, &numbers)
    }

    /// A tensor of integers from `low` on, below `high`.
    pub fn integers(&mut self, dims: &[usize], low: i64, high: i64) -> Value {
        let count = dims.iter().product::<usize>();
        let list = (0..count).map(|_| low + self.below((high - low).max(1) as usize) as i64).collect();
        if self.once_in(4) {
            let list: Vec<i64> = list;
            return Value::new(dims.to_vec(), list.into_iter().map(|one| one as i32).collect()).unwrap();
        }
        Value::new(dims.to_vec(), list).unwrap()
    }

    /// An axis of `rank` dimensions, which is seldom out of range.
    pub fn axis(&mut self, rank: usize) -> i64 {
        let rank = rank as i64;
        if self.once_in(25) {
            return self.pick(&[rank, -rank - 1, i64::MIN, i64::MAX]);
        }
        self.below((2 * rank).max(1) as usize) as i64 - rank
    }

    /// Whether an attribute or input is given.
    pub fn given(&mut self) -> bool {
        !self.once_in(3)
    }
}

/// A tensor of `ty` from numbers, which are converted.
pub fn tensor(ty: ElementType, dims: &[usize], numbers: &[f64]) -> Value {
    fn of<T: Element>(dims: &[usize], numbers: &[f64], to: impl Fn(f64) -> T) -> Value {
        Value::new(dims.to_vec(), numbers.iter().map(|&number| to(number)).collect()).unwrap()
    }
    match ty {
        ElementType::F64 => of(dims, numbers, |x| x),
        ElementType::F16 => of(dims, numbers, f16::from_f64),
        ElementType::Bf16 => of(dims, numbers, bf16::from_f64),
        ElementType::I64 => of(dims, numbers, |x| x as i64),
        ElementType::I32 => of(dims, numbers, |x| x as i32),
        ElementType::I16 => of(dims, numbers, |x| x as i16),
        ElementType::I8 => of(dims, numbers, |x| x as i8),
        ElementType::U8 => of(dims, numbers, |x| x as u8),
        ElementType::U16 => of(dims, numbers, |x| x as u16),
        ElementType::U32 => of(dims, numbers, |x| x as u32),
        ElementType::U64 => of(dims, numbers, |x| x as u64),
        ElementType::Bool => of(dims, numbers, |x| x > 0.0),
        _ => of(dims, numbers, |x| x as f32),
    }
}

pub fn floats(dims: &[usize], numbers: &[f32]) -> Value {
    Value::new(dims.to_vec(), numbers.to_vec()).unwrap()
}

pub fn longs(dims: &[usize], numbers: &[i64]) -> Value {
    Value::new(dims.to_vec(), numbers.to_vec()).unwrap()
}

/// ONNX's number of an element type.
pub fn number_of(ty: ElementType) -> i32 {
    (1..30).find(|&number| ElementType::from_onnx(number) == Some(ty)).unwrap()
}

pub fn int(name: &str, int: i64) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), i: Some(int), r#type: Some(2), ..AttributeProto::default() }
}

pub fn float(name: &str, float: f32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), f: Some(float), r#type: Some(1), ..AttributeProto::default() }
}

pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let ints = ints.to_vec();
    AttributeProto { name: Some(name.to_owned()), ints, r#type: Some(7), ..AttributeProto::default() }
}

pub fn string(name: &str, string: &str) -> AttributeProto {
    let s = Some(string.as_bytes().to_vec());
    AttributeProto { name: Some(name.to_owned()), s, r#type: Some(3), ..AttributeProto::default() }
}

pub fn strings(name: &str, list: &[&str]) -> AttributeProto {
    let strings = list.iter().map(|one| one.as_bytes().to_vec()).collect();
    AttributeProto { name: Some(name.to_owned()), strings, r#type: Some(8), ..AttributeProto::default() }
}

pub fn subgraph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), g: Some(graph), r#type: Some(5), ..AttributeProto::default() }
}

/// A node; inputs and outputs are separated by blanks, and `_` stands for one that is left out.
pub fn node(op: &str, inputs: &str, outputs: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let names = |list: &str| {
        list.split_whitespace().map(|name| if name == "_" { String::new() } else { name.to_owned() }).collect()
    };
    let (input, output) = (names(inputs), names(outputs));
    NodeProto { input, output, op_type: Some(op.to_owned()), attribute, ..NodeProto::default() }
}

pub fn info(name: &str, ty: ElementType) -> ValueInfoProto {
    let tensor_type = Some(TensorTypeProto { elem_type: Some(number_of(ty)), shape: None });
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type }) }
}

/// A model with the values of its inputs.
#[derive(Clone, Default)]
pub struct Case {
    /// The version of ai.onnx.
    pub opset: i64,
    /// Another domain, of which the model imports version 1.
    pub domain: &'static str,
    pub nodes: Vec<NodeProto>,
    /// The names and values, and whether each is a constant of the model.
    pub values: Vec<(String, Value, bool)>,
    pub outputs: Vec<String>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "opset {} {}", self.opset, self.domain)?;
        for node in &self.nodes {
            write!(f, "{} {:?} -> {:?}", node.op_type.as_deref().unwrap_or(""), node.input, node.output)?;
            for attribute in &node.attribute {
                write!(f, " {}=", attribute.name.as_deref().unwrap_or(""))?;
                match attribute.r#type {
                    Some(1) => write!(f, "{:?}", attribute.f)?,
                    Some(2) => write!(f, "{:?}", attribute.i)?,
                    Some(3) => write!(f, "{:?}", attribute.s.as_deref().map(String::from_utf8_lossy))?,
                    Some(7) => write!(f, "{:?}", attribute.ints)?,
                    _ => write!(f, "…")?,
                }
            }
            writeln!(f)?;
        }
        for (name, value, constant) in &self.values {
            writeln!(f, "{name}{} = {}", if *constant { " (constant)" } else { "" }, show(value))?;
        }
        Ok(())
    }
}

pub fn show(value: &Value) -> String {
    let numbers = numbers(value);
    format!("{:?} {:?} {:?}", value.ty(), value.dims(), &numbers[..numbers.len().min(40)])
}

impl Case {
    /// A model of one node with these inputs.
    pub fn one(
        op: &str,
        opset: i64,
        attributes: Vec<AttributeProto>,
        inputs: Vec<Option<Value>>,
        count: usize,
    ) -> Self {
        let names: Vec<String> =
            inputs.iter().enumerate().map(|(at, x)| x.as_ref().map_or("_".into(), |_| format!("x{at}"))).collect();
        let outputs: Vec<String> = (0..count).map(|at| format!("y{at}")).collect();
        let values = inputs.into_iter().enumerate();
        let values = values.filter_map(|(at, value)| Some((format!("x{at}"), value?, false))).collect();
        let nodes = vec![node(op, &names.join(" "), &outputs.join(" "), attributes)];
        Self { opset, nodes, values, outputs, ..Self::default() }
    }

    /// The same model with its nodes in another domain.
    pub fn in_domain(mut self, domain: &'static str) -> Self {
        for node in &mut self.nodes {
            node.domain = Some(domain.to_owned());
        }
        self.domain = domain;
        self
    }

    /// The model with the output at `output`, declared as `ty`.
    pub fn bytes(&self, output: usize, ty: ElementType) -> Vec<u8> {
        let (mut input, mut initializer) = (Vec::new(), Vec::new());
        for (name, value, constant) in &self.values {
            if *constant {
                initializer.push(TensorProto {
                    dims: value.dims().iter().map(|&dim| dim as i64).collect(),
                    data_type: Some(number_of(value.ty())),
                    raw_data: Some(value.to_bytes()),
                    name: Some(name.clone()),
                    ..TensorProto::default()
                });
            } else {
                input.push(info(name, value.ty()));
            }
        }
        let output = vec![info(&self.outputs[output], ty)];
        let graph = GraphProto { node: self.nodes.clone(), input, output, initializer, ..GraphProto::default() };
        let mut opset_import = vec![OperatorSetIdProto { domain: None, version: Some(self.opset) }];
        if !self.domain.is_empty() {
            opset_import.push(OperatorSetIdProto { domain: Some(self.domain.to_owned()), version: Some(1) });
        }
        ModelProto { ir_version: Some(8), graph: Some(graph), opset_import, ..ModelProto::default() }.encode_to_vec()
    }

    pub fn load(&self, backend: &CandleBackend, output: usize, ty: ElementType) -> Result<CandleGraph, Error> {
        backend.load_graph(&self.bytes(output, ty), 1 << 30)
    }

    pub fn run(
        &self,
        backend: &CandleBackend,
        output: usize,
        ty: ElementType,
        control: &ComputeControl,
    ) -> Result<Value, Error> {
        let values = self.values.iter().filter(|(.., constant)| !constant).map(|(_, value, _)| value.clone());
        self.load(backend, output, ty)?.run(values.collect(), control).map(|mut outputs| outputs.remove(0))
    }

    /// The host's result of an output, and the type that the output has.
    pub fn on_host(&self, output: usize, control: &ComputeControl) -> (Result<Value, Error>, ElementType) {
        use ElementType::{Bf16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
        let mut result = None;
        for ty in [F32, I64, Bool, F64, F16, Bf16, I32, U8, I16, U32, I8, U16, U64] {
            match self.run(&CandleBackend::new(), output, ty, control) {
                Err(error) if error.kind() == ErrorKind::RuntimeError => result = Some((Err(error), ty)),
                found => return (found, ty),
            }
        }
        result.unwrap()
    }

    /// The same model with inputs that are views on the device: transposed, or without their first row.
    pub fn with_views(mut self, random: &mut Random) -> Self {
        let mut before = Vec::new();
        let mut more = Vec::new();
        for (name, value, constant) in &mut self.values {
            let (dims, ty, bytes) = (value.dims().to_vec(), value.ty(), value.to_bytes());
            if *constant || dims.is_empty() || value.is_empty() {
                continue;
            }
            let inner = format!("{name}_before");
            if self.opset >= 10 && random.once_in(2) {
                let row = vec![0; bytes.len() / dims[0]];
                *value = Value::from_bytes([&[dims[0] + 1], &dims[1..]].concat(), ty, &[row, bytes].concat()).unwrap();
                for (list, number) in [("start", 1), ("end", i64::MAX), ("axis", 0)] {
                    more.push((format!("{name}_{list}"), longs(&[1], &[number]), true));
                }
                let inputs = format!("{inner} {name}_start {name}_end {name}_axis");
                before.push(node("Slice", &inputs, name, vec![]));
            } else {
                *value = transposed(&dims, ty, &bytes);
                before.push(node("Transpose", &inner, name, vec![]));
            }
            *name = inner;
        }
        self.values.extend(more);
        self.nodes.splice(0..0, before);
        self
    }

    /// Whether the first output has a result for which steps ran on the device or on lists, and none on the host.
    pub fn runs_on_device(&self) -> bool {
        let control = ComputeControl::default();
        let (result, ty) = self.on_host(0, &control);
        let graph = self.load(&CandleBackend::with_device(Device::Cpu), 0, ty);
        let values = self.values.iter().filter(|(.., constant)| !constant).map(|(_, value, _)| value.clone());
        graph.is_ok_and(|graph| {
            let ran = graph.run(values.collect(), &control).is_ok();
            let report = graph.device_report().unwrap();
            result.is_ok() && ran && report.ran_on_host == 0 && report.ran_on_device + report.ran_on_lists > 0
        })
    }

    /// Why host and device differ; `None` if they agree.
    pub fn difference(&self, control: &ComputeControl) -> Option<String> {
        let device = CandleBackend::with_device(Device::Cpu);
        (0..self.outputs.len()).find_map(|output| {
            let (wanted, ty) = self.on_host(output, control);
            let found = self.run(&device, output, ty, control);
            differ(&wanted, &found, self.largest()).map(|why| format!("output {output}: {why}\n{self:?}"))
        })
    }

    /// The largest size of a finite number among the inputs, at least 1. Sums in which such numbers cancel out have an
    /// error in proportion to it.
    fn largest(&self) -> f64 {
        let sizes = self.values.iter().flat_map(|(_, value, _)| numbers(value)).map(f64::abs);
        sizes.filter(|size| size.is_finite()).fold(1.0, f64::max)
    }

    /// Fails if host and device differ.
    #[track_caller]
    pub fn agree(&self) {
        let difference = self.difference(&ComputeControl::default());
        assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }
}

/// The value with its dimensions in reverse order, of which the value itself is the transpose.
fn transposed(dims: &[usize], ty: ElementType, bytes: &[u8]) -> Value {
    let size = bytes.len() / dims.iter().product::<usize>();
    let mut moved = vec![0; bytes.len()];
    for (at, element) in bytes.chunks_exact(size).enumerate() {
        let (mut rest, mut to, mut stride) = (at, 0, bytes.len() / size);
        for &dim in dims.iter().rev() {
            stride /= dim;
            to += rest % dim * stride;
            rest /= dim;
        }
        moved[to * size..(to + 1) * size].copy_from_slice(element);
    }
    Value::from_bytes(dims.iter().rev().copied().collect(), ty, &moved).unwrap()
}

/// The elements as numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    fn of<T: Element + Copy>(value: &Value, to: impl Fn(T) -> f64) -> Vec<f64> {
        value.elements::<T>().unwrap().iter().map(|&element| to(element)).collect()
    }
    match value.ty() {
        ElementType::F64 => of(value, |x: f64| x),
        ElementType::F32 => of(value, |x: f32| f64::from(x)),
        ElementType::F16 => of(value, |x: f16| x.to_f64()),
        ElementType::Bf16 => of(value, |x: bf16| x.to_f64()),
        ElementType::I64 => of(value, |x: i64| x as f64),
        ElementType::I32 => of(value, |x: i32| f64::from(x)),
        ElementType::Bool => of(value, |x: bool| f64::from(u8::from(x))),
        _ => value.to_bytes().iter().map(|&byte| f64::from(byte)).collect(),
    }
}

/// How two results differ, if they do. Floats may differ in proportion to their size and to `scale`.
#[allow(clippy::float_cmp, reason = "infinities and zeros are equal or they are not")]
fn differ(wanted: &Result<Value, Error>, found: &Result<Value, Error>, scale: f64) -> Option<String> {
    let (wanted, found) = match (wanted, found) {
        (Ok(wanted), Ok(found)) => (wanted, found),
        (Err(wanted), Err(found)) if wanted.kind() == found.kind() => return None,
        (Ok(wanted), Err(found)) => return Some(format!("the host gives {}, the device {found:?}", show(wanted))),
        (Err(wanted), Ok(found)) => return Some(format!("the host gives {wanted:?}, the device {}", show(found))),
        (wanted, found) => return Some(format!("the host gives {wanted:?}, the device {found:?}")),
    };
    let (relative, absolute) = match wanted.ty() {
        ElementType::F64 => (1e-9, 1e-9),
        ElementType::F32 => (3e-5, 3e-5),
        ElementType::F16 => (3e-3, 1e-3),
        ElementType::Bf16 => (2e-2, 1e-3),
        _ => (0.0, 0.0),
    };
    if relative == 0.0 {
        let same = (wanted.ty(), wanted.dims()) == (found.ty(), found.dims()) && wanted.to_bytes() == found.to_bytes();
        return (!same).then(|| format!("the host gives {}, the device {}", show(wanted), show(found)));
    }
    let close = |a: f64, b: f64| {
        let near = (a - b).abs() <= absolute * scale + relative * a.abs().min(b.abs());
        // The difference of two infinities is not above an infinite bound.
        a == b || (a.is_nan() && b.is_nan()) || (near && a.is_finite() && b.is_finite())
    };
    let same = (wanted.ty(), wanted.dims()) == (found.ty(), found.dims())
        && numbers(wanted).into_iter().zip(numbers(found)).all(|(a, b)| close(a, b));
    (!same).then(|| format!("the host gives {}, the device {}", show(wanted), show(found)))
}
