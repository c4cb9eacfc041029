//! Loads and computes: their results, their errors, and how they wait for each other.

use std::thread;
use std::time::Duration;

use graphpool::nn::conformance::Sample;
use graphpool::nn::{
    Encoding, Engine, Error, ErrorKind, Guest, ModelSource, Target, Tensor, TensorDescription, TensorType,
};
use graphpool_dylib::Serialized;

use crate::library::{Plugin, eventually, floats, infer, model, settings};

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

#[test]
fn calls_for_one_library_exclude_each_other_where_that_is_declared() {
    let plugin = Plugin::build(&["EXCLUSIVE"]);
    let engine = Engine::new(plugin.backend_with(settings().with_serialized(Serialized::Library)));
    thread::scope(|scope| {
        for number in 0..8_u8 {
            let engine = &engine;
            scope.spawn(move || {
                let guest = engine.guest();
                for _ in 0..40 {
                    let inferred = infer(&guest, &format!("add {number} slow 1"), &[1.0]);
                    assert_eq!(inferred, Ok(vec![1.0 + f32::from(number)]));
                }
            });
        }
    });
    drop(engine);
    plugin.assert_gone();
}

/// A compute that waits for the library ends at its deadline and by its cancellation; a call that is not a compute ends
/// when it has waited for as long as is declared; and a context may be dropped at any time.
#[test]
fn a_slow_compute_holds_up_a_serialized_library_for_a_bounded_time() {
    let plugin = Plugin::build(&["EXCLUSIVE"]);
    let declared = settings().with_serialized(Serialized::Library).with_max_wait(Duration::from_millis(50));
    let engine = Engine::new(plugin.backend_with(declared));
    let (slow, guest) = (engine.guest(), engine.guest());
    let open = |guest: &Guest, words: &str| {
        let graph = guest.load(&[&model(words)], Encoding::Onnx, Target::Cpu).unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        guest.set_input(context, 0, &Tensor::from_f32([1], &[1.0]).unwrap()).unwrap();
        context
    };
    let (long, context, dropped) = (open(&slow, "gate"), open(&guest, ""), open(&guest, "add 1"));
    let gate = plugin.shut_gate();
    thread::scope(|scope| {
        let computing = scope.spawn(|| slow.compute(long));
        eventually(|| plugin.events('w') == 1);
        let busy = guest.set_input(context, 0, &Tensor::from_f32([1], &[2.0]).unwrap()).unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::Busy);
        let late = guest.compute_within(context, Duration::from_millis(1)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        guest.drop_context(dropped).unwrap();
        assert_eq!(plugin.events('d'), 0);
        drop(gate);
        computing.join().unwrap().unwrap();
    });
    assert_eq!(plugin.events('d'), 1, "the end of the dropped context was put off until the slow compute ended");
    guest.compute(context).unwrap();
    drop((slow, guest, engine));
    plugin.assert_gone();
}

/// A guest whose model has the library misbehave gets errors that name the cause. Another guest of the library computes
/// throughout, and the misused context works again afterwards where that can be.
#[test]
fn a_library_that_misuses_its_pointers_is_found_out_and_other_guests_go_on() {
    let plugin = Plugin::build(&[]);
    let engine = Engine::new(plugin.backend());
    let (guest, other) = (engine.guest(), engine.guest());
    for (words, expected) in [
        ("overclaim", "wrote 4100 bytes into a buffer of 4096, as it says"),
        ("overrun", "wrote past its buffer of 4096 bytes"),
        ("fail 4242", "returned 4242, which is no error number"),
        ("fail 3", "compute of libtoy"),
    ] {
        let graph = guest.load(&[&model(words)], Encoding::Onnx, Target::Cpu).unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        guest.set_input(context, 0, &Tensor::from_f32([1], &[1.0]).unwrap()).unwrap();
        for _ in 0..3 {
            let error = guest.compute(context).unwrap_err();
            assert!(error.message().contains(expected), "{words}: {error}");
            assert!(guest.get_output(context, 0, &mut [0; 8]).is_err());
        }
        assert_eq!(infer(&other, "add 1", &[4.0]), Ok(vec![5.0]), "after {words}");
    }
    assert_eq!(engine.stats().panics, 0);
    drop((guest, other, engine));
    plugin.assert_gone();
}

