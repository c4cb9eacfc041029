//! Measures the memory of computes on a device with a counting allocator: it never exceeds the limit of the compute.
//!
//! The file has one test, so that nothing else allocates in its process.

#![allow(missing_docs, reason = "a test")]

use candle_core::Device;
use graphpool::backend::{ComputeControl, ErrorKind};
use graphpool_candle::messages::AttributeProto;
use graphpool_candle::{CandleBackend, ElementType, Value};

#[allow(dead_code, reason = "another test uses the rest")]
#[path = "device/builder.rs"]
mod builder;
mod counting;

use builder::{Case, int, ints, longs, string, tensor};
use counting::peak_of;

/// What is not counted: the management of tensors, and buffers of matrix products.
const SLACK: usize = 1 << 18;

fn ones(ty: ElementType, dims: &[usize]) -> Value {
    tensor(ty, dims, &vec![1.0; dims.iter().product()])
}

/// Models of one node whose inputs or results have some megabytes.
fn cases() -> Vec<Case> {
    use ElementType::{Bool, F16, F32, F64};
    let mut cases = Vec::new();
    let mut case = |op: &str, attributes: Vec<AttributeProto>, inputs: Vec<Value>| {
        cases.push(Case::one(op, 17, attributes, inputs.into_iter().map(Some).collect(), 1));
    };
    let dims = [64, 64, 128];
    let x = |ty| ones(ty, &dims);
    for op in ["Relu", "Exp", "Sigmoid", "Softplus", "Round", "Sinh", "HardSwish", "IsNaN", "Softmax", "Elu"] {
        case(op, vec![], vec![x(F32)]);
        case(op, vec![], vec![x(F16)]);
    }
    for op in ["Add", "Max", "Equal", "Less", "PRelu", "Mean"] {
        case(op, vec![], vec![x(F32), x(F32)]);
        case(op, vec![], vec![ones(F32, &[1024, 1]), ones(F32, &[1, 1024])]);
    }
    for op in ["And", "Xor"] {
        case(op, vec![], vec![x(Bool), x(Bool)]);
    }
    case("Not", vec![], vec![x(Bool)]);
    case("Where", vec![], vec![x(Bool), x(F32), x(F32)]);
    for to in [1, 9, 10, 11] {
        case("Cast", vec![int("to", to)], vec![x(F32)]);
        case("Cast", vec![int("to", to)], vec![x(Bool)]);
    }
    for axis in [0, 2] {
        for op in ["Hardmax", "LogSoftmax", "LpNormalization"] {
            case(op, vec![int("axis", axis)], vec![x(F32)]);
        }
        case("ArgMax", vec![int("axis", axis), int("select_last_index", 1)], vec![x(F32)]);
        case("ReduceSum", vec![], vec![x(F32), longs(&[1], &[axis])]);
        for op in ["ReduceMax", "ReduceProd", "ReduceLogSumExp", "ReduceL2", "MeanVarianceNormalization"] {
            case(op, vec![ints("axes", &[axis])], vec![x(F32)]);
        }
        case("CumSum", vec![int("reverse", 1), int("exclusive", 1)], vec![x(F32), longs(&[], &[axis])]);
        case("Concat", vec![int("axis", axis)], vec![x(F32), x(F32)]);
        case("Split", vec![int("axis", axis)], vec![x(F32)]);
        case("Gather", vec![int("axis", axis)], vec![x(F32), longs(&[64], &[3; 64])]);
        let (starts, ends) = (longs(&[1], &[-1]), longs(&[1], &[i64::MIN]));
        case("Slice", vec![], vec![x(F32), starts, ends, longs(&[1], &[axis]), longs(&[1], &[-1])]);
    }
    let line = || ones(F32, &[1 << 20]);
    case("Hardmax", vec![], vec![line()]);
    case("ArgMax", vec![int("select_last_index", 1)], vec![line()]);
    case("CumSum", vec![], vec![line(), longs(&[], &[0])]);
    let back = [longs(&[1], &[-1]), longs(&[1], &[i64::MIN]), longs(&[1], &[0]), longs(&[1], &[-1])];
    case("Slice", vec![], std::iter::once(line()).chain(back).collect());
    case("Gather", vec![], vec![ones(F32, &[1 << 18]), longs(&[1 << 18], &vec![5; 1 << 18])]);
    case("GatherElements", vec![], vec![ones(F32, &[1 << 18]), longs(&[1 << 18], &vec![5; 1 << 18])]);
    case("Transpose", vec![], vec![x(F32)]);
    case("Expand", vec![], vec![ones(F32, &[64, 1, 128]), longs(&[3], &[64, 64, 128])]);
    case("Tile", vec![], vec![ones(F32, &[64, 128]), longs(&[2], &[8, 8])]);
    case("Pad", vec![], vec![x(F32), longs(&[6], &[1; 6])]);
    case("Trilu", vec![], vec![x(F32)]);
    case("Shape", vec![], vec![x(F32)]);
    case("DepthToSpace", vec![int("blocksize", 2)], vec![ones(F32, &[1, 16, 128, 128])]);
    case("Compress", vec![], vec![x(F32), ones(Bool, &[1 << 16])]);
    case("Reshape", vec![], vec![x(Bool), longs(&[1], &[-1])]);
    case("MatMul", vec![], vec![ones(F32, &[512, 512]), ones(F32, &[512, 512])]);
    case("MatMul", vec![], vec![ones(F16, &[8, 256, 256]), ones(F16, &[8, 256, 256])]);
    case("MatMul", vec![], vec![ones(F64, &[1, 256, 256]), ones(F64, &[8, 256, 256])]);
    case("Gemm", vec![int("transA", 1)], vec![ones(F32, &[512, 512]), ones(F32, &[512, 512]), ones(F32, &[512])]);
    let channels = || ones(F32, &[16]);
    let image = || ones(F32, &[1, 16, 128, 128]);
    case("BatchNormalization", vec![], vec![image(), channels(), channels(), channels(), channels()]);
    case("InstanceNormalization", vec![], vec![image(), channels(), channels()]);
    case("LayerNormalization", vec![], vec![x(F32), ones(F32, &[128])]);
    case("LRN", vec![int("size", 5)], vec![image()]);
    let kernel = || vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1; 4])];
    for op in ["MaxPool", "AveragePool", "LpPool"] {
        case(op, kernel(), vec![image()]);
    }
    for op in ["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"] {
        case(op, vec![], vec![image()]);
    }
    case("Conv", vec![ints("pads", &[1; 4])], vec![image(), ones(F32, &[16, 16, 3, 3])]);
    case("Conv", vec![], vec![image(), ones(F32, &[64, 16, 1, 1])]);
    case("Conv", vec![ints("strides", &[2, 2])], vec![image(), ones(F32, &[64, 16, 1, 1])]);
    case("Conv", vec![int("group", 16)], vec![image(), ones(F32, &[64, 1, 3, 3])]);
    case("Conv", vec![ints("strides", &[1, 2])], vec![image(), ones(F32, &[16, 16, 3, 3])]);
    case("Conv", vec![], vec![ones(F32, &[1, 256, 8, 8]), ones(F32, &[256, 256, 3, 3])]);
    case("Conv", vec![], vec![ones(F32, &[1, 4, 16, 16, 16]), ones(F32, &[8, 4, 3, 3, 3])]);
    case(
        "ConvTranspose",
        vec![ints("strides", &[2, 2])],
        vec![ones(F32, &[1, 16, 64, 64]), ones(F32, &[16, 16, 2, 2])],
    );
    let scales = Some(tensor(F32, &[4], &[1.0, 1.0, 2.0, 2.0]));
    cases.push(Case::one("Resize", 17, vec![], vec![Some(ones(F32, &[1, 8, 128, 128])), None, scales], 1));
    let lstm = vec![ones(F32, &[512, 8, 64]), ones(F32, &[1, 256, 64]), ones(F32, &[1, 256, 64])];
    cases.push(Case::one("LSTM", 17, vec![int("hidden_size", 64)], lstm.into_iter().map(Some).collect(), 1));
    let rnn = vec![ones(F32, &[20_000, 1, 1]), ones(F32, &[1, 1, 1]), ones(F32, &[1, 1, 1])];
    cases.push(Case::one("RNN", 17, vec![int("hidden_size", 1)], rnn.into_iter().map(Some).collect(), 1));
    cases.extend(interpolations());
    cases.extend(attentions());
    cases
}

