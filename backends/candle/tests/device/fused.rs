//! Random nodes of com.microsoft's operators, which fuse several of ai.onnx.

use graphpool_candle::{ElementType, Value};

use crate::builder::{Random, float, int, ints, string};
use crate::cases::{Attributes, Inputs};
use crate::windows;

/// Attributes, inputs and the names of the outputs; `None` for an operator that is not here. The first output of the
/// model is `y0`.
pub fn case(name: &str, random: &mut Random) -> Option<(Attributes, Inputs, Vec<String>)> {
    let mut outputs = vec!["y0".to_owned()];
    let (attributes, inputs) = match name {
        "Gelu" => (Vec::new(), biased(1, random)),
        "BiasGelu" => (Vec::new(), biased(2, random)),
        "FastGelu" => {
            let count = 1 + random.below(2);
            (Vec::new(), biased(count, random))
        }
        "QuickGelu" => (factor("alpha", random), biased(1, random)),
        "FusedMatMul" => {
            let attributes = [factor("alpha", random), flag("transA", random), flag("transB", random)].concat();
            let square = random.once_in(2);
            let inputs = windows::matrices(random);
            (if square { attributes[..attributes.len().min(1)].to_vec() } else { attributes }, inputs)
        }
        "FusedGemm" => {
            let mut attributes = [factor("alpha", random), factor("beta", random)].concat();
            attributes.extend([flag("transA", random), flag("transB", random)].concat());
            attributes.push(string("activation", activation(random)));
            for name in ["activation_alpha", "activation_beta"] {
                attributes.extend(factor(name, random));
            }
            (attributes, windows::gemm(random))
        }
        "FusedConv" => {
            let (mut attributes, mut inputs) = windows::convolution(random);
            if random.given() {
                attributes.push(string("activation", activation(random)));
            }
            if random.once_in(6) {
                inputs.resize(3, None);
                inputs.push(Some(random.tensor(ElementType::F32, &[1])));
            }
            (attributes, inputs)
        }
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => {
            // In every third case the sum is the output.
            if random.once_in(3) {
                outputs = vec!["z".to_owned(), String::new(), String::new(), "y0".to_owned()];
            }
            skip(name == "SkipLayerNormalization", random)
        }
        "EmbedLayerNormalization" => {
            match random.below(3) {
                1 => outputs.insert(0, "z".to_owned()),
                2 => outputs = vec!["z".to_owned(), "n".to_owned(), "y0".to_owned()],
                _ => {}
            }
            embed(random)
        }
        "Attention" => attention(random),
        "MultiHeadAttention" => multi_head(random),
        _ => return None,
    };
    Some((attributes, inputs, outputs))
}

fn factor(name: &str, random: &mut Random) -> Attributes {
    if random.once_in(2) { vec![float(name, random.pick(&[0.25, 0.5, 2.0, -1.0, 1.702]))] } else { Vec::new() }
}

fn flag(name: &str, random: &mut Random) -> Attributes {
    if random.once_in(2) { vec![int(name, 1)] } else { Vec::new() }
}

fn activation(random: &mut Random) -> &'static str {
    let names = ["Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Clip"];
    if random.once_in(20) { "Softplus" } else { random.pick(&names) }
}

/// A tensor of floats, and others that broadcast to it.
fn biased(count: usize, random: &mut Random) -> Inputs {
    let (ty, dims) = (random.float_type(), random.dims(1..4));
    (0..count)
        .map(|at| {
            let own = if at == 0 { dims.clone() } else { random.narrower(&dims[dims.len() - 1..]) };
            let ty = if random.once_in(16) { random.any_type() } else { ty };
            Some(random.tensor(ty, &own))
        })
        .collect()
}

pub fn root_mean_square(random: &mut Random) -> (Attributes, Inputs) {
    let (ty, dims) = (random.float_type(), random.dims(1..4));
    let mut attributes = factor("epsilon", random);
    let axis = if random.given() { random.axis(dims.len()) } else { -1 };
    attributes.push(int("axis", axis));
    let from = axis.rem_euclid(dims.len() as i64) as usize;
    let width = dims[from..].iter().product::<usize>() + usize::from(random.once_in(16));
    (attributes, vec![Some(random.tensor(ty, &dims)), Some(random.tensor(ty, &[width]))])
}

fn skip(centered: bool, random: &mut Random) -> (Attributes, Inputs) {
    let ty = random.float_type();
    let dims = [1 + random.below(2), 1 + random.below(3), 1 + random.below(5)];
    let skip = if random.once_in(3) { random.narrower(&dims[1..]) } else { dims.to_vec() };
    let attributes = vec![float("epsilon", random.pick(&[1e-5, 0.5]))];
    let row = |random: &mut Random| {
        let width = dims[2] + usize::from(random.once_in(30));
        Some(random.tensor(ty, &[width]))
    };
    let mut inputs = vec![Some(random.tensor(ty, &dims)), Some(random.tensor(ty, &skip)), row(random)];
    for _ in 0..=usize::from(centered) {
        let given = random.once_in(2);
        inputs.push(row(random).filter(|_| given));
    }
    (attributes, inputs)
}

