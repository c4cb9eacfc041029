//! The part of a loaded model that its contexts share: plan, ports, defaults and strings.

use crate::compute::context::ExecContext;
use crate::compute::random::RandomStates;
use crate::compute::threads::Threads;
use crate::exec::plan::Plan;
use crate::exec::run::run;
use crate::format::ports::Port;
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
    /// Bytes that the loaded model takes.
    pub(crate) memory: usize,
}

impl Model {
    /// Runs the plan on `inputs`, one for each port, and checks the types of the outputs.
    pub(crate) fn run(
        &self,
        inputs: Vec<Value>,
        control: &ComputeControl,
        budget: &Arc<ComputeBudget>,
        random_states: &RandomStates,
    ) -> Result<Vec<Value>, Error> {
        let cx = ExecContext {
            threads: self.threads.as_ref(),
            random_states: Some(random_states),
            ..ExecContext::new(control, budget)
        };
        let outputs = run(&self.plan, inputs, &cx)?;
        for (port, value) in self.outputs.iter().zip(&outputs) {
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
        Ok(outputs)
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
