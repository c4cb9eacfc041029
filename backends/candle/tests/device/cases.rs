//! A random node of each operator that has a device form.

use graphpool_candle::messages::AttributeProto;
use graphpool_candle::{ElementType, Operator, Value};

use crate::builder::{Case, Random, float, floats, int, ints, number_of, string, strings, tensor};
use crate::{attention, windows};

pub type Attributes = Vec<AttributeProto>;
pub type Inputs = Vec<Option<Value>>;

/// Attributes that are floats, each of which may be left out.
fn factors(names: &[&str], random: &mut Random) -> Attributes {
    let numbers = [0.0, 0.25, 0.5, 1.0, 2.0, -1.0, 0.1, 3.0, f32::NAN, f32::INFINITY];
    let mut list = Vec::new();
    for name in names {
        if random.once_in(2) {
            list.push(float(name, random.pick(&numbers)));
        }
    }
    list
}

fn flags(names: &[&str], random: &mut Random) -> Attributes {
    let mut list = Vec::new();
    for name in names {
        if random.once_in(2) {
            list.push(int(name, random.below(2) as i64));
        }
    }
    list
}

/// The attribute axis, which may be left out.
fn axis(rank: usize, random: &mut Random) -> Attributes {
    if random.given() { vec![int("axis", random.axis(rank))] } else { Vec::new() }
}

/// Some axes, as a list.
pub fn axes(rank: usize, random: &mut Random) -> Vec<i64> {
    let mut list: Vec<i64> = (0..rank as i64).filter(|_| random.once_in(2)).collect();
    if random.once_in(2) {
        for axis in &mut list {
            *axis -= rank as i64;
        }
    }
    if random.once_in(20) {
        list.push(random.axis(rank));
    }
    list
}

/// An input that is a list of integers.
#[expect(clippy::unnecessary_wraps, reason = "an input may be left out")]
pub fn list(numbers: &[i64]) -> Option<Value> {
    Some(Value::new(vec![numbers.len()], numbers.to_vec()).unwrap())
}

/// The tensors that operators of several broadcast.
fn broadcasting(count: usize, random: &mut Random) -> Inputs {
    let (dims, ty) = (random.dims(0..5), random.any_type());
    let one = |random: &mut Random| {
        let own = if random.once_in(2) { dims.clone() } else { random.narrower(&dims) };
        let ty = if random.once_in(20) { random.any_type() } else { ty };
        Some(random.tensor(ty, &own))
    };
    (0..count).map(|_| one(random)).collect()
}

fn unary(random: &mut Random) -> Inputs {
    let (ty, dims) = (random.any_type(), random.dims(0..5));
    vec![Some(random.tensor(ty, &dims))]
}

