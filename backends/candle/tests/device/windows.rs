//! Random nodes of convolutions, pools and matrix products.

use graphpool_candle::ElementType;

use crate::builder::{Random, int, ints, numbers, string, tensor};
use crate::cases::{Attributes, Inputs, list};

/// Attributes of a window over `rank` dimensions.
fn window(rank: usize, random: &mut Random) -> Attributes {
    let mut attributes = Vec::new();
    let mut each = |name: &str, numbers: &[i64], count: usize, random: &mut Random| {
        if random.once_in(2) {
            let count = if random.once_in(40) { count + 1 } else { count };
            let same = random.once_in(2);
            let first = random.pick(numbers);
            let list: Vec<i64> = (0..count).map(|_| if same { first } else { random.pick(numbers) }).collect();
            attributes.push(ints(name, &list));
        }
    };
    each("strides", &[1, 1, 2, 3], rank, random);
    each("dilations", &[1, 1, 1, 2, 3], rank, random);
    let explicit = random.once_in(2);
    if explicit {
        each("pads", &[0, 1, 1, 2, 3], 2 * rank, random);
    } else if random.given() {
        let pad = random.pick(&["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "OTHER"]);
        attributes.push(string("auto_pad", pad));
    }
    attributes
}

/// Batch, channels and spatial dimensions.
fn planes(channels: usize, random: &mut Random) -> Vec<usize> {
    let rank = random.pick(&[1, 2, 2, 2, 3, 3, 1, 4]);
    let mut dims = vec![if random.once_in(16) { 0 } else { 1 + random.below(2) }, channels];
    dims.extend((0..rank).map(|_| if random.once_in(30) { 0 } else { 1 + random.below(7) }));
    dims
}

pub fn convolution(random: &mut Random) -> (Attributes, Inputs) {
    let (groups, depth, each) = (1 + random.below(3), 1 + random.below(3), 1 + random.below(3));
    let dims = planes(groups * depth, random);
    let rank = dims.len() - 2;
    let mut attributes = window(rank, random);
    if groups > 1 || random.once_in(3) {
        attributes.push(int("group", if random.once_in(20) { 2 } else { groups as i64 }));
    }
    let mut filters = vec![groups * each, depth];
    filters.extend((0..rank).map(|_| 1 + random.below(3)));
    operands(&dims, &filters, groups * each, attributes, random)
}

pub fn transposed(random: &mut Random) -> (Attributes, Inputs) {
    let (groups, depth, each) = (1 + random.below(3), 1 + random.below(3), 1 + random.below(3));
    let dims = planes(groups * depth, random);
    let rank = dims.len() - 2;
    let mut attributes = window(rank, random);
    if groups > 1 {
        attributes.push(int("group", groups as i64));
    }
    if random.once_in(3) {
        let list: Vec<i64> = (0..rank).map(|_| random.below(3) as i64).collect();
        attributes.push(ints("output_padding", &list));
    }
    if random.once_in(4) {
        let list: Vec<i64> = (0..rank).map(|_| 1 + random.below(12) as i64).collect();
        attributes.push(ints("output_shape", &list));
    }
    let mut filters = vec![groups * depth, each];
    filters.extend((0..rank).map(|_| 1 + random.below(3)));
    let (attributes, mut inputs) = operands(&dims, &filters, groups * each, attributes, random);
    // The form multiplies filters by zeros, so they are finite here.
    if let Some(filters) = &mut inputs[1] {
        let finite = |number: f64| if number.is_finite() { number } else { 1.0 };
        let numbers: Vec<f64> = numbers(filters).into_iter().map(finite).collect();
        if [ElementType::F32, ElementType::F64, ElementType::F16, ElementType::Bf16].contains(&filters.ty()) {
            *filters = tensor(filters.ty(), filters.dims(), &numbers);
        }
    }
    (attributes, inputs)
}

fn operands(
    dims: &[usize],
    filters: &[usize],
    outputs: usize,
    attributes: Attributes,
    random: &mut Random,
) -> (Attributes, Inputs) {
    let ty = random.float_type();
    let other = |random: &mut Random| if random.once_in(24) { random.any_type() } else { ty };
    let (filter_type, bias_type) = (other(random), other(random));
    let mut inputs = vec![Some(random.tensor(ty, dims)), Some(random.tensor(filter_type, filters))];
    if random.once_in(2) {
        let outputs = if random.once_in(16) { outputs + 1 } else { outputs };
        inputs.push(Some(random.tensor(bias_type, &[outputs])));
    }
    (attributes, inputs)
}

/// An input with one to three spatial dimensions, and a grid of points in it and beside it.
pub fn grid(random: &mut Random) -> (Attributes, Inputs) {
    let mut attributes = Vec::new();
    if random.given() {
        let modes = ["linear", "nearest", "cubic", "bilinear", "bicubic"];
        let mode = if random.once_in(20) { "spline" } else { random.pick(&modes) };
        attributes.push(string("mode", mode));
    }
    if random.given() {
        attributes.push(string("padding_mode", random.pick(&["zeros", "border", "reflection"])));
    }
    if random.once_in(2) {
        attributes.push(int("align_corners", 1));
    }
    let (batch, channels, rank) = (1 + random.below(2), 1 + random.below(3), random.pick(&[1, 2, 2, 3]));
    let mut dims = vec![batch, channels];
    dims.extend((0..rank).map(|_| if random.once_in(40) { 0 } else { 1 + random.below(5) }));
    let mut points = vec![if random.once_in(20) { batch + 1 } else { batch }];
    points.extend((0..rank).map(|_| random.dim()));
    points.push(if random.once_in(30) { 4 } else { rank });
    let ty = random.float_type();
    // In eighths of a dimension, up to three dimensions beyond its ends.
    let step = random.pick(&[1.0, 1.0 / 8.0, 1.0 / 32.0]);
    let numbers = numbers(&random.tensor(ElementType::F32, &points)).into_iter().map(|x| x * step).collect::<Vec<_>>();
    let grid = tensor(if random.once_in(6) { random.float_type() } else { ElementType::F32 }, &points, &numbers);
    (attributes, vec![Some(random.tensor(ty, &dims)), Some(grid)])
}

/// Affine transformations, and the dimensions of an input.
pub fn affine(random: &mut Random) -> (Attributes, Inputs) {
    let (batch, rank) = (1 + random.below(2), random.pick(&[2, 2, 3]));
    let mut size = vec![batch as i64, 1];
    size.extend((0..rank).map(|_| random.dim() as i64));
    if random.once_in(16) {
        size.push(random.pick(&[2, -1]));
    }
    let attributes = if random.once_in(2) { vec![int("align_corners", 1)] } else { Vec::new() };
    let ty = if random.once_in(12) { random.any_type() } else { random.float_type() };
    (attributes, vec![Some(random.tensor(ty, &[batch, rank, rank + 1])), list(&size)])
}

/// The attribute p of a norm.
pub fn power(random: &mut Random) -> Attributes {
    if random.given() { vec![int("p", random.pick(&[1, 2, 3, 7]))] } else { Vec::new() }
}

pub fn pool(name: &str, random: &mut Random) -> (Attributes, Inputs) {
    let channels = 1 + random.below(2);
    let dims = planes(channels, random);
    let rank = dims.len() - 2;
    let mut attributes = window(rank, random);
    if !random.once_in(30) {
        let list: Vec<i64> = (0..rank).map(|_| random.pick(&[1, 2, 2, 3, 3, 5])).collect();
        attributes.push(ints("kernel_shape", &list));
    }
    if random.once_in(3) {
        attributes.push(int("ceil_mode", 1));
    }
    match name {
        "AveragePool" if random.once_in(2) => attributes.push(int("count_include_pad", 1)),
        "LpPool" => attributes.extend(power(random)),
        _ => {}
    }
    let ty = if random.once_in(12) { random.any_type() } else { random.float_type() };
    (attributes, vec![Some(random.tensor(ty, &dims))])
}

pub fn matrices(random: &mut Random) -> Inputs {
    let (batch, ty) = (random.dims(0..3), random.any_type());
    let [m, k, n] = [0; 3].map(|_: usize| random.dim());
    let mut operand = |rows: usize, columns: usize, vector: usize| {
        let mut dims = random.narrower(&batch);
        dims.extend([rows, if random.once_in(24) { columns + 1 } else { columns }]);
        if random.once_in(5) {
            dims = vec![vector];
        }
        if random.once_in(40) {
            dims.clear();
        }
        let ty = if random.once_in(20) { random.any_type() } else { ty };
        Some(random.tensor(ty, &dims))
    };
    vec![operand(m, k, k), operand(k, n, k)]
}

/// Operands of Gemm, which fit where the attributes transpose both or none and k is m and n.
pub fn gemm(random: &mut Random) -> Inputs {
    let (ty, m) = (random.any_type(), random.dim());
    let [k, n] = if random.once_in(2) { [m, m] } else { [random.dim(), random.dim()] };
    let mut inputs = vec![Some(random.tensor(ty, &[m, k])), Some(random.tensor(ty, &[k, n]))];
    if random.given() {
        let dims = random.narrower(&[m, n]);
        let ty = if random.once_in(8) { random.any_type() } else { ty };
        inputs.push(Some(random.tensor(ty, &dims)));
    }
    inputs
}

/// Windows that reach far past their input.
pub fn wide(random: &mut Random) -> (Attributes, Inputs) {
    let far = [1 << 24, (1 << 24) - 1, 1 << 20, 1000];
    let mut attributes = vec![ints("kernel_shape", &[random.pick(&[2, 3])])];
    attributes.push(ints("strides", &[random.pick(&[1, 2, far[0], far[3]])]));
    attributes.push(ints("dilations", &[random.pick(&far)]));
    attributes.push(string("auto_pad", random.pick(&["SAME_UPPER", "SAME_LOWER", "VALID"])));
    (attributes, vec![Some(random.tensor(ElementType::F32, &[1, 1, 5]))])
}
