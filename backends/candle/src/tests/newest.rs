//! The operators that are new in opsets 23 to 28, with valid and invalid inputs and attributes.

use prost::Message;

use crate::format::messages::{AttributeProto, ModelProto, OperatorSetIdProto};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use crate::tests::builder::{
    BOOL, F32, I64, Model, cancelled, close, counting, float, graph, info, int, kernel, names, one, onnx_number,
    string, tensor,
};
use crate::{CandleBackend, CandleGraph};
use graphpool::backend::{ComputeControl, Error, ErrorKind};

/// A model of one node whose inputs are `values`, `i0` and so on, and whose outputs are f32.
fn model(op: &str, opset: i64, values: &[Value], outputs: usize, attributes: &[AttributeProto]) -> Model {
    let mut model = Model::new(opset).node(op, &names('i', values.len()), &names('o', outputs), attributes);
    for (index, value) in values.iter().enumerate() {
        model.graph.input.push(info(&format!("i{index}"), onnx_number(value), None));
    }
    (0..outputs).fold(model, |model, index| model.output(&format!("o{index}"), F32))
}

fn refused(op: &str, opset: i64, values: &[Value], attributes: &[AttributeProto]) -> Error {
    model(op, opset, values, 1, attributes).run(values.to_vec()).unwrap_err()
}

fn integers(dims: &[usize], elements: &[i64]) -> Value {
    Value::new(dims.to_vec(), elements.to_vec()).unwrap()
}

fn heads(dims: [&[usize]; 3]) -> Vec<Value> {
    dims.into_iter().map(counting).collect()
}

#[test]
fn attention_to_one_key_is_its_value_and_to_none_is_zero() {
    let values =
        [tensor(&[1, 1, 2, 1], &[1.0, -3.0]), tensor(&[1, 1, 1, 1], &[5.0]), tensor(&[1, 1, 1, 2], &[7.0, 8.0])];
    let (dims, found) = model("Attention", 23, &values, 1, &[]).floats(values.to_vec());
    assert_eq!((dims.as_slice(), found.as_slice()), ([1, 1, 2, 2].as_slice(), [7.0, 8.0, 7.0, 8.0].as_slice()));
    // The first row of the mask masks everything.
    let mask = Value::new(vec![2, 1], vec![false, true]).unwrap();
    let masked = [values.as_slice(), &[mask]].concat();
    assert_eq!(model("Attention", 23, &masked, 1, &[]).floats(masked).1, [0.0, 0.0, 7.0, 8.0]);
}

#[test]
fn queries_share_the_keys_of_their_group() {
    // Two heads of queries share a head of keys and values.
    let values = heads([&[1, 4, 1, 1], &[1, 2, 1, 1], &[1, 2, 1, 1]]);
    assert_eq!(model("Attention", 23, &values, 1, &[]).floats(values).1, [0.0, 0.0, 1.0, 1.0]);
    // With three dimensions, the heads are next to each other in the last one.
    let values = heads([&[1, 1, 4], &[1, 1, 2], &[1, 1, 2]]);
    let attributes = [int("q_num_heads", 4), int("kv_num_heads", 2)];
    let (dims, found) = model("Attention", 23, &values, 1, &attributes).floats(values);
    assert_eq!((dims.as_slice(), found.as_slice()), ([1, 1, 4].as_slice(), [0.0, 0.0, 1.0, 1.0].as_slice()));
}

