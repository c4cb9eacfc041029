//! The sources of named models: bytes in memory, files or a directory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::backend::ModelFile;
use crate::nn::{Encoding, ModelError};

/// The source of a named model's bytes.
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
    guest_configs: usize,
}

#[derive(Clone)]
enum Part {
    Bytes(Cow<'static, [u8]>),
    Path(PathBuf),
    Directory(PathBuf),
    OfBackend(String),
}

impl ModelSource {
    /// A model of one part, in memory. The engine drops the bytes once the model is built.
    #[must_use]
    pub fn bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self::of(Part::Bytes(bytes.into()))
    }

    /// A model of one part in a regular file. The file is read when the model is built, after the engine has reserved
    /// room for it within [`EngineLimits::max_graph_bytes`](crate::nn::EngineLimits::max_graph_bytes).
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::of(Part::Path(path.into()))
    }

    /// A model in a directory of its own, which is searched when the model is built. The encoding selects the file:
    /// `model.onnx` or else the only `.onnx` for ONNX; likewise `.xml` and the `.bin` of the same name for `OpenVINO`,
    /// `.pb` for `TensorFlow`, `.pt` for `PyTorch`, `.tflite` for `TensorFlow` Lite and `.gguf` for GGML.
    #[must_use]
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::of(Part::Directory(path.into()))
    }

    /// A model that the backend finds by a name of its own, such as a library's own registry of models. The backend
    /// documents what the names mean: to some they are paths. Guests load the model by the name under which it is
    /// registered, and never choose this one. Parts that [`and`](Self::and) adds are not used.
    ///
    /// The engine does not see the model's bytes: it counts what the backend reports, and a reload keeps the version
    /// that is in use if nothing else has changed. A backend that knows no names refuses the model.
    #[must_use]
    pub fn of_backend(name: impl Into<String>) -> Self {
        Self::of(Part::OfBackend(name.into()))
    }

    fn of(part: Part) -> Self {
        Self { parts: vec![part], config: None, guest_configs: 0 }
    }

    /// Appends the parts of `other`, for encodings that have several. Takes the configuration of `other` if this source
    /// has none, and the larger number of [guest configurations](Self::with_guest_configs).
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self.config = self.config.or(other.config);
        self.guest_configs = self.guest_configs.max(other.guest_configs);
        self
    }

    /// Sets the configuration that the backend gets with the model, in the format that the backend documents. A text
    /// that is empty or only whitespace is the same as no configuration.
    #[must_use]
    pub fn with_config(mut self, config: impl Into<String>) -> Self {
        let config = config.into();
        // An empty configuration is the same as none, so that the model is not kept twice.
        self.config = (!config.trim().is_empty()).then_some(config);
        self
    }

    /// Allows guests to load the model with their own configurations
    /// ([`Guest::load_by_name_with_config`](crate::nn::Guest::load_by_name_with_config)): at most `max` graphs at one
    /// time over all guests; the default 0 allows none. The backend gets the guest's text in place of the text of
    /// [`with_config`](Self::with_config), so it must treat configurations as hostile input. A source of bytes then
    /// keeps them in memory.
    ///
    /// Each graph takes as much memory as a separate model, unless the backend can
    /// [reconfigure](crate::backend::Backend::reconfigures) a graph. Then the model itself is loaded, too, and the
    /// graphs share with it what their configurations don't change: it is in memory and counted once.
    #[must_use]
    pub fn with_guest_configs(self, max: usize) -> Self {
        Self { guest_configs: max, ..self }
    }

    pub(crate) fn guest_configs(&self) -> usize {
        self.guest_configs
    }

    pub(crate) fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// Whether the source can be read again without keeping its bytes.
    pub(crate) fn is_on_disk(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Bytes(_)))
    }

    /// Whether its first part is that file.
    #[cfg(feature = "watch")]
    pub(crate) fn is_from(&self, file: &Path) -> bool {
        matches!(self.parts.first(), Some(Part::Path(path)) if path == file)
    }

    /// This source with the configuration of `other` and its number of guest configurations.
    #[cfg(feature = "watch")]
    pub(crate) fn with_configs_of(self, other: &Self) -> Self {
        Self { config: other.config.clone(), guest_configs: other.guest_configs, ..self }
    }

    /// The name of a model that the backend finds.
    pub(crate) fn backend_name(&self) -> Option<&str> {
        self.parts.iter().find_map(|part| match part {
            Part::OfBackend(name) => Some(&**name),
            _ => None,
        })
    }

    /// The directory of a model of one part on disk; the model may have more files there.
    pub(crate) fn base(&self) -> Option<&Path> {
        match self.parts.as_slice() {
            [Part::Path(path)] => match path.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
                parent => parent,
            },
            [Part::Directory(path)] => Some(path),
            _ => None,
        }
    }

    /// Opens every part without reading it.
    pub(crate) fn open(&self, encoding: Encoding) -> Result<Opened<'_>, ModelError> {
        let mut parts = Vec::with_capacity(self.parts.len());
        if self.backend_name().is_some() {
            return Ok(Opened { parts });
        }
        for part in &self.parts {
            match part {
                Part::OfBackend(_) => {}
                Part::Bytes(bytes) => parts.push(OpenPart::Bytes(bytes)),
                Part::Path(path) => parts.push(open(path)?),
                Part::Directory(path) => {
                    for file in model_in(path, encoding)? {
                        parts.push(open(&file)?);
                    }
                }
            }
        }
        Ok(Opened { parts })
    }
}

