//! The result of the checks.

use std::fmt;

use crate::backend::{Error, ErrorKind};

/// The result of the checks; from [`Sample::run`](super::Sample::run).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Report {
    pub(super) checks: usize,
    pub(super) failures: Vec<String>,
}

impl Report {
    /// The failed checks, one line each; empty if all passed.
    #[must_use]
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The number of checks that were made.
    #[must_use]
    pub const fn checks(&self) -> usize {
        self.checks
    }

    /// Asserts that every check passed. For use in a test.
    ///
    /// # Panics
    ///
    /// If a check failed.
    pub fn assert(&self) {
        assert!(self.failures.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} checks failed", self.failures.len(), self.checks)?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

pub(super) fn ensure(good: bool, failure: &str) -> Result<(), String> {
    if good { Ok(()) } else { Err(failure.to_owned()) }
}

pub(super) fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}
