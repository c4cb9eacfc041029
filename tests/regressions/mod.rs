//! The seeds of sequences that once failed. This file stands beside them, so that no test builds without their folder.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;

/// A configuration that tries the seeds in `file` first and adds those of new failures to it.
pub fn kept_in(file: &'static str) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}
