//! Every operator with attributes of wrong kinds, missing inputs, too many outputs, and empty or huge dimensions.
//!
//! Each load and each run ends with an error or a result, without a panic.

use crate::format::messages::{AttributeProto, TensorProto};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use crate::tests::builder::{
    F32, Model, float, graph, info, int, integers, ints, onnx_number, string, tensor_attribute,
};
use crate::{CandleBackend, Operator, operators};
use graphpool::backend::{ComputeControl, MESSAGE_BYTES};

/// Names of optional attributes that operators read.
const NAMES: [&str; 93] = [
    "activation",
    "activation_alpha",
    "activation_params",
    "activations",
    "align_corners",
    "allowzero",
    "alpha",
    "auto_pad",
    "axes",
    "axis",
    "batch_axis",
    "batch_dims",
    "beta",
    "bias",
    "block_size",
    "blocksize",
    "body",
    "cats_int64s",
    "ceil_mode",
    "center_point_box",
    "channels_last",
    "classlabels_int64s",
    "classlabels_strings",
    "clip",
    "coordinate_transformation_mode",
    "count_include_pad",
    "cubic_coeff_a",
    "detect_negative",
    "dilations",
    "direction",
    "dtype",
    "else_branch",
    "end",
    "epsilon",
    "equation",
    "exclude_outside",
    "exclusive",
    "group",
    "ignore_index",
    "inputdimensions",
    "interleaved",
    "inverse",
    "is_causal",
    "k",
    "keepdims",
    "kernel_shape",
    "kv_num_heads",
    "layout",
    "left_window_size",
    "mode",
    "n_supports",
    "n_targets",
    "num_groups",
    "num_heads",
    "num_outputs",
    "num_scan_inputs",
    "onesided",
    "opset",
    "output_datatype",
    "output_dtype",
    "output_height",
    "output_padding",
    "output_shape",
    "p",
    "pads",
    "perm",
    "q_num_heads",
    "qk_matmul_output_mode",
    "qkv_hidden_sizes",
    "reduction",
    "right_window_size",
    "rotary_embedding_dim",
    "round_mode",
    "sample_size",
    "sampling_ratio",
    "saturate",
    "scale",
    "scan_input_axes",
    "seed",
    "shape",
    "size",
    "softcap",
    "softmax_precision",
    "sorted",
    "spatial_scale",
    "split",
    "start",
    "stash_type",
    "strides",
    "targets",
    "then_branch",
    "to",
    "update_rule",
];

/// Values of an attribute, of every kind and some at the ends of their range.
fn kinds(name: &str) -> Vec<AttributeProto> {
    let body = Model::new(13).node("Neg", "i0", "inside", &[]).output("inside", F32).graph;
    let tensor = tensor_attribute(name, TensorProto { dims: vec![i64::MAX, 2], ..integers("t", &[0], &[]) });
    vec![
        int(name, i64::MIN),
        int(name, i64::MAX),
        int(name, 0),
        float(name, f32::NAN),
        string(name, "\u{0}×"),
        ints(name, &[]),
        ints(name, &[i64::MIN, i64::MAX]),
        ints(name, &[1, -1, 1, 0, 1, 1 << 40, 1]),
        graph(name, body),
        tensor,
        AttributeProto { name: Some(name.to_owned()), ref_attr_name: Some("x".into()), ..AttributeProto::default() },
    ]
}

/// A value of any type whose elements count from -1, with wrapping in unsigned types.
fn counting(ty: ElementType, dims: &[usize]) -> Value {
    let count: usize = dims.iter().product();
    let bytes: Vec<u8> = match ty {
        ElementType::F32 => (0..count).flat_map(|index| (index as f32 - 1.0).to_le_bytes()).collect(),
        ElementType::Bool => (0..count).map(|index| (index % 2) as u8).collect(),
        _ => (0..count).flat_map(|index| (index as i64 - 1).to_le_bytes()[..ty.size()].to_vec()).collect(),
    };
    Value::from_bytes(dims.to_vec(), ty, &bytes).unwrap()
}

/// Loads a model of one node and runs it on the values `of`.
fn attack(
    operator: &Operator,
    opset: i64,
    names: &[&str],
    outputs: usize,
    attributes: &[AttributeProto],
    of: &[Value],
) {
    let outputs: Vec<String> = (0..outputs).map(|index| format!("o{index}")).collect();
    let mut model = Model::new(opset).node(operator.name, &names.join(" "), &outputs.join(" "), attributes);
    model = model.of_domain(operator.domain, opset);
    for (index, value) in of.iter().enumerate() {
        model.graph.input.push(info(&format!("i{index}"), onnx_number(value), None));
    }
    model.graph.output = outputs.iter().map(|name| info(name, F32, None)).collect();
    let control = ComputeControl::default()
        .with_memory_limit(1 << 20)
        .with_deadline(std::time::Instant::now() + std::time::Duration::from_millis(100));
    let run =
        CandleBackend::new().load_graph(&model.bytes(), 1 << 24).and_then(|graph| graph.run(of.to_vec(), &control));
    if let Err(error) = run {
        assert!(error.message().len() <= MESSAGE_BYTES, "{}", operator.name);
    }
}

#[test]
fn attributes_of_every_kind_meet_every_operator() {
    let of = [counting(ElementType::F32, &[1, 2, 2, 2]), counting(ElementType::I64, &[4])];
    for operator in operators() {
        let names = ["i0", "i1", "i0", "i1", "i0"];
        let names = &names[..operator.inputs.0.clamp(1, 5)];
        for name in NAMES {
            for kind in kinds(name) {
                attack(operator, operator.until, names, 1, &[kind], &of);
            }
        }
    }
}

#[test]
fn inputs_left_out_and_outputs_too_many_meet_every_operator() {
    let of = [counting(ElementType::F32, &[2, 3]), counting(ElementType::I64, &[1])];
    for operator in operators() {
        let most = operator.inputs.1.min(9);
        for absent in 0..=most {
            let names: Vec<&str> =
                (0..most).map(|index| if index == absent { "_" } else { ["i0", "i1"][index % 2] }).collect();
            for outputs in [0, 1, 2, 5] {
                attack(operator, operator.until, &names, outputs, &[], &of);
                attack(operator, operator.since, &names[..absent], outputs, &[], &of);
            }
        }
    }
}

#[test]
fn every_type_and_dimensions_without_elements_meet_every_operator() {
    let types = (1..17).filter_map(ElementType::from_onnx).collect::<Vec<_>>();
    let huge = 1 << 57;
    for operator in operators() {
        let names = ["i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7"];
        let names = &names[..operator.inputs.0.clamp(1, 8)];
        for &first in &types {
            for second in [first, ElementType::I64, ElementType::Bool] {
                for dims in [&[2, 2][..], &[1, 0, 2], &[huge, 0], &[0, huge], &[1, 1, huge, 0], &[0, 1, 1, 1]] {
                    for others in [dims, &[1], &[0]] {
                        let of = |index: usize| {
                            if index == 0 { counting(first, dims) } else { counting(second, others) }
                        };
                        let of: Vec<Value> = (0..names.len()).map(of).collect();
                        attack(operator, operator.until, names, 1, &[], &of);
                    }
                }
            }
        }
    }
}