/// A node of the operator; `None` if there is no case for it.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn case(operator: &Operator, opset: i64, random: &mut Random) -> Option<Case> {
    let name = operator.name;
    match operator.domain {
        "" => {}
        "ai.onnx.preview" => return Some(attention::flexible(random).in_domain("ai.onnx.preview")),
        _ => {
            let (attributes, inputs, outputs) = crate::fused::case(name, random)?;
            let mut case = Case::one(name, 17, attributes, inputs, 1).in_domain("com.microsoft");
            case.nodes[0].output = outputs;
            return Some(with_constants(case, random));
        }
    }
    let mut count = 1;
    let (attributes, inputs) = match name {
        "Relu" | "Abs" | "Neg" | "Sign" | "Sigmoid" | "HardSwish" | "Tanh" | "Mish" | "Softplus" | "Softsign"
        | "Erf" | "Exp" | "Log" | "Sqrt" | "Reciprocal" | "Floor" | "Ceil" | "Round" | "Sin" | "Cos" | "Tan"
        | "Sinh" | "Cosh" | "Asin" | "Acos" | "Atan" | "Asinh" | "Acosh" | "Atanh" | "IsNaN" | "Not" | "Identity"
        | "Shape" | "Size" => (Vec::new(), unary(random)),
        "LeakyRelu" | "Elu" | "Celu" | "ThresholdedRelu" | "Swish" => (factors(&["alpha"], random), unary(random)),
        "Selu" => (factors(&["alpha", "gamma"], random), unary(random)),
        "HardSigmoid" => (factors(&["alpha", "beta"], random), unary(random)),
        "Shrink" => (factors(&["lambd", "bias"], random), unary(random)),
        "Gelu" => {
            let mode = random.pick(&["none", "tanh", "tanh", "sin"]);
            (if random.once_in(2) { vec![string("approximate", mode)] } else { Vec::new() }, unary(random))
        }
        "Clip" if opset < 11 => (factors(&["min", "max"], random), unary(random)),
        "Clip" => (Vec::new(), clip(random)),
        "IsInf" => (flags(&["detect_negative", "detect_positive"], random), unary(random)),
        "PRelu" | "Add" | "Sub" | "Mul" | "Div" | "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" => {
            (Vec::new(), broadcasting(2, random))
        }
        "Pow" => (Vec::new(), power(random)),
        "Mod" => (if random.once_in(8) { Vec::new() } else { vec![int("fmod", 1)] }, broadcasting(2, random)),
        "TopK" => {
            count = 2;
            top(opset, random)
        }
        "Min" | "Max" | "Sum" | "Mean" => {
            let count = 1 + random.below(4);
            (Vec::new(), broadcasting(count, random))
        }
        "And" | "Or" | "Xor" => {
            let mut inputs = broadcasting(2, random);
            if !random.once_in(10) {
                for input in inputs.iter_mut().flatten() {
                    *input = random.tensor(ElementType::Bool, input.dims());
                }
            }
            (Vec::new(), inputs)
        }
        "Where" => {
            let mut inputs = broadcasting(3, random);
            if let Some(condition) = inputs[0].as_mut().filter(|_| !random.once_in(10)) {
                *condition = random.tensor(ElementType::Bool, condition.dims());
            }
            (Vec::new(), inputs)
        }
        "Cast" => (vec![int("to", i64::from(number_of(random.any_type())))], unary(random)),
        "CastLike" => (Vec::new(), [unary(random), unary(random)].concat()),
        "ConstantOfShape" | "Range" | "HannWindow" | "HammingWindow" | "BlackmanWindow" => from_numbers(name, random),
        "Attention" => {
            let (attributes, inputs, outputs) = attention::attention(opset, random);
            count = outputs;
            (attributes, inputs)
        }
        "RotaryEmbedding" => attention::rotary(random),
        "SwiGLU" => attention::gated(random),
        "CausalConvWithState" => {
            count = 2;
            attention::causal_convolution(random)
        }
        "AffineGrid" => windows::affine(random),
        "LinearAttention" => {
            count = 2;
            attention::linear(random)
        }
        "SimplifiedLayerNormalization" => crate::fused::root_mean_square(random),
        "GridSample" => windows::grid(random),
        "Einsum" => attention::einsum(random),
        "NegativeLogLikelihoodLoss" | "SoftmaxCrossEntropyLoss" => {
            count = if name == "SoftmaxCrossEntropyLoss" && random.once_in(2) { 2 } else { 1 };
            crate::losses::loss(random)
        }
        "If" => return Some(crate::hostile::branches(opset, random)),
        "Conv" => windows::convolution(random),
        "ConvTranspose" => windows::transposed(random),
        "MaxPool" | "AveragePool" | "LpPool" => {
            count = if name == "MaxPool" && random.once_in(6) { 2 } else { 1 };
            windows::pool(name, random)
        }
        "GlobalMaxPool" | "GlobalAveragePool" | "GlobalLpPool" => {
            let attributes = if name == "GlobalLpPool" { windows::power(random) } else { Vec::new() };
            let (dims, ty) = (random.dims(0..6), random.any_type());
            (attributes, vec![Some(random.tensor(ty, &dims))])
        }
        "CumSum" | "CumProd" => {
            let (ty, dims) = (random.any_type(), random.dims(0..5));
            let at = random.axis(dims.len());
            let at = if random.once_in(2) { Value::scalar(at).unwrap() } else { list(&[at]).unwrap() };
            (flags(&["exclusive", "reverse"], random), vec![Some(random.tensor(ty, &dims)), Some(at)])
        }
        "MatMul" => (Vec::new(), windows::matrices(random)),
        "Gemm" => {
            let mut attributes = factors(&["alpha", "beta"], random);
            attributes.extend(flags(&["transA", "transB"], random));
            (attributes, windows::gemm(random))
        }
        "BatchNormalization"
        | "InstanceNormalization"
        | "LayerNormalization"
        | "GroupNormalization"
        | "RMSNormalization"
        | "LRN"
        | "MeanVarianceNormalization"
        | "LpNormalization" => {
            count = if name == "LayerNormalization" { 1 + random.below(3) } else { 1 };
            normalization(name, opset, random)
        }
        "LSTM" | "GRU" | "RNN" => {
            count = if name == "LSTM" { 3 } else { 2 };
            recurrence(name, random)
        }
        "Softmax" | "LogSoftmax" | "Hardmax" => {
            let inputs = unary(random);
            (axis(inputs[0].as_ref().map_or(0, Value::rank), random), inputs)
        }
        "ArgMax" | "ArgMin" => {
            let inputs = unary(random);
            let mut attributes = axis(inputs[0].as_ref().map_or(0, Value::rank), random);
            attributes.extend(flags(&["keepdims"], random));
            if opset >= 12 {
                attributes.extend(flags(&["select_last_index"], random));
            }
            (attributes, inputs)
        }
        _ if name.starts_with("Reduce") => reduction(name, opset, random),
        _ => {
            let (attributes, inputs, outputs) = crate::moving::case(name, opset, random)?;
            count = outputs;
            (attributes, inputs)
        }
    };
    Some(with_constants(Case::one(name, opset, attributes, inputs, count), random))
}

