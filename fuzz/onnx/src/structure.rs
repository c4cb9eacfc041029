//! Models out of bytes: a seed model, and changes to it that keep it a protobuf message.

use arbitrary::{Result, Unstructured};
use graphpool_candle::messages::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use graphpool_candle::operators;
use prost::Message;

/// Attributes that operators read, so that changes hit them.
const ATTRIBUTES: [&str; 117] = [
    "axis",
    "axes",
    "perm",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "group",
    "auto_pad",
    "mode",
    "keepdims",
    "alpha",
    "beta",
    "epsilon",
    "transA",
    "transB",
    "to",
    "value",
    "value_int",
    "value_ints",
    "value_float",
    "equation",
    "direction",
    "hidden_size",
    "layout",
    "linear_before_reset",
    "ceil_mode",
    "count_include_pad",
    "storage_order",
    "k",
    "upper",
    "largest",
    "sorted",
    "exclusive",
    "reverse",
    "reduction",
    "batch_dims",
    "num_groups",
    "size",
    "p",
    "block_size",
    "blocksize",
    "num_outputs",
    "split",
    "output_shape",
    "output_padding",
    "inverse",
    "onesided",
    "activation",
    "interleaved",
    "is_causal",
    "kv_num_heads",
    "left_window_size",
    "num_heads",
    "q_num_heads",
    "qk_matmul_output_mode",
    "right_window_size",
    "rotary_embedding_dim",
    "round_mode",
    "saturate",
    "scale",
    "softcap",
    "softmax_precision",
    "stash_type",
    "update_rule",
    "coordinate_transformation_mode",
    "antialias",
    "keep_aspect_ratio_policy",
    "offset_group",
    "output_dtype",
    "n_targets",
    "targets",
    "n_supports",
    "sample_size",
    "shape",
    "seed",
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_values",
    "nodes_modes",
    "nodes_splits",
    "nodes_trueleafs",
    "nodes_falseleafs",
    "tree_roots",
    "leaf_targetids",
    "leaf_weights",
    "membership_values",
    "target_treeids",
    "target_nodeids",
    "target_ids",
    "target_weights",
    "class_treeids",
    "class_nodeids",
    "class_ids",
    "class_weights",
    "classlabels_int64s",
    "classlabels_ints",
    "classlabels_strings",
    "coefficients",
    "intercepts",
    "offset",
    "support_vectors",
    "vectors_per_class",
    "kernel_params",
    "rho",
    "keys_int64s",
    "keys_strings",
    "values_int64s",
    "values_strings",
    "cats_int64s",
    "cats_strings",
    "inputdimensions",
    "post_transform",
    "slope",
];

/// Strings that attributes have.
const STRINGS: [&str; 50] = [
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "NOTSET",
    "constant",
    "edge",
    "reflect",
    "wrap",
    "nearest",
    "linear",
    "cubic",
    "add",
    "mul",
    "max",
    "min",
    "none",
    "mean",
    "sum",
    "forward",
    "reverse",
    "bidirectional",
    "ij,jk->ik",
    "...i,i",
    "ii->i",
    "LEFT",
    "RIGHT",
    "DCR",
    "CRD",
    "tanh",
    "border",
    "gated",
    "delta",
    "gated_delta",
    "circular",
    "silu",
    "up",
    "down",
    "not_larger",
    "not_smaller",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
    "half_pixel",
    "BRANCH_LEQ",
    "BRANCH_GT",
    "LEAF",
    "SOFTMAX",
    "LOGISTIC",
    "PROBIT",
    "RBF",
    "Relu",
];

/// A number that is likely to be at an edge of something.
fn number(u: &mut Unstructured<'_>) -> Result<i64> {
    Ok(match u.int_in_range(0..=11)? {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => 1 << 31,
        3 => 1 << 40,
        4 => -1,
        5 => -2,
        6 => u.int_in_range(-9..=300)?,
        _ => u.int_in_range(0..=5)?,
    })
}

fn numbers(u: &mut Unstructured<'_>) -> Result<Vec<i64>> {
    (0..u.int_in_range(0..=6)?).map(|_| number(u)).collect()
}

