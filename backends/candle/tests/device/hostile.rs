//! Models that ask for too much memory or time, and numbers at the ends of their range.

use std::time::{Duration, Instant};

use candle_core::Device;
use graphpool::backend::{CancelToken, ComputeControl, ErrorKind};
use graphpool_candle::messages::GraphProto;
use graphpool_candle::{CandleBackend, ElementType, Value};

use crate::builder::{Case, Random, float, floats, info, int, ints, longs, node, string, subgraph, tensor};

/// An If whose branches capture a value; some branches fail.
pub fn branches(opset: i64, random: &mut Random) -> Case {
    let ops = ["Relu", "Neg", "Exp", "Shape", "Transpose", "Not"];
    let mut branch = |name: &str| {
        let op = random.pick(&ops);
        let nodes = vec![node(op, "x", "inner", vec![]), node("Identity", "inner", "out", vec![])];
        let graph = GraphProto { node: nodes, output: vec![info("out", ElementType::F32)], ..GraphProto::default() };
        subgraph(name, graph)
    };
    let attributes = vec![branch("then_branch"), branch("else_branch")];
    let ty = if random.once_in(12) { ElementType::U8 } else { ElementType::Bool };
    let condition_dims: &[usize] = if random.once_in(12) { &[2] } else { &[] };
    let condition = random.tensor(ty, condition_dims);
    let dims = random.dims(0..4);
    let (ty, before) = (random.float_type(), random.pick(&["Abs", "Identity"]));
    let values = vec![("c".to_owned(), condition, false), ("v".to_owned(), random.tensor(ty, &dims), false)];
    let nodes = vec![node(before, "v", "x", vec![]), node("If", "c", "y", attributes)];
    Case { opset, nodes, values, outputs: vec!["y".to_owned()], ..Case::default() }
}

fn device() -> CandleBackend {
    CandleBackend::with_device(Device::Cpu)
}

/// Fails unless host and device give an error of this kind.
#[track_caller]
fn both_fail(case: &Case, kind: ErrorKind, control: &ComputeControl) {
    for backend in [CandleBackend::new(), device()] {
        let error = case.run(&backend, 0, ElementType::F32, control).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
    }
}

fn one(op: &str, attributes: Vec<graphpool_candle::messages::AttributeProto>, inputs: Vec<Value>) -> Case {
    Case::one(op, 17, attributes, inputs.into_iter().map(Some).collect(), 1)
}