/// The case with some of its inputs as constants, most often not the first.
fn with_constants(mut case: Case, random: &mut Random) -> Case {
    for (_, _, constant) in case.values.iter_mut().skip(usize::from(!random.once_in(8))) {
        *constant = random.once_in(3);
    }
    case
}

fn clip(random: &mut Random) -> Inputs {
    let (ty, dims) = (random.any_type(), random.dims(0..5));
    let mut inputs = vec![Some(random.tensor(ty, &dims))];
    for _ in 0..2 {
        let ty = if random.once_in(12) { random.any_type() } else { ty };
        let dims: &[usize] = if random.once_in(12) { &[2] } else { random.pick(&[&[], &[], &[1]]) };
        inputs.push(random.given().then(|| random.tensor(ty, dims)));
    }
    inputs
}

fn power(random: &mut Random) -> Inputs {
    let mut inputs = broadcasting(2, random);
    if random.once_in(2) {
        let ty = random.any_type();
        let exponent = random.pick(&[2.0, 0.5, 3.0, -1.0, 0.0, 1.0, 2.5, 16_777_217.0]);
        let dims: &[usize] = random.pick(&[&[], &[1], &[1, 1]]);
        inputs[1] = Some(tensor(ty, dims, &[exponent]));
    }
    inputs
}

fn top(opset: i64, random: &mut Random) -> (Attributes, Inputs) {
    let inputs = unary(random);
    let dims = inputs[0].as_ref().map_or(&[][..], Value::dims);
    let mut attributes = axis(dims.len(), random);
    let at = attributes.first().and_then(|attribute| attribute.i).unwrap_or(-1);
    let dim = dims.get(at.rem_euclid(dims.len().max(1) as i64) as usize).copied().unwrap_or(0);
    let k = if random.once_in(16) { random.pick(&[-1, 9, i64::MAX]) } else { random.below(dim + 1) as i64 };
    if opset >= 11 {
        attributes.extend(flags(&["largest", "sorted"], random));
    }
    if opset < 10 {
        attributes.push(int("k", k));
        return (attributes, inputs);
    }
    (attributes, [inputs, vec![list(&[k])]].concat())
}

fn from_numbers(name: &str, random: &mut Random) -> (Attributes, Inputs) {
    match name {
        "ConstantOfShape" => (Vec::new(), vec![Some(random.integers(&[2], 0, 5))]),
        "Range" => {
            let ty = random.pick(&[ElementType::F32, ElementType::I64, ElementType::F64]);
            let steps = random.pick(&[1.0, 2.0, -1.0, 0.5, 0.0]);
            let numbers = [1.0, random.below(9) as f64 - 3.0, steps];
            (Vec::new(), numbers.iter().map(|&number| Some(tensor(ty, &[], &[number]))).collect())
        }
        _ => (flags(&["periodic"], random), vec![Some(Value::scalar(random.below(9) as i64).unwrap())]),
    }
}

