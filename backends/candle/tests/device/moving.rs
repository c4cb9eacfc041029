//! Random nodes of operators that move elements.

use graphpool_candle::{ElementType, Value};

use crate::builder::{Random, float, int, ints, string};
use crate::cases::{Attributes, Inputs, axes, list};

/// The values of a list that is an attribute before an opset and an input from it on.
fn parameter(name: &str, numbers: &[i64], since: i64, opset: i64) -> (Attributes, Inputs) {
    if opset < since { (vec![ints(name, numbers)], Vec::new()) } else { (Vec::new(), vec![list(numbers)]) }
}

/// Attributes, inputs and the number of outputs; `None` for an operator that is not here.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn case(name: &str, opset: i64, random: &mut Random) -> Option<(Attributes, Inputs, usize)> {
    let (ty, dims) = (random.any_type(), random.dims(0..5));
    let rank = dims.len();
    let data = Some(random.tensor(ty, &dims));
    let mut count = 1;
    let (attributes, inputs): (Attributes, Inputs) = match name {
        "Transpose" => {
            let mut order: Vec<i64> = (0..rank as i64).collect();
            for at in (1..rank).rev() {
                order.swap(at, random.below(at + 1));
            }
            if random.once_in(16) {
                order.push(0);
            }
            (if random.given() { vec![ints("perm", &order)] } else { Vec::new() }, vec![data])
        }
        "Concat" => {
            let at = random.axis(rank);
            let mut inputs = vec![data];
            for _ in 0..random.below(3) {
                let mut own = dims.clone();
                if let Some(dim) = own.get_mut(at.rem_euclid(rank.max(1) as i64) as usize) {
                    *dim = random.dim();
                }
                let ty = if random.once_in(20) { random.any_type() } else { ty };
                inputs.push(Some(random.tensor(ty, &own)));
            }
            (vec![int("axis", at)], inputs)
        }
        "Split" => {
            let at = random.axis(rank);
            count = 1 + random.below(3);
            let dim = dims.get(at.rem_euclid(rank.max(1) as i64) as usize).copied().unwrap_or(0);
            let mut sizes = vec![0_i64; count];
            for _ in 0..dim {
                sizes[random.below(count)] += 1;
            }
            if random.once_in(12) {
                sizes[0] += 1;
            }
            let mut attributes = vec![int("axis", at)];
            let mut inputs = vec![data];
            if random.once_in(2) {
                let (more, list) = parameter("split", &sizes, 13, opset);
                attributes.extend(more);
                inputs.extend(list);
            } else if opset >= 18 {
                attributes.push(int("num_outputs", count as i64));
            }
            (attributes, inputs)
        }
        "Tile" => {
            let mut repeats: Vec<i64> = (0..rank).map(|_| random.below(4) as i64).collect();
            if random.once_in(16) {
                repeats.push(1);
            }
            (Vec::new(), vec![data, list(&repeats)])
        }
        "Expand" => {
            let own = random.narrower(&dims);
            let mut wanted: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
            if random.once_in(16) {
                wanted.push(random.pick(&[-1, 2, i64::MIN, 1 << 40]));
            }
            (Vec::new(), vec![Some(random.tensor(ty, &own)), list(&wanted)])
        }
        "DepthToSpace" | "SpaceToDepth" => {
            let block = 1 + random.below(3);
            let mut mode = if random.once_in(2) { vec![string("mode", random.pick(&["DCR", "CRD"]))] } else { vec![] };
            mode.retain(|_| if name == "DepthToSpace" { opset >= 11 } else { opset >= 28 });
            mode.push(int("blocksize", block as i64));
            let (c, h, w) = (1 + random.below(3), random.dim(), random.dim());
            let dims = match name {
                "DepthToSpace" => [1, c * block * block, h, w],
                _ => [1, c, h * block, w * block],
            };
            let dims = if random.once_in(12) { dims[..3].to_vec() } else { dims.to_vec() };
            (mode, vec![Some(random.tensor(ty, &dims))])
        }
        "Gather" => {
            let at = random.axis(rank);
            let dim = dims.get(at.rem_euclid(rank.max(1) as i64) as usize).copied().unwrap_or(0) as i64;
            let own = random.dims(0..3);
            let far = i64::from(random.once_in(10));
            (vec![int("axis", at)], vec![data, Some(random.integers(&own, -dim - far, dim + far))])
        }
        "GatherElements" | "Scatter" | "ScatterElements" => {
            let at = random.axis(rank);
            let dim = dims.get(at.rem_euclid(rank.max(1) as i64) as usize).copied().unwrap_or(0) as i64;
            let own: Vec<usize> = dims.iter().map(|&dim| dim.min(1 + random.below(5))).collect();
            let far = i64::from(random.once_in(10));
            let indices = random.integers(&own, -dim - far, dim + far);
            let mut attributes = vec![int("axis", at)];
            let mut inputs = vec![data, Some(indices)];
            if name != "GatherElements" {
                inputs.push(Some(random.tensor(ty, &own)));
                if name == "ScatterElements" && opset >= 16 && random.once_in(3) {
                    attributes.push(string("reduction", random.pick(&["none", "add", "mul", "max", "min"])));
                }
            }
            (attributes, inputs)
        }
        "GatherND" | "ScatterND" => {
            let depth = 1 + random.below(rank.max(1));
            let own = random.dims(0..3);
            let smallest = dims.iter().take(depth).min().copied().unwrap_or(0) as i64;
            let far = i64::from(random.once_in(10));
            let index_dims = [own.as_slice(), &[depth]].concat();
            let indices = Some(random.integers(&index_dims, -smallest - far, smallest + far));
            let mut inputs = vec![data, indices];
            if name == "ScatterND" {
                let updates = [own.as_slice(), dims.get(depth..).unwrap_or_default()].concat();
                inputs.push(Some(random.tensor(ty, &updates)));
            }
            let batched = name == "GatherND" && opset >= 12 && random.once_in(4);
            (if batched { vec![int("batch_dims", 1)] } else { Vec::new() }, inputs)
        }
        "TensorScatter" => {
            let dims: Vec<usize> = [&[1 + random.below(3)], &random.dims(1..4)[..]].concat();
            let at = 1 + random.below(dims.len() - 1);
            let mut own = dims.clone();
            own[at] = random.below(dims[at] + 1);
            let far = i64::from(random.once_in(12));
            let starts = (0..dims[0]).map(|_| random.below(dims[at] - own[at] + 1) as i64 + far).collect::<Vec<_>>();
            let mut attributes = vec![int("axis", at as i64)];
            let mut starts = Value::new(vec![dims[0]], starts).unwrap();
            if random.once_in(2) {
                attributes.push(string("mode", "circular"));
                let list = (0..dims[0]).map(|_| random.below(9) as i64).collect();
                starts = Value::new(vec![dims[0]], list).unwrap();
            }
            let update = Some(random.tensor(ty, &own));
            (attributes, vec![Some(random.tensor(ty, &dims)), update, random.given().then_some(starts)])
        }
        "Compress" => {
            let attributes = if random.once_in(2) { vec![int("axis", random.axis(rank))] } else { Vec::new() };
            let len = random.pick(&[1, 2, 3, 9]);
            let condition = random.tensor(ElementType::Bool, &[len]);
            (attributes, vec![data, Some(condition)])
        }
        "ReverseSequence" => {
            let dims = [dims.as_slice(), &[3, 2]].concat();
            let time = i64::from(random.once_in(2));
            let batch = dims[(1 - time) as usize];
            let lens = random.integers(&[batch], 0, dims[time as usize] as i64 + 1);
            let lens = Value::new(vec![batch], to_longs(&lens)).unwrap();
            (
                vec![int("time_axis", time), int("batch_axis", 1 - time)],
                vec![Some(random.tensor(ty, &dims)), Some(lens)],
            )
        }
        "Pad" => pad(opset, ty, &dims, random),
        "Trilu" => {
            let k = random.given().then(|| Value::scalar(random.below(9) as i64 - 4).unwrap());
            (vec![int("upper", random.below(2) as i64)], vec![data, k])
        }
        "EyeLike" => {
            let mut attributes = vec![int("k", random.below(5) as i64 - 2)];
            if random.once_in(2) {
                attributes.push(int("dtype", random.pick(&[1, 7, 10, 11])));
            }
            (attributes, vec![data])
        }
        "OneHot" => {
            let depth = Value::scalar(1 + random.below(4) as i64).unwrap();
            let indices = random.integers(&dims, -5, 5);
            let len = if random.once_in(16) { 3 } else { 2 };
            let values = random.tensor(ty, &[len]);
            let axis = if random.given() { vec![int("axis", random.axis(rank + 1))] } else { Vec::new() };
            (axis, vec![Some(indices), Some(depth), Some(values)])
        }
        "CenterCropPad" => {
            let wanted: Vec<i64> = (0..rank).map(|_| random.dim() as i64).collect();
            (Vec::new(), vec![data, list(&wanted)])
        }
        "Upsample" | "Resize" => resize(name, opset, ty, random),
        "Reshape" => {
            let mut wanted: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
            if random.once_in(2) {
                wanted = vec![random.pick(&[-1, 0, 1]), -1];
            } else if let Some(dim) = wanted.first_mut() {
                *dim = random.pick(&[-1, 0, *dim, *dim + 1, -2]);
            }
            let (mut attributes, shape) = parameter("shape", &wanted, 5, opset);
            if opset >= 14 && random.once_in(3) {
                attributes.push(int("allowzero", 1));
            }
            (attributes, [vec![data], shape].concat())
        }
        "Flatten" => (if random.given() { vec![int("axis", random.axis(rank))] } else { Vec::new() }, vec![data]),
        "Squeeze" | "Unsqueeze" => {
            let dims: Vec<usize> = dims.iter().map(|&dim| if random.once_in(2) { 1 } else { dim }).collect();
            let axes: Vec<i64> = match name {
                "Squeeze" => (0..rank as i64).filter(|&at| dims[at as usize] == 1 || random.once_in(20)).collect(),
                _ => axes(rank + 1, random),
            };
            let (attributes, axes) = parameter("axes", &axes, 13, opset);
            let data = Some(random.tensor(ty, &dims));
            if random.once_in(6) { (Vec::new(), vec![data]) } else { (attributes, [vec![data], axes].concat()) }
        }
        "Dropout" => {
            count = 1 + random.below(2);
            let mode = random.once_in(4).then(|| random.tensor(ElementType::Bool, &[]));
            (Vec::new(), if opset < 12 { vec![data] } else { vec![data, None, mode] })
        }
        "Slice" => slice(opset, ty, &dims, random),
        _ => return None,
    };
    Some((attributes, inputs, count))
}

