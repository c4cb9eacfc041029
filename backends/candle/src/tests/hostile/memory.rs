//! Models that ask for too much memory, and what counts towards a memory limit.

use crate::CandleBackend;
use crate::tests::builder::{BOOL, F32, I64, Model, counting, graph, node, one, tensor};
use crate::tests::hostile::{attack, drive};
use graphpool::backend::{BackendContext, ComputeControl, ErrorKind, Tensor};

#[test]
fn a_million_nodes_cost_no_more_than_the_limit() {
    // An empty node takes two bytes.
    let mut graph = Vec::new();
    graph.extend([0x0a, 0x00].repeat(1_000_000));
    let mut bytes = vec![0x3a];
    prost::encode_length_delimiter(graph.len(), &mut bytes).unwrap();
    bytes.extend(graph);
    assert_eq!(attack(&bytes).unwrap_err().kind(), ErrorKind::TooLarge);
    // A long chain of nodes is loaded and run without recursion.
    let mut model = Model::new(13).input("x", F32, &[1]).output("n50000", F32).node("Relu", "x", "n0", &[]);
    for index in 0..50_000 {
        model = model.node("Neg", &format!("n{index}"), &format!("n{}", index + 1), &[]);
    }
    assert_eq!(model.floats(vec![tensor(&[1], &[2.0])]).1, [2.0]);
}

/// Small models that ask for more memory than any machine has.
fn greedy() -> Vec<Model> {
    let huge = [1 << 20, 1 << 20];
    let shaped = |op: &str, shape: &[i64]| one(13, op, "s", &[]).integers("s", &[shape.len() as i64], shape);
    vec![
        shaped("Expand", &huge),
        shaped("Expand", &[i64::MAX]),
        shaped("Expand", &[1 << 40, 1 << 40]),
        shaped("Tile", &[i64::MAX]),
        shaped("Tile", &[1 << 50]),
        shaped("Pad", &[0, 1 << 40]),
        shaped("Pad", &[i64::MAX, i64::MAX]),
        shaped("Pad", &[i64::MIN, i64::MAX]),
        one(13, "Resize", "_ s", &[]).weights("s", &[1], &[1e30]),
        one(13, "Resize", "_ s", &[]).weights("s", &[1], &[f32::NAN]),
        Model::new(13)
            .input("x", F32, &[-1])
            .integers("s", &[2], &huge)
            .node("ConstantOfShape", "s", "y", &[])
            .output("y", F32),
        Model::new(13)
            .input("x", F32, &[-1])
            .integers("a", &[], &[i64::MIN])
            .integers("b", &[], &[i64::MAX])
            .integers("d", &[], &[1])
            .node("Range", "a b d", "y", &[])
            .output("y", I64),
        // An outer product of large vectors that are computed from the input.
        Model::new(13)
            .input("x", F32, &[-1])
            .integers("s", &[1], &[1 << 20])
            .integers("row", &[2], &[1, -1])
            .integers("column", &[2], &[-1, 1])
            .node("Expand", "x s", "e", &[])
            .node("Reshape", "e row", "r", &[])
            .node("Reshape", "e column", "c", &[])
            .node("MatMul", "c r", "y", &[])
            .output("y", F32),
    ]
}

#[test]
fn no_operator_allocates_beyond_the_budget() {
    for (index, model) in greedy().into_iter().enumerate() {
        let error = match model.load() {
            Err(error) => error,
            Ok(graph) => drive(&graph).unwrap_err(),
        };
        assert!(matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::InvalidArgument), "{index}: {error}");
    }
}

#[test]
fn the_memory_limit_bounds_what_is_alive_at_a_time() {
    // A hundred tensors of 1 MiB, two of which are alive at a time.
    let mut model = Model::new(13).input("x", F32, &[-1]).output("n100", F32).node("Neg", "x", "n0", &[]);
    for index in 0..100 {
        model = model.node("Sqrt", &format!("n{index}"), &format!("n{}", index + 1), &[]);
    }
    let graph = model.load().unwrap();
    // The caller keeps a clone, so that the first operator can't work in place.
    let kept = counting(&[1 << 18]);
    let x = || vec![kept.clone()];
    let mut control = ComputeControl::default().with_memory_limit(4 << 20);
    graph.run(x(), &control).unwrap();
    control.memory_limit = 1 << 19;
    assert_eq!(graph.run(x(), &control).unwrap_err().kind(), ErrorKind::TooLarge);
    control.memory_limit = usize::MAX;
    control.cancel.cancel();
    assert_eq!(graph.run(x(), &control).unwrap_err().kind(), ErrorKind::RuntimeError);
}

/// A context copies each output, so one value under many names takes as much memory as many values.
#[test]
fn one_value_that_is_many_outputs_is_charged_for_each() {
    let outputs = |count: usize| {
        let model = Model::new(13).input("x", F32, &[256]);
        let mut model = (0..count).fold(model, |model, index| {
            let name = format!("y{index}");
            model.node("Identity", "x", &name, &[]).output(&name, F32)
        });
        model.graph.name = Some("copies".to_owned());
        let graph = CandleBackend::new().load_graph(&model.bytes(), usize::MAX).unwrap();
        let mut context = graph.context();
        context.set_input(0, Tensor::from_f32(vec![256], &[0.5; 256]).unwrap().view()).unwrap();
        // With no room for what a context keeps for its next compute.
        let control = ComputeControl::default().with_memory_limit(8 << 10).with_context_memory_limit(9 << 10);
        let computed = context.compute(&control).map_err(|error| error.kind());
        (computed, context.memory())
    };
    // 1 KiB for each output, and 1 KiB for the input.
    assert_eq!(outputs(8), (Ok(()), 9 << 10));
    assert_eq!(outputs(9), (Err(ErrorKind::TooLarge), 1 << 10));
}

#[test]
fn weights_in_a_branch_are_counted() {
    use graphpool::backend::BackendGraph as _;
    let branch = |name: &str| {
        let model = Model::new(13).weights("w", &[64, 64], &[0.5; 4096]).node("MatMul", "x w", name, &[]);
        let mut branch = model.output(name, F32).graph;
        branch.name = Some(name.to_owned());
        branch
    };
    let branches = [graph("then_branch", branch("a")), graph("else_branch", branch("b"))];
    let mut model = Model::new(13).input("x", F32, &[1, 64]).input("c", BOOL, &[]).output("y", F32);
    model.graph.node.push(node("If", "c", "y", &branches));
    assert!(model.load().unwrap().memory() >= 2 * 4096 * 4);
}

#[test]
fn a_model_loads_without_memory_for_packed_weights() {
    // Rows of 17 elements are packed as rows of 32 or 24.
    let mut model = Model::new(13).input("x", F32, &[1, 1024]).weights("w", &[1024, 17], &vec![0.5; 1024 * 17]);
    for index in 0..8 {
        model = model.node("MatMul", "x w", &format!("y{index}"), &[]).output(&format!("y{index}"), F32);
    }
    let own = 8 * 1024 * 17 * 4;
    for limit in [own, own + (1 << 18)] {
        let graph = CandleBackend::new().load_graph(&model.bytes(), limit).unwrap();
        let outputs = graph.run(vec![tensor(&[1, 1024], &[1.0; 1024])], &ComputeControl::default()).unwrap();
        assert!(outputs.iter().all(|value| value.elements::<f32>().unwrap() == [512.0; 17]));
    }
}
