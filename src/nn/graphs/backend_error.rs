//! The error of a host's calls on the backends of an engine.

use crate::nn::Error;

/// The error of a host's call on the backends of an [`Engine`](crate::nn::Engine).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// A backend of the engine has the name.
    #[error("the engine has a backend named {name:?}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No backend of the engine has the name.
    #[error("the engine has no backend named {name:?}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The backend panicked when it was asked for its name.
    #[error("the backend panicked when it was asked for its name")]
    Panicked {
        /// The cause.
        #[from]
        source: Error,
    },
}
