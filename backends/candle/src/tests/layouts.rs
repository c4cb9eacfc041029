//! Convolutions whose values have the channels as the last dimension, and what lies between them.
//!
//! Convolutions by constant weights have this layout, and those by weights that are inputs don't. So a model is run with
//! both, and what it gives has to be the same.

use crate::math::program::Program;
use crate::ops::fusion::PackedWeights;
use crate::ops::node::{Node, Shared};
use crate::ops::operator::Fusion;
use crate::tests::builder::{F32, Model, cancelled, filled, int, ints, node, one, string, tensor};
use crate::tests::fused::{PLAIN, Shape, alike, model, numbers};
use crate::{CandleBackend, Profile, ProfileReport, ops};
use graphpool::backend::ErrorKind;

/// Enough filters for any processor to have the layout.
const MANY: Shape = Shape { depth: 5, filters: 24, ..PLAIN };

/// A shape for Winograd's transformations: whole vectors of channels and filters, and many tiles.
const TILED: Shape = Shape { depth: 32, filters: 48, image: [22, 27], pads: [1; 4], ..PLAIN };

#[test]
fn convolutions_with_channels_last_are_those_of_the_definition() {
    let single = Shape { depth: 1, filters: 24, groups: 24, pads: [1, 2, 0, 1], ..PLAIN };
    let shapes = [
        MANY,
        Shape { batch: 3, pads: [1, 0, 2, 3], filters: 50, ..MANY },
        Shape { strides: [2, 3], dilations: [2, 1], pads: [2; 4], ..MANY },
        Shape { strides: [1, 2], dilations: [1, 2], pads: [0, 3, 0, 1], ..MANY },
        Shape { kernel: [1, 1], ..MANY },
        Shape { kernel: [1, 1], strides: [2, 2], batch: 2, ..MANY },
        Shape { kernel: [1, 5], pads: [0, 2, 0, 2], ..MANY },
        Shape { kernel: [5, 1], filters: 100, pads: [2, 0, 2, 0], ..MANY },
        // As high and wide as the image, so that each output has all of it.
        Shape { kernel: [11, 13], depth: 20, ..MANY },
        // More rows than are computed together, and more summands than one segment has.
        Shape { image: [30, 40], kernel: [2, 2], ..MANY },
        Shape { image: [4, 4], kernel: [3, 3], depth: 700, ..MANY },
        Shape { image: [3, 3], kernel: [1, 1], depth: 2100, ..MANY },
        Shape { groups: 2, filters: 48, batch: 2, ..MANY },
        Shape { groups: 3, filters: 150, kernel: [1, 1], ..MANY },
        single,
        Shape { filters: 16, groups: 16, ..single },
        Shape { filters: 37, groups: 37, batch: 2, ..single },
        Shape { filters: 50, groups: 50, strides: [2, 2], ..single },
        Shape { image: [7, 90], strides: [1, 2], dilations: [1, 3], ..single },
        // Lines that no output reads, and images without pads.
        Shape { strides: [5, 1], batch: 3, ..single },
        Shape { pads: [0; 4], batch: 2, ..single },
        Shape { strides: [3, 2], dilations: [2, 2], kernel: [5, 5], pads: [4; 4], ..single },
        TILED,
        Shape { pads: [0; 4], batch: 2, ..TILED },
        Shape { image: [25, 24], pads: [2, 1, 0, 1], depth: 16, filters: 64, ..TILED },
        Shape { image: [30, 61], filters: 112, ..TILED },
    ];
    for shape in shapes {
        let (model, inputs, wanted) = model(shape, true);
        let (_, found) = model.output("c", F32).floats(inputs);
        assert_eq!(found.len(), wanted.len(), "{shape:?}");
        for (found, wanted) in found.iter().zip(&wanted) {
            let near = (found - wanted).abs() <= 1e-4 + 1e-4 * wanted.abs();
            assert!(near, "{shape:?}: {found} instead of {wanted}");
        }
    }
}

