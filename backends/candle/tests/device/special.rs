//! Operators whose results depend on special numbers: powers, remainders, orders and interpolation.

use candle_core::Device;
use graphpool::backend::{ComputeControl, Error, ErrorKind};
use graphpool_candle::{CandleBackend, ElementType, Value};

use crate::builder::{Case, Random, float, floats, int, longs, node, numbers, string, tensor};

/// Every number of the list with every other.
fn pairs(numbers: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let all = || numbers.iter().flat_map(|&a| numbers.iter().map(move |&b| (a, b)));
    (all().map(|(a, _)| a).collect(), all().map(|(_, b)| b).collect())
}

/// Fails unless host and device agree on the results and on the signs of those that are 0.
#[track_caller]
fn agree_with_signs(op: &str, opset: i64, flags: &[(&str, i64)], values: [Value; 2]) {
    let attributes = flags.iter().map(|&(name, flag)| int(name, flag)).collect();
    let nodes = vec![node(op, "a b", "y", attributes), node("Reciprocal", "y", "sign", vec![])];
    let [a, b] = values;
    let values = vec![("a".to_owned(), a, false), ("b".to_owned(), b, false)];
    let outputs = vec!["y".to_owned(), "sign".to_owned()];
    Case { opset, nodes, values, outputs, ..Case::default() }.agree();
}

/// Fails unless host and device give the same bits, but for those of a NaN.
#[track_caller]
fn agree_exactly(op: &str, opset: i64, flags: &[(&str, i64)], values: [Value; 2]) {
    let attributes = flags.iter().map(|&(name, flag)| int(name, flag)).collect();
    let case = Case::one(op, opset, attributes, values.into_iter().map(Some).collect(), 1);
    let control = ComputeControl::default();
    let (wanted, ty) = case.on_host(0, &control);
    let found = case.run(&CandleBackend::with_device(Device::Cpu), 0, ty, &control);
    let bits = |value: Result<Value, Error>| -> Result<Vec<u64>, ErrorKind> {
        let value = value.map_err(|error| error.kind())?;
        Ok(numbers(&value).into_iter().map(|x| if x.is_nan() { 1 } else { x.to_bits() }).collect())
    };
    assert_eq!(bits(wanted), bits(found), "{case:?}");
}

#[test]
fn powers_of_special_numbers_agree() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let numbers = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 2.5, -2.5, 1e10, -1e10, inf, -inf, nan];
    let (bases, exponents) = pairs(&numbers);
    for ty in [ElementType::F32, ElementType::F64, ElementType::F16, ElementType::Bf16] {
        let dims = [bases.len()];
        for exponent_ty in [ty, ElementType::F32, ElementType::F64] {
            agree_with_signs("Pow", 15, &[], [tensor(ty, &dims, &bases), tensor(exponent_ty, &dims, &exponents)]);
        }
        // Integers have no NaN and no infinity.
        let whole: Vec<f64> = exponents.iter().map(|&x| if x.is_finite() { x.trunc() } else { 3.0 }).collect();
        for exponent_ty in [ElementType::I64, ElementType::I32] {
            let whole: Vec<f64> = whole.iter().map(|x| x.clamp(-1e9, 1e9)).collect();
            agree_with_signs("Pow", 15, &[], [tensor(ty, &dims, &bases), tensor(exponent_ty, &dims, &whole)]);
        }
        // Powers of a row by a column.
        let (row, column) = (tensor(ty, &[numbers.len()], &numbers), tensor(ty, &[numbers.len(), 1], &numbers));
        agree_with_signs("Pow", 15, &[], [row, column]);
    }
    // An exponent next to an odd integer is none.
    let near = [(-1.0_f64).next_up(), (-1.0_f64).next_down(), 1.0_f64.next_down(), 3.0_f64.next_up()];
    let bases = [-0.0, -2.0, f64::NEG_INFINITY, -0.0];
    agree_with_signs("Pow", 15, &[], [bases, near].map(|numbers| tensor(ElementType::F64, &[4], &numbers)));
}

#[test]
fn remainders_of_special_numbers_agree() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let small = [0.0, -0.0, 1.0, -1.0, 0.75, -0.75, 7.5, -7.5, 3.0, -3.0, 0.1, -0.1, 1e6, -1e6, inf, -inf, nan];
    let wide = [0.0, 1e-40, -1e30, 3.0, inf, nan];
    // Quotients with more digits than one division has.
    let long = [1_234_567.0, 0.001, -3e7, 0.1, -7e-4];
    for numbers in [small.as_slice(), wide.as_slice(), long.as_slice()] {
        let (a, b) = pairs(numbers);
        for ty in [ElementType::F32, ElementType::F16, ElementType::Bf16, ElementType::F64] {
            let values = || [&a, &b].map(|numbers| tensor(ty, &[a.len()], numbers));
            agree_exactly("Mod", 13, &[("fmod", 1)], values());
            agree_exactly("Mod", 13, &[], values());
            agree_exactly("Mod", 28, &[("fmod", 1)], values());
            agree_exactly("Mod", 28, &[], values());
        }
    }
    let mut random = Random(5);
    for _ in 0..20 {
        let mut list = || (0..500).map(|_| (random.next() as i32) as f32 / 1e5).collect::<Vec<_>>();
        let (a, b) = (floats(&[500], &list()), floats(&[500], &list()));
        agree_exactly("Mod", 28, &[], [a.clone(), b.clone()]);
        agree_exactly("Mod", 13, &[("fmod", 1)], [a, b]);
    }
}

