//! The compiled form of a graph, [`plan::Plan`], and its execution: [`run::run`] on the host, `device::run` on a
//! device.

#[cfg(feature = "candle")]
pub(crate) mod device;
pub(crate) mod plan;
pub(crate) mod run;