fn reduction(name: &str, opset: i64, random: &mut Random) -> (Attributes, Inputs) {
    let mut inputs = unary(random);
    if name == "ReduceProd" {
        // Whether a product of many elements overflows on the way depends on the order.
        let (ty, dims) = (random.any_type(), random.dims(0..3));
        inputs = vec![Some(random.tensor(ty, &dims))];
    }
    let rank = inputs[0].as_ref().map_or(0, Value::rank);
    let mut attributes = flags(&["keepdims"], random);
    let since = if name == "ReduceSum" { 13 } else { 18 };
    let axes = axes(rank, random);
    if opset >= since {
        attributes.extend(flags(&["noop_with_empty_axes"], random));
        inputs.push(if random.given() { list(&axes) } else { None });
    } else if random.given() {
        attributes.push(ints("axes", &axes));
    }
    (attributes, inputs)
}

fn normalization(name: &str, opset: i64, random: &mut Random) -> (Attributes, Inputs) {
    let (ty, mut dims) = (random.float_type(), random.dims(1..5));
    let groups = 1 + random.below(3);
    if dims.len() > 1 && !random.once_in(8) {
        dims[1] = groups * (1 + random.below(3));
    }
    let channels = dims.get(1).copied().unwrap_or(1);
    let channels = if random.once_in(16) { 2 } else { channels };
    let mut attributes = if ["LRN", "MeanVarianceNormalization", "LpNormalization"].contains(&name) {
        Vec::new()
    } else {
        factors(&["epsilon"], random)
    };
    let mut inputs = vec![Some(random.tensor(ty, &dims))];
    let other = |random: &mut Random, dims: &[usize]| {
        let ty = if random.once_in(8) { random.float_type() } else { ty };
        Some(random.tensor(ty, dims))
    };
    match name {
        "BatchNormalization" => inputs.extend((0..4).map(|_| other(random, &[channels]))),
        "InstanceNormalization" => inputs.extend((0..2).map(|_| other(random, &[channels]))),
        "GroupNormalization" => {
            let groups = if random.once_in(10) { 2 } else { groups };
            attributes.push(int("num_groups", groups as i64));
            let count = if opset < 21 { groups } else { channels };
            inputs.extend((0..2).map(|_| other(random, &[count])));
        }
        "LayerNormalization" | "RMSNormalization" => {
            let at = random.axis(dims.len());
            let given = random.given();
            if given {
                attributes.push(int("axis", at));
            }
            let at = if given { at } else { -1 };
            let from = usize::try_from(if at < 0 { at.saturating_add(dims.len() as i64) } else { at }).unwrap_or(0);
            let own = random.narrower(&dims[from.min(dims.len())..]);
            inputs.push(other(random, &own));
            if name == "LayerNormalization" && random.once_in(2) {
                inputs.push(other(random, &own));
            }
        }
        "LRN" => {
            attributes.extend(factors(&["alpha", "beta", "bias"], random));
            attributes.push(int("size", random.pick(&[1, 2, 3, 5, 1 << 24])));
        }
        "MeanVarianceNormalization" => {
            if random.given() {
                attributes.push(ints("axes", &axes(dims.len(), random)));
            }
        }
        _ => {
            attributes = axis(dims.len(), random);
            attributes.push(int("p", random.pick(&[1, 2])));
        }
    }
    (attributes, inputs)
}

