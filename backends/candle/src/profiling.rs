//! How a host profiles the models of a backend.

use crate::CandleBackend;
use crate::profile::collector::Profile;

impl CandleBackend {
    /// Records how long each step of the ONNX models that are loaded from now on takes, in `profile`.
    ///
    /// Several backends may share a collector.
    ///
    /// ```
    /// # use graphpool_candle::{CandleBackend, Profile};
    /// let profile = Profile::new();
    /// let backend = CandleBackend::new().with_profile(&profile);
    /// // Computes of guests, and then:
    /// println!("{}", profile.report());
    /// # let _ = backend;
    /// ```
    #[must_use]
    pub fn with_profile(self, profile: &Profile) -> Self {
        Self { profile: Some(profile.clone()), ..self }
    }
}
