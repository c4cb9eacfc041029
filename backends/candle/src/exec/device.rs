//! Executes a plan on a device: each step by its device form, or on the host where it has none.

use std::collections::HashMap;

use candle_core::Device;

use crate::device::args::{DeviceArgs, Stop};
use crate::device::context::{Constants, Counts, DeviceContext, copy_to};
use crate::device::tensor::{DeviceTensor, Placed};
use crate::exec::plan::{Plan, Source, Step};
use crate::ops::node::Args;
use crate::profile::record::{Off, Watch};
use crate::tensor::budget::{Charge, LoadBudget};
use crate::tensor::element::ElementType;
use crate::tensor::value::{MAX_RANK, Value};
use graphpool::backend::Error;

/// The device of a loaded model, and its constants there.
pub(crate) struct Placement {
    pub(crate) device: Device,
    /// By the address of the block of elements on the host, which the plan keeps.
    constants: HashMap<usize, DeviceTensor>,
    /// Bytes of the constants on the device.
    pub(crate) bytes: usize,
    report: DeviceReport,
    /// Of all computes so far.
    counts: Counts,
}

/// Where the steps of a model run that was loaded to a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceReport {
    /// Steps of the plan that have a device form, those of subgraphs included.
    pub device_steps: usize,
    /// Steps of the plan that have none.
    pub host_steps: usize,
    /// Inputs of the model and values of its steps that a step on the other side takes.
    pub transfers: usize,
    /// Steps that the computes so far ran on the device.
    pub ran_on_device: usize,
    /// Steps that they ran on the host, for want of a device form for their element types or sizes.
    pub ran_on_host: usize,
    /// Steps on shapes and other short lists of integers, which they ran on the host because the lists were there.
    pub ran_on_lists: usize,
    /// Tensors that they copied to the device.
    pub uploads: usize,
    /// Tensors that they copied to the host.
    pub downloads: usize,
}

/// Where a value of a plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    OnHost,
    OnDevice,
}

impl Placement {
    /// Copies the floats that device forms read to the device, each once, after they are charged.
    pub(crate) fn new(plan: &Plan, device: Device, budget: &mut LoadBudget) -> Result<Self, Error> {
        let mut placement = Self {
            device,
            constants: HashMap::new(),
            bytes: 0,
            report: DeviceReport::default(),
            counts: Counts::default(),
        };
        placement.plan(plan, Some(Made::OnHost), budget)?;
        Ok(placement)
    }

    /// Adds what one compute did.
    pub(crate) fn record(&self, counts: &Counts) {
        self.counts.add_all(counts);
    }

    pub(crate) fn report(&self) -> DeviceReport {
        let [ran_on_device, ran_on_host, ran_on_lists, uploads, downloads] = self.counts.read();
        DeviceReport { ran_on_device, ran_on_host, ran_on_lists, uploads, downloads, ..self.report }
    }

    fn plan(&mut self, plan: &Plan, inputs: Option<Made>, budget: &mut LoadBudget) -> Result<(), Error> {
        // For each slot where it is made; `None` for a value that a subgraph captures.
        let mut made: Vec<Option<Made>> = vec![None; plan.slots];
        for &slot in &plan.inputs {
            if let Some(made) = made.get_mut(slot) {
                *made = inputs;
            }
        }
        let mut moved = vec![false; plan.slots];
        for step in &plan.steps {
            let place = if step.form.is_some() { Made::OnDevice } else { Made::OnHost };
            *if place == Made::OnDevice { &mut self.report.device_steps } else { &mut self.report.host_steps } += 1;
            for source in &step.inputs {
                match source {
                    Source::Constant(value) if place == Made::OnDevice => self.constant(value, budget)?,
                    Source::Slot { index, .. } => {
                        let elsewhere = made.get(*index).copied().flatten().is_some_and(|made| made != place);
                        if let Some(moved) = moved.get_mut(*index).filter(|moved| elsewhere && !**moved) {
                            *moved = true;
                            self.report.transfers += 1;
                        }
                    }
                    _ => {}
                }
            }
            for &slot in step.outputs.iter().flatten() {
                if let Some(made) = made.get_mut(slot) {
                    *made = Some(place);
                }
            }
            for subgraph in &step.subgraphs {
                self.plan(subgraph, None, budget)?;
            }
        }
        Ok(())
    }

    fn constant(&mut self, value: &Value, budget: &mut LoadBudget) -> Result<(), Error> {
        let [_, (address, _)] = value.blocks();
        let float = matches!(value.ty(), ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16);
        if !float || value.is_empty() || self.constants.contains_key(&address) {
            return Ok(());
        }
        budget.charge(value.bytes())?;
        if let Some(tensor) = copy_to(value, &self.device, Charge::none())? {
            self.bytes += value.bytes();
            self.constants.insert(address, tensor);
        }
        Ok(())
    }
}