/// Powers, orders and samples, whose forms are made of many operations.
fn interpolations() -> Vec<Case> {
    use ElementType::{F16, F32};
    let mut cases = Vec::new();
    let mut case = |op: &str, opset: i64, attributes: Vec<AttributeProto>, inputs: Vec<Option<Value>>| {
        cases.push(Case::one(op, opset, attributes, inputs, 1));
    };
    let x = |ty| Some(ones(ty, &[64, 64, 128]));
    case("Pow", 17, vec![], vec![x(F32), x(F16)]);
    case("Pow", 17, vec![], vec![Some(ones(F32, &[1024, 1])), Some(ones(F32, &[1, 1024]))]);
    case("Mod", 17, vec![int("fmod", 1)], vec![x(F16), x(F16)]);
    case("CumProd", 26, vec![], vec![x(F32), Some(longs(&[], &[1]))]);
    case("TopK", 17, vec![], vec![Some(ones(F32, &[16, 512])), Some(longs(&[1], &[64]))]);
    case("TopK", 17, vec![], vec![Some(ones(F32, &[1 << 18])), Some(longs(&[1], &[4]))]);
    for (mode, antialias) in [("linear", 0), ("cubic", 0), ("linear", 1)] {
        let size = if antialias == 1 { 100 } else { 256 };
        let inputs = vec![Some(ones(F32, &[1, 8, 128, 128])), None, None, Some(longs(&[4], &[1, 8, size, size]))];
        case("Resize", 19, vec![string("mode", mode), int("antialias", antialias)], inputs);
    }
    let grid = || Some(ones(F32, &[1, 128, 128, 2]));
    for mode in ["nearest", "linear", "cubic"] {
        case("GridSample", 20, vec![string("mode", mode)], vec![Some(ones(F32, &[1, 16, 64, 64])), grid()]);
    }
    case("AffineGrid", 20, vec![], vec![Some(ones(F32, &[1, 2, 3])), Some(longs(&[4], &[1, 1, 512, 512]))]);
    cases
}