#[test]
fn a_window_bounds_what_a_query_attends_to() {
    // All scores are equal, so each row is the mean of the values in its window.
    let values = [tensor(&[1, 1, 4, 1], &[0.0; 4]), tensor(&[1, 1, 4, 1], &[0.0; 4]), counting(&[1, 1, 4, 1])];
    let windows = |left: i64, right: i64, causal: i64| {
        let attributes = [int("left_window_size", left), int("right_window_size", right), int("is_causal", causal)];
        model("Attention", 25, &values, 1, &attributes).floats(values.to_vec()).1
    };
    assert_eq!(windows(1, 0, 0), [0.0, 0.5, 1.5, 2.5]);
    assert_eq!(windows(0, i64::MAX, 0), [1.5, 2.0, 2.5, 3.0]);
    assert_eq!(windows(i64::MAX, i64::MAX, 1), [0.0, 0.5, 1.0, 1.5]);
    for size in [-2, i64::MIN] {
        assert_eq!(
            refused("Attention", 25, &values, &[int("left_window_size", size)]).kind(),
            ErrorKind::InvalidEncoding
        );
    }
    // The attributes exist since opset 25.
    assert_eq!(
        refused("Attention", 24, &values, &[int("left_window_size", 1)]).kind(),
        ErrorKind::UnsupportedOperation
    );
}

#[test]
fn attention_refuses_what_does_not_fit_together() {
    let shapes: [[&[usize]; 3]; 9] = [
        [&[1, 2, 3, 4], &[1, 2, 3, 5], &[1, 2, 3, 4]],
        [&[1, 2, 3, 4], &[2, 2, 3, 4], &[1, 2, 3, 4]],
        [&[1, 3, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]],
        [&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 4, 4]],
        [&[1, 2, 3, 4], &[1, 0, 3, 4], &[1, 0, 3, 4]],
        [&[1, 2, 3, 4], &[1, 2, 3], &[1, 2, 3]],
        [&[4], &[4], &[4]],
        [&[], &[], &[]],
        [&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]],
    ];
    for dims in shapes {
        assert_eq!(refused("Attention", 23, &heads(dims), &[]).kind(), ErrorKind::InvalidArgument, "{dims:?}");
    }
    let values = heads([&[1, 2, 3, 4], &[1, 2, 5, 4], &[1, 2, 5, 4]]);
    for mask in [&[3, 4][..], &[2, 3, 6], &[1, 1, 1, 3, 5], &[3, 3, 5], &[0]] {
        let values = [values.as_slice(), &[counting(mask)]].concat();
        assert_eq!(refused("Attention", 23, &values, &[]).kind(), ErrorKind::InvalidArgument, "{mask:?}");
    }
    for (name, value) in [("softcap", -1.0), ("softcap", f32::NAN), ("scale", -1.0), ("scale", f32::INFINITY)] {
        assert_eq!(refused("Attention", 23, &values, &[float(name, value)]).kind(), ErrorKind::InvalidEncoding);
    }
    for (name, value) in
        [("qk_matmul_output_mode", 4), ("q_num_heads", 0), ("kv_num_heads", i64::MIN), ("softmax_precision", 7)]
    {
        assert_eq!(refused("Attention", 23, &values, &[int(name, value)]).kind(), ErrorKind::InvalidEncoding, "{name}");
    }
    let model = Model::new(24)
        .input("q", F32, &[-1, -1, -1, -1])
        .input("n", I64, &[-1])
        .node("Attention", "q q q _ _ _ n", "y", &[int("is_causal", 1)])
        .output("y", F32);
    let run = |lens: &[i64]| model.run(vec![counting(&[1, 1, 3, 2]), integers(&[lens.len()], lens)]);
    for lens in [&[-1][..], &[4], &[i64::MAX], &[i64::MIN], &[], &[1, 1]] {
        assert_eq!(run(lens).unwrap_err().kind(), ErrorKind::InvalidArgument, "{lens:?}");
    }
    // There are fewer keys than queries, so the first queries have none.
    assert_eq!(run(&[1]).unwrap()[0].elements::<f32>().unwrap()[..4], [0.0; 4]);
}

