//! The checks for backends, on one that passes them and one that does not.

use graphpool::nn::conformance::Sample;
use graphpool::nn::{Encoding, Target, Tensor, TensorType};

use crate::backends::{Model, Watch};
use crate::speaker::{Speaker, model};

#[test]
fn a_good_backend_passes_and_nothing_of_it_is_left() {
    let watch = Watch::default();
    let input = Tensor::from_f32(vec![2], &[1.0, 2.0]).unwrap();
    let sample = Sample::new(Model::default().bytes(), Encoding::Onnx, Target::Cpu, vec![input.clone()]);
    let right = Tensor::from_f32(vec![2], &[3.0, 5.0]).unwrap();
    let report = sample.clone().with_outputs(vec![right]).run(&watch.affine());
    report.assert();
    assert_eq!((report.checks(), watch.alive()), (13, 0));
    let report = sample.with_outputs(vec![input]).run(&watch.affine());
    assert_eq!(
        report.failures(),
        ["outputs are those of the inputs, and always the same: they are not those to expect"]
    );
}

#[test]
fn a_backend_with_steps_passes_and_one_without_does_not_where_they_are_required() {
    let prompt = |text: &str| vec![Tensor::from_slice([text.len() as u32], text.as_bytes()).unwrap()];
    let speaker = Speaker::default();
    let sample =
        |text| Sample::new(model(8, &["one", "two", "three"]), Encoding::Ggml, Target::Cpu, prompt(text)).with_steps();
    sample("one").run(&speaker).assert();
    sample("three").run(&speaker).assert();
    assert_eq!(speaker.runs(), 0);
    let watch = Watch::default();
    let input = Tensor::from_f32(vec![2], &[1.0, 2.0]).unwrap();
    let sample = Sample::new(Model::default().bytes(), Encoding::Onnx, Target::Cpu, vec![input]).with_steps();
    let report = sample.run(&watch.affine());
    let unsupported = "unsupported operation: the model's outputs come as a whole, and not in steps";
    assert_eq!(report.failures().len(), 3);
    assert!(report.failures().iter().all(|failure| failure.ends_with(unsupported)), "{report}");
}

#[test]
fn a_bad_backend_is_found_out_and_its_panics_are_caught() {
    let watch = Watch::default();
    let byte = Tensor::new(vec![], TensorType::U8, vec![1]).unwrap();
    for (model, failures) in [("anything", 4), ("load", 8), ("compute", 7), ("init", 8), ("set_input", 7)] {
        let sample = Sample::new(model.into(), Encoding::PyTorch, Target::Cpu, vec![byte.clone()]);
        let report = sample.run(&watch.trouble());
        assert!(report.failures().len() >= failures, "{model}: {report}");
    }
}
