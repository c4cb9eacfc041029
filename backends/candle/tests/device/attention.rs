//! Random attentions, rotations and sums of products.

use graphpool_candle::messages::GraphProto;
use graphpool_candle::{ElementType, Value};

use crate::builder::{Case, Random, float, info, int, node, string, subgraph, tensor};
use crate::cases::{Attributes, Inputs};

/// A tensor of finite numbers: an infinite value times a weight that is 0 on one side alone is a NaN there.
fn finite(ty: ElementType, dims: &[usize], random: &mut Random) -> Value {
    let numbers: Vec<f64> =
        (0..dims.iter().product::<usize>()).map(|_| (random.below(65) as f64 - 32.0) / 4.0).collect();
    tensor(ty, dims, &numbers)
}

/// The attributes, inputs and number of outputs of an Attention, which mostly fit.
pub fn attention(opset: i64, random: &mut Random) -> (Attributes, Inputs, usize) {
    let ty = random.float_type();
    let (batch, key_heads, group) = (1 + random.below(2), 1 + random.below(2), 1 + random.below(2));
    let (queries, keys, past) = (1 + random.below(4), 1 + random.below(5), random.below(3));
    let (size, value_size) = (1 + random.below(4), 1 + random.below(4));
    let heads = key_heads * group;
    let wrong = random.once_in(20);
    let flat = random.once_in(3);
    let mut attributes = Vec::new();
    if flat {
        attributes.push(int("q_num_heads", heads as i64));
        attributes.push(int("kv_num_heads", key_heads as i64));
    }
    if random.once_in(3) {
        attributes.push(int("is_causal", 1));
    }
    if random.once_in(3) {
        attributes.push(float("scale", random.pick(&[0.5, 1.0, 0.0, 2.0])));
    }
    if random.once_in(3) {
        attributes.push(float("softcap", random.pick(&[1.0, 4.0, 0.0])));
    }
    let outputs = 1 + random.below(4);
    if random.once_in(2) {
        attributes.push(int("qk_matmul_output_mode", random.below(4) as i64));
    }
    let sized = |heads: usize, len: usize, size: usize| {
        if flat { vec![batch, len, heads * size] } else { vec![batch, heads, len, size] }
    };
    let mut inputs = vec![
        Some(random.tensor(ty, &sized(heads, queries, size))),
        Some(random.tensor(ty, &sized(key_heads, keys, if wrong { size + 1 } else { size }))),
        Some(finite(ty, &sized(key_heads, keys, value_size), random)),
    ];
    let has_past = random.once_in(3);
    let all = if has_past { keys + past } else { keys };
    let covered = if opset >= 24 && random.once_in(4) { random.below(all) + 1 } else { all };
    let mask = random.once_in(2).then(|| {
        let full = [batch, heads, queries, covered];
        let mut dims = full[random.below(3)..].to_vec();
        if random.once_in(3) {
            dims[0] = 1;
        }
        let ty = if random.once_in(2) { ElementType::Bool } else { ty };
        random.tensor(ty, &dims)
    });
    inputs.push(mask);
    if has_past {
        inputs.push(Some(random.tensor(ty, &[batch, key_heads, past, size])));
        inputs.push(Some(finite(ty, &[batch, key_heads, past, value_size], random)));
    } else if opset >= 24 && random.once_in(3) {
        inputs.extend([None, None]);
        let lens = (0..batch).map(|_| random.below(keys + 1) as i64).collect();
        inputs.push(Some(Value::new(vec![batch], lens).unwrap()));
    }
    (attributes, inputs, outputs)
}

