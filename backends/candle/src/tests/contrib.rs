//! The operators that onnxruntime adds, against what onnxruntime 1.32 gives for the same inputs.

#![expect(clippy::unreadable_literal, reason = "numbers as onnxruntime printed them")]
#![expect(clippy::too_many_lines, reason = "tables of numbers")]

use crate::CandleBackend;
use crate::format::messages::{AttributeProto, ModelProto, OperatorSetIdProto};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::Value;
use crate::tests::builder::{Model, float, info, int, ints, node, string};
use graphpool::backend::{ComputeControl, Error, ErrorKind};
use prost::Message as _;

/// -1.25, 0.5, -0.5, 1.25 and so on.
fn f(dims: &[usize]) -> Value {
    of(dims, &(0..dims.iter().product()).map(|at: usize| (at * 7 % 11) as f32 / 4.0 - 1.25).collect::<Vec<_>>())
}

fn double(dims: &[usize]) -> Value {
    of(dims, &f(dims).elements::<f32>().unwrap().iter().map(|x| 2.0 * x).collect::<Vec<_>>())
}

fn i(dims: &[usize]) -> Value {
    of(
        dims,
        &(0..dims.iter().product()).map(|at: usize| (at * 37 % 255) as i16 - 127).map(|x| x as i8).collect::<Vec<_>>(),
    )
}

fn u(dims: &[usize]) -> Value {
    of(dims, &(0..dims.iter().product()).map(|at: usize| (at * 37 % 256) as u8).collect::<Vec<_>>())
}

fn of<T: Element>(dims: &[usize], elements: &[T]) -> Value {
    Value::new(dims.to_vec(), elements.to_vec()).unwrap()
}

fn same<T: Element>(dims: &[usize], element: T) -> Value {
    of(dims, &vec![element; dims.iter().product()])
}

fn one<T: Element>(element: T) -> Value {
    Value::scalar(element).unwrap()
}

/// 1 to 8, divided by a number.
fn rising(by: f32) -> Value {
    of(&[1, 8], &(1..=8).map(|x| x as f32 / by).collect::<Vec<_>>())
}

fn number(value: &Value) -> i32 {
    (1..17).find(|&number| ElementType::from_onnx(number) == Some(value.ty())).unwrap()
}

/// A model of one operator of com.microsoft, whose inputs are the model's or, where `constant`, are known at load.
fn run(
    op: &str,
    attributes: &[AttributeProto],
    inputs: &[Option<Value>],
    outputs: usize,
    constant: bool,
) -> Result<Vec<Value>, Error> {
    let names: Vec<String> = inputs
        .iter()
        .enumerate()
        .map(|(at, input)| if input.is_some() { format!("x{at}") } else { "_".to_owned() })
        .collect();
    let results: Vec<String> = (0..outputs).map(|at| format!("y{at}")).collect();
    let mut model = Model::new(17);
    let mut made = node(op, &names.join(" "), &results.join(" "), attributes);
    made.domain = Some("com.microsoft".to_owned());
    model.graph.node.push(made);
    let mut given = Vec::new();
    for (at, input) in inputs.iter().enumerate() {
        let Some(input) = input else { continue };
        if constant && at > 0 {
            model.graph.initializer.push(crate::format::messages::TensorProto {
                name: Some(format!("x{at}")),
                dims: input.dims().iter().map(|&dim| dim as i64).collect(),
                data_type: Some(number(input)),
                raw_data: Some(input.to_bytes()),
                ..Default::default()
            });
        } else {
            model.graph.input.push(info(&format!("x{at}"), number(input), None));
            given.push(input.clone());
        }
    }
    let integer = op.starts_with("QLinear");
    for (at, result) in results.iter().enumerate() {
        let ty = if integer {
            2
        } else if op == "EmbedLayerNormalization" && at == 1 {
            6
        } else {
            1
        };
        model.graph.output.push(info(result, ty, None));
    }
    let mut proto = ModelProto::decode(model.bytes().as_slice()).unwrap();
    proto.opset_import.push(OperatorSetIdProto { domain: Some("com.microsoft".to_owned()), version: Some(1) });
    let control = ComputeControl::default().with_memory_limit(1 << 24);
    CandleBackend::new().load_graph(&proto.encode_to_vec(), 1 << 24)?.run(given, &control)
}

