//! Where the bytes of named models come from.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use super::{Encoding, Error};

/// Where the bytes of a named model come from.
///
/// ```
/// use graphpool::nn::ModelSource;
///
/// let onnx = ModelSource::path("models/resnet50.onnx");
/// let openvino = ModelSource::path("net.xml").and(ModelSource::path("net.bin")).with_config("streams=1");
/// let directory = ModelSource::directory("models/mobilenet");
/// ```
#[derive(Clone)]
pub struct ModelSource {
    parts: Vec<Part>,
    config: Option<String>,
}

#[derive(Clone)]
enum Part {
    Bytes(Cow<'static, [u8]>),
    Path(PathBuf),
    Directory(PathBuf),
}

impl ModelSource {
    /// A model of one part, in memory. The engine lets go of the bytes once the model is built.
    #[must_use]
    pub fn bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { parts: vec![Part::Bytes(bytes.into())], config: None }
    }

    /// A model of one part, in a file, which is read when the model is built.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self { parts: vec![Part::Path(path.into())], config: None }
    }

    /// A model in a directory of its own, which is looked through when the model is built. The encoding says which
    /// file of it is the model: `model.onnx` or else the only `.onnx` for ONNX; likewise `.xml` and the `.bin` of the
    /// same name for `OpenVINO`, `.pb` for `TensorFlow`, `.pt` for `PyTorch`, `.tflite` for `TensorFlow` Lite and
    /// `.gguf` for GGML.
    #[must_use]
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { parts: vec![Part::Directory(path.into())], config: None }
    }

    /// Adds the parts of `other` behind these, for encodings that have several. A configuration of `other` is taken
    /// over where there was none.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self.config = self.config.or(other.config);
        self
    }

    /// The configuration that the backend gets with the model, in whatever form it documents. One of nothing but blanks is
    /// none.
    #[must_use]
    pub fn with_config(mut self, config: impl Into<String>) -> Self {
        let config = config.into();
        // What says nothing is the same as none, so that models are not kept twice for it.
        self.config = (!config.trim().is_empty()).then_some(config);
        self
    }

    pub(super) fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// Whether it can be read again without any of its bytes being kept.
    pub(super) fn is_on_disk(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Bytes(_)))
    }

    /// The directory of a model of one part on disk, where the model may have more files.
    pub(super) fn base(&self) -> Option<&Path> {
        match self.parts.as_slice() {
            [Part::Path(path)] => match path.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
                parent => parent,
            },
            [Part::Directory(path)] => Some(path),
            _ => None,
        }
    }

    /// The bytes of every part.
    pub(super) fn read(&self, encoding: Encoding) -> Result<Vec<Cow<'_, [u8]>>, Error> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => parts.push(Cow::Borrowed(&**bytes)),
                Part::Path(path) => parts.push(read(path)?),
                Part::Directory(path) => {
                    for file in model_in(path, encoding)? {
                        parts.push(read(&file)?);
                    }
                }
            }
        }
        Ok(parts)
    }
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => list.entry(&format_args!("{} bytes", bytes.len())),
                Part::Path(path) | Part::Directory(path) => list.entry(path),
            };
        }
        list.finish()
    }
}

/// The encoding of a model file, by its extension.
pub(super) fn encoding_of(path: &Path) -> Option<Encoding> {
    let extension = path.extension()?.to_str()?;
    [
        Encoding::OpenVino,
        Encoding::Onnx,
        Encoding::TensorFlow,
        Encoding::PyTorch,
        Encoding::TensorFlowLite,
        Encoding::Ggml,
    ]
    .into_iter()
    .find(|encoding| extension_of(*encoding) == Some(extension))
}

/// The file itself, and what belongs to it: the weights of `OpenVINO`.
pub(super) fn parts_of(path: PathBuf, encoding: Encoding) -> Vec<PathBuf> {
    let weights = path.with_extension("bin");
    if encoding == Encoding::OpenVino && weights.is_file() { vec![path, weights] } else { vec![path] }
}

fn extension_of(encoding: Encoding) -> Option<&'static str> {
    match encoding {
        Encoding::OpenVino => Some("xml"),
        Encoding::Onnx => Some("onnx"),
        Encoding::TensorFlow => Some("pb"),
        Encoding::PyTorch => Some("pt"),
        Encoding::TensorFlowLite => Some("tflite"),
        Encoding::Ggml => Some("gguf"),
        Encoding::Autodetect => None,
    }
}

fn model_in(directory: &Path, encoding: Encoding) -> Result<Vec<PathBuf>, Error> {
    let extension = extension_of(encoding).ok_or_else(|| {
        Error::invalid_argument("a model in a directory has to have an encoding, and Autodetect is none")
    })?;
    let usual = directory.join("model").with_extension(extension);
    if usual.is_file() {
        return Ok(parts_of(usual, encoding));
    }
    let files = files_in(directory).map_err(|error| unreadable(&error))?;
    let mut models = files.into_iter().filter(|path| path.extension().is_some_and(|found| found == extension));
    match (models.next(), models.count()) {
        (Some(model), 0) => Ok(parts_of(model, encoding)),
        (None, _) => Err(Error::runtime_error(format!("the model's directory has no .{extension} file"))),
        (_, more) => {
            let count = more + 1;
            Err(Error::runtime_error(format!("the model's directory has {count} .{extension} files, none named model")))
        }
    }
}

/// The files of a directory, sorted.
pub(super) fn files_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn read(path: &Path) -> Result<Cow<'static, [u8]>, Error> {
    fs::read(path).map(Cow::Owned).map_err(|error| unreadable(&error))
}

/// The path is the host's: the guest learns only what went wrong.
pub(super) fn unreadable(error: &io::Error) -> Error {
    Error::runtime_error(format!("the model's file: {}", error.kind()))
}
