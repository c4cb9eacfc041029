//! Backends that run models on a device.

use crate::CandleBackend;
#[cfg(any(feature = "cuda", feature = "metal"))]
use crate::gpu::Gpu;
use crate::place::Place;
#[cfg(any(feature = "cuda", feature = "metal"))]
use std::sync::Arc;

impl CandleBackend {
    /// A backend that runs models on a device of candle's: for [`Target::Gpu`], or for [`Target::Cpu`] if it is
    /// candle's CPU.
    ///
    /// Operators with a device form ([`Operator::on_device`]) run on the device, the others on the host, to which their
    /// values are copied and back; [`CandleGraph::device_report`] tells how often. The floats of a model are copied to
    /// the device once, when it is loaded, and all contexts share them. All memory on the device counts towards the
    /// limits of the load and the compute, like memory on the host.
    ///
    /// candle's CPU is slower than [`new`](Self::new), by 1.7 to 6 times for convolutions. It is for tests, and for
    /// comparisons with a device.
    ///
    /// [`Target::Gpu`]: graphpool::backend::Target::Gpu
    /// [`Target::Cpu`]: graphpool::backend::Target::Cpu
    /// [`Operator::on_device`]: crate::Operator::on_device
    /// [`CandleGraph::device_report`]: crate::CandleGraph::device_report
    #[must_use]
    pub const fn with_device(device: candle_core::Device) -> Self {
        Self::at(None, Place::Device(device))
    }

    /// A backend that runs models on the GPU with this number, from 0: for [`Target::Gpu`].
    ///
    /// The GPU is opened when a model is first loaded. A load fails with
    /// [`UnsupportedOperation`](graphpool::backend::ErrorKind::UnsupportedOperation) where that is not possible, for
    /// example because there is no driver, and the next load tries again. Clones share the device. The rest is as with
    /// [`with_device`](Self::with_device).
    ///
    /// The backend's name is `candle-gpu`, so that an engine can have one for the CPU too:
    ///
    /// ```
    /// # use graphpool::nn::Engine;
    /// # use graphpool_candle::CandleBackend;
    /// let engine = Engine::new(CandleBackend::new());
    /// engine.register_backend(CandleBackend::with_gpu(0))?;
    /// # Ok::<(), graphpool::nn::BackendError>(())
    /// ```
    ///
    /// [`Target::Gpu`]: graphpool::backend::Target::Gpu
    #[cfg(any(feature = "cuda", feature = "metal"))]
    #[must_use]
    pub fn with_gpu(ordinal: usize) -> Self {
        Self::at(None, Place::Gpu(Arc::new(Gpu::new(ordinal))))
    }
}
