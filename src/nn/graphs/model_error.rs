//! What a host's calls on names and directories of models can answer instead of success.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::{fmt, io};

use crate::nn::guest::check::Quoted;
use crate::nn::{Encoding, Error, ErrorKind};

/// Why a host's call on a name or a directory of models has failed, with the path and the
/// [source](std::error::Error::source) where there is one.
///
/// These calls are [`Engine`](super::Engine)'s, and the error is for the host's log: it may name paths and is as long as
/// they are. Guests that load the same model get an [`Error`] without path and source; [`Error::from`] makes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Another model has the name.
    #[error("the name {name:?} is taken")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name is longer than [`Limits::max_name_bytes`](super::Limits::max_name_bytes).
    #[error("the name has {bytes} bytes; the limit is {limit}")]
    NameTooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No model has the name.
    #[error("no model is named {name:?}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The name was removed while the model was being reloaded.
    #[error("the model {name:?} was removed during the reload")]
    Removed {
        /// The name.
        name: String,
    },
    /// A model of bytes, which are not kept, can only be replaced.
    #[error("the model {name:?} came from bytes, which are not kept: replace_model takes new ones")]
    BytesNotKept {
        /// The name.
        name: String,
    },
    /// A file cannot be opened or read.
    #[error("the model's file {} cannot be read", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory cannot be read.
    #[error("the directory {} cannot be read", path.display())]
    ReadDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is at the path is a directory, a pipe or a device.
    #[error("the model's file {} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file's length was another when it was read than when it was opened.
    #[error("the model's file {} has more or fewer bytes than the {length} that its metadata says", path.display())]
    LengthChanged {
        /// The file.
        path: PathBuf,
        /// The length when it was opened, in bytes.
        length: usize,
    },
    /// The model's directory has no file with the extension of the encoding, or several and none named `model`.
    #[error("the model's directory {} has {found} .{extension} files, none named model", path.display())]
    ModelFile {
        /// The directory.
        path: PathBuf,
        /// The extension of the encoding's files.
        extension: &'static str,
        /// How many such files it has.
        found: usize,
    },
    /// The files of a model's directory are found by its encoding, and this one has no files.
    #[error("the encoding {encoding} does not say which file of the directory {} is the model", path.display())]
    NoExtension {
        /// The directory.
        path: PathBuf,
        /// The encoding.
        encoding: Encoding,
    },
    /// A backend refused the model, or a limit of the engine's did.
    #[error("the model cannot be built")]
    Build {
        /// Why.
        #[from]
        source: Error,
    },
    /// The system refuses to watch the directory.
    #[error("the directory {} cannot be watched", path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The system refuses a thread.
    #[error("no thread can be started")]
    Thread {
        /// Why.
        source: io::Error,
    },
}

impl ModelError {
    /// The kind that a guest is told.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NameTaken { .. } | Self::BytesNotKept { .. } | Self::NoExtension { .. } => ErrorKind::InvalidArgument,
            Self::NameTooLong { .. } => ErrorKind::TooLarge,
            Self::NotFound { .. } | Self::Removed { .. } => ErrorKind::NotFound,
            Self::Build { source } => source.kind(),
            _ => ErrorKind::RuntimeError,
        }
    }

    /// Displays the error and its sources, one behind the other.
    pub(crate) fn chain(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            write!(f, "{self}")?;
            let mut source = self.source();
            while let Some(error) = source {
                write!(f, ": {error}")?;
                source = error.source();
            }
            Ok(())
        })
    }
}

/// What a guest is told: the cause, without a path of the host's.
impl From<ModelError> for Error {
    fn from(error: ModelError) -> Self {
        let kind = error.kind();
        let message = match error {
            ModelError::Build { source } => return source,
            ModelError::NameTaken { name } => format!("the name {} is taken", Quoted(&name)),
            ModelError::NotFound { name } => format!("no model is named {}", Quoted(&name)),
            ModelError::Removed { name } => format!("the model {} was removed during the reload", Quoted(&name)),
            ModelError::BytesNotKept { name } => {
                format!("the model {} came from bytes, which are not kept", Quoted(&name))
            }
            ModelError::ReadFile { source, .. } => format!("the model's file cannot be read: {}", source.kind()),
            ModelError::ReadDirectory { source, .. } => {
                format!("the model's directory cannot be read: {}", source.kind())
            }
            ModelError::NotAFile { .. } => "the model's file is not a regular file".to_owned(),
            ModelError::LengthChanged { length, .. } => {
                format!("the model's file has more or fewer bytes than the {length} that its metadata says")
            }
            ModelError::ModelFile { extension, found, .. } => {
                format!("the model's directory has {found} .{extension} files, none named model")
            }
            ModelError::NoExtension { encoding, .. } => {
                format!("the encoding {encoding} does not say which file of the model's directory is the model")
            }
            ModelError::Watch { .. } => "the directory cannot be watched".to_owned(),
            ModelError::NameTooLong { .. } | ModelError::Thread { .. } => error.to_string(),
        };
        Self::new(kind, message)
    }
}
