//! Bounds on time and memory: loops whose length a guest chooses check the cancel token, and lists are charged.

use half::f16;

use crate::compile::fold::Folding;
use crate::format::messages::AttributeProto;
use crate::ops::node::OpFn;
use crate::tensor::value::Value;
use crate::tests::builder::{
    BOOL, F32, Model, cancelled, filled, float, graph, info, int, ints, kernel, node, run_kernel, string,
};
use graphpool::backend::{ComputeControl, Error, ErrorKind};

/// The elements of a tensor that is so large that an operator which reads each element once must check the token.
const MANY: usize = 1 << 21;

fn ones(dims: &[usize]) -> Value {
    filled(dims, 1.0_f32)
}

fn longs(numbers: &[i64]) -> Value {
    Value::new(vec![numbers.len()], numbers.to_vec()).unwrap()
}

/// An operator with its opset, inputs for which it works long, and attributes.
type Long = (&'static str, i64, Vec<Value>, Vec<AttributeProto>);

/// Elementwise operators with one input.
fn of_one() -> Vec<Long> {
    let floats =
        ["Relu", "Abs", "Neg", "Sign", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "Shrink", "Tanh", "Mish"];
    let more = ["Erf", "Exp", "Log", "Sqrt", "Floor", "Round", "Sin", "Acosh", "IsNaN", "IsInf"];
    let mut found: Vec<Long> =
        floats.iter().chain(&more).map(|&op| (op, 21, vec![ones(&[MANY])], Vec::new())).collect();
    for (to, from) in [(1, filled(&[MANY], 1_i64)), (10, ones(&[MANY])), (2, filled(&[MANY], f16::ONE))] {
        found.push(("Cast", 21, vec![from], vec![int("to", to)]));
    }
    found.push(("Not", 13, vec![filled(&[MANY], true)], Vec::new()));
    found.push(("BitwiseNot", 18, vec![filled(&[MANY], 1_u8)], Vec::new()));
    found.push(("Sin", 13, vec![filled(&[MANY], f16::ONE)], Vec::new()));
    found
}

/// Elementwise operators with several inputs.
fn of_two() -> Vec<Long> {
    let mut found: Vec<Long> = Vec::new();
    for op in ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "PRelu", "Equal", "Less"] {
        found.push((op, 13, vec![ones(&[MANY]), ones(&[1])], Vec::new()));
        found.push((op, 13, vec![ones(&[1 << 11, 1]), ones(&[1 << 11])], Vec::new()));
    }
    let pair = |element: u8| vec![filled(&[MANY], element), filled(&[1], element)];
    found.push(("BitShift", 13, pair(1), vec![string("direction", "LEFT")]));
    found.push(("BitwiseXor", 18, pair(1), Vec::new()));
    found.push(("Mod", 13, pair(1), Vec::new()));
    found.push(("Div", 13, pair(1), Vec::new()));
    found.push(("And", 13, vec![filled(&[MANY], true), filled(&[1], true)], Vec::new()));
    found.push(("Where", 13, vec![filled(&[MANY], true), ones(&[1]), ones(&[1])], Vec::new()));
    // Operands that are short.
    found.push(("Sum", 13, vec![ones(&[1]); 3], Vec::new()));
    found
}

