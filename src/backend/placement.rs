//! Where the steps of a graph on a device run.

/// Where the steps of a graph run that was loaded to a device such as a GPU.
///
/// A backend may run some operators on the host for want of a form for the device. Their values are then copied between
/// host and device in each compute, which can cost more than the operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// Steps on the device.
    pub device_steps: usize,
    /// Steps on the host.
    pub host_steps: usize,
    /// Inputs of the model, which are on the host, and values of its steps that a step on the other side takes.
    pub transfers: usize,
}

impl Placement {
    /// A placement with these numbers.
    #[must_use]
    pub const fn new(device_steps: usize, host_steps: usize, transfers: usize) -> Self {
        Self { device_steps, host_steps, transfers }
    }
}
