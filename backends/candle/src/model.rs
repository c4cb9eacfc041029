//! The part of a loaded model that its contexts share: plan, ports, defaults and strings.

use crate::compute::context::ExecContext;
use crate::compute::random::RandomStates;
use crate::compute::threads::Threads;
use crate::exec::plan::Plan;
use crate::exec::run::run;
use crate::format::ports::Port;
use crate::place::Placement;
use crate::profile::record::Probe;
use crate::quote::quote;
use crate::tensor::budget::ComputeBudget;
use crate::tensor::dims::Dims;
use crate::tensor::string_table::StringTable;
use crate::tensor::value::Value;
use graphpool::backend::{ComputeControl, Error};
use std::sync::Arc;

/// A loaded model. It is immutable, and all contexts of its graph share it.
pub(crate) struct Model {
    pub(crate) plan: Plan,
    /// First the inputs that must be set, then those that have a default.
    pub(crate) inputs: Vec<Port>,
    /// The defaults of the last inputs, in their order.
    pub(crate) defaults: Vec<Value>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) string_table: StringTable,
    /// The number of nodes that draw random numbers.
    pub(crate) random_nodes: usize,
    pub(crate) threads: Option<Arc<Threads>>,
    /// Bytes that the loaded model takes, on the host and on its device.
    pub(crate) memory: usize,
    /// The device, if the model runs on one.
    pub(crate) placement: Option<Placement>,
    /// What times its computes, if it is profiled.
    pub(crate) probe: Option<Arc<Probe>>,
}

impl Model {
    /// Runs the plan on `inputs`, one for each port, appends the outputs to `outputs` and checks their types.
    pub(crate) fn run(
        &self,
        inputs: impl ExactSizeIterator<Item = Value>,
        outputs: &mut Vec<Value>,
        control: &ComputeControl,
        budget: &Arc<ComputeBudget>,
        random_states: &RandomStates,
    ) -> Result<(), Error> {
        let cx = ExecContext {
            threads: self.threads.as_ref(),
            random_states: Some(random_states),
            probe: self.probe.as_deref(),
            ..ExecContext::new(control, budget)
        };
        match &self.placement {
            None => run(&self.plan, inputs, outputs, &cx)?,
            Some(placement) => outputs.extend(self.run_on(placement, inputs.collect(), &cx)?),
        }
        for (port, value) in self.outputs.iter().zip(&*outputs) {
            // The file's types of outputs are not checked at load, and the caller relies on them.
            if port.ty != value.ty() {
                let why = format!(
                    "output {} has the type {:?}, but the model declares {:?}",
                    quote(&port.name),
                    value.ty(),
                    port.ty
                );
                return Err(Error::runtime_error(why));
            }
        }
        Ok(())
    }
}

#[cfg(feature = "candle")]
impl Model {
    /// Runs the plan on the model's device.
    fn run_on(&self, placement: &Placement, inputs: Vec<Value>, cx: &ExecContext<'_>) -> Result<Vec<Value>, Error> {
        use crate::device::args::DeviceArgs;
        use crate::device::context::{Counts, DeviceContext};
        let counts = Counts::default();
        let dx = DeviceContext { device: &placement.device, constants: placement, cx, counts: &counts };
        let _finish = Finish(&placement.device);
        let outputs = crate::exec::device::run(&self.plan, inputs.into_iter().map(Into::into).collect(), &dx);
        let values = outputs.and_then(|outputs| {
            let mut outputs = DeviceArgs::new(outputs.into_iter().map(Some).collect());
            (0..outputs.len()).map(|index| outputs.host(index, &dx)).collect()
        });
        placement.record(&counts);
        values
    }
}

/// Waits, when it is dropped, for what this thread has begun on the device.
///
/// That reads the weights, and the graph may free them on another thread when the compute has returned, whether by a
/// result, an error or a panic. On CUDA each thread has a stream of its own, and a step whose result no output needs
/// may still run then.
#[cfg(feature = "candle")]
struct Finish<'a>(&'a candle_core::Device);

#[cfg(feature = "candle")]
impl Drop for Finish<'_> {
    fn drop(&mut self) {
        // A failure that matters to the compute, the copies of its outputs have met.
        let _ = self.0.synchronize();
    }
}

#[cfg(not(feature = "candle"))]
impl Model {
    #[expect(clippy::unused_self, reason = "as with candle")]
    fn run_on(&self, placement: &Placement, _: Vec<Value>, _: &ExecContext<'_>) -> Result<Vec<Value>, Error> {
        match *placement {}
    }
}

/// Refuses an input's dimensions unless they match those that the model declares.
pub(crate) fn check_dims(port: &Port, dims: &[usize]) -> Result<(), Error> {
    let Some(wanted) = &port.dims else { return Ok(()) };
    let same = wanted.len() == dims.len()
        && wanted.iter().zip(dims).all(|(wanted, &dim)| wanted.is_none_or(|wanted| wanted == dim));
    if same {
        return Ok(());
    }
    // In the message, 0 stands for an open size.
    let declared: Vec<usize> = wanted.iter().map(|dim| dim.unwrap_or(0)).collect();
    let name = quote(&port.name);
    let why = format!("input {name} has the dimensions {} (0: any size), not {}", Dims(&declared), Dims(dims));
    Err(Error::invalid_argument(why))
}