#[track_caller]
fn check(op: &str, attributes: &[AttributeProto], inputs: &[Option<Value>], wanted: &[&[f32]]) {
    for constant in [false, true] {
        let found = run(op, attributes, inputs, wanted.len(), constant).unwrap();
        for (found, wanted) in found.iter().zip(wanted) {
            let found: Vec<f32> = match found.ty() {
                ElementType::I32 => found.elements::<i32>().unwrap().iter().map(|&x| x as f32).collect(),
                _ => found.elements::<f32>().unwrap().to_vec(),
            };
            assert_eq!(found.len(), wanted.len(), "{op}");
            for (found, wanted) in found.iter().zip(*wanted) {
                assert!((found - wanted).abs() <= 2e-4 * (1.0 + wanted.abs()), "{op}: {found} instead of {wanted}");
            }
        }
    }
}

/// A place that lies half between two integers may become either.
#[track_caller]
fn bytes(op: &str, attributes: &[AttributeProto], inputs: &[Option<Value>], wanted: &[u8]) {
    let found = run(op, attributes, inputs, 1, false).unwrap();
    let found = found[0].elements::<u8>().unwrap();
    assert_eq!(found.len(), wanted.len(), "{op}");
    assert!(found.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= 1), "{op}: {found:?} instead of {wanted:?}");
    assert!(found.iter().zip(wanted).filter(|(a, b)| a != b).count() <= 1, "{op}: {found:?} instead of {wanted:?}");
}

#[test]
fn an_lstm_of_integers_give_what_onnxruntime_gives() {
    check(
        "DynamicQuantizeLSTM",
        &[int("hidden_size", 2), string("direction", "forward")],
        &[
            Some(f(&[3, 2, 3])),
            Some(i(&[1, 3, 8])),
            Some(i(&[1, 2, 8])),
            Some(f(&[1, 16])),
            None,
            None,
            None,
            Some(f(&[1, 6])),
            Some(same(&[1], 0.01_f32)),
            Some(same(&[1], 3_i8)),
            Some(same(&[1], 0.02_f32)),
            Some(same(&[1], 3_i8)),
        ],
        &[
            &[
                0.08728591,
                0.5075839,
                0.0036143663,
                -0.094380476,
                0.019653449,
                0.035644528,
                0.018909154,
                -0.027853927,
                0.052442312,
                -0.19204436,
                0.05400045,
                0.054738052,
            ],
            &[0.052442312, -0.19204436, 0.05400045, 0.054738052],
            &[0.16452152, -0.3814221, 0.15472017, 0.08789699],
        ],
    );
    check(
        "DynamicQuantizeLSTM",
        &[int("hidden_size", 2), string("direction", "bidirectional")],
        &[
            Some(f(&[3, 2, 3])),
            Some(i(&[2, 3, 8])),
            Some(i(&[2, 2, 8])),
            Some(f(&[2, 16])),
            None,
            None,
            None,
            Some(f(&[2, 6])),
            Some(same(&[2], 0.01_f32)),
            Some(same(&[2], 3_i8)),
            Some(same(&[2], 0.02_f32)),
            Some(same(&[2], 3_i8)),
        ],
        &[
            &[
                0.08728591,
                0.5075839,
                0.0036143663,
                -0.094380476,
                -0.31048936,
                0.07312542,
                -0.22149871,
                0.3526701,
                0.019653449,
                0.035644528,
                0.018909154,
                -0.027853927,
                -0.26313683,
                0.28789544,
                -0.25236243,
                0.16015892,
                0.052442312,
                -0.19204436,
                0.05400045,
                0.054738052,
                -0.09785604,
                0.22157685,
                -0.07131975,
                0.23883024,
            ],
            &[0.052442312, -0.19204436, 0.05400045, 0.054738052, -0.31048936, 0.07312542, -0.22149871, 0.3526701],
            &[0.16452152, -0.3814221, 0.15472017, 0.08789699, -0.43228775, 0.9941261, -0.24487278, 0.7057115],
        ],
    );
    check(
        "DynamicQuantizeLSTM",
        &[int("hidden_size", 2), float("clip", 0.5)],
        &[
            Some(f(&[3, 2, 3])),
            Some(u(&[1, 3, 8])),
            Some(u(&[1, 2, 8])),
            Some(f(&[1, 16])),
            Some(of(&[2], &[3_i32, 1])),
            Some(f(&[1, 2, 2])),
            Some(f(&[1, 2, 2])),
            None,
            Some(rising(500.0)),
            Some(same(&[1, 8], 128_u8)),
            Some(rising(400.0)),
            Some(same(&[1, 8], 120_u8)),
        ],
        &[
            &[
                -0.3451914,
                0.25219974,
                -0.051313546,
                0.21981616,
                -0.10307115,
                0.0033610081,
                0.0,
                0.0,
                0.000041929048,
                -0.17089422,
                0.0,
                0.0,
            ],
            &[0.000041929048, -0.17089422, -0.051313546, 0.21981616],
            &[0.000111058354, -0.28428802, -0.1367616, 0.49042502],
        ],
    );
}