/// Operators that move or create elements.
fn moves() -> Vec<Long> {
    let half = MANY as i64 / 2;
    vec![
        ("Transpose", 13, vec![ones(&[1 << 11, 1 << 10])], Vec::new()),
        ("Concat", 13, vec![ones(&[MANY]), ones(&[1])], vec![int("axis", 0)]),
        ("Split", 13, vec![ones(&[MANY])], Vec::new()),
        ("Tile", 13, vec![ones(&[2]), longs(&[half])], Vec::new()),
        ("Expand", 13, vec![ones(&[1]), longs(&[2 * half])], Vec::new()),
        ("DepthToSpace", 13, vec![ones(&[1, 4, 1 << 10, 1 << 9])], vec![int("blocksize", 2)]),
        ("SpaceToDepth", 13, vec![ones(&[1, 1, 1 << 11, 1 << 10])], vec![int("blocksize", 2)]),
        ("Pad", 13, vec![ones(&[1]), longs(&[2 * half, 0])], Vec::new()),
        ("Pad", 13, vec![ones(&[3]), longs(&[2 * half, 0])], vec![string("mode", "reflect")]),
        ("Slice", 13, vec![ones(&[MANY]), longs(&[0]), longs(&[i64::MAX])], Vec::new()),
        ("Gather", 13, vec![ones(&[2]), filled(&[MANY], 1_i64)], Vec::new()),
        ("GatherElements", 13, vec![ones(&[2]), filled(&[MANY], 1_i64)], Vec::new()),
        ("GatherND", 13, vec![ones(&[2]), filled(&[MANY, 1], 1_i64)], Vec::new()),
        ("ScatterElements", 18, vec![ones(&[2]), filled(&[MANY], 1_i64), ones(&[MANY])], Vec::new()),
        ("ScatterND", 18, vec![ones(&[2]), filled(&[MANY, 1], 1_i64), ones(&[MANY])], vec![string("reduction", "add")]),
        ("ScatterND", 18, vec![ones(&[MANY]), longs(&[0]).reshaped(vec![1, 1]).unwrap(), ones(&[1])], Vec::new()),
        ("Compress", 13, vec![ones(&[MANY]), filled(&[MANY], true)], Vec::new()),
        ("NonZero", 13, vec![ones(&[MANY])], Vec::new()),
        ("ReverseSequence", 13, vec![ones(&[2, MANY]), filled(&[MANY], 2_i64)], Vec::new()),
        ("Trilu", 14, vec![ones(&[1 << 11, 1 << 10])], Vec::new()),
        ("EyeLike", 13, vec![ones(&[MANY, 1])], Vec::new()),
        ("OneHot", 13, vec![filled(&[MANY], 1_i64), longs(&[2]), ones(&[2])], Vec::new()),
        ("CenterCropPad", 18, vec![ones(&[1]), longs(&[2 * half])], Vec::new()),
        ("ConstantOfShape", 13, vec![longs(&[2 * half])], Vec::new()),
        ("Range", 13, vec![longs(&[0]), longs(&[2 * half]), longs(&[1])], Vec::new()),
        ("Resize", 13, vec![ones(&[2]), ones(&[0]), ones(&[0]), longs(&[2 * half])], vec![string("mode", "cubic")]),
        ("Resize", 13, vec![ones(&[2]), ones(&[0]), ones(&[0]), longs(&[2 * half])], Vec::new()),
        ("GridSample", 16, vec![ones(&[1, 1, 2, 2]), ones(&[1, 1 << 8, 1 << 8, 2])], Vec::new()),
        ("AffineGrid", 20, vec![ones(&[1, 2, 3]), longs(&[1, 1, 1 << 10, 1 << 10])], Vec::new()),
    ]
}

/// Operators that combine many elements into one.
fn folds() -> Vec<Long> {
    let mut found: Vec<Long> = Vec::new();
    for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceProd"] {
        found.push((op, 18, vec![ones(&[MANY])], Vec::new()));
        found.push((op, 18, vec![ones(&[1 << 11, 1 << 10]), longs(&[0])], Vec::new()));
    }
    for op in ["ArgMax", "Softmax", "LogSoftmax", "Hardmax", "LpNormalization"] {
        found.push((op, 13, vec![ones(&[MANY])], vec![int("axis", 0)]));
    }
    let plane = || ones(&[1, 1, MANY]);
    let window = |op: &'static str, size: i64| -> Long { (op, 13, vec![plane()], vec![ints("kernel_shape", &[size])]) };
    for op in ["MaxPool", "AveragePool", "LpPool"] {
        found.extend([window(op, 3), window(op, MANY as i64)]);
    }
    for op in ["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"] {
        found.push((op, 13, vec![plane()], Vec::new()));
    }
    let score = || vec![ones(&[1, MANY]), longs(&[0])];
    found.extend([
        ("SoftmaxCrossEntropyLoss", 13, score(), Vec::new()),
        ("NegativeLogLikelihoodLoss", 13, vec![ones(&[MANY, 1]), filled(&[MANY], 0_i64)], Vec::new()),
        ("CumSum", 14, vec![ones(&[MANY]), longs(&[0])], Vec::new()),
        ("TopK", 13, vec![ones(&[MANY]), longs(&[3])], Vec::new()),
        ("TopK", 13, vec![ones(&[MANY]), longs(&[MANY as i64 - 1])], Vec::new()),
        ("Unique", 13, vec![ones(&[MANY])], Vec::new()),
        ("BatchNormalization", 9, [vec![plane()], vec![ones(&[1]); 4]].concat(), Vec::new()),
        ("InstanceNormalization", 13, [vec![plane()], vec![ones(&[1]); 2]].concat(), Vec::new()),
        ("LayerNormalization", 17, vec![ones(&[MANY]), ones(&[1])], Vec::new()),
        ("GroupNormalization", 21, [vec![plane()], vec![ones(&[1]); 2]].concat(), vec![int("num_groups", 1)]),
        ("MeanVarianceNormalization", 13, vec![ones(&[1, 1, MANY, 1])], Vec::new()),
        ("LRN", 13, vec![ones(&[1, 2, MANY, 1])], vec![int("size", 3)]),
        ("DynamicQuantizeLinear", 13, vec![ones(&[MANY])], Vec::new()),
        ("QuantizeLinear", 13, vec![ones(&[MANY]), ones(&[1])], Vec::new()),
        ("DequantizeLinear", 13, vec![filled(&[MANY], 1_u8), ones(&[1])], Vec::new()),
    ]);
    found
}

