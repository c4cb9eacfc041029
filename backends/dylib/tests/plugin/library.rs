//! Builds variants of the library in C, and reads what they record.
#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use graphpool::backend::Encoding;
use graphpool::nn::{Guest, Target, Tensor};
use graphpool_dylib::{DylibBackend, DylibSettings};

/// A library in a folder of its own, which the drop removes.
pub struct Plugin {
    folder: PathBuf,
    pub path: PathBuf,
}

impl Plugin {
    /// Compiles the library with these macros; what begins with `-` is an option of the compiler.
    pub fn build(macros: &[&str]) -> Self {
        static BUILT: AtomicUsize = AtomicUsize::new(0);
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("graphpool-dylib-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let plugin = Self { path: folder.join(format!("libtoy{number}.so")), folder };
        plugin.compile(&plugin.path, macros);
        plugin
    }

    /// Compiles a variant to `path`, with the same record.
    pub fn compile(&self, path: &Path, macros: &[&str]) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugin/plugin.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let status = Command::new(compiler)
            .args(["-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-shared", "-fPIC", "-o"])
            .arg(path)
            .arg(source)
            .arg(format!("-DLOG=\"{}\"", self.record().display()))
            .args(
                macros.iter().map(|name| if name.starts_with('-') { (*name).to_owned() } else { format!("-D{name}") }),
            )
            .status()
            .expect("a C compiler");
        assert!(status.success());
    }

    fn record(&self) -> PathBuf {
        self.folder.join("record")
    }

    /// Has computes of models with a `gate`, and loads of those with a `loadgate`, wait until the drop.
    pub fn shut_gate(&self) -> Gate {
        let gate = Gate(self.folder.join("record.gate"));
        fs::write(&gate.0, "").unwrap();
        gate
    }

    /// How often the event of that letter was recorded.
    pub fn events(&self, letter: char) -> usize {
        let record = fs::read_to_string(self.record()).unwrap_or_default();
        record.chars().filter(|event| *event == letter).count()
    }

    /// Whether the library is mapped.
    pub fn mapped(&self) -> bool {
        let name = self.path.file_name().unwrap().to_str().unwrap();
        fs::read_to_string("/proc/self/maps").unwrap().contains(name)
    }

    /// Opens and closes are in balance, as are the contexts; nothing is mapped and no calls overlapped.
    pub fn assert_gone(&self) {
        assert_eq!(self.events('o'), self.events('c'));
        self.assert_ended();
        assert!(!self.mapped(), "the library is still mapped");
    }

    /// The contexts have ended, each before its model's bytes were freed, and no calls overlapped.
    pub fn assert_ended(&self) {
        assert_eq!(self.events('i'), self.events('d'));
        assert_eq!(self.events('!'), 0, "calls that exclude each other came at once");
        assert_eq!(self.events('x'), 0, "a model's bytes were gone before its context had ended");
    }

    pub fn backend(&self) -> DylibBackend {
        self.backend_with(settings())
    }

    pub fn backend_with(&self, settings: DylibSettings) -> DylibBackend {
        // SAFETY: the library keeps to the interface, except where a test's model has it break the rules: then it stays
        // within the bytes that the buffer has behind its end.
        unsafe { DylibBackend::new(&self.path, settings) }
    }
}

pub struct Gate(PathBuf);

impl Drop for Gate {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub fn settings() -> DylibSettings {
    DylibSettings::new([Encoding::Onnx])
}

/// The text of a model.
pub fn model(words: &str) -> Vec<u8> {
    format!("TOY {words} end").into_bytes()
}

/// Loads the model, computes with one input, and returns the first output.
pub fn infer(guest: &Guest, words: &str, input: &[f32]) -> Result<Vec<f32>, graphpool::nn::Error> {
    let graph = guest.load(&[&model(words)], Encoding::Onnx, Target::Cpu)?;
    let context = guest.init_execution_context(graph)?;
    let result = (|| {
        guest.set_input(context, 0, &Tensor::from_f32([input.len() as u32], input).unwrap())?;
        guest.compute(context)?;
        let mut buffer = vec![0; 1 << 16];
        let size = guest.get_output(context, 0, &mut buffer)?;
        Ok(floats(&buffer[..size]))
    })();
    guest.drop_context(context)?;
    guest.unload(graph)?;
    result
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

pub fn eventually(f: impl Fn() -> bool) {
    while !f() {
        thread::yield_now();
    }
}