pub fn rotary(random: &mut Random) -> (Attributes, Inputs) {
    let ty = random.pick(&[ElementType::F32, ElementType::F16, ElementType::Bf16]);
    let (batch, heads, len, half) =
        (1 + random.below(2), 1 + random.below(3), 1 + random.below(4), 1 + random.below(3));
    let rest = random.below(3);
    let size = 2 * half + rest;
    let mut attributes = Vec::new();
    if random.once_in(2) {
        attributes.push(int("interleaved", 1));
    }
    if rest > 0 || random.once_in(3) {
        attributes.push(int("rotary_embedding_dim", 2 * half as i64));
    }
    let flat = random.once_in(2);
    if flat {
        attributes.push(int("num_heads", heads as i64));
    }
    let dims = if flat { vec![batch, len, heads * size] } else { vec![batch, heads, len, size] };
    let mut inputs = vec![Some(random.tensor(ty, &dims))];
    if random.once_in(2) {
        let rows = 1 + random.below(5);
        inputs.extend((0..2).map(|_| Some(random.tensor(ty, &[rows, half]))));
        let ids = random.below(12) == 0;
        let ids = (0..batch * len).map(|_| random.below(rows + usize::from(ids)) as i64).collect();
        inputs.push(Some(Value::new(vec![batch, len], ids).unwrap()));
    } else {
        inputs.extend((0..2).map(|_| Some(random.tensor(ty, &[batch, len, half]))));
    }
    (attributes, inputs)
}

pub fn gated(random: &mut Random) -> (Attributes, Inputs) {
    let (ty, dims) = (random.float_type(), random.dims(0..4));
    let attributes =
        if random.once_in(2) { vec![float("alpha", random.pick(&[0.5, 1.0, 1.702, -1.0]))] } else { Vec::new() };
    let other = if random.once_in(12) { random.dims(0..4) } else { dims.clone() };
    (attributes, vec![Some(random.tensor(ty, &dims)), Some(random.tensor(ty, &other))])
}

/// A `FlexAttention`, with subgraphs that modify scores and weights.
pub fn flexible(random: &mut Random) -> Case {
    let ty = random.float_type();
    let (batch, key_heads, group) = (1 + random.below(2), 1 + random.below(2), 1 + random.below(2));
    let (queries, keys, size) = (1 + random.below(3), 1 + random.below(4), 1 + random.below(3));
    let mut attributes = Vec::new();
    if random.once_in(3) {
        attributes.push(float("scale", random.pick(&[0.5, 1.0, 0.0])));
    }
    let inner = if random.once_in(4) { random.pick(&[1, 10, 11, 16]) } else { 0 };
    if inner != 0 {
        attributes.push(int("softmax_precision", inner));
    }
    for name in ["score_mod", "prob_mod"] {
        if random.once_in(2) {
            // The last turns the dimensions around, which is refused unless all are alike.
            let op = random.pick(&["Tanh", "Abs", "Mul", "Relu", "Identity", "Mul", "Transpose"]);
            let inputs = if op == "Mul" { "s factor" } else { "s" };
            let graph = GraphProto {
                node: vec![node(op, inputs, "out", vec![])],
                input: vec![info("s", ElementType::F32)],
                output: vec![info("out", ElementType::F32)],
                ..GraphProto::default()
            };
            attributes.push(subgraph(name, graph));
        }
    }
    let value_size = 1 + random.below(3);
    let key_size = if random.once_in(20) { size + 1 } else { size };
    let inputs = vec![
        Some(random.tensor(ty, &[batch, key_heads * group, queries, size])),
        Some(random.tensor(ty, &[batch, key_heads, keys, key_size])),
        Some(finite(ty, &[batch, key_heads, keys, value_size], random)),
    ];
    let mut case = Case::one("FlexAttention", 17, attributes, inputs, 1);
    let factor_type = ElementType::from_onnx(inner as i32).unwrap_or(ty);
    case.values.push(("factor".to_owned(), tensor(factor_type, &[], &[random.pick(&[0.5, 2.0, -1.0])]), false));
    case
}