/// What a language model has said before its context was full can be read.
#[test]
fn a_full_context_is_an_error_and_has_its_outputs() {
    let plugin = Plugin::build(&[]);
    let engine = Engine::new(plugin.backend());
    let guest = engine.guest();
    let graph = guest.load(&[&model("fail 101 add 1")], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    for value in [1.0, 2.0] {
        guest.set_input(context, 0, &Tensor::from_f32([1], &[value]).unwrap()).unwrap();
        let error = guest.compute(context).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ContextFull);
        assert!(error.message().ends_with("returned context_full (101)"), "{error}");
        let mut output = [0; 4];
        assert_eq!(guest.get_output(context, 0, &mut output), Ok(4));
        assert_eq!(output, (value + 1.0_f32).to_le_bytes());
    }
    drop((guest, engine));
    plugin.assert_gone();
}

/// Sizes of outputs are found out, however the library answers to a buffer that is too short, and up to the limits.
#[test]
fn outputs_of_any_size_are_read_up_to_the_limits() {
    let plugin = Plugin::build(&[]);
    let engine = Engine::new(plugin.backend_with(settings().with_max_output_bytes(1 << 20)));
    let bounded = engine.guest_with(engine.limits().with_max_compute_bytes(40_000));
    let guest = engine.guest();
    for way in ["", "cut", "tell"] {
        for elements in [1, 1022, 1023, 1024, 3000, (1 << 18) - 2, (1 << 18) - 1] {
            let words = format!("pad {elements} {way}");
            let graph = guest.load(&[&model(&words)], Encoding::Onnx, Target::Cpu).unwrap();
            let context = guest.init_execution_context(graph).unwrap();
            let outputs = guest.infer(context, [(0, &Tensor::from_f32([1], &[3.0]).unwrap())]).unwrap();
            let again = guest.infer(context, [(0, &Tensor::from_f32([1], &[3.0]).unwrap())]).unwrap();
            assert_eq!((outputs.len(), &again), (1, &outputs));
            let values = floats(outputs[0].data());
            assert_eq!((values.len(), values[0], values[1..].iter().sum()), (elements + 1, 3.0, 0.0), "{words}");
            guest.drop_context(context).unwrap();
            guest.unload(graph).unwrap();
        }
        // With the 4 bytes of the input this is the limit, and then 4 bytes more.
        assert_eq!(infer(&bounded, &format!("pad 9998 {way}"), &[1.0]).map(|values| values.len()), Ok(9_999));
        for (guest, elements) in [(&bounded, 9_999), (&bounded, 10_000), (&guest, 1 << 18), (&guest, 1 << 19)] {
            let words = format!("pad {elements} {way}");
            let error = infer(guest, &words, &[1.0]).map(|values| values.len()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{words}: {error}");
        }
    }
    drop((guest, bounded, engine));
    plugin.assert_gone();
}

/// The library has room for 4 execution contexts in a context of its own, and never closes one.
#[test]
fn contexts_are_limited_by_the_host_alone() {
    let plugin = Plugin::build(&[]);
    for per_load in [1, 3, 4] {
        let engine = Engine::new(plugin.backend_with(settings().with_contexts_per_load(per_load)));
        let guest = engine.guest();
        let (loads, graph) = (plugin.events('l'), guest.load(&[&model("add 2")], Encoding::Onnx, Target::Cpu).unwrap());
        let contexts: Vec<_> = (0..20_u8)
            .map(|number| {
                let context = guest.init_execution_context(graph).unwrap();
                guest.set_input(context, 0, &Tensor::from_f32([1], &[f32::from(number)]).unwrap()).unwrap();
                context
            })
            .collect();
        assert_eq!(plugin.events('l') - loads, 20_usize.div_ceil(per_load as usize));
        for (number, context) in contexts.iter().enumerate() {
            guest.compute(*context).unwrap();
            assert_eq!(floats(guest.output(*context, 0).unwrap().data()), [number as f32 + 2.0]);
            guest.drop_context(*context).unwrap();
        }
        // At most the newest load is kept for the next context.
        assert!(plugin.events('i') - plugin.events('d') <= 1);
    }
    plugin.assert_gone();
}

#[test]
fn models_are_found_by_the_librarys_own_names() {
    let plugin = Plugin::build(&[]);
    let engine = Engine::new(plugin.backend());
    let guest = engine.guest();
    let register = |name: &str, source: ModelSource| {
        engine.register_model(name, source, Encoding::Onnx, Target::Cpu).unwrap();
    };
    let infer = |graph| {
        let context = guest.init_execution_context(graph)?;
        guest.infer(context, [(0, &Tensor::from_f32([1], &[1.0]).unwrap())]).map(|outputs| floats(outputs[0].data()))
    };
    register("plain", ModelSource::of_backend("adder"));
    register("configured", ModelSource::of_backend("adder").with_config("add 5").with_guest_configs(2));
    register("absent", ModelSource::of_backend("none"));
    register("bytes", ModelSource::bytes(model("")).with_config("add 5"));
    assert_eq!(infer(guest.load_by_name("plain").unwrap()), Ok(vec![2.0]));
    assert_eq!(infer(guest.load_by_name("configured").unwrap()), Ok(vec![6.0]));
    assert_eq!(infer(guest.load_by_name_with_config("configured", "add 7").unwrap()), Ok(vec![8.0]));
    let error = guest.load_by_name("absent").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelNotFound);
    assert!(error.message().ends_with("returned model_not_found (103)"), "{error}");
    assert_eq!(guest.load_by_name("bytes").unwrap_err().kind(), ErrorKind::UnsupportedOperation);

    let nameless = Plugin::build(&["NO_NAMES"]);
    engine.register_backend(nameless.backend()).unwrap();
    engine.remove_backend(plugin.path.file_stem().unwrap().to_str().unwrap().strip_prefix("lib").unwrap()).unwrap();
    for (name, function) in [("plain", "load_by_name"), ("configured", "load_by_name_with_config")] {
        let error = engine.reload_model(name).unwrap_err();
        let expected = format!("has no function {function}");
        assert!(Error::from(error).message().ends_with(&expected));
    }
    drop((guest, engine));
    plugin.assert_gone();
    nameless.assert_gone();
}