fn to_longs(value: &Value) -> Vec<i64> {
    crate::builder::numbers(value).into_iter().map(|number| number as i64).collect()
}

fn pad(opset: i64, ty: ElementType, dims: &[usize], random: &mut Random) -> (Attributes, Inputs) {
    let mode = random.pick(&["constant", "edge", "reflect", "constant", if opset >= 19 { "wrap" } else { "edge" }]);
    let pads: Vec<i64> = (0..2 * dims.len()).map(|_| random.pick(&[0, 1, 2, -1, 0, 3])).collect();
    let (mut attributes, pads) = parameter("pads", &pads, 11, opset);
    attributes.push(string("mode", mode));
    let mut inputs = vec![Some(random.tensor(ty, dims))];
    inputs.extend(pads);
    if opset < 11 {
        if random.once_in(2) {
            attributes.push(float("value", random.pick(&[0.0, 1.5, f32::NAN])));
        }
    } else if random.once_in(2) {
        let ty = if random.once_in(12) { random.any_type() } else { ty };
        let dims: &[usize] = if random.once_in(12) { &[2] } else { &[] };
        inputs.push(Some(random.tensor(ty, dims)));
    }
    (attributes, inputs)
}

fn resize(name: &str, opset: i64, ty: ElementType, random: &mut Random) -> (Attributes, Inputs) {
    let dims = random.dims(1..5);
    let mode = random.pick(&["nearest", "nearest", "linear", "linear", if opset < 11 { "linear" } else { "cubic" }]);
    let mut attributes = vec![string("mode", mode)];
    // Interpolation is of floats alone.
    let ty = if mode == "nearest" || random.once_in(12) { ty } else { random.float_type() };
    let data = Some(random.tensor(ty, &dims));
    let scales: Vec<f32> = dims.iter().map(|_| random.pick(&[1.0, 2.0, 0.5, 1.5, 3.0, 0.7])).collect();
    let scales = Value::new(vec![scales.len()], scales).unwrap();
    if name == "Upsample" && opset < 9 {
        let list = scales.elements::<f32>().unwrap().to_vec();
        let name = Some("scales".to_owned());
        attributes.push(graphpool_candle::messages::AttributeProto {
            name,
            floats: list,
            r#type: Some(6),
            ..Default::default()
        });
        return (attributes, vec![data]);
    }
    if opset < 11 {
        return (attributes, vec![data, Some(scales)]);
    }
    let transforms = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_crop_and_resize"];
    attributes.push(string("coordinate_transformation_mode", random.pick(&transforms)));
    let rounding = random.pick(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]);
    attributes.push(string("nearest_mode", rounding));
    if mode == "cubic" {
        if random.once_in(2) {
            attributes.push(float("cubic_coeff_a", random.pick(&[-0.5, -0.75, 0.0])));
        }
        if random.once_in(2) {
            attributes.push(int("exclude_outside", 1));
        }
    }
    if opset >= 18 && random.once_in(3) {
        attributes.push(int("antialias", 1));
    }
    let mut roi = None;
    if random.once_in(3) {
        attributes.push(float("extrapolation_value", random.pick(&[0.0, -1.5, f32::NAN])));
        let ends: Vec<f32> = (0..2 * dims.len()).map(|_| random.pick(&[0.0, 0.25, 0.5, 1.0, 1.5, -0.5])).collect();
        roi = Some(Value::new(vec![ends.len()], ends).unwrap());
    }
    if random.once_in(2) {
        return (attributes, vec![data, roi, Some(scales)]);
    }
    if opset >= 18 && random.once_in(3) {
        let policies = ["stretch", "not_larger", "not_smaller"];
        attributes.push(string("keep_aspect_ratio_policy", random.pick(&policies)));
    }
    let sizes: Vec<i64> = dims.iter().map(|_| 1 + random.below(6) as i64).collect();
    (attributes, vec![data, roi, None, list(&sizes)])
}

fn slice(opset: i64, ty: ElementType, dims: &[usize], random: &mut Random) -> (Attributes, Inputs) {
    let named = axes(dims.len(), random);
    let far = [0, 1, 2, -1, -2, 5, i64::MAX, i64::MIN, -9];
    let mut bounds = |steps: &[i64]| -> Vec<i64> { named.iter().map(|_| random.pick(steps)).collect() };
    let (starts, ends, steps) = (bounds(&far), bounds(&far), bounds(&[1, 1, 2, -1, -2, 3, i64::MIN, i64::MAX, 0]));
    let data = Some(random.tensor(ty, dims));
    if opset < 10 {
        let lists = [("starts", &starts), ("ends", &ends), ("axes", &named)];
        return (lists.iter().map(|(name, list)| ints(name, list)).collect(), vec![data]);
    }
    let mut inputs = vec![data, list(&starts), list(&ends), list(&named)];
    if random.once_in(2) {
        inputs.push(list(&steps));
    }
    (Vec::new(), inputs)
}