#[test]
fn attention_of_nothing_is_nothing() {
    for dims in
        [[[0, 2, 3, 4]; 3], [[1, 0, 3, 4]; 3], [[1, 2, 3, 0]; 3], [[0, 1 << 12, 1 << 12, 1]; 3], [[1, 2, 0, 4]; 3]]
    {
        for outputs in [1, 4] {
            let values = heads(dims.each_ref().map(<[usize; 4]>::as_slice));
            let found = model("Attention", 23, &values, outputs, &[]).run(values).unwrap();
            assert_eq!(found[0].dims(), dims[0], "{dims:?}");
        }
    }
    // There are no keys.
    let values = heads([&[1, 1, 2, 3], &[1, 1, 0, 3], &[1, 1, 0, 2]]);
    assert_eq!(model("Attention", 23, &values, 1, &[]).floats(values).1, [0.0; 4]);
    let values = heads([&[0, 1, 1 << 40, 1], &[0, 1, 1 << 40, 1], &[0, 1, 1 << 40, 1]]);
    assert_eq!(refused("Attention", 23, &values, &[]).kind(), ErrorKind::TooLarge);
}

#[test]
fn a_long_sequence_takes_no_matrix_of_all_scores() {
    let values = heads([&[1, 1, 2048, 2]; 3]);
    let control = ComputeControl::default().with_memory_limit(8 << 20);
    let run =
        |outputs: usize| model("Attention", 23, &values, outputs, &[]).load().unwrap().run(values.clone(), &control);
    assert!(run(1).is_ok());
    // All scores take 16 MiB.
    assert_eq!(run(4).unwrap_err().kind(), ErrorKind::TooLarge);
}

/// A model of one `FlexAttention`, which is in the domain ai.onnx.preview.
fn flex(attributes: &[AttributeProto], values: &[Value]) -> Result<CandleGraph, Error> {
    let mut graph = model("FlexAttention", 26, values, 1, attributes).graph;
    graph.node[0].domain = Some("ai.onnx.preview".to_owned());
    let set = |domain: Option<&str>, version| OperatorSetIdProto {
        domain: domain.map(str::to_owned),
        version: Some(version),
    };
    let opset_import = vec![set(None, 26), set(Some("ai.onnx.preview"), 1)];
    let model = ModelProto { ir_version: Some(12), graph: Some(graph), opset_import, functions: Vec::new() };
    CandleBackend::new().load_graph(&model.encode_to_vec(), usize::MAX)
}

