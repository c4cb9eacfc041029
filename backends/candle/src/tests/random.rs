//! Random numbers: their distributions, and their dependence on context and seed.

use crate::tensor::value::Value;
use crate::tests::builder::{F32, Model, float, int, ints, string, tensor};
use graphpool::backend::{BackendContext as _, ComputeControl, ErrorKind};

fn drawn(op: &str, attributes: &[crate::format::messages::AttributeProto]) -> Model {
    Model::new(17).node(op, "", "y", attributes).output("y", F32)
}

/// The f32 output of the next compute of a context.
fn next(context: &mut crate::CandleContext) -> Vec<f32> {
    context.compute(&ComputeControl::default().with_memory_limit(1 << 24)).unwrap();
    let output = context.output(0).unwrap();
    output.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn a_context_continues_its_sequence_independently_of_others() {
    let graph = drawn("RandomUniform", &[ints("shape", &[100]), float("seed", 3.0)]).load().unwrap();
    let (mut one, mut two) = (graph.context(), graph.context());
    let (first, second) = (next(&mut one), next(&mut one));
    assert_ne!(first, second);
    assert_eq!((next(&mut two), next(&mut two)), (first.clone(), second));
    assert_eq!(next(&mut graph.context()), first);
    // A run without a context starts from the initial state.
    let outputs = graph.run(vec![], &ComputeControl::default()).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), first);
    let other = drawn("RandomUniform", &[ints("shape", &[100]), float("seed", 4.0)]).load().unwrap();
    assert_ne!(next(&mut other.context()), first);
}

#[test]
fn contexts_and_nodes_without_a_seed_have_numbers_of_their_own() {
    let shape = [ints("shape", &[8])];
    let model = drawn("RandomNormal", &shape).node("RandomNormal", "", "z", &shape).output("z", F32);
    let graph = model.load().unwrap();
    let mut context = graph.context();
    let first = next(&mut context);
    let beside = context.output(1).unwrap().data().to_vec();
    assert_ne!(first.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>(), beside);
    assert_ne!(next(&mut context), first);
    assert_ne!(next(&mut graph.context()), first);
}

#[test]
fn numbers_are_of_the_distribution_that_the_attributes_say() {
    let count = 1_usize << 16;
    let shape = ints("shape", &[count as i64]);
    let uniform = drawn("RandomUniform", &[shape.clone(), float("low", -2.0), float("high", 4.0), float("seed", 1.0)]);
    let normal = drawn("RandomNormal", &[shape, float("mean", 3.0), float("scale", 2.0), float("seed", 1.0)]);
    let moments = |model: &Model| {
        let numbers = next(&mut model.load().unwrap().context());
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
        let square = numbers.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count as f64;
        (mean, square, numbers)
    };
    // The tolerance of a mean is five standard deviations.
    let (mean, variance, numbers) = moments(&uniform);
    assert!(numbers.iter().all(|x| (-2.0..4.0).contains(x)));
    assert!((mean - 1.0).abs() < 0.034 && (variance - 3.0).abs() < 0.06, "{mean} {variance}");
    let (mean, variance, _) = moments(&normal);
    assert!((mean - 3.0).abs() < 0.04 && (variance - 4.0).abs() < 0.12, "{mean} {variance}");
    // The shape and the type of another tensor.
    let like = Model::new(17).input("x", 11, &[-1]).node("RandomUniformLike", "x", "y", &[]).output("y", 11);
    let outputs = like.run(vec![Value::new(vec![3], vec![0.0_f64; 3]).unwrap()]).unwrap();
    assert!(outputs[0].elements::<f64>().unwrap().iter().all(|x| (0.0..1.0).contains(x)));
}

#[test]
fn bernoulli_and_multinomial_follow_their_probabilities() {
    let coin = Model::new(17).input("x", F32, &[-1]).node("Bernoulli", "x", "y", &[float("seed", 5.0)]);
    let coin = coin.output("y", F32);
    let count = 1 << 14;
    let ones = |p: f32| coin.floats(vec![tensor(&[count], &vec![p; count])]).1.iter().sum::<f32>() / count as f32;
    assert_eq!((ones(0.0), ones(1.0)), (0.0, 1.0));
    assert!((ones(0.25) - 0.25).abs() < 0.02);
    for wrong in [-0.1, 1.1, f32::NAN] {
        assert_eq!(coin.run(vec![tensor(&[1], &[wrong])]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let die = Model::new(17).input("x", F32, &[-1, -1]).output("y", 7).node(
        "Multinomial",
        "x",
        "y",
        &[int("sample_size", count as i64), int("dtype", 7), float("seed", 5.0)],
    );
    // The weights are 1, 0, 3 in the first row; in the second, only the last class has a weight.
    let infinity = f32::NEG_INFINITY;
    let rows = tensor(&[2, 3], &[0.0, infinity, 3.0_f32.ln(), infinity, infinity, 0.0]);
    let (dims, classes) = die.longs(vec![rows]);
    assert_eq!(dims, [2, count]);
    let share = |row: usize, class| {
        classes[row * count..(row + 1) * count].iter().filter(|&&one| one == class).count() as f32 / count as f32
    };
    assert!((share(0, 0) - 0.25).abs() < 0.02);
    assert_eq!((share(0, 1), share(0, 0) + share(0, 2), share(1, 2)), (0.0, 1.0, 1.0));
    for wrong in [[infinity; 3], [f32::NAN; 3], [f32::INFINITY, 0.0, 0.0]] {
        assert_eq!(die.run(vec![tensor(&[1, 3], &wrong)]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(die.run(vec![tensor(&[1, 0], &[])]).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn random_tensors_are_charged_and_their_sizes_are_checked() {
    let large = drawn("RandomNormal", &[ints("shape", &[1 << 30])]);
    assert_eq!(large.run(vec![]).unwrap_err().kind(), ErrorKind::TooLarge);
    for wrong in [&[-1][..], &[i64::MAX, i64::MAX]] {
        assert!(drawn("RandomNormal", &[ints("shape", wrong)]).load().is_err());
    }
    assert!(drawn("RandomNormal", &[]).load().is_err());
    let kind = |model: Model| model.run(vec![]).unwrap_err().kind();
    assert_eq!(kind(drawn("RandomNormal", &[ints("shape", &[1]), int("dtype", 7)])), ErrorKind::UnsupportedOperation);
    assert!(drawn("RandomNormal", &[ints("shape", &[1]), string("seed", "x")]).load().is_err());
    let many = Model::new(17).input("x", F32, &[-1, -1]).output("y", 6).node(
        "Multinomial",
        "x",
        "y",
        &[int("sample_size", i64::MAX)],
    );
    assert_eq!(many.run(vec![tensor(&[1, 1], &[0.0])]).unwrap_err().kind(), ErrorKind::TooLarge);
}
