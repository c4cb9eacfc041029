//! Tensor data in other files of the model's directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::CandleBackend;
use crate::format::messages::{StringStringEntryProto, TensorProto};
use crate::tests::builder::{F32, Model};
use graphpool::backend::{Backend, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{Encoding, Engine, Error, ErrorKind, ModelSource, Target, Tensor, TensorType};

/// A directory that is removed when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("graphpool-external-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("model/inner")).unwrap();
        Self(path)
    }

    /// Where the model is.
    fn model(&self) -> PathBuf {
        self.0.join("model")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// `x` plus two weights in another file, described by `entries`.
fn model(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    let weights = TensorProto {
        name: Some("w".to_owned()),
        dims: vec![2],
        data_type: Some(F32),
        data_location: Some(1),
        external_data: entries.iter().map(entry).collect(),
        ..TensorProto::default()
    };
    Model::new(13).input("x", F32, &[2]).initializer(weights).node("Add", "x w", "y", &[]).output("y", F32).bytes()
}

fn load(bytes: &[u8], directory: Option<&Path>, limit: usize) -> Result<Box<dyn BackendGraph>, Error> {
    let parts = [bytes];
    let request =
        LoadRequest::new(&parts, Encoding::Onnx, Target::Cpu).with_directory(directory).with_memory_limit(limit);
    CandleBackend::new().load(&request)
}

/// The output of a graph for zeros.
fn zeros(graph: &dyn BackendGraph) -> Vec<u8> {
    let mut context = graph.init_context().unwrap();
    let x = Tensor::new(vec![2], TensorType::F32, vec![0; 8]).unwrap();
    context.set_input(0, x.view()).unwrap();
    context.compute(&ComputeControl::default()).unwrap();
    context.output(0).unwrap().data().to_vec()
}

#[test]
fn weights_are_read_from_where_the_model_says() {
    let directory = Directory::new("read");
    fs::write(directory.model().join("weights"), floats(&[9.0, 1.0, 2.0, 9.0])).unwrap();
    fs::write(directory.model().join("inner/all"), floats(&[3.0, 4.0])).unwrap();
    let within = |entries: &[(&str, &str)]| load(&model(entries), Some(&directory.model()), 1 << 16);
    let graph = within(&[("location", "weights"), ("offset", "4"), ("length", "8")]).unwrap();
    assert_eq!(zeros(&*graph), floats(&[1.0, 2.0]));
    let graph = within(&[("location", "inner/all")]).unwrap();
    assert_eq!(zeros(&*graph), floats(&[3.0, 4.0]));
    let kind = |entries: &[(&str, &str)]| within(entries).err().unwrap().kind();
    assert_eq!(kind(&[("location", "weights"), ("offset", "12"), ("length", "8")]), ErrorKind::InvalidEncoding);
    assert_eq!(kind(&[("location", "weights"), ("offset", "17")]), ErrorKind::InvalidEncoding);
    assert_eq!(kind(&[("location", "weights"), ("offset", "18446744073709551615")]), ErrorKind::InvalidEncoding);
    let end = [("location", "weights"), ("offset", "8"), ("length", "18446744073709551615")];
    assert_eq!(kind(&end), ErrorKind::InvalidEncoding);
    assert_eq!(kind(&[("location", "weights"), ("offset", "-4")]), ErrorKind::InvalidEncoding);
    // The tensor needs eight bytes.
    assert_eq!(kind(&[("location", "weights"), ("length", "4")]), ErrorKind::InvalidEncoding);
    assert_eq!(kind(&[("location", "nowhere")]), ErrorKind::RuntimeError);
    assert_eq!(kind(&[("location", "inner")]), ErrorKind::InvalidArgument);
}

#[test]
fn a_location_outside_of_the_models_directory_is_refused() {
    let directory = Directory::new("out");
    fs::write(directory.0.join("secret"), floats(&[1.0, 2.0])).unwrap();
    let absolute = directory.0.join("secret").to_str().unwrap().to_owned();
    for location in ["../secret", "inner/../../secret", absolute.as_str(), "", ".", "./secret", "/dev/zero"] {
        let error = load(&model(&[("location", location)]), Some(&directory.model()), 1 << 16).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{location}: {error}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(directory.0.join("secret"), directory.model().join("link")).unwrap();
        std::os::unix::fs::symlink(&directory.0, directory.model().join("up")).unwrap();
        for location in ["link", "up/secret"] {
            let error = load(&model(&[("location", location)]), Some(&directory.model()), 1 << 16).err().unwrap();
            assert!(error.message().contains("outside of the model"), "{error}");
        }
        // A link to a file inside the directory is allowed.
        fs::write(directory.model().join("weights"), floats(&[5.0, 6.0])).unwrap();
        std::os::unix::fs::symlink("weights", directory.model().join("alias")).unwrap();
        let graph = load(&model(&[("location", "alias")]), Some(&directory.model()), 1 << 16).unwrap();
        assert_eq!(zeros(&*graph), floats(&[5.0, 6.0]));
    }
}

#[test]
fn what_is_read_is_bounded_before_it_is_read() {
    let directory = Directory::new("bounded");
    fs::File::create(directory.model().join("weights")).unwrap().set_len(1 << 40).unwrap();
    let error = load(&model(&[("location", "weights")]), Some(&directory.model()), 1 << 16).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn a_model_of_bytes_reads_no_file() {
    let bytes = model(&[("location", "weights")]);
    let error = load(&bytes, None, 1 << 16).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(error.message().contains("by its path"), "{error}");
}

#[test]
fn an_engine_loads_a_model_by_its_path_and_reloads_it_where_its_weights_have_changed() {
    let directory = Directory::new("engine");
    let path = directory.model().join("m.onnx");
    fs::write(&path, model(&[("location", "weights")])).unwrap();
    fs::write(directory.model().join("weights"), floats(&[1.0, 2.0])).unwrap();
    let engine = Engine::builder(CandleBackend::new()).build();
    engine.register_model("m", ModelSource::path(&path), Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest();
    let compute = || {
        let graph = guest.load_by_name("m").unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        let x = Tensor::new(vec![2], TensorType::F32, vec![0; 8]).unwrap();
        guest.set_input(context, 0, x.view()).unwrap();
        guest.compute(context).unwrap();
        let mut data = vec![0; 8];
        guest.get_output(context, 0, &mut data).unwrap();
        data
    };
    assert_eq!(compute(), floats(&[1.0, 2.0]));
    // The bytes of the model itself are unchanged.
    fs::write(directory.model().join("weights"), floats(&[7.0, 8.0])).unwrap();
    engine.reload_model("m").unwrap();
    assert_eq!(compute(), floats(&[7.0, 8.0]));
    // A model from a guest's bytes has no directory.
    let bytes = fs::read(&path).unwrap();
    assert!(guest.load(&[&bytes], Encoding::Onnx, Target::Cpu).unwrap_err().message().contains("by its path"));
}
