//! The device form of If: the branch runs on the device.

use crate::device::args::{DeviceArgs, DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::ops::node::{Node, Subgraph};
use graphpool::backend::Error;

/// The one boolean at `index`.
fn condition(args: &mut DeviceArgs, index: usize, dx: &DeviceContext<'_>) -> Result<bool, Error> {
    match args.host(index, dx)?.elements::<bool>()? {
        [one] => Ok(*one),
        other => Err(Error::invalid_argument(format!("a condition must have one element, not {}", other.len()))),
    }
}

pub(in crate::ops) fn branch(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let branches: [Subgraph; 2] = [node.subgraph("else_branch")?, node.subgraph("then_branch")?];
    Ok(Box::new(move |args, dx| {
        let chosen = &branches[usize::from(condition(args, 0, dx)?)];
        let captures = chosen.captures.iter().map(|&index| args.get(index).cloned());
        let captures = captures.collect::<Result<Vec<_>, _>>()?;
        Ok(chosen.graph.run_on_device(captures, dx)?)
    }))
}
