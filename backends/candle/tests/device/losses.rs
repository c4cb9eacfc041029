//! Random losses.

use crate::builder::{Random, int, string};
use crate::cases::{Attributes, Inputs};

/// The attributes and inputs of a loss, which mostly fit.
pub fn loss(random: &mut Random) -> (Attributes, Inputs) {
    let ty = random.float_type();
    let (batch, classes) = (random.dim(), 1 + random.below(5));
    let rest = random.dims(0..3);
    let mut attributes = Vec::new();
    if random.given() {
        attributes.push(string("reduction", random.pick(&["none", "mean", "sum", "sum", "product"])));
    }
    if random.once_in(2) {
        attributes.push(int("ignore_index", random.below(6) as i64 - 1));
    }
    let scores = random.tensor(ty, &[&[batch, classes], rest.as_slice()].concat());
    let dims = if random.once_in(12) { vec![batch] } else { [&[batch], rest.as_slice()].concat() };
    let low = if random.once_in(8) { -1 } else { 0 };
    let target = random.integers(&dims, low, classes as i64 - 1);
    let weights = if random.once_in(2) {
        let weights = if random.once_in(12) { classes + 1 } else { classes };
        Some(random.tensor(ty, &[weights]))
    } else {
        None
    };
    (attributes, vec![Some(scores), Some(target), weights])
}