/// The end of a language model's text is success, and a library's own numbers past the last output end the outputs.
#[test]
fn the_end_of_a_text_is_success() {
    let plugin = Plugin::build(&[]);
    let engine = Engine::new(plugin.backend());
    assert_eq!(infer(&engine.guest(), "blind add 1", &[1.0]), Ok(vec![2.0]));
    drop(engine);
    plugin.assert_gone();
}

/// Types that WAMR has no number for are refused before the library sees them, and others by the library.
#[test]
fn inputs_are_checked_by_the_library() {
    let plugin = Plugin::build(&[]);
    let engine = Engine::new(plugin.backend());
    let guest = engine.guest();
    let graph = guest.load(&[&model("inputs 2")], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let half = Tensor::new(vec![1], TensorType::Bf16, vec![0; 2]).unwrap();
    let error = guest.set_input(context, 0, &half).unwrap_err();
    assert_eq!(error.message(), "set_input: input 0 has the type bf16, which WAMR does not have");
    let double = Tensor::from_slice([1], &[1.0_f64]).unwrap();
    assert_eq!(guest.set_input(context, 0, &double).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let float = Tensor::from_f32([1], &[1.0]).unwrap();
    assert_eq!(guest.set_input(context, 2, &float).unwrap_err().kind(), ErrorKind::InvalidArgument);
    guest.set_input(context, 0, &float).unwrap();
    assert_eq!(guest.compute(context).unwrap_err().kind(), ErrorKind::InvalidArgument, "an input is missing");
    guest.set_input(context, 1, &float).unwrap();
    guest.compute(context).unwrap();
    drop((guest, engine));
    plugin.assert_gone();
}
