//! Control flow: If.

use super::super::node::Node;
use super::super::run::run;
use super::{Kernel, Operator, since};
use crate::nn::Error;

pub(super) const OPERATORS: &[Operator] = &[since(1, "If", (1, 1), conditional)];

fn conditional(node: &Node<'_>) -> Result<Kernel, Error> {
    let (yes, no) = (node.subgraph("then_branch")?, node.subgraph("else_branch")?);
    for branch in [&yes, &no] {
        if branch.plan.outputs.len() != node.outputs() || branch.plan.inputs.len() != branch.captures.len() {
            return Err(Error::invalid_encoding("a branch has other inputs or outputs than the node"));
        }
    }
    Ok(Box::new(move |mut args, cx| {
        let condition = match args.get(0)?.elements::<bool>()? {
            [condition] => *condition,
            other => return Err(Error::invalid_argument(format!("a condition of {} elements", other.len()))),
        };
        let branch = if condition { &yes } else { &no };
        // A value captured by both branches comes once for each.
        let captures = branch.captures.iter().map(|&index| args.take(index)).collect::<Result<_, _>>()?;
        drop(args);
        run(&branch.plan, captures, cx)
    }))
}