#[test]
fn the_graphs_inside_attention_keep_what_goes_through_them() {
    let body = |op: &str, outputs: &str| {
        let mut graph = Model::new(26).input("s", F32, &[]).node(op, "s", outputs, &[]).graph;
        graph.output = outputs.split(' ').map(|name| info(name, F32, None)).collect();
        graph
    };
    let values = heads([&[1, 2, 3, 4], &[1, 1, 5, 4], &[1, 1, 5, 2]]);
    let run = |attributes: &[AttributeProto]| {
        flex(attributes, &values).and_then(|graph| graph.run(values.clone(), &ComputeControl::default()))
    };
    let plain = run(&[]).unwrap();
    let same = run(&[graph("score_mod", body("Identity", "t")), graph("prob_mod", body("Identity", "t"))]).unwrap();
    assert_eq!(plain[0].elements::<f32>().unwrap(), same[0].elements::<f32>().unwrap());
    // Other dimensions, another type, another number of inputs or outputs.
    for (op, kind) in [("Flatten", ErrorKind::InvalidArgument), ("IsNaN", ErrorKind::InvalidArgument)] {
        for name in ["score_mod", "prob_mod"] {
            assert_eq!(run(&[graph(name, body(op, "t"))]).unwrap_err().kind(), kind, "{op}");
        }
    }
    assert_eq!(run(&[graph("score_mod", body("Split", "t u"))]).unwrap_err().kind(), ErrorKind::InvalidEncoding);
    let values = heads([&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]]);
    let graph = flex(&[], &values).unwrap();
    assert_eq!(graph.run(values, &ComputeControl::default()).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn positions_that_no_row_of_cosines_holds_are_refused() {
    let run = |positions: &[i64], attributes: &[AttributeProto]| {
        let values =
            [counting(&[1, 1, 2, 4]), counting(&[3, 2]), counting(&[3, 2]), integers(&[1, positions.len()], positions)];
        model("RotaryEmbedding", 23, &values, 1, attributes).run(values.to_vec())
    };
    assert!(run(&[0, 2], &[]).is_ok());
    for positions in [&[0, 3][..], &[-1, 0], &[i64::MIN, i64::MAX], &[0], &[0, 0, 0]] {
        assert_eq!(run(positions, &[]).unwrap_err().kind(), ErrorKind::InvalidArgument, "{positions:?}");
    }
    for (name, value) in [("rotary_embedding_dim", 3), ("rotary_embedding_dim", -2), ("num_heads", i64::MIN)] {
        assert_eq!(run(&[0, 1], &[int(name, value)]).unwrap_err().kind(), ErrorKind::InvalidEncoding, "{name}");
    }
    for (name, value) in [("rotary_embedding_dim", 6), ("rotary_embedding_dim", 2), ("num_heads", 2)] {
        assert_eq!(run(&[0, 1], &[int(name, value)]).unwrap_err().kind(), ErrorKind::InvalidArgument, "{name}");
    }
    // A rotation by 90°: the pair (a, b) becomes (-b, a).
    let values = [tensor(&[1, 1, 1, 2], &[3.0, 4.0]), tensor(&[1, 1, 1], &[0.0]), tensor(&[1, 1, 1], &[1.0])];
    assert_eq!(model("RotaryEmbedding", 23, &values, 1, &[]).floats(values.to_vec()).1, [-4.0, 3.0]);
}

#[test]
fn rows_are_scattered_only_inside_the_cache() {
    let run = |mode: &str, start: i64| {
        let values = [counting(&[1, 4, 1]), tensor(&[1, 2, 1], &[9.0, 8.0]), integers(&[1], &[start])];
        model("TensorScatter", 24, &values, 1, &[string("mode", mode)]).run(values.to_vec())
    };
    let floats = |found: Result<Vec<Value>, Error>| found.unwrap()[0].elements::<f32>().unwrap().to_vec();
    assert_eq!(floats(run("linear", 2)), [0.0, 1.0, 9.0, 8.0]);
    assert_eq!(floats(run("circular", 3)), [8.0, 1.0, 2.0, 9.0]);
    assert_eq!(floats(run("circular", i64::MAX)), [8.0, 1.0, 2.0, 9.0]);
    for (mode, start) in [("linear", 3), ("linear", -1), ("circular", -1), ("linear", i64::MAX), ("circular", i64::MIN)]
    {
        assert_eq!(run(mode, start).unwrap_err().kind(), ErrorKind::InvalidArgument, "{mode} {start}");
    }
    assert_eq!(run("spiral", 0).unwrap_err().kind(), ErrorKind::InvalidEncoding);
    for (cache, update) in
        [(&[1, 2][..], &[1, 2][..]), (&[1, 2, 3], &[1, 3, 3]), (&[1, 2, 3], &[2, 2, 3]), (&[2], &[2]), (&[], &[])]
    {
        let values = [counting(cache), counting(update)];
        let attributes = [int("axis", if cache.len() == 2 { 0 } else { -2 })];
        assert_eq!(refused("TensorScatter", 24, &values, &attributes).kind(), ErrorKind::InvalidArgument, "{cache:?}");
    }
    let values = [counting(&[2, 0, 3]), counting(&[2, 0, 3]), integers(&[2], &[5, 0])];
    assert!(model("TensorScatter", 24, &values, 1, &[string("mode", "circular")]).run(values.to_vec()).is_ok());
}

#[test]
fn normalized_parts_have_a_mean_square_of_one() {
    let values = [tensor(&[2, 2], &[3.0, 4.0, -6.0, 8.0]), tensor(&[2], &[1.0, 2.0])];
    let (_, found) = model("RMSNormalization", 23, &values, 1, &[float("epsilon", 0.0)]).floats(values.to_vec());
    let (a, b) = ((12.5_f32).sqrt(), (50.0_f32).sqrt());
    close(&found, &[3.0 / a, 8.0 / a, -6.0 / b, 16.0 / b]);
    for (value, scale, axis) in
        [(&[2, 2][..], &[3][..], -1), (&[2, 2], &[1, 2, 2], -1), (&[2, 2], &[2], 2), (&[], &[], 0)]
    {
        let values = [counting(value), counting(scale)];
        assert_eq!(refused("RMSNormalization", 23, &values, &[int("axis", axis)]).kind(), ErrorKind::InvalidArgument);
    }
    for dims in [&[0, 3][..], &[3, 0], &[0, 1 << 40]] {
        let values = [counting(dims), tensor(&[1], &[1.0])];
        assert_eq!(model("RMSNormalization", 23, &values, 1, &[]).floats(values.to_vec()).0, dims);
    }
}

#[test]
fn states_are_carried_from_call_to_call() {
    // A sequence in two calls gives the same as in one call.
    let (x, w) = ([1.0, 2.0, 3.0, 4.0, 5.0], tensor(&[1, 1, 3], &[1.0, 10.0, 100.0]));
    let convolve = |x: &[f32], past: Option<Value>| {
        let mut values = vec![tensor(&[1, 1, x.len()], x), w.clone(), tensor(&[1], &[0.5])];
        values.extend(past);
        let found = model("CausalConvWithState", 27, &values, 2, &[]).run(values).unwrap();
        (found[0].elements::<f32>().unwrap().to_vec(), found[1].clone())
    };
    let (whole, _) = convolve(&x, None);
    let (mut parts, state) = convolve(&x[..1], None);
    assert_eq!(state.elements::<f32>().unwrap(), [0.0, 1.0]);
    parts.extend(convolve(&x[1..], Some(state)).0);
    assert_eq!(parts, whole);
    for dims in
        [[&[1, 1, 3][..], &[2, 1, 3]], [&[1, 1, 3], &[1, 2, 3]], [&[1, 1, 3], &[1, 1, 0]], [&[1, 3], &[1, 1, 3]]]
    {
        let values = dims.map(counting);
        assert_eq!(refused("CausalConvWithState", 27, &values, &[]).kind(), ErrorKind::InvalidArgument, "{dims:?}");
    }
    assert!(
        model("CausalConvWithState", 27, &[counting(&[0, 1, 0]), counting(&[1, 1, 1])], 2, &[])
            .run(vec![counting(&[0, 1, 0]), counting(&[1, 1, 1])])
            .is_ok()
    );
}

#[test]
fn linear_attention_refuses_heads_that_do_not_divide() {
    let heads =
        |q: i64, kv: i64, rule: &str| [int("q_num_heads", q), int("kv_num_heads", kv), string("update_rule", rule)];
    let values = [counting(&[1, 2, 4]), counting(&[1, 2, 2]), counting(&[1, 2, 3])];
    // Two heads of queries share the state of one head of keys: the sum of keys times values.
    let (dims, found) =
        model("LinearAttention", 27, &values, 1, &[&heads(2, 1, "linear")[..], &[float("scale", 1.0)]].concat())
            .floats(values.to_vec());
    assert_eq!(dims, [1, 2, 6]);
    close(&found[..3], &[0.0, 1.0, 2.0]);
    for (q, kv) in [(3, 1), (2, 2), (4, 2)] {
        let error = refused("LinearAttention", 27, &values, &heads(q, kv, "linear"));
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{q} {kv}");
    }
    for (q, kv, rule) in [(2, 0, "linear"), (-1, 1, "linear"), (3, 2, "linear"), (2, 1, "gated"), (2, 1, "none")] {
        assert_eq!(refused("LinearAttention", 27, &values, &heads(q, kv, rule)).kind(), ErrorKind::InvalidEncoding);
    }
    for dims in [[0, 2, 4], [1, 0, 4], [1, 2, 0]] {
        let values = [counting(&dims), counting(&[dims[0], dims[1], dims[2] / 2]), counting(&[dims[0], dims[1], 0])];
        assert!(
            model("LinearAttention", 27, &values, 2, &heads(2, 1, "linear")).run(values.to_vec()).is_ok(),
            "{dims:?}"
        );
    }
}

#[test]
fn bits_are_read_as_a_type_of_as_many() {
    let cast = |value: Value, to: i64| {
        model("BitCast", 26, std::slice::from_ref(&value), 1, &[int("to", to)]).run(vec![value])
    };
    let bits = Value::new(vec![1], vec![1.0_f32.to_bits()]).unwrap();
    assert_eq!(cast(bits, 1).unwrap()[0].elements::<f32>().unwrap(), [1.0]);
    for to in [7, 3, 21, 16] {
        assert_eq!(cast(counting(&[1]), to).unwrap_err().kind(), ErrorKind::InvalidArgument, "{to}");
    }
    for to in [0, 8, 14, i64::MAX, i64::MIN] {
        assert_eq!(cast(counting(&[1]), to).unwrap_err().kind(), ErrorKind::UnsupportedOperation, "{to}");
    }
    let bytes = Value::new(vec![2], vec![0_u8, 2]).unwrap();
    assert_eq!(cast(bytes, i64::from(BOOL)).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn products_run_along_an_axis_that_is_there() {
    let run = |axis: i64| {
        one(26, "CumProd", "a", &[]).integers("a", &[], &[axis]).run(vec![tensor(&[2, 2], &[2.0, 3.0, 5.0, 7.0])])
    };
    assert_eq!(run(0).unwrap()[0].elements::<f32>().unwrap(), [2.0, 3.0, 10.0, 21.0]);
    for axis in [2, -3, i64::MIN, i64::MAX] {
        assert_eq!(run(axis).unwrap_err().kind(), ErrorKind::InvalidArgument, "{axis}");
    }
}

#[test]
fn each_new_operator_checks_the_cancel_token_while_it_works() {
    let (long, size) = (1 << 21, 1 << 10);
    let square = counting(&[1, 1, size, 2 * size]);
    let (line, flat) = (counting(&[1, 1, long]), counting(&[1, long]));
    let codes = Value::new(vec![long], vec![0_u8; long]).unwrap().of_codes(ElementType::F8E4M3Fn).unwrap();
    let linear = [int("q_num_heads", 1), int("kv_num_heads", 1), string("update_rule", "linear")];
    let cases: [(&str, i64, Vec<Value>, &[AttributeProto]); 11] = [
        ("Attention", 23, vec![square.clone(), square.clone(), square.clone()], &[]),
        ("RMSNormalization", 23, vec![flat.clone(), counting(&[1])], &[]),
        ("RotaryEmbedding", 23, vec![square.clone(), counting(&[1, size, size]), counting(&[1, size, size])], &[]),
        ("TensorScatter", 24, vec![square.clone(), counting(&[1, 1, 1, 2 * size])], &[]),
        ("SwiGLU", 28, vec![flat.clone(), flat.clone()], &[]),
        ("CumProd", 26, vec![flat.clone(), integers(&[], &[1])], &[]),
        (
            "LinearAttention",
            27,
            vec![counting(&[1, size, size]), counting(&[1, size, size]), counting(&[1, size, 1])],
            &linear,
        ),
        ("CausalConvWithState", 27, vec![line, counting(&[1, 1, 2])], &[]),
        ("BitCast", 26, vec![flat.clone()], &[int("to", 6)]),
        ("Cast", 25, vec![codes], &[int("to", 1)]),
        ("Cast", 25, vec![flat], &[int("to", 22)]),
    ];
    for (op, opset, values, attributes) in cases {
        let kernel = kernel(("", opset), op, values.len(), 1, attributes);
        // `values` keeps a clone of each input, so that the kernel can't work in place.
        assert_eq!(cancelled(&kernel, values.clone()).message(), "cancelled", "{op}");
    }
}