fn recurrence(name: &str, random: &mut Random) -> (Attributes, Inputs) {
    let kinds = ["Sigmoid", "Tanh", "Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid"];
    let more = ["Elu", "Softsign", "Softplus"];
    let mut attributes = Vec::new();
    let direction = random.pick(&["forward", "reverse", "bidirectional"]);
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    attributes.push(string("direction", direction));
    let (gates, each) = match name {
        "LSTM" => (4, 3),
        "GRU" => (3, 2),
        _ => (1, 1),
    };
    if random.once_in(2) {
        let names: Vec<&str> = (0..each * directions)
            .map(|_| if random.once_in(3) { random.pick(&more) } else { random.pick(&kinds) })
            .collect();
        attributes.push(strings("activations", &names));
    }
    if random.once_in(3) {
        attributes.push(float("clip", random.pick(&[0.5, 2.0, 0.0])));
    }
    match name {
        "LSTM" if random.once_in(3) => attributes.push(int("input_forget", 1)),
        "GRU" if random.once_in(2) => attributes.push(int("linear_before_reset", 1)),
        _ => {}
    }
    let first = random.once_in(3);
    if first {
        attributes.push(int("layout", 1));
    }
    let [steps, batch, input, hidden] = [0; 4].map(|_: usize| 1 + random.below(3));
    let zero = random.once_in(20);
    let steps = if zero { 0 } else { steps };
    let ty = random.float_type();
    let mut small = |dims: &[usize]| {
        let ty = if random.once_in(24) { ElementType::F64 } else { ty };
        let count = dims.iter().product::<usize>();
        let numbers: Vec<f64> = (0..count).map(|_| (random.below(17) as f64 - 8.0) / 8.0).collect();
        Some(tensor(ty, dims, &numbers))
    };
    let swap = |a: usize, b: usize, c: usize| if first { [b, a, c] } else { [a, b, c] };
    let mut inputs = vec![
        small(&swap(steps, batch, input)),
        small(&[directions, gates * hidden, input]),
        small(&[directions, gates * hidden, hidden]),
    ];
    let state = swap(directions, batch, hidden);
    let rest = [
        small(&[directions, 2 * gates * hidden]),
        None,
        small(&state),
        small(&state),
        small(&[directions, 3 * hidden]),
    ];
    let count = if name == "LSTM" { 5 } else { 3 };
    for (at, input) in rest.into_iter().take(count).enumerate() {
        let lens = at == 1 && random.once_in(10);
        inputs.push(match input {
            None if lens => Some(random.integers(&[batch], 0, steps as i64 + 1)),
            input => input.filter(|_| random.once_in(2)),
        });
    }
    (attributes, inputs)
}

/// A chain of operators whose results are exact, so that an error in one is not magnified by the next.
pub fn chain(random: &mut Random) -> Case {
    let ty = random.pick(&[ElementType::F32, ElementType::F32, ElementType::F64, ElementType::F16]);
    let dims = random.dims(1..4);
    let mut case = Case { opset: random.pick(&[13, 17, 18, 21]), ..Case::default() };
    let mut names = vec!["x".to_owned()];
    let numbers: Vec<f64> = (0..dims.iter().product::<usize>()).map(|_| random.below(7) as f64 - 3.0).collect();
    case.values.push(("x".to_owned(), tensor(ty, &dims, &numbers), false));
    case.values.push(("whole".to_owned(), floats(&[1], &[-1.0]), true));
    case.values[1].1 = Value::new(vec![1], vec![-1_i64]).unwrap();
    case.values.push(("one".to_owned(), Value::new(vec![1], vec![1_i64]).unwrap(), true));
    case.values.push(("zero".to_owned(), Value::new(vec![1], vec![0_i64]).unwrap(), true));
    for at in 0..3 + random.below(8) {
        let input = names[random.below(names.len())].clone();
        let other = names[random.below(names.len())].clone();
        let output = format!("t{at}");
        let mut put = |op: &str, inputs: &str, attributes: Attributes| {
            case.nodes.push(crate::builder::node(op, inputs, &output, attributes));
        };
        match random.below(16) {
            0 => put("Add", &format!("{input} {other}"), vec![]),
            1 => put("Sub", &format!("{input} {other}"), vec![]),
            2 => put("Max", &format!("{input} {other} {input}"), vec![]),
            3 => put("Min", &format!("{input} {other}"), vec![]),
            4 => put("Relu", &input, vec![]),
            5 => put("Neg", &input, vec![]),
            6 => put("Transpose", &input, vec![]),
            7 => put("Concat", &format!("{input} {other}"), vec![int("axis", random.axis(dims.len()))]),
            8 => put("Reshape", &format!("{input} whole"), vec![]),
            9 => put("Unsqueeze", &format!("{input} zero"), vec![]),
            10 => put("ReduceMax", &input, vec![int("keepdims", 1)]),
            11 => put("Slice", &format!("{input} zero one zero"), vec![]),
            12 => put("Gather", &format!("{input} zero"), vec![int("axis", random.axis(dims.len()))]),
            13 => put("Abs", &input, vec![]),
            14 => put("Sign", &input, vec![]),
            _ => put("Expand", &format!("{input} one"), vec![]),
        }
        names.push(output);
    }
    case.outputs = names.split_off(1).into_iter().filter(|_| random.once_in(3)).collect();
    case.outputs.push(format!("t{}", case.nodes.len() - 1));
    case
}
