//! The error of a host's calls on names and directories of models.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::{fmt, io};

use crate::nn::guest::check::Quoted;
use crate::nn::{Encoding, Error, ErrorKind};

/// The error of a host's call on a name or a directory of models, with the path and the
/// [source](std::error::Error::source) if there is one.
///
/// The calls are those of [`Engine`](crate::nn::Engine). The error is for the host's log: it may contain paths of any
/// length. Guests that load the same model get an [`Error`] without path and source, made by [`Error::from`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The name belongs to another model.
    #[error("the name {name:?} is taken")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name is longer than [`Limits::max_name_bytes`](crate::nn::Limits::max_name_bytes).
    #[error("the name has {bytes} bytes; the limit is {limit}")]
    NameTooLong {
        /// The length of the name in bytes.
        bytes: usize,
        /// The limit in bytes.
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
    /// A reload of a model of bytes, which are not kept; `replace_model` takes new bytes.
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
        /// The cause.
        source: io::Error,
    },
    /// A directory cannot be read.
    #[error("the directory {} cannot be read", path.display())]
    ReadDirectory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The path refers to a directory, a pipe or a device.
    #[error("the model's file {} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The length of a file changed between its opening and its reading.
    #[error("the model's file {} has more or fewer bytes than the {length} that its metadata says", path.display())]
    LengthChanged {
        /// The file.
        path: PathBuf,
        /// The length when it was opened, in bytes.
        length: usize,
    },
    /// The model's directory has no file with the extension of the encoding, or several of which none is named `model`.
    #[error("the model's directory {} has {found} .{extension} files, none named model", path.display())]
    ModelFile {
        /// The directory.
        path: PathBuf,
        /// The extension of the encoding's files.
        extension: &'static str,
        /// The number of such files.
        found: usize,
    },
    /// The encoding has no file extension, so the model in the directory cannot be determined.
    #[error("the encoding {encoding} does not say which file of the directory {} is the model", path.display())]
    NoExtension {
        /// The directory.
        path: PathBuf,
        /// The encoding.
        encoding: Encoding,
    },
    /// A backend or a limit of the engine refused the model.
    #[error("the model cannot be built")]
    Build {
        /// The cause.
        #[from]
        source: Error,
    },
    /// The system refused to watch the directory.
    #[error("the directory {} cannot be watched", path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The system refused to start a thread.
    #[error("no thread can be started")]
    Thread {
        /// The cause.
        source: io::Error,
    },
}

impl ModelError {
    /// The kind of the error that a guest gets.
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

    /// Displays the error and its sources, in order.
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

/// The error that a guest gets: the cause, without paths of the host.
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