/// Operators whose work is more than linear in their inputs.
fn heavy() -> Vec<Long> {
    let equation = |text: &str| vec![string("equation", text)];
    let square = || ones(&[1 << 11, 1 << 10]);
    let line = |len: usize| ones(&[1, 1, len]);
    let state = |gates: usize| vec![ones(&[64, 64, 4]), ones(&[1, gates * 64, 4]), ones(&[1, gates * 64, 64])];
    vec![
        ("MatMul", 13, vec![square(), ones(&[1 << 10, 64])], Vec::new()),
        ("MatMul", 13, vec![ones(&[1, MANY]), ones(&[MANY, 1])], Vec::new()),
        ("MatMul", 13, vec![filled(&[64, 1 << 10], 1_u8), filled(&[1 << 10, 64], 1_u8)], Vec::new()),
        ("MatMulInteger", 13, vec![filled(&[64, 1 << 10], 1_u8), filled(&[1 << 10, 64], 1_u8)], Vec::new()),
        ("Gemm", 13, vec![square(), ones(&[1 << 10, 64])], vec![float("alpha", 0.5)]),
        ("Einsum", 13, vec![ones(&[1 << 11, 1 << 11])], equation("ii->i")),
        ("Einsum", 13, vec![ones(&[MANY])], equation("i->")),
        ("Conv", 13, vec![line(MANY), line(3)], Vec::new()),
        ("Conv", 13, vec![line(1 << 12), line(1 << 11)], Vec::new()),
        ("Conv", 13, vec![ones(&[1, 2, 1 << 20]), ones(&[2, 1, 3])], vec![int("group", 2)]),
        ("Conv", 13, vec![line(1), line(1)], vec![ints("pads", &[MANY as i64, 0])]),
        ("ConvTranspose", 13, vec![line(1 << 11), line(1 << 10)], Vec::new()),
        ("ConvInteger", 13, vec![filled(&[1, 1, 1 << 12], 1_u8), filled(&[1, 1, 1 << 11], 1_u8)], Vec::new()),
        ("LSTM", 14, state(4), Vec::new()),
        ("GRU", 14, state(3), Vec::new()),
        ("RNN", 14, state(1), Vec::new()),
        ("DFT", 17, vec![ones(&[1, 1 << 16, 1])], Vec::new()),
        ("DFT", 17, vec![ones(&[1, 50_001, 1])], Vec::new()),
        ("STFT", 17, vec![ones(&[1, 1 << 12]), longs(&[1]), ones(&[64])], Vec::new()),
        ("HannWindow", 17, vec![longs(&[MANY as i64])], Vec::new()),
        (
            "MelWeightMatrix",
            17,
            vec![longs(&[1]), longs(&[1 << 22]), longs(&[16000]), ones(&[1]), filled(&[1], 8e3_f32)],
            vec![],
        ),
        ("RoiAlign", 16, vec![ones(&[1, 1, 8, 8]), ones(&[1, 4]), longs(&[0])], vec![int("sampling_ratio", 1 << 10)]),
        ("NonMaxSuppression", 11, vec![ones(&[1, MANY / 2, 4]), ones(&[1, 1, MANY / 2]), longs(&[9])], Vec::new()),
        ("NonMaxSuppression", 11, vec![ones(&[1, 1, 4]), ones(&[1, MANY, 1]), longs(&[9])], Vec::new()),
        ("MaxUnpool", 11, vec![line(MANY), filled(&[1, 1, MANY], 1_i64)], vec![ints("kernel_shape", &[1])]),
        ("Col2Im", 18, vec![line(MANY), longs(&[MANY as i64]), longs(&[1])], Vec::new()),
    ]
}