#[test]
fn results_above_the_limit_are_refused() {
    let control = ComputeControl::default().with_memory_limit(1 << 20);
    let huge = || longs(&[2], &[1 << 15, 1 << 15]);
    let x = || floats(&[1, 1], &[1.0]);
    both_fail(&one("Expand", vec![], vec![x(), huge()]), ErrorKind::TooLarge, &control);
    both_fail(&one("Tile", vec![], vec![x(), huge()]), ErrorKind::TooLarge, &control);
    both_fail(&one("Pad", vec![], vec![x(), longs(&[4], &[0, 0, 1 << 14, 1 << 14])]), ErrorKind::TooLarge, &control);
    both_fail(&one("ConstantOfShape", vec![], vec![huge()]), ErrorKind::TooLarge, &control);
    let (row, column) = (floats(&[1, 4096], &[1.0; 4096]), floats(&[4096, 1], &[1.0; 4096]));
    both_fail(&one("Add", vec![], vec![row.clone(), column.clone()]), ErrorKind::TooLarge, &control);
    both_fail(&one("MatMul", vec![], vec![column.clone(), row.clone()]), ErrorKind::TooLarge, &control);
    let scales = floats(&[2], &[1024.0, 1024.0]);
    let case = Case::one("Resize", 17, vec![], vec![Some(x()), None, Some(scales.clone())], 1);
    both_fail(&case, ErrorKind::TooLarge, &control);
    let case = Case::one("Resize", 17, vec![string("mode", "linear")], vec![Some(x()), None, Some(scales)], 1);
    both_fail(&case, ErrorKind::TooLarge, &control);
    let image = floats(&[1, 1, 1, 1], &[1.0]);
    let grid = floats(&[1, 100, 100, 2], &vec![0.25; 20_000]);
    let wide = floats(&[1, 64, 1, 1], &[1.0; 64]);
    both_fail(&one("GridSample", vec![], vec![wide, grid]), ErrorKind::TooLarge, &control);
    both_fail(&one("Pow", vec![], vec![row.clone(), column.clone()]), ErrorKind::TooLarge, &control);
    both_fail(&one("Mod", vec![int("fmod", 1)], vec![row.clone(), column.clone()]), ErrorKind::TooLarge, &control);
    let pads = vec![ints("pads", &[1 << 12; 4])];
    both_fail(&one("Conv", pads, vec![image.clone(), image.clone()]), ErrorKind::TooLarge, &control);
    let pads = vec![ints("pads", &[1 << 12; 4]), ints("kernel_shape", &[1 << 12, 1 << 12])];
    both_fail(&one("MaxPool", pads, vec![image.clone()]), ErrorKind::TooLarge, &control);
    let steps = vec![ints("strides", &[1 << 12; 2]), ints("output_padding", &[1 << 12; 2])];
    both_fail(&one("ConvTranspose", steps, vec![image.clone(), image]), ErrorKind::TooLarge, &control);
    let depth = one("OneHot", vec![], vec![longs(&[2], &[1, 2]), longs(&[], &[1 << 20]), floats(&[2], &[0.0, 1.0])]);
    both_fail(&depth, ErrorKind::TooLarge, &control);
    let everything = ComputeControl::default().with_memory_limit(1 << 40);
    let dims = longs(&[4], &[1 << 15; 4]);
    // More than the address space holds, without a limit.
    let unlimited = ComputeControl::default();
    both_fail(&one("Expand", vec![], vec![x(), longs(&[1], &[1 << 46])]), ErrorKind::TooLarge, &unlimited);
    both_fail(&one("Expand", vec![], vec![x(), dims]), ErrorKind::TooLarge, &everything);
}

#[test]
fn no_limit_makes_a_difference_but_of_memory() {
    let mut random = Random(7);
    for _ in 0..200 {
        let mut case = crate::cases::chain(&mut random);
        let full = case.difference(&ComputeControl::default());
        assert!(full.is_none(), "{}", full.unwrap_or_default());
        let control = ComputeControl::default().with_memory_limit(random.below(4000));
        case.outputs.truncate(1);
        let (_, ty) = case.on_host(0, &ComputeControl::default());
        for backend in [CandleBackend::new(), device()] {
            let found = case.run(&backend, 0, ty, &control);
            let whole = case.run(&backend, 0, ty, &ComputeControl::default());
            match (found, whole) {
                (Err(error), Ok(_)) => assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}\n{case:?}"),
                (Err(error), Err(other)) => {
                    assert!([other.kind(), ErrorKind::TooLarge].contains(&error.kind()), "{error:?}\n{case:?}");
                }
                (Ok(_), whole) => assert!(whole.is_ok(), "{case:?}"),
            }
        }
    }
}

#[test]
fn an_expired_deadline_is_a_timeout() {
    let control = ComputeControl::default().with_deadline(Instant::now());
    let case = one("Relu", vec![], vec![floats(&[2], &[1.0, 2.0])]);
    both_fail(&case, ErrorKind::Timeout, &control);
    let cancel = CancelToken::default();
    cancel.cancel();
    both_fail(&case, ErrorKind::RuntimeError, &ComputeControl::default().with_cancel(cancel));
}

#[test]
fn a_long_recurrence_ends_at_its_deadline() {
    let steps = 200_000;
    let x = floats(&[steps, 1, 1], &vec![0.5; steps]);
    let (w, r) = (floats(&[1, 4, 1], &[0.5; 4]), floats(&[1, 4, 1], &[0.5; 4]));
    let case = one("LSTM", vec![int("hidden_size", 1)], vec![x, w, r]);
    let graph = case.load(&device(), 0, ElementType::F32).unwrap();
    let control = ComputeControl::default().with_deadline(Instant::now() + Duration::from_millis(300));
    let inputs = case.values.iter().map(|(_, value, _)| value.clone()).collect();
    assert_eq!(graph.run(inputs, &control).unwrap_err().kind(), ErrorKind::Timeout);
}