impl Constants for Placement {
    fn placed(&self, value: &Value) -> Placed {
        let [_, (address, _)] = value.blocks();
        let tensor = self.constants.get(&address).and_then(|tensor| tensor.with_dims(value.dims()));
        Placed::new(value.clone(), tensor)
    }
}

/// As [`run::run`](crate::exec::run::run), with values that may be on the device.
pub(crate) fn run(plan: &Plan, inputs: Vec<Placed>, dx: &DeviceContext<'_>) -> Result<Vec<Placed>, Error> {
    match dx.cx.probe {
        None => watched(plan, inputs, dx, &Off),
        Some(probe) => watched(plan, inputs, dx, &probe.plan(plan.address())),
    }
}

/// Runs the plan, each step by way of `watch`. A step that is timed is waited for.
fn watched<W: Watch>(
    plan: &Plan,
    inputs: Vec<Placed>,
    dx: &DeviceContext<'_>,
    watch: &W,
) -> Result<Vec<Placed>, Error> {
    if inputs.len() != plan.inputs.len() {
        let (wanted, given) = (plan.inputs.len(), inputs.len());
        return Err(Error::runtime_error(format!("a graph with {wanted} inputs got {given} values")));
    }
    let (mut slots, _charge) = dx.cx.list::<Option<Placed>>(plan.slots)?;
    slots.resize(plan.slots, None);
    for (&slot, value) in plan.inputs.iter().zip(inputs) {
        if let Some(slot) = slots.get_mut(slot) {
            *slot = Some(value);
        }
    }
    let read = |source: &Source, slots: &mut [Option<Placed>]| match source {
        Source::Absent => None,
        Source::Constant(value) => Some(dx.constants.placed(value)),
        Source::Slot { index, last: true } => slots.get_mut(*index).and_then(Option::take),
        Source::Slot { index, last: false } => slots.get(*index).and_then(Clone::clone),
    };
    for (index, step) in plan.steps.iter().enumerate() {
        dx.cx.control.check()?;
        let mut args = DeviceArgs::new(step.inputs.iter().map(|source| read(source, &mut slots)).collect());
        let explain = |error: Error| Error::new(error.kind(), format!("{}: {}", step.label, error.message()));
        let results = watch.step::<Placed, _>(index, || {
            let results = one(step, &mut args, dx)?;
            step.check_results(results.len())?;
            if W::TIMES {
                let waited = dx.device.synchronize();
                waited.map_err(|error| Error::runtime_error(format!("the device failed: {error}")))?;
            }
            Ok(results)
        });
        let results = results.map_err(explain)?;
        // What the step has moved, later steps find moved.
        for (source, value) in step.inputs.iter().zip(args.into_values()) {
            if let Source::Slot { index, last: false } = source
                && let Some(slot) = slots.get_mut(*index)
            {
                *slot = value;
            }
        }
        for (slot, value) in step.outputs.iter().zip(results) {
            if let Some(slot) = slot.and_then(|slot| slots.get_mut(slot)) {
                *slot = Some(value);
            }
        }
    }
    dx.cx.control.check()?;
    let outputs = plan.outputs.iter().map(|source| read(source, &mut slots));
    outputs.collect::<Option<Vec<_>>>().ok_or_else(|| Error::runtime_error("an output was not computed"))
}

/// Whether all inputs are short lists of integers on the host, such as shapes. Their transfer would cost more than the
/// step.
fn lists(args: &DeviceArgs) -> bool {
    let list = |value: &Placed| {
        let integers = matches!(value.ty(), ElementType::I64 | ElementType::I32 | ElementType::Bool);
        integers && value.on_host().is_some_and(|value| value.len() <= 2 * MAX_RANK)
    };
    args.len() > 0 && (0..args.len()).filter_map(|index| args.option(index)).all(list)
}

/// The outputs of one step.
fn one(step: &Step, args: &mut DeviceArgs, dx: &DeviceContext<'_>) -> Result<Vec<Placed>, Error> {
    let mut counter = &dx.counts.host_steps;
    match &step.form {
        Some(_) if step.subgraphs.is_empty() && lists(args) => counter = &dx.counts.list_steps,
        Some(form) => match form(args, dx) {
            Ok(outputs) => {
                Counts::add(&dx.counts.device_steps);
                return Ok(outputs);
            }
            Err(Stop::HostOnly) => {}
            Err(Stop::Failed(error)) => return Err(error),
        },
        None if lists(args) => counter = &dx.counts.list_steps,
        None => {}
    }
    Counts::add(counter);
    let inputs = (0..args.len())
        .map(|index| if args.option(index).is_some() { args.host(index, dx).map(Some) } else { Ok(None) })
        .collect::<Result<Vec<_>, _>>()?;
    let outputs = (step.kernel)(Args::new(inputs), dx.cx)?;
    Ok(outputs.into_iter().map(Placed::from).collect())
}