#[test]
fn every_operator_checks_the_cancel_token_while_it_works() {
    let mut tried = std::collections::BTreeSet::new();
    for (op, opset, inputs, attributes) in [of_one(), of_two(), moves(), folds(), heavy()].into_iter().flatten() {
        let dims: Vec<_> = inputs.iter().take(3).map(|value| value.dims().to_vec()).collect();
        let kernel = kernel(("", opset), op, inputs.len(), 1, &attributes);
        let error = cancelled(&kernel, inputs);
        assert_eq!(error.message(), "cancelled", "{op} of {dims:?}");
        tried.insert(op);
    }
    assert!(tried.len() > 110, "{}", tried.len());
}

#[test]
fn a_tensor_without_elements_may_have_any_size_and_takes_no_time() {
    let huge = 1 << 57;
    let nothing = |dims: &[usize]| Value::new::<f32>(dims.to_vec(), Vec::new()).unwrap();
    let bytes = |dims: &[usize]| Value::new::<u8>(dims.to_vec(), Vec::new()).unwrap();
    let none = |name: &str, at: i64| vec![int(name, at)];
    let square = 1 << 28;
    let batch_first = vec![int("batch_axis", 0), int("time_axis", 1)];
    let cases: Vec<(&str, i64, Vec<Value>, Vec<AttributeProto>)> = vec![
        ("Gather", 13, vec![nothing(&[huge, 1, 0]), longs(&[0])], none("axis", 1)),
        ("Concat", 13, vec![nothing(&[huge, 0]); 2], none("axis", 1)),
        ("Split", 13, vec![nothing(&[huge, 0])], none("axis", 1)),
        ("CumSum", 14, vec![nothing(&[huge, 0]), longs(&[1])], Vec::new()),
        ("DequantizeLinear", 13, vec![bytes(&[huge, 0]), nothing(&[0])], none("axis", 1)),
        ("ReverseSequence", 13, vec![nothing(&[1, 1 << 50, 0]), longs(&[0])], batch_first),
        ("MatMul", 13, vec![bytes(&[huge, 0, 1]), bytes(&[huge, 1, 0])], Vec::new()),
        ("NonMaxSuppression", 11, vec![nothing(&[1, 0, 4]), nothing(&[1, huge, 0])], Vec::new()),
        ("TopK", 13, vec![nothing(&[huge, 0]), longs(&[0])], Vec::new()),
        (
            "SoftmaxCrossEntropyLoss",
            13,
            vec![nothing(&[1, 0, huge]), longs(&[]).reshaped(vec![0]).unwrap()],
            Vec::new(),
        ),
        ("Einsum", 13, vec![nothing(&[square, square, 0])], vec![string("equation", "iij->ij")]),
    ];
    for (op, opset, inputs, attributes) in cases {
        // An operator that works until it is cancelled ends here too.
        let control = ComputeControl::default().with_memory_limit(1 << 26);
        let (cancel, kernel) = (control.cancel.clone(), kernel(("", opset), op, inputs.len(), 1, &attributes));
        let timer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            cancel.cancel();
        });
        let _ = run_kernel(&kernel, inputs, &control);
        timer.join().unwrap();
    }
}

#[test]
fn lists_of_indices_are_charged() {
    let count = 1 << 16;
    let narrow = || filled(&[count], 0_i32);
    let wide = || filled(&[count, 1], 0_i64);
    let cases: Vec<(&str, Vec<Value>, usize)> = vec![
        // Bytes for each index: of the result, of the list, and of the converted index.
        ("Gather", vec![filled(&[1], 1_u8), narrow()], 8 + 8),
        ("GatherElements", vec![filled(&[1], 1_u8), narrow()], 8 + 8),
        ("GatherND", vec![filled(&[1], 1_u8), wide()], 1 + 8),
        ("ScatterElements", vec![filled(&[1], 1_u8), narrow(), filled(&[count], 1_u8)], 8 + 8),
        ("OneHot", vec![narrow(), longs(&[1]), filled(&[2], 1_u8)], 1 + 8),
        ("NonZero", vec![filled(&[count], 1_u8)], 8 + 8),
        ("Compress", vec![filled(&[count], 1_u8), filled(&[count], true)], 1 + 8 + 8),
        ("Unique", vec![filled(&[count], 1_u8)], 6 * 8),
        ("CumSum", vec![filled(&[1, count], 1_u8), longs(&[0])], 2),
    ];
    for (op, inputs, each) in cases {
        let kernel = kernel(("", 18), op, inputs.len(), 1, &[]);
        let run = |memory_limit: usize| {
            let control = ComputeControl::default().with_memory_limit(memory_limit);
            run_kernel(&kernel, inputs.clone(), &control).map(|_| ()).map_err(|error| error.kind())
        };
        assert_eq!(run(each * count - 1), Err(ErrorKind::TooLarge), "{op}");
        assert_eq!(run(2 * each * count + 4096), Ok(()), "{op}");
    }
}