#[test]
fn a_long_linear_attention_ends_at_its_deadline_and_counts_its_positions() {
    let len = 100_000;
    let row = || Some(floats(&[1, len, 1], &vec![0.5; len]));
    let attributes = vec![int("q_num_heads", 1), int("kv_num_heads", 1), string("update_rule", "linear")];
    let case = Case::one("LinearAttention", 27, attributes, vec![row(), row(), row()], 1);
    let control = ComputeControl::default().with_memory_limit(8 << 20);
    let error = case.run(&device(), 0, ElementType::F32, &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let graph = case.load(&device(), 0, ElementType::F32).unwrap();
    let control = ComputeControl::default().with_deadline(Instant::now() + Duration::from_millis(200));
    let inputs = case.values.iter().map(|(_, value, _)| value.clone()).collect();
    assert_eq!(graph.run(inputs, &control).unwrap_err().kind(), ErrorKind::Timeout);
}

#[test]
fn the_steps_of_a_recurrence_count_towards_the_limit() {
    // Each step keeps a tensor of 4 bytes, and far more to manage it.
    let steps = 20_000;
    let x = floats(&[steps, 1, 1], &vec![0.5; steps]);
    let (w, r) = (floats(&[1, 1, 1], &[0.5]), floats(&[1, 1, 1], &[0.5]));
    let case = one("RNN", vec![int("hidden_size", 1)], vec![x, w, r]);
    let control = ComputeControl::default().with_memory_limit(2 << 20);
    let error = case.run(&device(), 0, ElementType::F32, &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    case.agree();
}

#[test]
fn windows_far_larger_than_their_input_agree() {
    let mut random = Random(11);
    for _ in 0..100 {
        let (attributes, inputs) = crate::windows::wide(&mut random);
        let op = random.pick(&["MaxPool", "AveragePool", "LpPool"]);
        let attributes = attributes.into_iter().filter(|one| op != "LpPool" || one.name.as_deref() != Some("p"));
        let case = Case::one(op, 19, attributes.collect(), inputs, 1);
        // The host needs hardly any memory for them.
        let difference = case.difference(&ComputeControl::default().with_memory_limit(1 << 20));
        assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }
    let far = 1 << 24;
    let (x, w) = (floats(&[1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]), floats(&[1, 1, 2], &[1.0, 2.0]));
    for op in ["Conv", "ConvTranspose"] {
        let attributes = vec![ints("dilations", &[far]), string("auto_pad", "SAME_UPPER")];
        let case = one(op, attributes, vec![x.clone(), w.clone()]);
        let difference = case.difference(&ComputeControl::default().with_memory_limit(1 << 20));
        assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }
}

#[test]
fn numbers_at_the_ends_of_their_range_agree() {
    let ends = [i64::MIN, i64::MAX, -1, 0, 1];
    let x = || floats(&[2, 3], &[1.0, -2.0, 3.0, f32::NAN, -0.0, f32::INFINITY]);
    for &end in &ends {
        for op in ["Gather", "GatherElements"] {
            one(op, vec![int("axis", end)], vec![x(), longs(&[1, 1], &[end])]).agree();
            one(op, vec![int("axis", 1)], vec![x(), longs(&[1, 1], &[end])]).agree();
        }
        one("Softmax", vec![int("axis", end)], vec![x()]).agree();
        one("Flatten", vec![int("axis", end)], vec![x()]).agree();
        one("CumSum", vec![], vec![x(), longs(&[], &[end])]).agree();
        one("Concat", vec![int("axis", end)], vec![x(), x()]).agree();
        one("ReduceSum", vec![], vec![x(), longs(&[1], &[end])]).agree();
        one("Reshape", vec![], vec![x(), longs(&[2], &[end, end])]).agree();
        one("Expand", vec![], vec![x(), longs(&[2], &[end, 1])]).agree();
        one("Trilu", vec![], vec![x(), longs(&[], &[end])]).agree();
        one("OneHot", vec![int("axis", end)], vec![longs(&[1], &[end]), longs(&[], &[3]), floats(&[2], &[0.0, 1.0])])
            .agree();
        one("Pow", vec![], vec![x(), longs(&[], &[end])]).agree();
        for &other in &ends {
            let lists = [[end], [other]].map(|one| longs(&[1], &one));
            for &step in &ends {
                let [starts, ends] = lists.clone();
                one("Slice", vec![], vec![x(), starts, ends, longs(&[1], &[0]), longs(&[1], &[step])]).agree();
            }
            one("Pad", vec![], vec![x(), longs(&[4], &[end, 0, other, 0])]).agree();
            for op in ["Add", "Sub", "Mul", "Div", "Max", "Pow", "Equal", "Less"] {
                one(op, vec![], vec![longs(&[2], &[end, other]), longs(&[1], &[other])]).agree();
                one(op, vec![], vec![longs(&[2], &[end, other]), longs(&[1], &[end])]).agree();
            }
        }
        for op in ["Neg", "Abs", "Sign", "ReduceSum", "ReduceProd", "ArgMax"] {
            one(op, vec![], vec![longs(&[3], &[end, i64::MAX, i64::MIN])]).agree();
        }
    }
}

#[test]
fn an_empty_axis_has_no_element_to_gather() {
    let empty = || floats(&[2, 0, 3], &[]);
    one("Gather", vec![int("axis", 1)], vec![empty(), longs(&[1], &[0])]).agree();
    one("Gather", vec![int("axis", 1)], vec![empty(), longs(&[0], &[])]).agree();
    one("Gather", vec![int("axis", 0)], vec![empty(), longs(&[1], &[1])]).agree();
    one("MatMul", vec![], vec![floats(&[2, 0], &[]), floats(&[0, 3], &[])]).agree();
    one("Gemm", vec![], vec![floats(&[2, 0], &[]), floats(&[0, 3], &[]), floats(&[3], &[1.0, 2.0, 3.0])]).agree();
    one("ReduceMax", vec![], vec![empty()]).agree();
    one("ArgMax", vec![int("axis", 1)], vec![empty()]).agree();
    one("Softmax", vec![int("axis", 7)], vec![empty()]).agree();
}

#[test]
fn loops_on_the_host_read_values_of_the_device() {
    let body = GraphProto {
        node: vec![
            node("Add", "state x", "next", vec![]),
            node("Identity", "go", "still", vec![]),
            node("Relu", "next", "seen", vec![]),
        ],
        input: vec![info("at", ElementType::I64), info("go", ElementType::Bool), info("state", ElementType::F32)],
        output: vec![info("still", ElementType::Bool), info("next", ElementType::F32), info("seen", ElementType::F32)],
        ..GraphProto::default()
    };
    let nodes = vec![
        node("Neg", "v", "x", vec![]),
        node("Loop", "count go x", "last all", vec![subgraph("body", body)]),
        node("Exp", "last", "y", vec![]),
        node("ReduceSum", "all", "z", vec![int("keepdims", 0)]),
    ];
    let values = vec![
        ("v".to_owned(), floats(&[2], &[1.0, -2.0]), false),
        ("count".to_owned(), longs(&[], &[3]), false),
        ("go".to_owned(), Value::scalar(true).unwrap(), false),
    ];
    Case { opset: 17, nodes, values, outputs: vec!["y".to_owned(), "z".to_owned()], ..Case::default() }.agree();
}

#[test]
fn elements_that_are_special_agree() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let rows = floats(&[4, 3], &[1.0, nan, 3.0, -inf, -inf, -inf, inf, 1.0, nan, 2.0, 2.0, 1.0]);
    for op in ["Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "LpNormalization"] {
        for last in [0, 1] {
            let mut attributes = vec![int("axis", 1)];
            if op.starts_with("Arg") {
                attributes.push(int("select_last_index", last));
            }
            one(op, attributes, vec![rows.clone()]).agree();
        }
    }
    for (low, high) in [(nan, 1.0), (-1.0, nan), (1.0, -1.0), (-inf, inf)] {
        one("Clip", vec![], vec![rows.clone(), floats(&[], &[low]), floats(&[], &[high])]).agree();
        let attributes = vec![float("min", low), float("max", high)];
        Case::one("Clip", 10, attributes, vec![Some(rows.clone())], 1).agree();
    }
    for gamma in [inf, nan, 0.0] {
        one("Selu", vec![float("alpha", gamma)], vec![floats(&[4], &[0.0, -0.0, 1.0, -1.0])]).agree();
        one("Celu", vec![float("alpha", gamma)], vec![floats(&[4], &[0.0, -0.0, 1.0, -1.0])]).agree();
    }
    let tiny = floats(&[2, 2], &[1e-40, 0.0, 1e-39, 1e-40]);
    one("LpNormalization", vec![], vec![tiny.clone()]).agree();
    one("LpNormalization", vec![int("p", 1)], vec![tiny]).agree();
    for ty in [ElementType::F32, ElementType::F64, ElementType::F16] {
        let x = tensor(ty, &[4], &[-0.0, f64::NEG_INFINITY, 4.0, -1.0]);
        for exponent in [0.5, 2.0, -0.5] {
            one("Pow", vec![], vec![x.clone(), tensor(ty, &[], &[exponent])]).agree();
            one("Pow", vec![], vec![x.clone(), tensor(ElementType::F64, &[], &[exponent])]).agree();
        }
    }
}

#[test]
fn long_sums_and_the_norms_of_extreme_numbers_agree() {
    let count = 1 << 20;
    let elements: Vec<f32> = (0..count).map(|at: usize| (at * 7919 % 1000) as f32 / 1000.0).collect();
    let x = floats(&[1, count], &elements);
    for (op, last) in [("ArgMax", 0), ("ArgMax", 1), ("ArgMin", 0), ("Hardmax", 2)] {
        let mut attributes = vec![int("axis", 1), int("select_last_index", last)];
        attributes.truncate(if last > 1 { 1 } else { 2 });
        one(op, attributes, vec![x.clone()]).agree();
    }
    for op in ["ReduceMean", "ReduceL1", "ReduceL2"] {
        one(op, vec![ints("axes", &[1])], vec![x.clone()]).agree();
    }
    for scale in [1e20, 1e-25] {
        one("ReduceL2", vec![], vec![floats(&[2], &[scale, -scale])]).agree();
        one("ReduceL2", vec![ints("axes", &[0])], vec![floats(&[2], &[scale, -scale])]).agree();
    }
}

#[test]
fn branches_in_branches_agree_up_to_the_deepest() {
    let deep = |depth: usize| {
        let mut node_inside = node("Relu", "x", "y0", vec![]);
        for level in 1..=depth {
            let inner = format!("y{}", level - 1);
            let output = vec![info(&inner, ElementType::F32)];
            let graph = GraphProto { node: vec![node_inside], output, ..GraphProto::default() };
            let branches = vec![
                subgraph("then_branch", graph.clone()),
                subgraph("else_branch", GraphProto { node: vec![node("Identity", "x", &inner, vec![])], ..graph }),
            ];
            node_inside = node("If", "c", &format!("y{level}"), branches);
        }
        let values = vec![
            ("c".to_owned(), Value::scalar(true).unwrap(), false),
            ("x".to_owned(), floats(&[2], &[1.0, -1.0]), false),
        ];
        Case { opset: 17, nodes: vec![node_inside], values, outputs: vec![format!("y{depth}")], ..Case::default() }
    };
    for depth in [1, 4, 8, 12, 16, 24, 32, 40] {
        deep(depth).agree();
    }
}

#[test]
fn huge_dimensions_without_elements_agree() {
    let control = ComputeControl::default().with_memory_limit(1 << 20);
    let agree = |case: &Case| {
        // For some shapes the host alone makes lists of positions that are too large.
        let too_large = case.on_host(0, &control).0.is_err_and(|error| error.kind() == ErrorKind::TooLarge);
        let difference = case.difference(&control).filter(|_| !too_large);
        assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    };
    for huge in [1 << 24, 1 << 31, 1 << 33, 1 << 50] {
        for dims in [vec![0, huge], vec![huge, 0], vec![0, huge, 2], vec![0, 1, huge]] {
            let x = || floats(&dims, &[]);
            for axis in 0..dims.len() as i64 {
                for op in ["Softmax", "Hardmax", "LogSoftmax", "LpNormalization", "ArgMax", "ArgMin", "Flatten"] {
                    agree(&one(op, vec![int("axis", axis)], vec![x()]));
                }
                for op in ["ReduceMax", "ReduceMean", "ReduceL2", "ReduceProd", "ReduceLogSumExp"] {
                    agree(&one(op, vec![ints("axes", &[axis])], vec![x()]));
                }
                agree(&one("Gather", vec![int("axis", axis)], vec![x(), longs(&[2], &[0, -1])]));
                for k in [0, 1] {
                    agree(&Case::one("TopK", 17, vec![int("axis", axis)], vec![Some(x()), Some(longs(&[1], &[k]))], 2));
                }
                agree(&one("CumSum", vec![int("reverse", 1)], vec![x(), longs(&[], &[axis])]));
                agree(&Case::one("Split", 17, vec![int("axis", axis)], vec![Some(x())], 2));
                agree(&one("Concat", vec![int("axis", axis)], vec![x(), x()]));
                let ends = longs(&[1], &[i64::MAX]);
                let starts = || longs(&[1], &[0]);
                agree(&one("Slice", vec![], vec![x(), starts(), ends, longs(&[1], &[axis]), longs(&[1], &[1 << 20])]));
            }
            for op in ["Relu", "Exp", "Transpose", "Shape", "Size", "Trilu", "Sum", "Round", "Abs"] {
                agree(&one(op, vec![], vec![x()]));
            }
            for op in ["Add", "Max", "Equal", "MatMul", "PRelu", "Pow", "Mod", "GridSample"] {
                agree(&one(op, vec![], vec![x(), x()]));
            }
            for mode in ["linear", "cubic"] {
                let scales = Some(floats(&[dims.len()], &vec![0.5; dims.len()]));
                agree(&Case::one("Resize", 17, vec![string("mode", mode)], vec![Some(x()), None, scales], 1));
            }
            for op in ["MaxPool", "AveragePool", "LpPool"] {
                agree(&one(op, vec![ints("kernel_shape", &[1])], vec![x()]));
            }
        }
    }
}

#[test]
fn zeros_keep_their_signs() {
    // The reciprocal of a zero shows its sign.
    let x = floats(&[6], &[0.0, -0.0, -0.25, 0.25, -0.5, 0.5]);
    for op in ["Abs", "Neg", "Relu", "Sign", "Ceil", "Floor", "Round", "Sinh", "Tanh", "Identity"] {
        let nodes = vec![node(op, "x", "t", vec![]), node("Reciprocal", "t", "y", vec![])];
        let values = vec![("x".to_owned(), x.clone(), false)];
        Case { opset: 17, nodes, values, outputs: vec!["y".to_owned()], ..Case::default() }.agree();
    }
    for op in ["Max", "Min", "Add", "Mul"] {
        let nodes = vec![node(op, "a b", "t", vec![]), node("Reciprocal", "t", "y", vec![])];
        let (a, b) = (floats(&[4], &[0.0, -0.0, 0.0, -0.0]), floats(&[4], &[0.0, -0.0, -0.0, 0.0]));
        let values = vec![("a".to_owned(), a, false), ("b".to_owned(), b, false)];
        Case { opset: 17, nodes, values, outputs: vec!["y".to_owned()], ..Case::default() }.agree();
    }
}
