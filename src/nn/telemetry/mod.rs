//! What the engine reports of itself: statistics, spans, events and metrics.

pub(crate) mod observe;
pub(crate) mod stats;