#[test]
fn products_of_integers_in_floats_give_what_onnxruntime_gives() {
    check(
        "DynamicQuantizeMatMul",
        &[],
        &[
            Some(f(&[2, 3])),
            Some(i(&[3, 4])),
            Some(of(&[4], &[0.1_f32, 0.2, 0.3, 0.4])),
            Some(of(&[4], &[0_i8, 1, 2, 3])),
            Some(f(&[4])),
        ],
        &[&[19.912746, 33.860786, 36.09412, -18.887257, -10.119608, -11.803923, -10.802942, -27.616669]],
    );
    check(
        "MatMulIntegerToFloat",
        &[],
        &[
            Some(u(&[2, 3])),
            Some(i(&[3, 4])),
            Some(one(0.1_f32)),
            Some(of(&[4], &[0.1_f32, 0.2, 0.3, 0.4])),
            Some(one(9_u8)),
            Some(of(&[4], &[0_i8, 1, 2, 3])),
            Some(f(&[4])),
        ],
        &[&[-39.840004, -16.2, 65.170006, -75.83, -252.96002, -202.68001, 145.09001, -621.9501]],
    );
}

#[test]
fn quantized_tensors_give_what_onnxruntime_gives() {
    bytes(
        "QLinearAdd",
        &[],
        &[
            Some(u(&[2, 3])),
            Some(one(0.1_f32)),
            Some(one(100_u8)),
            Some(u(&[3])),
            Some(one(0.05_f32)),
            Some(one(20_u8)),
            Some(one(0.2_f32)),
            Some(one(90_u8)),
        ],
        &[35, 63, 90, 90, 118, 146],
    );
    bytes(
        "QLinearMul",
        &[],
        &[
            Some(u(&[2, 3])),
            Some(one(0.1_f32)),
            Some(one(100_u8)),
            Some(u(&[3])),
            Some(one(0.05_f32)),
            Some(one(20_u8)),
            Some(one(0.2_f32)),
            Some(one(90_u8)),
        ],
        &[140, 63, 55, 84, 110, 205],
    );
    bytes(
        "QLinearSigmoid",
        &[],
        &[Some(u(&[2, 3])), Some(one(0.1_f32)), Some(one(100_u8)), Some(one(0.005_f32)), Some(one(3_u8))],
        &[3, 3, 17, 153, 201, 203],
    );
    bytes(
        "QLinearLeakyRelu",
        &[float("alpha", 0.1)],
        &[Some(u(&[2, 3])), Some(one(0.1_f32)), Some(one(100_u8)), Some(one(0.2_f32)), Some(one(100_u8))],
        &[95, 97, 99, 106, 124, 142],
    );
    bytes(
        "QLinearConcat",
        &[int("axis", 1)],
        &[
            Some(one(0.2_f32)),
            Some(one(100_u8)),
            Some(u(&[2, 3])),
            Some(one(0.1_f32)),
            Some(one(100_u8)),
            Some(u(&[2, 1])),
            Some(one(0.05_f32)),
            Some(one(0_u8)),
        ],
        &[50, 68, 87, 100, 106, 124, 142, 109],
    );
    bytes(
        "QLinearAveragePool",
        &[ints("kernel_shape", &[2, 2]), ints("pads", &[1, 0, 0, 0])],
        &[Some(u(&[1, 2, 3, 3])), Some(one(0.1_f32)), Some(one(100_u8)), Some(one(0.09_f32)), Some(one(99_u8))],
        &[8, 50, 70, 111, 122, 92, 94, 135, 156, 126, 137, 107],
    );
    bytes(
        "QLinearGlobalAveragePool",
        &[],
        &[Some(u(&[1, 2, 3, 3])), Some(one(0.1_f32)), Some(one(100_u8)), Some(one(0.09_f32)), Some(one(99_u8))],
        &[89, 111],
    );
    bytes(
        "QLinearSoftmax",
        &[int("axis", -1), int("opset", 13)],
        &[Some(u(&[2, 3])), Some(one(0.1_f32)), Some(one(100_u8)), Some(one(0.003_906_25_f32)), Some(one(0_u8))],
        &[0, 6, 250, 0, 6, 250],
    );
}