/// A source whose files are open but not read yet.
pub(crate) struct Opened<'a> {
    parts: Vec<OpenPart<'a>>,
}

enum OpenPart<'a> {
    Bytes(&'a [u8]),
    /// An open file, with its path and its length.
    File(File, PathBuf, usize),
}

impl<'a> Opened<'a> {
    /// The bytes of all files together, which [`read`](Self::read) will allocate.
    pub(crate) fn length_of_files(&self) -> usize {
        let lengths = self.parts.iter().map(|part| match part {
            OpenPart::Bytes(_) => 0,
            OpenPart::File(_, _, length) => *length,
        });
        lengths.fold(0, usize::saturating_add)
    }

    /// The file of a model that is one file, to be read by a backend; otherwise the parts as they were.
    pub(crate) fn file(mut self) -> Result<Result<ModelFile, Self>, ModelError> {
        match (self.parts.pop(), self.parts.is_empty()) {
            (Some(OpenPart::File(file, path, length)), true) => {
                let file =
                    ModelFile::new(file).map_err(|source| ModelError::ReadFile { path: path.clone(), source })?;
                if file.len() == length { Ok(Ok(file)) } else { Err(ModelError::LengthChanged { path, length }) }
            }
            (last, _) => {
                self.parts.extend(last);
                Ok(Err(self))
            }
        }
    }

    /// Reads the bytes of every part. A file whose length has changed is an error, and is not read further.
    pub(crate) fn read(self) -> Result<Vec<Cow<'a, [u8]>>, ModelError> {
        let read = |part| match part {
            OpenPart::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            OpenPart::File(file, path, length) => read(file, path, length).map(Cow::Owned),
        };
        self.parts.into_iter().map(read).collect()
    }
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => list.entry(&format_args!("{} bytes", bytes.len())),
                Part::Path(path) | Part::Directory(path) => list.entry(path),
                Part::OfBackend(name) => list.entry(&format_args!("{name:?} of the backend")),
            };
        }
        list.finish()
    }
}

/// The file extensions and their encodings, in the order of preference for files of one name.
const ENCODINGS: [Encoding; 6] = [
    Encoding::Onnx,
    Encoding::OpenVino,
    Encoding::TensorFlow,
    Encoding::PyTorch,
    Encoding::TensorFlowLite,
    Encoding::Ggml,
];

