//! What the contexts of a graph share.

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

/// Everything of a model that its contexts share.
pub(crate) struct Model {
    pub(crate) plan: Plan,
    /// Those that have to be given, and after them those that have a default.
    pub(crate) inputs: Vec<Port>,
    pub(crate) defaults: Vec<Value>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) string_table: StringTable,
    /// Nodes that draw numbers at random.
    pub(crate) random_nodes: usize,
    pub(crate) threads: Option<Arc<Threads>>,
    /// Bytes of all this.
    pub(crate) memory: usize,
}

impl Model {
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
            // A model may lie about its outputs; the caller was told what it says.
            if port.ty != value.ty() {
                let why = format!("output {} is {:?}, not {:?}", quote(&port.name), value.ty(), port.ty);
                return Err(Error::runtime_error(why));
            }
        }
        Ok(outputs)
    }
}

/// Refuses dimensions that are not those of the model.
pub(crate) fn fits(port: &Port, dims: &[usize]) -> Result<(), Error> {
    let Some(wanted) = &port.dims else { return Ok(()) };
    let same = wanted.len() == dims.len()
        && wanted.iter().zip(dims).all(|(wanted, &dim)| wanted.is_none_or(|wanted| wanted == dim));
    if same {
        return Ok(());
    }
    // An open size is told as 0.
    let told: Vec<usize> = wanted.iter().map(|dim| dim.unwrap_or(0)).collect();
    let why = format!("input {} is {} (0: any size), not {}", quote(&port.name), Dims(&told), Dims(dims));
    Err(Error::invalid_argument(why))
}
