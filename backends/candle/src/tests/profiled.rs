//! Profiles: what is collected of which steps, and how it is written.

use crate::format::messages::GraphProto;
use crate::tests::builder::{BOOL, F32, I64, Model, graph, info, int, node, tensor, value};
use crate::tests::first::small;
use crate::{CandleBackend, CandleGraph, ModelProfile, Profile, ProfileReport};
use graphpool::backend::{Backend, ComputeControl, Encoding, ErrorKind, LoadRequest, Target, Tensor};
use std::time::Duration;

fn load(model: &Model, profile: &Profile) -> CandleGraph {
    CandleBackend::new().with_profile(profile).load_graph(&model.bytes(), usize::MAX).unwrap()
}

fn only(profile: &Profile) -> ModelProfile {
    let ProfileReport { mut models, left_out } = profile.report();
    assert_eq!((models.len(), left_out), (1, 0));
    models.remove(0)
}

/// `y = -x · m`, by two steps.
fn two_steps() -> Model {
    Model::new(13)
        .input("x", F32, &[-1, 2])
        .output("y", F32)
        .weights("m", &[2, 3], &[1.0; 6])
        .node("Neg", "x", "n", &[])
        .node("MatMul", "n m", "y", &[])
}

/// A loop that adds 1 to a number of integers, and counts.
fn a_loop() -> Model {
    let body = GraphProto {
        input: vec![info("i", I64, Some(&[])), info("c", BOOL, Some(&[])), info("s", I64, Some(&[2]))],
        output: vec![info("c2", BOOL, None), info("s2", I64, None)],
        node: vec![node("Cast", "c", "c2", &[int("to", i64::from(BOOL))]), node("Add", "s i", "s2", &[])],
        ..GraphProto::default()
    };
    Model::new(13).input("n", I64, &[]).input("x", I64, &[2]).output("y", I64).node(
        "Loop",
        "n _ x",
        "y",
        &[graph("body", body)],
    )
}

/// Runs it; every step and compute takes some time, and what lies between steps isn't negative.
#[track_caller]
fn sums_are_right(model: &ModelProfile) {
    for (index, step) in model.steps.iter().enumerate() {
        let timing = step.timing;
        assert!(timing.longest <= timing.total && timing.median <= timing.longest, "{step:?}");
        assert!(timing.total <= timing.longest * u32::try_from(timing.runs).unwrap(), "{step:?}");
        let bodies = model.steps.iter().filter(|step| step.parent == Some(index));
        let inside: Duration = bodies.map(|step| step.timing.total).sum();
        assert_eq!(step.own + inside, timing.total, "{step:?}");
    }
    let outer: Duration = model.steps.iter().filter(|step| step.parent.is_none()).map(|step| step.timing.total).sum();
    assert_eq!(model.in_steps(), outer);
    assert_eq!(model.in_steps() + model.between_steps(), model.computes.total);
}

#[test]
fn runs_bytes_and_shapes_of_each_step_are_counted() {
    let profile = Profile::new();
    let graph = load(&two_steps(), &profile);
    let before = only(&profile);
    assert_eq!(before.steps.iter().map(|step| step.timing.runs).sum::<u64>(), 0);
    assert_eq!(before.file_bytes, two_steps().bytes().len());
    for rows in [1, 3, 2] {
        graph.run(vec![tensor(&[rows, 2], &vec![1.0; 2 * rows])], &ComputeControl::default()).unwrap();
    }
    let model = only(&profile);
    let labels: Vec<&str> = model.steps.iter().map(|step| step.label.as_str()).collect();
    assert_eq!(labels, ["Neg 'n' (opset 13)", "MatMul 'y' (opset 13)"]);
    assert_eq!((model.computes.runs, model.computes.failed), (3, 0));
    for (step, columns) in model.steps.iter().zip([2, 3]) {
        assert_eq!((step.timing.runs, step.timing.failed, step.outputs), (3, 0, 1));
        assert_eq!(step.bytes, (1 + 3 + 2) * columns as u64 * 4);
        assert_eq!(step.shapes, [[2, columns]]);
    }
    sums_are_right(&model);
}

#[test]
fn a_context_is_profiled_as_a_whole() {
    let (profile, bytes) = (Profile::new(), small().bytes());
    let backend = CandleBackend::new().with_profile(&profile);
    let graph = backend.load(&LoadRequest::new(&[&bytes], Encoding::Onnx, Target::Cpu)).unwrap();
    let mut context = graph.init_context().unwrap();
    let control = ComputeControl::default();
    assert_eq!(context.compute(&control).unwrap_err().kind(), ErrorKind::InvalidArgument);
    context.set_input(0, Tensor::from_f32(vec![1, 1, 4, 4], &[1.0; 16]).unwrap().view()).unwrap();
    context.compute(&control).unwrap();
    let model = only(&profile);
    assert_eq!((model.computes.runs, model.computes.failed), (2, 1));
    // Conv and Relu are one step.
    assert_eq!(model.steps.iter().map(|step| step.timing.runs).collect::<Vec<_>>(), [1; 4]);
    assert!(model.steps[0].label.starts_with("Conv "), "{}", model.steps[0].label);
    sums_are_right(&model);
}