#[test]
fn operators_that_stand_for_several_give_what_onnxruntime_gives() {
    check(
        "FusedMatMul",
        &[float("alpha", 0.5), int("transA", 1), int("transB", 1)],
        &[Some(f(&[2, 3, 2])), Some(f(&[2, 4, 3]))],
        &[&[
            0.59375, -0.9375, -0.75, -0.5625, 0.1875, 0.75, 0.625, 0.5, 0.34375, 0.375, 0.40625, 0.4375, -0.96875,
            -0.90625, -0.84375, -0.78125,
        ]],
    );
    check(
        "BiasGelu",
        &[],
        &[Some(f(&[2, 3])), Some(f(&[3]))],
        &[&[-0.015524104, 0.8413447, -0.15865526, 0.0, 0.5800295, -0.13206221]],
    );
    check(
        "FastGelu",
        &[],
        &[Some(f(&[2, 3])), Some(f(&[3]))],
        &[&[-0.015084296, 0.841192, -0.15880796, 0.0, 0.5799606, -0.13228577]],
    );
    check(
        "QuickGelu",
        &[float("alpha", 1.7)],
        &[Some(f(&[2, 3]))],
        &[&[-0.13336323, 0.35028356, -0.14971644, 1.1166368, 0.15116978, -0.16380188]],
    );
    check(
        "Gelu",
        &[],
        &[Some(f(&[2, 3]))],
        &[&[-0.13206221, 0.34573123, -0.15426877, 1.1179378, 0.14967658, -0.16997051]],
    );
    check(
        "FusedGemm",
        &[string("activation", "LeakyRelu"), float("activation_alpha", 0.1), int("transB", 1), float("alpha", 0.5)],
        &[Some(f(&[2, 3])), Some(f(&[4, 3])), Some(f(&[4]))],
        &[&[-0.021875, -0.003125, -0.0875, 1.03125, -0.17812501, 1.59375, 0.5, 2.15625]],
    );
    check(
        "FusedConv",
        &[string("activation", "Relu"), ints("kernel_shape", &[2, 2])],
        &[Some(f(&[1, 2, 3, 3])), Some(f(&[2, 2, 2, 2])), Some(f(&[2])), Some(f(&[1, 2, 2, 2]))],
        &[&[0.0, 0.0, 0.0, 0.0, 2.75, 0.0, 0.8125, 0.0]],
    );
    check(
        "SkipLayerNormalization",
        &[float("epsilon", 1e-5)],
        &[Some(f(&[1, 2, 3])), Some(double(&[1, 2, 3])), Some(f(&[3])), Some(f(&[3])), Some(f(&[3]))],
        &[&[0.20309472, 1.1393616, -0.4418762, -2.4595237, 0.7046886, 0.18849808]],
    );
    check(
        "SkipSimplifiedLayerNormalization",
        &[float("epsilon", 1e-5)],
        &[Some(f(&[1, 2, 3])), Some(double(&[1, 2, 3])), Some(f(&[3]))],
        &[&[1.8844444, 0.3015111, 0.3015111, -1.8298112, 0.1463849, 0.43915468]],
    );
    check(
        "EmbedLayerNormalization",
        &[float("epsilon", 1e-5)],
        &[
            Some(of(&[1, 3], &[1_i32, 0, 2])),
            Some(of(&[1, 3], &[0_i32, 1, 1])),
            Some(f(&[3, 4])),
            Some(f(&[5, 4])),
            Some(f(&[2, 4])),
            Some(f(&[4])),
            Some(double(&[4])),
            Some(of(&[1, 3], &[1_i32, 1, 0])),
        ],
        &[
            &[
                -0.7346796, 1.0371647, -0.9628354, 4.2653203, -1.3956891, 0.44784456, -1.5521555, 3.604311, -1.6091315,
                1.5345211, -1.4454343, 0.94097996,
            ],
            &[2.0],
        ],
    );
}