#[test]
fn what_lies_between_convolutions_gives_the_same_in_both_layouts() {
    let channel = numbers(24, 4);
    let pads = ints("pads", &[1, 0, 1, 1]);
    let (size, strides) = (ints("kernel_shape", &[3, 2]), ints("strides", &[2, 1]));
    let scales = [1.0, 1.0, 2.0, 1.5];
    // Each of these reads "c", the result of the convolution, and gives "y".
    let between: [&dyn Fn(Model) -> Model; 19] = [
        &|model| model.node("Relu", "c", "r", &[]).node("Add", "c r", "y", &[]),
        &|model| model.node("Relu", "c", "r", &[]).node("Mul", "r c", "y", &[]).output("c", F32),
        &|model| model.weights("k", &[24, 1, 1], &channel).node("Relu", "c", "r", &[]).node("Sub", "k r", "y", &[]),
        &|model| model.weights("k", &[1, 1, 1, 1], &[2.0]).node("Tanh", "c", "r", &[]).node("Div", "r k", "y", &[]),
        &|model| model.weights("k", &[11], &channel[..11]).node("Mul", "c k", "y", &[]),
        &|model| model.node("MaxPool", "c", "y", &[size.clone(), strides.clone(), pads.clone()]),
        &|model| model.node("MaxPool", "c", "y", &[size.clone(), int("ceil_mode", 1), ints("dilations", &[2, 3])]),
        &|model| model.node("MaxPool", "c", "y z", std::slice::from_ref(&size)),
        &|model| model.node("AveragePool", "c", "y", &[size.clone(), strides.clone(), pads.clone()]),
        &|model| model.node("AveragePool", "c", "y", &[size.clone(), pads.clone(), int("count_include_pad", 1)]),
        &|model| model.node("GlobalAveragePool", "c", "g", &[]).node("Mul", "c g", "y", &[]),
        &|model| model.node("GlobalMaxPool", "c", "g", &[]).node("Sigmoid", "g", "s", &[]).node("Mul", "s c", "y", &[]),
        &|model| model.node("Relu", "c", "r", &[]).node("Concat", "c r c", "y", &[int("axis", 1)]),
        &|model| model.node("Relu", "c", "r", &[]).node("Concat", "r c", "y", &[int("axis", 3)]),
        &|model| model.node("Relu", "c", "r", &[]).node("Concat", "r c", "y", &[int("axis", -3)]),
        &|model| model.weights("s", &[4], &scales).node("Resize", "c _ s", "y", &[string("mode", "nearest")]),
        &|model| model.weights("s", &[4], &scales).node("Resize", "c _ s", "y", &[string("mode", "linear")]),
        &|model| model.integers("s", &[4], &[1, 24, 5, 7]).node("Resize", "c _ _ s", "y", &[string("mode", "cubic")]),
        &|model| model.node("Transpose", "c", "y", &[ints("perm", &[0, 2, 3, 1])]),
    ];
    for (index, between) in between.into_iter().enumerate() {
        for batch in [1, 2] {
            if batch > 1 && index == 17 {
                continue;
            }
            // As it is, and before a further convolution.
            alike(Shape { batch, ..MANY }, |model| between(model).output("y", F32));
            if index != 12 && index != 14 {
                let weights = numbers(20 * 24, 5);
                alike(Shape { batch, ..MANY }, |model| {
                    let model = between(model).weights("v", &[20, 24, 1, 1], &weights);
                    if index == 18 {
                        model.output("y", F32)
                    } else {
                        model.node("Conv", "y v", "w2", &[]).output("w2", F32)
                    }
                });
            }
        }
    }
}

/// The labels of a model's steps.
fn steps(model: &Model) -> Vec<String> {
    let profile = Profile::new();
    CandleBackend::new().with_profile(&profile).load_graph(&model.bytes(), usize::MAX).unwrap();
    let ProfileReport { models, .. } = profile.report();
    models[0].steps.iter().map(|step| step.label.split(" (").next().unwrap().to_owned()).collect()
}