#[test]
fn steps_of_subgraphs_follow_the_step_that_runs_them() {
    let profile = Profile::new();
    let graph = load(&a_loop(), &profile);
    let outputs = graph.run(vec![value(&[], &[5_i64]), value(&[2], &[7_i64, 8])], &ComputeControl::default()).unwrap();
    assert_eq!(outputs[0].elements::<i64>().unwrap(), [17, 18]);
    let model = only(&profile);
    let steps: Vec<_> = model.steps.iter().map(|step| (step.parent, step.timing.runs, step.bytes)).collect();
    assert_eq!(steps, [(None, 1, 16), (Some(0), 5, 5), (Some(0), 5, 5 * 16)]);
    sums_are_right(&model);
}

#[test]
fn a_step_that_fails_is_a_run_that_failed() {
    let profile = Profile::new();
    let model = Model::new(13)
        .input("x", F32, &[-1])
        .input("z", F32, &[-1])
        .output("y", F32)
        .node("Neg", "x", "n", &[])
        .node("Add", "n z", "s", &[])
        .node("Abs", "s", "y", &[]);
    let graph = load(&model, &profile);
    let control = ComputeControl::default();
    graph.run(vec![tensor(&[2], &[1.0, 2.0]), tensor(&[2], &[1.0, 2.0])], &control).unwrap();
    let error = graph.run(vec![tensor(&[3], &[1.0; 3]), tensor(&[2], &[1.0, 2.0])], &control).unwrap_err();
    assert!(error.message().starts_with("Add "), "{error}");
    let model = only(&profile);
    assert_eq!((model.computes.runs, model.computes.failed), (2, 1));
    let steps: Vec<_> = model
        .steps
        .iter()
        .map(|step| (step.timing.runs, step.timing.failed, step.bytes, &step.shapes[0][..]))
        .collect();
    assert_eq!(steps, [(2, 0, 20, &[3][..]), (2, 1, 8, &[2]), (1, 0, 8, &[2])]);
    sums_are_right(&model);
    let report = profile.report();
    assert!(report.to_string().contains("(1 failed)"), "{report}");
}

#[test]
fn a_backend_without_a_profile_records_nothing() {
    let profile = Profile::new();
    let plain = CandleBackend::new();
    let with = plain.clone().with_profile(&profile);
    let graph = plain.load_graph(&two_steps().bytes(), usize::MAX).unwrap();
    graph.run(vec![tensor(&[1, 2], &[1.0, 2.0])], &ComputeControl::default()).unwrap();
    assert_eq!(profile.report(), ProfileReport::default());
    let graph = with.load_graph(&two_steps().bytes(), usize::MAX).unwrap();
    graph.run(vec![tensor(&[1, 2], &[1.0, 2.0])], &ComputeControl::default()).unwrap();
    assert_eq!(only(&profile).computes.runs, 1);
}

#[test]
fn computes_on_several_threads_and_loads_of_equal_files_add_up() {
    let profile = Profile::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let graph = load(&two_steps(), &profile);
                for _ in 0..50 {
                    graph.run(vec![tensor(&[1, 2], &[1.0, 2.0])], &ComputeControl::default()).unwrap();
                }
            });
        }
    });
    let model = only(&profile);
    assert_eq!(model.computes.runs, 200);
    assert_eq!(model.steps.iter().map(|step| step.timing.runs).collect::<Vec<_>>(), [200, 200]);
    // Another file is another model, though its steps have the same names.
    load(&two_steps().weights("m2", &[1], &[1.0]), &profile);
    assert_eq!(profile.report().models.len(), 2);
}