#[test]
fn attention_of_several_heads_give_what_onnxruntime_gives() {
    check(
        "Attention",
        &[int("num_heads", 2)],
        &[Some(f(&[2, 3, 4])), Some(f(&[4, 12])), Some(f(&[12]))],
        &[&[
            -2.0484116,
            -0.120253354,
            0.8259606,
            -2.0610614,
            2.1255758,
            -0.47037283,
            0.25864527,
            -1.5166011,
            -0.73389983,
            0.58573055,
            -1.2501696,
            1.9343399,
            1.7472566,
            -0.5599654,
            0.24255273,
            -1.9925547,
            -1.7001017,
            2.3209748,
            -0.98112184,
            -1.0764978,
            -1.3992007,
            2.0624154,
            0.72463864,
            -2.4151955,
        ]],
    );
    check(
        "Attention",
        &[int("num_heads", 2), int("unidirectional", 1)],
        &[Some(f(&[2, 3, 4])), Some(f(&[4, 12])), Some(f(&[12])), Some(of(&[2, 3], &[1_i32, 1, 0, 1, 1, 1]))],
        &[&[
            -0.8125,
            0.9375,
            -1.4375,
            2.375,
            -0.81413585,
            0.9361094,
            0.834752,
            -1.8924001,
            -1.076535,
            0.71307015,
            -1.2992659,
            2.1153896,
            -2.5,
            -0.1875,
            0.75,
            -2.4375,
            0.033650115,
            -0.41105735,
            0.19116984,
            -1.9457295,
            -1.3992007,
            2.0624154,
            0.72463864,
            -2.4151955,
        ]],
    );
    check(
        "Attention",
        &[int("num_heads", 2)],
        &[Some(f(&[2, 3, 4])), Some(f(&[4, 12])), Some(f(&[12])), Some(of(&[2], &[2_i32, 3]))],
        &[&[
            -2.0561044,
            -0.11956371,
            0.9962007,
            -2.1956086,
            -0.81413585,
            0.9361094,
            0.834752,
            -1.8924001,
            -1.076535,
            0.71307015,
            -1.2992659,
            2.1153896,
            1.7472566,
            -0.5599654,
            0.24255273,
            -1.9925547,
            -1.7001017,
            2.3209748,
            -0.98112184,
            -1.0764978,
            -1.3992007,
            2.0624154,
            0.72463864,
            -2.4151955,
        ]],
    );
    check(
        "Attention",
        &[int("num_heads", 2), float("scale", 0.3)],
        &[Some(f(&[2, 3, 4])), Some(f(&[4, 12])), Some(f(&[12])), None, None, Some(f(&[2, 2, 3, 3]))],
        &[&[
            -1.9370953,
            -0.115196854,
            -0.03517981,
            -0.38763854,
            0.387339,
            0.34129244,
            -0.38219887,
            -0.735225,
            -0.8770879,
            0.69340014,
            -0.9066604,
            0.79689014,
            0.868909,
            0.2046933,
            -0.540598,
            -1.3122749,
            -2.0212781,
            2.4174898,
            -0.8717797,
            -1.1305279,
            0.05897089,
            0.77153885,
            -0.052188993,
            -1.7347322,
        ]],
    );
    check(
        "QAttention",
        &[int("num_heads", 2)],
        &[
            Some(u(&[2, 3, 4])),
            Some(i(&[4, 12])),
            Some(f(&[12])),
            Some(one(0.02_f32)),
            Some(one(0.01_f32)),
            Some(of(&[2], &[2_i32, 3])),
            Some(one(128_u8)),
            Some(one(1_i8)),
        ],
        &[&[
            -0.9136188,
            3.325795,
            -0.2343149,
            -5.684459,
            -0.9156531,
            3.3285332,
            0.16616218,
            -0.42992377,
            -0.7103809,
            3.0522492,
            -0.22988476,
            -5.6263328,
            -2.6969965,
            0.12756257,
            1.1748582,
            -0.9288445,
            -1.341357,
            -0.115874924,
            -5.309068,
            -0.52217996,
            -0.546266,
            0.57628775,
            -3.4346638,
            -0.5285067,
        ]],
    );
    check(
        "MultiHeadAttention",
        &[int("num_heads", 2)],
        &[
            Some(f(&[2, 3, 4])),
            Some(f(&[2, 5, 4])),
            Some(double(&[2, 5, 4])),
            Some(f(&[12])),
            Some(of(&[2, 5], &[1_i32, 1, 1, 0, 0, 1, 1, 1, 1, 1])),
        ],
        &[&[
            -3.2378,
            1.9229639,
            -1.1364383,
            1.1112401,
            -2.7405014,
            1.4461199,
            -0.21077554,
            0.05749748,
            -3.2268486,
            1.9334878,
            -0.479977,
            -1.11661,
            -0.62132126,
            0.827337,
            -1.4870138,
            -0.29262412,
            -1.7300059,
            2.8222854,
            -1.5936177,
            -0.43135852,
            -0.49500707,
            1.085526,
            -2.19032,
            0.1903199,
        ]],
    );
}