fn tensor(u: &mut Unstructured<'_>, name: &str) -> Result<TensorProto> {
    let dims: Vec<i64> = (0..u.int_in_range(0..=5)?).map(|_| u.int_in_range(0..=4)).collect::<Result<_>>()?;
    let count = dims.iter().product::<i64>() as usize;
    let mut tensor = TensorProto { name: Some(name.to_owned()), dims, ..TensorProto::default() };
    match u.int_in_range(0..=4)? {
        0 | 1 => {
            tensor.data_type = Some(1);
            tensor.float_data = (0..count).map(|_| Ok(number(u)? as f32 / 2.0)).collect::<Result<_>>()?;
        }
        2 | 3 => {
            tensor.data_type = Some(7);
            tensor.int64_data = (0..count).map(|_| number(u)).collect::<Result<_>>()?;
        }
        _ => {
            tensor.data_type = Some(*u.choose(&[2, 3, 4, 5, 6, 8, 9, 10, 16, 17, 19, 21, 22, 23, 24, 25])?);
            if tensor.data_type == Some(8) {
                let text = |_| Ok(vec![b'a' + u.int_in_range(0..=2)?]);
                tensor.string_data = (0..count).map(text).collect::<Result<_>>()?;
            } else {
                // Of the types of fewer than 8 bits there are several in each.
                let each = [(21, 2), (22, 2), (23, 2), (25, 4)].iter().find(|(ty, _)| tensor.data_type == Some(*ty));
                let count = count.div_ceil(each.map_or(1, |(_, each)| *each));
                tensor.int32_data = (0..count).map(|_| u.int_in_range(0..=1)).collect::<Result<_>>()?;
            }
        }
    }
    if u.ratio(1_u8, 16)? {
        tensor.dims = numbers(u)?;
    }
    Ok(tensor)
}

fn attribute(u: &mut Unstructured<'_>, depth: usize) -> Result<AttributeProto> {
    let mut made = AttributeProto { name: Some((*u.choose(&ATTRIBUTES)?).to_owned()), ..AttributeProto::default() };
    match u.int_in_range(0..=9)? {
        0..=2 => made.i = Some(number(u)?),
        3 | 7 => made.ints = numbers(u)?,
        8 => made.floats = numbers(u)?.into_iter().map(|number| number as f32 / 2.0).collect(),
        9 => {
            let text = |_| Ok(u.choose(&STRINGS)?.as_bytes().to_vec());
            made.strings = (0..3).map(text).collect::<Result<_>>()?;
        }
        4 => made.s = Some(u.choose(&STRINGS)?.as_bytes().to_vec()),
        5 => made.f = Some(number(u)? as f32 / 4.0),
        _ => made.t = Some(tensor(u, "t")?),
    }
    if depth > 0 && u.ratio(1_u8, 12)? {
        made.name = Some((*u.choose(&["body", "then_branch", "else_branch", "score_mod", "prob_mod"])?).to_owned());
        made.g = Some(graph(u, depth - 1)?);
    }
    Ok(made)
}

/// The domain that the functions of a model are of.
const OWN: &str = "own";

/// A function, which may use itself or another.
fn function(u: &mut Unstructured<'_>, index: usize) -> Result<FunctionProto> {
    let mut names = vec!["x0".to_owned(), "x1".to_owned()];
    let mut made = FunctionProto {
        name: Some(format!("f{index}")),
        domain: Some(OWN.to_owned()),
        input: names.clone(),
        attribute: vec!["slope".to_owned()],
        opset_import: imports(17),
        ..FunctionProto::default()
    };
    for _ in 0..u.int_in_range(1..=4)? {
        let mut inner = node(u, &mut names, 0)?;
        for attribute in &mut inner.attribute {
            if u.ratio(1_u8, 3)? {
                attribute.ref_attr_name = Some("slope".to_owned());
            }
        }
        made.node.push(inner);
    }
    made.output = vec![name(u, &names)?];
    Ok(made)
}

/// The operator sets that operators and functions are of.
fn imports(opset: i64) -> Vec<OperatorSetIdProto> {
    [("", opset), ("ai.onnx.ml", if opset < 20 { 3 } else { 5 }), ("com.microsoft", 1), (OWN, 1)]
        .map(|(domain, version)| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) })
        .into()
}

/// One of the names defined so far, or none.
fn name(u: &mut Unstructured<'_>, names: &[String]) -> Result<String> {
    if names.is_empty() || u.ratio(1_u8, 24)? { Ok(String::new()) } else { u.choose(names).cloned() }
}

fn node(u: &mut Unstructured<'_>, names: &mut Vec<String>, depth: usize) -> Result<NodeProto> {
    let all: Vec<_> = operators().collect();
    let operator = u.choose(&all)?;
    let input = (0..u.int_in_range(0..=4)?).map(|_| name(u, names)).collect::<Result<_>>()?;
    let output: Vec<String> =
        (0..u.int_in_range(1..=2)?).map(|index| format!("n{depth}_{}_{index}", names.len())).collect();
    let mut attributes = (0..u.int_in_range(0..=4)?).map(|_| attribute(u, depth)).collect::<Result<Vec<_>>>()?;
    // Each is to be there once.
    attributes.dedup_by(|a, b| a.name == b.name);
    names.extend(output.iter().cloned());
    let (op_type, domain) = if u.ratio(1_u8, 16)? {
        (format!("f{}", u.int_in_range(0..=2)?), OWN)
    } else {
        (operator.name.to_owned(), operator.domain)
    };
    Ok(NodeProto {
        input,
        output,
        op_type: Some(op_type),
        attribute: attributes,
        domain: Some(domain.to_owned()),
        ..NodeProto::default()
    })
}