#[test]
fn what_guests_load_takes_bounded_room() {
    // Two models of two steps and one of four, each counted as one step more.
    let profile = Profile::with_max_steps(8);
    let other = |count: usize| two_steps().weights("m2", &[count as i64], &vec![1.0; count]);
    let run = |graph: &CandleGraph| {
        graph.run(vec![tensor(&[1, 2], &[1.0, 2.0])], &ComputeControl::default()).unwrap();
    };
    let first = load(&two_steps(), &profile);
    run(&first);
    // These never compute, so each makes room for the next.
    for count in 1..20 {
        load(&other(count), &profile);
    }
    assert_eq!(profile.report().left_out, 0);
    let second = load(&other(30), &profile);
    run(&second);
    drop((first, second));
    // There is no room for a third, which runs all the same.
    let third = load(&other(31), &profile);
    run(&third);
    let narrow = Profile::with_max_steps(3);
    load(&small(), &narrow);
    assert_eq!((narrow.report().models.len(), narrow.report().left_out), (0, 1));
    let report = profile.report();
    assert_eq!((report.models.len(), report.left_out), (2, 1));
    assert!(report.models.iter().all(|model| model.computes.runs == 1));
    assert!(report.to_string().contains("1 loads of models were not recorded"), "{report}");
}

/// A name that would break a table, a JSON text and a picture if it were not escaped.
const HOSTILE: &str = "</text><a>\"'&\\\n\u{7}\u{202e}\u{ffff}é𝄞";

fn hostile() -> ProfileReport {
    let profile = Profile::new();
    let mut model = two_steps();
    model.graph.node[0].name = Some(HOSTILE.to_owned());
    let graph = load(&model, &profile);
    graph.run(vec![tensor(&[1, 2], &[1.0, 2.0])], &ComputeControl::default()).unwrap();
    profile.report()
}

#[test]
fn json_has_every_number_and_names_are_escaped() {
    let report = hostile();
    let text = report.to_json();
    assert!(text.chars().all(|c| matches!(c, ' '..='~')), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (model, of) = (&report.models[0], &json["models"][0]);
    assert_eq!((&json["left_out"], &of["file_bytes"]), (&0.into(), &model.file_bytes.into()));
    assert_eq!(of["computes"]["total_ns"], model.computes.total.as_nanos() as u64);
    for (index, (step, of)) in model.steps.iter().zip(of["steps"].as_array().unwrap()).enumerate() {
        assert_eq!(of["name"], *step.label);
        assert_eq!((&of["index"], &of["parent"]), (&index.into(), &serde_json::Value::Null));
        assert_eq!((&of["runs"], &of["failed"], &of["outputs"]), (&1.into(), &0.into(), &1.into()));
        assert_eq!(of["own_ns"], step.own.as_nanos() as u64);
        assert_eq!(of["longest_ns"], step.timing.longest.as_nanos() as u64);
        assert_eq!(of["median_ns"], step.timing.median.as_nanos() as u64);
        assert_eq!(of["bytes"], step.bytes);
        assert_eq!(of["shapes"], serde_json::json!(step.shapes));
    }
    assert!(of["steps"][0]["name"].as_str().unwrap().contains("</text><a>\"'&\\??\u{202e}\u{ffff}é𝄞"));
}

#[test]
fn names_in_the_table_and_the_picture_are_plain() {
    let report = hostile();
    let table = report.to_string();
    assert!(table.contains("</text><a>\"'&\\????é𝄞"), "{table}");
    assert_eq!(table.lines().count(), 3 + 2, "{table}");
    let svg = report.to_svg();
    assert!(svg.contains("&lt;/text&gt;&lt;a&gt;&quot;&#39;&amp;\\????é𝄞"), "{svg}");
    assert!(!svg.contains("<a>") && !svg.contains('\u{202e}') && !svg.contains('\u{ffff}'), "{svg}");
    // Each element that begins ends, and there is no other `<` or `&`.
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap();
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split(' ').next().unwrap()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(svg.matches("<rect ").count(), 1 + 1 + 2 + 2, "{svg}");
    for part in svg.split('&').skip(1) {
        assert!(["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|name| part.starts_with(name)), "{part}");
    }
}

#[test]
fn the_table_is_sorted_and_the_rest_is_summed_up() {
    let profile = Profile::new();
    let mut model = Model::new(13).input("x", F32, &[-1]).output("v80", F32).node("Neg", "x", "v0", &[]);
    for index in 0..80 {
        model = model.node("Neg", &format!("v{index}"), &format!("v{}", index + 1), &[]);
    }
    let graph = load(&model, &profile);
    graph.run(vec![tensor(&[2], &[1.0, 2.0])], &ComputeControl::default()).unwrap();
    let report = profile.report();
    let order = report.models[0].by_time();
    assert_eq!(order.len(), 81);
    assert!(order.is_sorted_by_key(|&index| std::cmp::Reverse(report.models[0].steps[index].own)));
    let table = report.to_string();
    assert_eq!(table.lines().count(), 3 + 60 + 1, "{table}");
    assert!(table.lines().nth(3).unwrap().contains(&format!("  {} Neg ", order[0])), "{table}");
    assert!(table.ends_with("         21 further steps\n"), "{table}");
}