#[test]
fn a_list_of_few_integers_may_not_be_long() {
    let many = filled(&[1 << 16], 1_i64);
    for (op, inputs) in [
        ("Reshape", vec![ones(&[1]), many.clone()]),
        ("Expand", vec![ones(&[1]), many.clone()]),
        ("Slice", vec![ones(&[1]), many.clone(), many.clone()]),
        ("Pad", vec![ones(&[1]), many.clone()]),
        ("ReduceSum", vec![ones(&[1]), many.clone()]),
        ("ConstantOfShape", vec![many.clone()]),
    ] {
        let kernel = kernel(("", 18), op, inputs.len(), 1, &[]);
        let error = run_kernel(&kernel, inputs, &ComputeControl::default()).unwrap_err();
        assert!(error.message().contains("65536 integers"), "{op}: {error}");
    }
}

#[test]
fn a_long_list_is_sorted_like_a_short_one() {
    // A list of several pieces, with many equal elements.
    let count = (1 << 18) + 77;
    let number = |index: usize| (index.wrapping_mul(7919) % 1009) as i64;
    let x = Value::new(vec![count], (0..count).map(number).collect()).unwrap();
    let control = ComputeControl::default();
    let mut wanted: Vec<usize> = (0..count).collect();
    wanted.sort_by_key(|&index| (std::cmp::Reverse(number(index)), index));
    for k in [1, 1000, (1 << 17) + 1, count - 1, count] {
        let found =
            run_kernel(&kernel(("", 13), "TopK", 2, 2, &[]), vec![x.clone(), longs(&[k as i64])], &control).unwrap();
        let places: Vec<usize> = found[1].elements::<i64>().unwrap().iter().map(|&place| place as usize).collect();
        assert_eq!(places, wanted[..k], "{k}");
    }
    let found = run_kernel(&kernel(("", 13), "Unique", 1, 4, &[]), vec![x], &control).unwrap();
    assert_eq!(found[0].elements::<i64>().unwrap(), (0..1009).collect::<Vec<_>>());
    // The index of the first occurrence of each number.
    let first = |wanted: i64| (0..count).position(|index| number(index) == wanted).unwrap() as i64;
    assert_eq!(found[1].elements::<i64>().unwrap(), (0..1009).map(first).collect::<Vec<_>>());
}

#[test]
fn a_fold_that_fails_counts_as_work() {
    let mut folding = Folding::new(1 << 30);
    let before = folding.work();
    let inputs = [crate::exec::plan::Source::Constant(ones(&[1 << 10]))];
    let kernel: OpFn = Box::new(|_, _| Err(Error::runtime_error("no")));
    assert!(folding.fold(crate::Cost::Linear, &kernel, &inputs, 1).is_none());
    assert_eq!(before - folding.work(), (1 << 10) + 1);
}

#[test]
fn names_read_through_many_graphs_are_bounded() {
    // `names` names, read in a graph inside `depth` others.
    let nested = |names: usize, depth: usize| {
        let list: String = (0..names).map(|_| "x ").collect();
        let mut inner = Model::new(13).node("Sum", &list, "o", &[]).output("o", F32).graph;
        for level in 0..depth {
            let other = Model::new(13).node("Neg", "x", "e", &[]).output("e", F32).graph;
            let branches = [graph("then_branch", inner), graph("else_branch", other)];
            let name = format!("o{level}");
            inner = Model::new(13).output(&name, F32).graph;
            inner.node.push(node("If", "c", &name, &branches));
        }
        let mut model = Model::new(13);
        model.graph = inner;
        model.graph.input = vec![info("x", F32, None), info("c", BOOL, None)];
        model.run(vec![ones(&[1]), filled(&[], true)]).map(|outputs| outputs[0].elements::<f32>().unwrap().to_vec())
    };
    assert_eq!(nested(20_000, 1).unwrap(), [20_000.0]);
    // The deepest nesting that the decoder accepts, on the stack of a test's thread.
    assert_eq!(nested(3, 30).unwrap(), [3.0]);
    let error = nested(100_000, 12).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains("subgraphs"), "{error}");
}

/// A clone of a value shares its dimensions.
#[test]
fn a_value_read_many_times_takes_little_each_time() {
    let value = ones(&[1; 32]);
    assert!(std::ptr::eq(value.dims(), value.clone().dims()));
}