fn embed(random: &mut Random) -> (Attributes, Inputs) {
    let ty = random.float_type();
    let (batch, steps, width) = (1 + random.below(3), 1 + random.below(4), 1 + random.below(4));
    let words = 2 + random.below(4);
    let far = i64::from(random.once_in(16));
    let segments = random.once_in(2);
    let row = |random: &mut Random| Some(random.tensor(ty, &[width]));
    let mut inputs = vec![
        Some(random.integers(&[batch, steps], 0, words as i64 + far)),
        segments.then(|| random.integers(&[batch, steps], 0, 2)),
        Some(random.tensor(ty, &[words, width])),
        Some(random.tensor(ty, &[steps, width])),
        segments.then(|| random.tensor(ty, &[2, width])),
        row(random),
        row(random),
    ];
    if random.once_in(2) {
        inputs.push(Some(integers(&[batch, steps], random)));
        if random.once_in(2) {
            inputs.push(Some(random.integers(&[batch, steps], 0, steps as i64)));
        }
    }
    (vec![float("epsilon", random.pick(&[1e-5, 0.5]))], inputs)
}

/// A mask of zeros and ones.
fn integers(dims: &[usize], random: &mut Random) -> Value {
    let list: Vec<i32> = (0..dims.iter().product::<usize>()).map(|_| random.below(2) as i32).collect();
    Value::new(dims.to_vec(), list).unwrap()
}

/// The attributes that attentions share.
fn head_attributes(heads: usize, random: &mut Random) -> Attributes {
    let mut attributes = vec![int("num_heads", heads as i64)];
    if random.once_in(3) {
        attributes.push(float("scale", random.pick(&[0.5, 1.0, 0.0])));
    }
    if random.once_in(3) {
        attributes.push(float("mask_filter_value", random.pick(&[-1.0, -10.0, f32::MIN])));
    }
    [attributes, flag("unidirectional", random)].concat()
}

/// A mask of keys, or the number of keys of each sequence.
fn mask(batch: usize, keys: usize, random: &mut Random) -> Option<Value> {
    match random.below(5) {
        0 | 1 => None,
        2 => Some(Value::new(vec![batch], (0..batch).map(|_| random.below(keys + 1) as i32).collect()).unwrap()),
        3 if random.once_in(6) => Some(integers(&[batch, keys, 1], random)),
        _ => Some(integers(&[batch, keys], random)),
    }
}

fn attention(random: &mut Random) -> (Attributes, Inputs) {
    let ty = if random.once_in(8) { random.float_type() } else { ElementType::F32 };
    let (batch, steps, heads, input) =
        (1 + random.below(2), 1 + random.below(4), 1 + random.below(2), 1 + random.below(4));
    let (size, value_size) = (1 + random.below(3), 1 + random.below(3));
    let mut attributes = head_attributes(heads, random);
    let sizes = if random.once_in(2) { [size, size, value_size] } else { [size; 3] }.map(|size| heads * size);
    if sizes[0] != sizes[2] || random.once_in(4) {
        attributes.push(ints("qkv_hidden_sizes", &sizes.map(|size| size as i64)));
    }
    let width = sizes.iter().sum::<usize>() + usize::from(random.once_in(24));
    let mut inputs = vec![Some(random.tensor(ty, &[batch, steps, input])), Some(small(ty, &[input, width], random))];
    inputs.push(random.given().then(|| small(ty, &[width], random)));
    inputs.push(mask(batch, steps, random));
    if random.once_in(3) {
        inputs.push(None);
        let dims: &[usize] = if random.once_in(2) { &[batch, heads, steps, steps] } else { &[1, 1, steps, steps] };
        inputs.push(Some(random.tensor(ty, dims)));
    }
    (attributes, inputs)
}

fn multi_head(random: &mut Random) -> (Attributes, Inputs) {
    let ty = if random.once_in(8) { random.float_type() } else { ElementType::F32 };
    let (batch, steps, keys) = (1 + random.below(2), 1 + random.below(4), 1 + random.below(4));
    let (heads, size, value_size) = (1 + random.below(2), 1 + random.below(3), 1 + random.below(3));
    let (width, out) = (heads * size, heads * value_size);
    let attributes = head_attributes(heads, random);
    let key_width = if random.once_in(20) { width + 1 } else { width };
    let mut inputs = vec![
        Some(random.tensor(ty, &[batch, steps, width])),
        Some(small(ty, &[batch, keys, key_width], random)),
        Some(small(ty, &[batch, keys, out], random)),
        random.once_in(2).then(|| small(ty, &[width + key_width + out], random)),
        mask(batch, keys, random),
    ];
    if random.once_in(3) {
        inputs.push(Some(random.tensor(ty, &[1, heads, steps, keys])));
    }
    (attributes, inputs)
}

/// A tensor of finite numbers: a weight that is 0 on one side alone makes a NaN of an infinite value there.
fn small(ty: ElementType, dims: &[usize], random: &mut Random) -> Value {
    let count = dims.iter().product::<usize>();
    let numbers: Vec<f64> = (0..count).map(|_| (random.below(17) as f64 - 8.0) / 8.0).collect();
    crate::builder::tensor(ty, dims, &numbers)
}