#[test]
fn the_first_of_long_rows_agree() {
    // More pairs than are compared: the elements are taken one after the other, or by the host.
    let count = 3000;
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let mut rows: Vec<f32> = (0..3 * count).map(|at: usize| (at * 7919 % 500) as f32).collect();
    rows[5..10].copy_from_slice(&[nan, inf, nan, -inf, nan]);
    rows[count..2 * count].fill(-inf);
    rows[count + 7] = -0.0;
    rows[count + 9] = 0.0;
    let x = floats(&[3, count], &rows);
    for (k, largest) in [(1, 1), (3, 1), (16, 1), (17, 1), (3, 0)] {
        let case =
            Case::one("TopK", 13, vec![int("largest", largest)], vec![Some(x.clone()), Some(longs(&[1], &[k]))], 2);
        case.agree();
        assert!(k > 16 || largest == 0 || case.runs_on_device(), "{k} of {count}");
    }
    // Rows of infinities and of equal elements, all of which are compared.
    let x = floats(&[4, 3], &[-inf, -inf, -inf, 1.0, 1.0, 1.0, nan, nan, -inf, -0.0, 0.0, nan]);
    for largest in [0, 1] {
        for k in 0..=3 {
            let inputs = vec![Some(x.clone()), Some(longs(&[1], &[k]))];
            let mut case = Case::one("TopK", 13, vec![int("largest", largest)], inputs, 2);
            case.nodes.push(node("Reciprocal", "y0", "sign", vec![]));
            case.outputs.push("sign".to_owned());
            case.agree();
        }
    }
}

#[test]
fn an_infinite_element_stays_where_it_is_when_resized() {
    let x = floats(&[1, 6], &[f32::INFINITY, 1.0, -2.0, f32::NAN, 5.0, 3.0]);
    let modes = [("linear", 0), ("cubic", 0), ("linear", 1), ("cubic", 1)];
    for transform in ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"] {
        for ((mode, antialias), size) in modes.iter().flat_map(|&mode| [1, 2, 3, 6, 11, 12].map(|size| (mode, size))) {
            let attributes = vec![
                string("mode", mode),
                int("antialias", antialias),
                string("coordinate_transformation_mode", transform),
            ];
            let case = Case::one(
                "Resize",
                19,
                attributes,
                vec![Some(x.clone()), None, None, Some(longs(&[2], &[1, size]))],
                1,
            );
            case.agree();
        }
    }
    // A filter that is wider than the device takes is left to the host.
    let x = floats(&[100], &[1.5; 100]);
    let attributes = vec![string("mode", "linear"), int("antialias", 1)];
    let case = Case::one("Resize", 19, attributes, vec![Some(x), None, None, Some(longs(&[1], &[2]))], 1);
    case.agree();
    assert!(!case.runs_on_device());
}

#[test]
fn coordinates_far_outside_of_the_input_agree() {
    let x = floats(&[1, 2, 3, 2], &[1.0, 2.0, 3.0, f32::INFINITY, 5.0, 6.0, -1.0, -2.0, -3.0, -4.0, f32::NAN, -6.0]);
    let numbers = [0.0, 1.0, -1.0, 0.5, 9.25, -7.0, 1e6, -1e6, 1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let points: Vec<f32> = numbers.iter().flat_map(|&a| numbers.iter().flat_map(move |&b| [a, b])).collect();
    let grid = floats(&[1, numbers.len(), numbers.len(), 2], &points);
    for mode in ["linear", "nearest", "cubic"] {
        for padding in ["zeros", "border", "reflection"] {
            for align in [0, 1] {
                let attributes =
                    vec![string("mode", mode), string("padding_mode", padding), int("align_corners", align)];
                let case = Case::one("GridSample", 20, attributes, vec![Some(x.clone()), Some(grid.clone())], 1);
                case.agree();
                assert!(case.runs_on_device(), "{mode} {padding} {align}");
            }
        }
    }
}

#[test]
fn a_scale_of_zero_or_a_mask_of_all_keys_agrees() {
    let q = floats(&[1, 2, 2], &[1.0, -2.0, 3.0, 0.5]);
    for masked in [-10000.0, f32::NEG_INFINITY, f32::MIN, 0.0] {
        let attributes = vec![int("num_heads", 2), float("mask_filter_value", masked), int("unidirectional", 1)];
        let mask = Value::new(vec![1, 2], vec![0_i32, 0]).unwrap();
        let inputs = vec![Some(q.clone()), Some(q.clone()), Some(q.clone()), None, Some(mask)];
        Case::one("MultiHeadAttention", 17, attributes, inputs, 1).in_domain("com.microsoft").agree();
    }
}

#[test]
fn a_bias_is_scaled_in_the_type_of_the_product() {
    let (a, b) = (tensor(ElementType::F64, &[1, 1], &[1.0]), tensor(ElementType::F64, &[1, 1], &[1.0]));
    // The product has more digits than an F32.
    let bias = floats(&[], &[7.25]);
    let attributes = vec![float("beta", 1.702)];
    Case::one("Gemm", 13, attributes, vec![Some(a), Some(b), Some(bias)], 1).agree();
}