/// A `LinearAttention`; small numbers, as the state grows with each position.
pub fn linear(random: &mut Random) -> (Attributes, Inputs) {
    let ty = if random.once_in(12) { random.any_type() } else { random.float_type() };
    let (batch, key_heads, group) = (1 + random.below(2), 1 + random.below(2), 1 + random.below(2));
    let (len, size, depth) = (random.below(4) + usize::from(!random.once_in(12)), 1 + random.below(3), random.dim());
    let heads = key_heads * group;
    let mut attributes = vec![int("q_num_heads", heads as i64), int("kv_num_heads", key_heads as i64)];
    let (rule, gated, delta) = random.pick(&[
        ("linear", false, false),
        ("gated", true, false),
        ("delta", false, true),
        ("gated_delta", true, true),
    ]);
    attributes.push(string("update_rule", rule));
    if random.once_in(2) {
        attributes.push(float("scale", random.pick(&[0.5, 1.0, 0.0])));
    }
    let mut small = |dims: &[usize]| {
        let numbers: Vec<f64> =
            (0..dims.iter().product::<usize>()).map(|_| (random.below(17) as f64 - 8.0) / 8.0).collect();
        tensor(ty, dims, &numbers)
    };
    let mut inputs = vec![
        Some(small(&[batch, len, heads * size])),
        Some(small(&[batch, len, key_heads * size])),
        Some(small(&[batch, len, key_heads * depth])),
        Some(small(&[batch, key_heads, size, depth])),
        Some(small(&[batch, len, key_heads])),
        Some(small(&[batch, len, key_heads * size])),
        Some(small(&[batch, len, key_heads])),
        Some(small(&[batch, len, 1])),
    ];
    let (narrow_decay, narrow_beta, past) = (random.once_in(2), random.once_in(2), random.once_in(2));
    inputs.remove(if narrow_decay { 5 } else { 4 });
    inputs.remove(if narrow_beta { 5 } else { 6 });
    for (index, given) in [(3, past), (4, gated), (5, delta)] {
        inputs[index] = inputs[index].take().filter(|_| given);
    }
    if random.once_in(16) {
        inputs[2] = Some(random.tensor(ty, &[batch, len + 1, key_heads * depth]));
    }
    while inputs.last().is_some_and(Option::is_none) {
        inputs.pop();
    }
    (attributes, inputs)
}

/// A causal convolution, with a past state in every second case.
pub fn causal_convolution(random: &mut Random) -> (Attributes, Inputs) {
    let ty = if random.once_in(12) { random.any_type() } else { random.float_type() };
    let (batch, channels, len, taps) = (1 + random.below(2), 1 + random.below(3), random.dim(), 1 + random.below(4));
    let mut attributes = Vec::new();
    if random.given() {
        attributes.push(string("activation", random.pick(&["none", "silu", "swish"])));
    }
    let filters = channels + usize::from(random.once_in(20));
    let inputs = vec![
        Some(random.tensor(ty, &[batch, channels, len])),
        Some(random.tensor(ty, &[filters, 1, taps])),
        random.once_in(2).then(|| random.tensor(ty, &[channels])),
        random.once_in(2).then(|| random.tensor(ty, &[batch, channels, taps - 1])),
    ];
    (attributes, inputs)
}

/// An equation, and operands whose dimensions mostly fit it.
pub fn einsum(random: &mut Random) -> (Attributes, Inputs) {
    let equation = random.pick(&[
        "ij,jk->ik",
        "ij,jk",
        "bij,bjk->bik",
        "i,i->",
        "ij->ji",
        "ij->i",
        "ij->",
        "i,j->ij",
        "ii->i",
        "bhqd,bhkd->bhqk",
        "...ij,...jk->...ik",
        "ab,bc,cd->ad",
        "ab,ab,ab->a",
        "ij,kl->ijkl",
        "ij,jk->ijkz",
        "ijk->kji",
    ]);
    let ty = if random.once_in(8) { random.any_type() } else { random.float_type() };
    let sizes: Vec<usize> = (0..26).map(|_| 1 + random.below(4)).collect();
    let ellipsis: Vec<usize> = (0..random.below(3)).map(|_| 1 + random.below(3)).collect();
    let left = equation.split("->").next().unwrap_or_default();
    let inputs = left.split(',').map(|term| {
        let mut dims = if term.starts_with("...") { ellipsis.clone() } else { Vec::new() };
        dims.extend(term.bytes().filter(u8::is_ascii_lowercase).map(|name| sizes[usize::from(name - b'a')]));
        if random.once_in(20) {
            for dim in &mut dims {
                *dim += 1;
            }
        }
        Some(random.tensor(ty, &dims))
    });
    (vec![string("equation", equation)], inputs.collect())
}