#[test]
fn channels_are_moved_before_the_first_convolution_and_after_the_last() {
    let chain = Model::new(13)
        .input("x", F32, &[1, 3, -1, -1])
        .weights("a", &[32, 3, 3, 3], &numbers(32 * 27, 1))
        .weights("b", &[32, 32, 1, 1], &numbers(32 * 32, 2))
        .node("Conv", "x a", "c", &[])
        .node("MaxPool", "c", "p", &[ints("kernel_shape", &[2, 2])])
        .node("Conv", "p b", "d", &[])
        .node("Add", "d p", "s", &[])
        .node("Concat", "s p", "t", &[int("axis", 1)]);
    let last = chain.clone().output("t", F32);
    let moved = ["channels last, for Conv 'c'", "Conv 'c'", "MaxPool 'p'", "Conv 'd'", "Add 's'", "Concat 't'"];
    assert_eq!(steps(&last), [&moved[..], &["channels second, for an output"]].concat());
    // What has no form with channels last gets the other layout, once for all that read it.
    let softmax = chain
        .node("Softmax", "t", "y", &[int("axis", 1)])
        .node("Softmax", "t", "z", &[int("axis", 2)])
        .output("y", F32)
        .output("z", F32);
    let rest = ["channels second, for Softmax 'y'", "Softmax 'y'", "Softmax 'z'"];
    assert_eq!(steps(&softmax), [&moved[..], &rest].concat());
}

#[test]
fn a_convolution_with_channels_last_refuses_what_does_not_fit() {
    let conv = one(13, "Conv", "w", &[]).weights("w", &[32, 3, 3, 3], &numbers(32 * 27, 1));
    for dims in [&[1, 4, 5, 5][..], &[1, 3, 2, 5], &[1, 3, 5], &[1, 3, 5, 5, 5], &[3, 5], &[3], &[], &[1, 0, 5, 5]] {
        let error = conv.run(vec![filled(dims, 1.0_f32)]).unwrap_err();
        let fits = matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::UnsupportedOperation);
        assert!(fits, "{dims:?}: {error}");
    }
    let (dims, found) = conv.floats(vec![tensor(&[0, 3, 5, 5], &[])]);
    assert_eq!((dims, found.len()), (vec![0, 32, 3, 3], 0));
    // The pads alone are more than a compute may allocate.
    let padded =
        one(13, "Conv", "w", &[ints("pads", &[1 << 20; 4])]).weights("w", &[32, 3, 3, 3], &numbers(32 * 27, 1));
    assert_eq!(padded.run(vec![filled(&[1, 3, 5, 5], 1.0_f32)]).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn convolutions_with_channels_last_are_cancelled() {
    let (winograd, patches, depthwise) = ([64, 16, 3, 3], [64, 16, 2, 2], [64, 1, 9, 9]);
    for (channels, dims, attributes) in
        [(16, winograd, vec![]), (16, patches, vec![]), (64, depthwise, vec![int("group", 64)])]
    {
        let proto = node("Conv", "x w", "y", &attributes);
        let weights = tensor(&dims, &numbers(dims.iter().product(), 1));
        let shared = Shared::new(usize::MAX);
        let node = Node::new(&proto, 13, vec![None, Some(weights)], Vec::new(), &shared);
        let Fusion::Anchor(anchor) = ops::find("", "Conv", 13).unwrap().fusion else { panic!("no anchor") };
        let build = anchor(&node).unwrap().build;
        let fused = build(Program::default(), &mut PackedWeights::new(usize::MAX)).unwrap();
        assert!(fused.channels_last);
        let image = filled(&[1, 600, 600, channels], 1.0_f32);
        assert_eq!(cancelled(&fused.kernel, vec![image]).message(), "cancelled", "{dims:?}");
    }
}

#[test]
fn another_name_of_a_value_keeps_no_steps_apart() {
    let (model, inputs, _) = model(MANY, true);
    let steps = |model: &Model| model.load().unwrap().steps();
    let (plain, named) = (model.clone().node("Relu", "c", "y", &[]), model);
    let named = named.node("Identity", "c", "d", &[]).node("Identity", "d", "e", &[]).node("Relu", "e", "y", &[]);
    let (plain, named) = (plain.output("y", F32), named.output("y", F32));
    assert_eq!(steps(&plain), steps(&named));
    assert_eq!(plain.floats(inputs.clone()), named.floats(inputs.clone()));
    // A value with two names is an output under both, and an input can be an output.
    let (model, _, _) = crate::tests::fused::model(MANY, true);
    let found = model.node("Identity", "c", "d", &[]).output("c", F32).output("d", F32).run(inputs).unwrap();
    assert_eq!(found[0].elements::<f32>().unwrap(), found[1].elements::<f32>().unwrap());
    let same = one(13, "Identity", "", &[]);
    assert_eq!((same.load().unwrap().steps(), same.floats(vec![tensor(&[2], &[1.0, 2.0])]).1), (0, vec![1.0, 2.0]));
}
