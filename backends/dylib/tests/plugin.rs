//! The backend with a library in C.
#![cfg(target_os = "linux")]

#[path = "plugin/mod.rs"]
mod plugin;

use graphpool::nn::conformance::Sample;
use graphpool::nn::{Encoding, Engine, Target, Tensor, TensorDescription, TensorType};
use plugin::{Plugin, infer, model, settings};

#[test]
fn a_model_is_loaded_and_computes_and_everything_is_given_back() {
    let plugin = Plugin::build(&["FACTOR=2"]);
    {
        let engine = Engine::new(plugin.backend());
        let guest = engine.guest();
        assert_eq!(plugin.events('o'), 0, "the first load opens the library");
        assert_eq!(infer(&guest, "add 3", &[1.0, 2.0]), Ok(vec![5.0, 7.0]));
        assert_eq!(infer(&guest, "add 4", &[1.0]), Ok(vec![6.0]));
        assert_eq!((plugin.events('o'), plugin.mapped()), (1, true));
    }
    assert_eq!(plugin.events('i'), 2);
    plugin.assert_gone();
}

#[test]
fn the_engines_checks_for_backends_pass() {
    let plugin = Plugin::build(&[]);
    let inputs = vec![Tensor::from_f32([2], &[1.0, 2.0]).unwrap(), Tensor::from_f32([2, 1], &[0.5, 0.25]).unwrap()];
    let outputs = |ty: fn(Tensor) -> Tensor| {
        [[4.5, 5.25], [5.5, 6.25]].map(|row| ty(Tensor::from_f32([2], &row).unwrap())).to_vec()
    };
    let sample = Sample::new(model("inputs 2 outputs 2 add 3"), Encoding::Onnx, Target::Cpu, inputs.clone());
    // Nothing is known: the outputs are bytes.
    let bytes = |tensor: Tensor| Tensor::new(vec![8], TensorType::U8, tensor.into_data()).unwrap();
    sample.clone().with_outputs(outputs(bytes)).run(&plugin.backend()).assert();
    let shared = settings().with_contexts_per_load(3);
    sample.clone().with_outputs(outputs(bytes)).run(&plugin.backend_with(shared)).assert();
    // Declared.
    let described = |name: &str| TensorDescription::new(name, TensorType::F32, Some(vec![None]));
    let declared = settings()
        .with_inputs([described("a"), TensorDescription::new("b", TensorType::F32, None)])
        .with_outputs([described("x"), described("y")]);
    sample.with_outputs(outputs(|tensor| tensor)).run(&plugin.backend_with(declared)).assert();
    plugin.assert_gone();
}