/// The encoding of a model file, by its extension.
fn encoding_of(path: &Path) -> Option<Encoding> {
    let extension = path.extension()?.to_str()?;
    ENCODINGS.into_iter().find(|encoding| extension_of(*encoding) == Some(extension))
}

/// The file, and the files that belong to it: the weights of `OpenVINO`.
pub(crate) fn parts_of(path: PathBuf, encoding: Encoding) -> Vec<PathBuf> {
    let weights = path.with_extension("bin");
    if encoding == Encoding::OpenVino && weights.is_file() { vec![path, weights] } else { vec![path] }
}

/// The source of a model file, with the files that belong to it.
pub(crate) fn source_of(file: &Path, encoding: Encoding) -> ModelSource {
    let parts = parts_of(file.to_owned(), encoding).into_iter().map(Part::Path).collect();
    ModelSource { parts, config: None, guest_configs: 0 }
}

/// The models of a directory: the files of each name without the extension, in the order of [`ENCODINGS`].
pub(crate) fn models_in(directory: &Path) -> Result<BTreeMap<String, Vec<(PathBuf, Encoding)>>, ModelError> {
    let unreadable = |source| ModelError::ReadDirectory { path: directory.to_owned(), source };
    let mut models = BTreeMap::<String, Vec<(PathBuf, Encoding)>>::new();
    for file in files_in(directory).map_err(unreadable)? {
        if let (Some(encoding), Some(name)) = (encoding_of(&file), file.file_stem().and_then(|name| name.to_str())) {
            models.entry(name.to_owned()).or_default().push((file, encoding));
        }
    }
    let rank = |encoding| ENCODINGS.iter().position(|other| *other == encoding);
    for files in models.values_mut() {
        files.sort_by_key(|(_, encoding)| rank(*encoding));
    }
    Ok(models)
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

fn model_in(directory: &Path, encoding: Encoding) -> Result<Vec<PathBuf>, ModelError> {
    let path = || directory.to_owned();
    let extension = extension_of(encoding).ok_or_else(|| ModelError::NoExtension { path: path(), encoding })?;
    let usual = directory.join("model").with_extension(extension);
    if usual.is_file() {
        return Ok(parts_of(usual, encoding));
    }
    let files = files_in(directory).map_err(|source| ModelError::ReadDirectory { path: path(), source })?;
    let mut models = files.into_iter().filter(|path| path.extension().is_some_and(|found| found == extension));
    match (models.next(), models.count()) {
        (Some(model), 0) => Ok(parts_of(model, encoding)),
        (first, more) => {
            let found = usize::from(first.is_some()) + more;
            Err(ModelError::ModelFile { path: path(), extension, found })
        }
    }
}

/// The files of a directory, sorted.
pub(crate) fn files_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
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

/// Opens a file and reads its length.
fn open(path: &Path) -> Result<OpenPart<'static>, ModelError> {
    let unreadable = |source| ModelError::ReadFile { path: path.to_owned(), source };
    // Checked first, because opening a pipe blocks until it has a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(ModelError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    Ok(OpenPart::File(file, path.to_owned(), usize::try_from(length).unwrap_or(usize::MAX)))
}

/// Reads a file of that length, and at most one byte more.
fn read(file: File, path: PathBuf, length: usize) -> Result<Vec<u8>, ModelError> {
    let (most, mut bytes) = (length.saturating_add(1), Vec::new());
    let result = match bytes.try_reserve_exact(most) {
        Ok(()) => file.take(most as u64).read_to_end(&mut bytes),
        Err(_) => Err(io::ErrorKind::OutOfMemory.into()),
    };
    match result {
        Ok(read) if read == length => Ok(bytes),
        Ok(_) => Err(ModelError::LengthChanged { path, length }),
        Err(source) => Err(ModelError::ReadFile { path, source }),
    }
}
