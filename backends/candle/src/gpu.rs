//! Opens a GPU when a model is first loaded to it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use graphpool::backend::Error;

/// A GPU, which is opened when it is first needed.
#[derive(Debug)]
pub(crate) struct Gpu {
    ordinal: usize,
    device: Mutex<Option<Device>>,
}

impl Gpu {
    pub(crate) const fn new(ordinal: usize) -> Self {
        Self { ordinal, device: Mutex::new(None) }
    }

    /// The device. A failure is not kept: the next call tries again.
    pub(crate) fn device(&self) -> Result<Device, Error> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = &*device {
            return Ok(device.clone());
        }
        // candle and cudarc panic where they expect no failure.
        let opened = catch_unwind(AssertUnwindSafe(|| open(self.ordinal))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
        });
        let opened = opened.map_err(|why| {
            // One line: with a backtrace, candle's text has more.
            let why = why.lines().next().unwrap_or_default();
            Error::unsupported(format!("GPU {} can't be used: {why}", self.ordinal))
        })?;
        *device = Some(opened.clone());
        Ok(opened)
    }
}

/// Opens the device and runs a first computation on it, which fails where the driver or the GPU is too old for the
/// kernels.
fn open(ordinal: usize) -> Result<Device, String> {
    #[cfg(cuda_at_run_time)]
    crate::cuda::load()?;
    let device = device(ordinal).map_err(|error| error.to_string())?;
    let first = || Tensor::ones(1, DType::F32, &device)?.affine(2.0, 1.0)?.to_vec1::<f32>();
    match first().map_err(|error| error.to_string())?.as_slice() {
        [sum] if (sum - 3.0).abs() < 1e-6 => Ok(device),
        sum => Err(format!("it computes {sum:?} for 2 + 1")),
    }
}

#[cfg(all(feature = "cuda", not(all(feature = "metal", target_os = "macos"))))]
fn device(ordinal: usize) -> candle_core::Result<Device> {
    Device::new_cuda(ordinal)
}

#[cfg(all(feature = "metal", any(target_os = "macos", not(feature = "cuda"))))]
fn device(ordinal: usize) -> candle_core::Result<Device> {
    Device::new_metal(ordinal)
}