/// Attentions and what is fused around them.
fn attentions() -> Vec<Case> {
    use ElementType::F32;
    let row = || Some(ones(F32, &[1, 256, 256]));
    let width = || Some(ones(F32, &[256]));
    let layer = Case::one("SkipLayerNormalization", 17, vec![], vec![row(), row(), width(), width()], 1);
    let heads = Case::one("MultiHeadAttention", 17, vec![int("num_heads", 8)], vec![row(), row(), row()], 1);
    let split = || Some(ones(F32, &[1, 8, 256, 32]));
    let flexible = Case::one("FlexAttention", 17, vec![], vec![split(), split(), split()], 1);
    let steps = || Some(ones(F32, &[1, 4000, 8]));
    let attributes = vec![int("q_num_heads", 2), int("kv_num_heads", 2), string("update_rule", "linear")];
    let linear = Case::one("LinearAttention", 27, attributes, vec![steps(), steps(), steps()], 1);
    let convolution = Case::one("CausalConvWithState", 27, vec![], vec![row(), Some(ones(F32, &[256, 1, 4]))], 1);
    let cache = vec![Some(ones(F32, &[8, 1 << 10, 64])), Some(ones(F32, &[8, 1, 64])), Some(longs(&[8], &[7; 8]))];
    let scatter = Case::one("TensorScatter", 24, vec![], cache, 1);
    let others = [layer, heads].map(|case| case.in_domain("com.microsoft"));
    others.into_iter().chain([flexible.in_domain("ai.onnx.preview"), linear, convolution, scatter]).collect()
}

#[test]
fn a_compute_takes_no_more_memory_than_its_limit() {
    let device = CandleBackend::with_device(Device::Cpu);
    let mut failures = Vec::new();
    for case in cases() {
        let (result, ty) = case.on_host(0, &ComputeControl::default());
        drop(result.unwrap_or_else(|error| panic!("{error:?}\n{:?}", case.nodes)));
        let graph = case.load(&device, 0, ty).unwrap();
        // The peak of a compute with this limit, and whether it has a result.
        let measure = |limit: usize| -> (usize, bool) {
            let inputs: Vec<Value> = case.values.iter().map(|(_, value, _)| value.clone()).collect();
            let (result, peak) = peak_of(|| graph.run(inputs, &ComputeControl::default().with_memory_limit(limit)));
            if let Err(error) = &result {
                assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
            }
            (peak, result.is_ok())
        };
        // The first compute also allocates what candle's matrix products keep on its thread.
        measure(usize::MAX);
        let (mut low, mut high) = (0, measure(usize::MAX).0 * 2 + (1 << 20));
        while !measure(high).1 {
            (low, high) = (high, high * 2);
        }
        // The smallest limit with a result, nearly.
        while high - low > high / 64 {
            let limit = low + (high - low) / 2;
            let (peak, done) = measure(limit);
            // Each thread of candle's allocates the buffers of products once, whenever it first has a part of one.
            if peak > limit + SLACK && (0..8).all(|_| measure(limit).0 > limit + SLACK) {
                failures.push(format!("{} takes {peak} bytes with a limit of {limit}", describe(&case)));
                break;
            }
            if done { high = limit } else { low = limit }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn describe(case: &Case) -> String {
    let inputs: Vec<_> = case.values.iter().map(|(_, value, _)| (value.ty(), value.dims().to_vec())).collect();
    format!("{:?} {inputs:?}", case.nodes[0].op_type.as_deref().unwrap_or(""))
}
