//! Telemetry: the statistics, spans, events and metrics of an engine.

pub(crate) mod observe;
pub(crate) mod stats;
