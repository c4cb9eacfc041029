//! Where a model runs: on the host, or on a device of candle's.

use crate::exec::plan::Plan;
use crate::tensor::budget::LoadBudget;
use graphpool::backend::{Error, Target};

#[cfg(feature = "candle")]
pub(crate) use crate::exec::device::Placement;

/// Without candle no model is on a device.
#[cfg(not(feature = "candle"))]
#[derive(Debug)]
pub(crate) enum Placement {}

/// The place that a backend loads models to.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Host,
    #[cfg(feature = "candle")]
    Device(candle_core::Device),
    #[cfg(any(feature = "cuda", feature = "metal"))]
    Gpu(std::sync::Arc<crate::gpu::Gpu>),
}

impl Place {
    pub(crate) const fn is_device(&self) -> bool {
        !matches!(self, Self::Host)
    }

    /// The target that models are loaded for.
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Host => Target::Cpu,
            #[cfg(feature = "candle")]
            Self::Device(device) if device.is_cpu() => Target::Cpu,
            #[cfg(feature = "candle")]
            Self::Device(_) => Target::Gpu,
            #[cfg(any(feature = "cuda", feature = "metal"))]
            Self::Gpu(_) => Target::Gpu,
        }
    }

    /// What a plan needs to run in the place; `None` for the host.
    #[cfg(feature = "candle")]
    pub(crate) fn placement(&self, plan: &Plan, budget: &mut LoadBudget) -> Result<Option<Placement>, Error> {
        let device = match self {
            Self::Host => return Ok(None),
            Self::Device(device) => device.clone(),
            #[cfg(any(feature = "cuda", feature = "metal"))]
            Self::Gpu(gpu) => gpu.device()?,
        };
        let placement = Placement::new(plan, device, budget)?;
        // On CUDA each thread has a stream of its own, and those of the computes don't wait for this one's copies.
        let copied = placement.device.synchronize();
        copied.map_err(|error| Error::runtime_error(format!("a copy to the device failed: {error}")))?;
        Ok(Some(placement))
    }

    /// What a plan needs to run in the place: nothing, for it is the host.
    #[cfg(not(feature = "candle"))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "copies to a device can fail")]
    pub(crate) fn placement(&self, _: &Plan, _: &mut LoadBudget) -> Result<Option<Placement>, Error> {
        Ok(None)
    }
}

/// Bytes that a model takes on its device.
pub(crate) fn bytes(placement: Option<&Placement>) -> usize {
    #[cfg(feature = "candle")]
    return placement.map_or(0, |placement| placement.bytes);
    #[cfg(not(feature = "candle"))]
    placement.map_or(0, |placement| match *placement {})
}