#[test]
fn what_does_not_fit_is_refused_and_never_run() {
    let heads = |count| [int("num_heads", count)];
    let kind = |result: Result<Vec<Value>, Error>| result.unwrap_err().kind();
    let three = vec![Some(f(&[2, 3, 4])), Some(f(&[4, 12])), Some(f(&[12]))];
    assert_eq!(kind(run("Attention", &heads(0), &three, 1, false)), ErrorKind::InvalidEncoding);
    assert_eq!(kind(run("Attention", &heads(3), &three, 1, false)), ErrorKind::InvalidArgument);
    let wide = vec![Some(f(&[2, 3, 4])), Some(f(&[4, 11])), Some(f(&[11]))];
    assert_eq!(kind(run("Attention", &heads(2), &wide, 1, false)), ErrorKind::InvalidArgument);
    let sizes = [int("num_heads", 2), ints("qkv_hidden_sizes", &[4, 4, i64::MAX])];
    assert_eq!(kind(run("Attention", &sizes, &three, 1, false)), ErrorKind::InvalidArgument);
    let mut lstm = vec![None; 12];
    for (at, value) in [
        (0, f(&[3, 2, 3])),
        (1, i(&[1, 3, 8])),
        (2, i(&[1, 2, 8])),
        (8, one(0.01_f32)),
        (9, one(3_i8)),
        (10, one(0.01_f32)),
        (11, one(3_i8)),
    ] {
        lstm[at] = Some(value);
    }
    let first = |lstm: &[Option<Value>]| run("DynamicQuantizeLSTM", &[], lstm, 1, false);
    assert!(first(&lstm).is_ok());
    let with = |at: usize, value: Value| {
        let mut lstm = lstm.clone();
        lstm[at] = Some(value);
        kind(first(&lstm))
    };
    assert_eq!(with(1, i(&[1, 4, 8])), ErrorKind::InvalidArgument);
    assert_eq!(with(2, i(&[1, 2, 7])), ErrorKind::InvalidArgument);
    assert_eq!(with(1, f(&[1, 3, 8])), ErrorKind::UnsupportedOperation);
    assert_eq!(with(8, of(&[2], &[0.1_f32, 0.1])), ErrorKind::InvalidArgument);
    assert_eq!(with(4, of(&[2], &[4_i32, 1])), ErrorKind::InvalidArgument);
    assert_eq!(with(3, f(&[1, 15])), ErrorKind::InvalidArgument);
    let concat =
        vec![Some(one(0.1_f32)), Some(one(0_u8)), Some(u(&[2])), Some(one(0.1_f32)), Some(one(0_u8)), Some(u(&[2]))];
    assert_eq!(kind(run("QLinearConcat", &[int("axis", 0)], &concat, 1, false)), ErrorKind::InvalidEncoding);
}

#[test]
fn what_is_ahead_has_no_part_even_where_the_rest_is_masked() {
    let mask = of(&[1, 3], &[0_i32, 1, 1]);
    check(
        "Attention",
        &[int("num_heads", 1), int("unidirectional", 1)],
        &[Some(f(&[1, 3, 2])), Some(f(&[2, 6])), Some(f(&[6])), Some(mask.clone())],
        &[&[-0.1875, -0.4375, -0.1875, -1.9375, -0.151_839_91, -1.837_003_4]],
    );
    check(
        "MultiHeadAttention",
        &[int("num_heads", 1), int("unidirectional", 1), float("mask_filter_value", -1.0)],
        &[Some(f(&[1, 3, 2])), Some(f(&[1, 3, 2])), Some(f(&[1, 3, 2])), None, Some(mask)],
        &[&[-1.25, 0.5, -0.648_630_4, 1.101_369_7, -0.057_572_037, -0.205_873_01]],
    );
}

#[test]
fn a_quantized_softmax_without_an_axis_takes_the_last_one() {
    let x = of(&[2, 2, 3], &[0_u8, 10, 20, 30, 0, 5, 1, 2, 40, 7, 7, 7]);
    for opset in [11, 12, 13] {
        bytes(
            "QLinearSoftmax",
            &[int("opset", opset)],
            &[Some(x.clone()), Some(one(0.1_f32)), Some(one(0_u8)), Some(one(0.003_906_25_f32)), Some(one(0_u8))],
            &[23, 63, 170, 226, 11, 19, 5, 5, 246, 85, 85, 85],
        );
    }
}