fn info(u: &mut Unstructured<'_>, name: &str) -> Result<ValueInfoProto> {
    let rank = u.int_in_range(0..=5)?;
    let dim = |_| -> Result<DimensionProto> { Ok(DimensionProto { dim_value: Some(u.int_in_range(0..=6)?) }) };
    let shape = TensorShapeProto { dim: (0..rank).map(dim).collect::<Result<_>>()? };
    let elem_type = Some(*u.choose(&[1, 1, 1, 6, 7, 7, 8, 9, 11, 17, 22])?);
    let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(shape) });
    Ok(ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type }) })
}

fn graph(u: &mut Unstructured<'_>, depth: usize) -> Result<GraphProto> {
    let mut made = GraphProto::default();
    let mut names = Vec::new();
    for index in 0..u.int_in_range(0..=3)? {
        names.push(format!("x{depth}_{index}"));
        made.input.push(info(u, &format!("x{depth}_{index}"))?);
    }
    for index in 0..u.int_in_range(0..=4)? {
        names.push(format!("w{depth}_{index}"));
        made.initializer.push(tensor(u, &format!("w{depth}_{index}"))?);
    }
    for _ in 0..u.int_in_range(1..=5)? {
        made.node.push(node(u, &mut names, depth)?);
    }
    for _ in 0..u.int_in_range(1..=3)? {
        let name = name(u, &names)?;
        made.output.push(info(u, &name)?);
    }
    Ok(made)
}

/// Changes a few things in a model.
fn change(u: &mut Unstructured<'_>, model: &mut ModelProto) -> Result<()> {
    let Some(graph) = &mut model.graph else { return Ok(()) };
    for _ in 0..u.int_in_range(1..=4)? {
        match u.int_in_range(0..=5)? {
            0 if !graph.initializer.is_empty() => {
                let at = u.choose_index(graph.initializer.len())?;
                let name = graph.initializer[at].name.clone().unwrap_or_default();
                graph.initializer[at] = tensor(u, &name)?;
            }
            1 if !graph.initializer.is_empty() => {
                let at = u.choose_index(graph.initializer.len())?;
                if let Some(dim) = graph.initializer[at].dims.first_mut() {
                    *dim = number(u)?;
                }
            }
            2 if !graph.node.is_empty() => {
                let at = u.choose_index(graph.node.len())?;
                let all: Vec<_> = operators().collect();
                let operator = u.choose(&all)?;
                graph.node[at].op_type = Some(operator.name.to_owned());
                graph.node[at].domain = Some(operator.domain.to_owned());
            }
            3 if !graph.node.is_empty() => {
                let at = u.choose_index(graph.node.len())?;
                graph.node[at].attribute.push(attribute(u, 1)?);
            }
            4 if !graph.node.is_empty() => {
                let at = u.choose_index(graph.node.len())?;
                for attribute in &mut graph.node[at].attribute {
                    if let Some(i) = &mut attribute.i {
                        *i = number(u)?;
                    }
                    if !attribute.ints.is_empty() {
                        attribute.ints = numbers(u)?;
                    }
                }
            }
            _ => {
                if let Some(import) = model.opset_import.first_mut() {
                    import.version = Some(u.int_in_range(1..=28)?);
                }
            }
        }
    }
    Ok(())
}

/// The digits model: convolutions, pools, products.
const DIGITS: &[u8] = include_bytes!("../../../examples/models/digits/digits.onnx");

fn build(u: &mut Unstructured<'_>) -> Result<ModelProto> {
    let mut model = if u.ratio(1_u8, 4)? {
        let mut model = ModelProto::decode(DIGITS).unwrap_or_default();
        change(u, &mut model)?;
        model
    } else {
        let mut opset_import = imports(*u.choose(&[8, 11, 13, 17, 18, 20, 21, 22, 23, 25, 28, 28])?);
        opset_import.push(OperatorSetIdProto { domain: Some("ai.onnx.preview".to_owned()), version: Some(1) });
        let functions = (0..u.int_in_range(0..=2)?).map(|index| function(u, index)).collect::<Result<_>>()?;
        ModelProto { ir_version: Some(8), graph: Some(graph(u, 2)?), opset_import, functions }
    };
    if u.ratio(1_u8, 8)? {
        change(u, &mut model)?;
    }
    Ok(model)
}

/// The bytes of a model, made of `bytes`.
pub fn model(bytes: &[u8]) -> Vec<u8> {
    build(&mut Unstructured::new(bytes)).map(|model| model.encode_to_vec()).unwrap_or_default()
}
