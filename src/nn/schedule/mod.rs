//! Scheduling: admission of computes, the engine's threads, and its background work.

pub(crate) mod admission;
pub(crate) mod future;
pub(crate) mod inside;
pub(crate) mod reaper;
pub(crate) mod suspend;
pub(crate) mod threads;
pub(crate) mod turn;
pub(crate) mod waits;
pub(crate) mod workers;
