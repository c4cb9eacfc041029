//! Comparisons of what a guest asks for with its limits, before anything is copied or allocated.

use graphpool::nn::Error;

/// The most parts of a model. Those of the encoding with the most, `OpenVINO`, are two.
pub(crate) const MAX_PARTS: usize = 64;

/// Compares a number that the guest has given with its limit.
pub(crate) fn at_most(limit: usize, number: usize, what: &str, unit: &str) -> Result<(), Error> {
    if number <= limit {
        return Ok(());
    }
    Err(Error::too_large(format!("{what} has {number} {unit}; the limit is {limit}")).by_limit())
}
