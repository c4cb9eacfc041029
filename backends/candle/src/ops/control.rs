//! Control flow: If, Loop, Scan.
//!
//! A body sees its captures afresh in every turn; each turn looks at the compute's token, and what a turn leaves for
//! the end is charged, however small it is.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::format::messages::ValueInfoProto;
use crate::format::ports;
use crate::ops::layout::{axis_first, inverse, join, permute};
use crate::ops::node::{Args, Node, OpFn, Subgraph};
use crate::ops::operator::{MANY, Operator, since};
use crate::tensor::budget::Charge;
use crate::tensor::dims::axis;
use crate::tensor::element::{ElementType, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "If", (1, 1), conditional).heavy(),
    since(1, "Loop", (0, MANY), repeat).unbounded(),
    since(9, "Scan", (1, MANY), scan).unbounded(),
];

fn conditional(node: &Node<'_>) -> Result<OpFn, Error> {
    let (yes, no) = (node.subgraph("then_branch")?, node.subgraph("else_branch")?);
    for branch in [&yes, &no] {
        if branch.graph.outputs() != node.outputs() || branch.graph.inputs() != branch.captures.len() {
            return Err(Error::invalid_encoding("a branch of If must have no inputs, and the outputs of the node"));
        }
    }
    Ok(Box::new(move |mut args, cx| {
        let condition = boolean(args.get(0)?)?;
        let branch = if condition { &yes } else { &no };
        // A value captured by both branches comes once for each.
        let captures = branch.captures.iter().map(|&index| args.take(index)).collect::<Result<_, _>>()?;
        drop(args);
        branch.graph.run(captures, cx)
    }))
}

fn boolean(value: &Value) -> Result<bool, Error> {
    match value.elements::<bool>()? {
        [one] => Ok(*one),
        other => Err(Error::invalid_argument(format!("a condition must have one element, not {}", other.len()))),
    }
}

/// Bytes that the bookkeeping of one value takes, besides its dimensions, charged for each that is kept.
const KEPT: usize = 320;

/// What the turns of a body leave for the end, each turn's value of each output.
struct Kept {
    values: Vec<Vec<Value>>,
    charges: Vec<Charge>,
}

impl Kept {
    fn new(outputs: usize) -> Self {
        Self { values: vec![Vec::new(); outputs], charges: Vec::new() }
    }

    fn push(&mut self, values: impl Iterator<Item = Value>, cx: &ExecContext<'_>) -> Result<(), Error> {
        for (kept, value) in self.values.iter_mut().zip(values) {
            self.charges.push(cx.meter.charge(KEPT + value.rank() * size_of::<usize>())?);
            let mut dims = Vec::with_capacity(value.rank() + 1);
            dims.push(1);
            dims.extend_from_slice(value.dims());
            kept.push(value.reshaped(dims)?);
        }
        Ok(())
    }

    /// Each output's values one after the other along a new first axis.
    fn join(self, declared: &[Declared], cx: &ExecContext<'_>) -> Result<Vec<Value>, Error> {
        let join = |(values, declared): (Vec<Value>, &Declared)| {
            if values.is_empty() {
                return declared.of_no_turn();
            }
            join(&values.iter().collect::<Vec<_>>(), 0, cx)
        };
        self.values.into_iter().zip(declared).map(join).collect()
    }
}

/// What a body says of one of its outputs: type and sizes, an open one as 0; none where it says nothing.
struct Declared(Option<(ElementType, Vec<usize>)>);

impl Declared {
    /// Of the outputs of the graph in an attribute, from one on.
    fn outputs(node: &Node<'_>, name: &str, first: usize) -> Vec<Self> {
        let body = node.proto.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name));
        let outputs = body.and_then(|body| body.g.as_ref()).map_or(&[][..], |graph| &graph.output);
        let declared = |info: &ValueInfoProto| {
            let port = ports::port(info).ok()?;
            Some((port.ty, port.dims.unwrap_or_default().iter().map(|dim| dim.unwrap_or(0)).collect()))
        };
        outputs.get(first..).unwrap_or_default().iter().map(|info| Self(declared(info))).collect()
    }

    /// What the turns of a body that never ran leave.
    fn of_no_turn(&self) -> Result<Value, Error> {
        let Some((ty, dims)) = &self.0 else {
            return Err(Error::unsupported("the body never ran and does not declare the type of its output"));
        };
        Value::from_bytes([&[0], dims.as_slice()].concat(), *ty, &[])
    }
}

/// The captures of a body, out of the node's inputs.
fn captures(body: &Subgraph, args: &mut Args) -> Result<Vec<Value>, Error> {
    body.captures.iter().map(|&index| args.take(index)).collect()
}

fn repeat(node: &Node<'_>) -> Result<OpFn, Error> {
    let body = node.subgraph("body")?;
    let formal = body.graph.inputs().saturating_sub(body.captures.len());
    let carried = formal
        .checked_sub(2)
        .ok_or_else(|| Error::invalid_encoding("the body of a Loop must have at least two inputs"))?;
    let scans = body.graph.outputs().checked_sub(carried + 1);
    let scans = scans
        .ok_or_else(|| Error::invalid_encoding("the body of a Loop has fewer outputs than loop-carried values"))?;
    if node.proto.input.len().max(2) != carried + 2 || node.outputs() > carried + scans {
        return Err(Error::invalid_encoding("the inputs or outputs of the body do not match those of the node"));
    }
    // With neither input there may be less than two names; captures follow those that there are.
    let given = node.proto.input.len();
    let declared = Declared::outputs(node, "body", carried + 1);
    Ok(Box::new(move |mut args, cx| {
        let input = |index: usize| if index < given { args.option(index) } else { None };
        let turns = input(0).map(crate::ops::integers::integer).transpose()?.unwrap_or(i64::MAX);
        let mut going = input(1).map(boolean).transpose()?.unwrap_or(true);
        let mut state = (2..2 + carried).map(|index| args.take(index)).collect::<Result<Vec<_>, _>>()?;
        let captured = captures(&body, &mut args)?;
        drop(args);
        let mut kept = Kept::new(scans);
        let mut turn = 0;
        while going && turn < turns {
            cx.control.check()?;
            let mut inputs = vec![Value::scalar(turn)?, Value::scalar(going)?];
            inputs.append(&mut state);
            inputs.extend(captured.iter().cloned());
            let mut outputs = body.graph.run(inputs, cx)?;
            let scanned = outputs.split_off(carried + 1);
            kept.push(scanned.into_iter(), cx)?;
            state = outputs.split_off(1);
            going = outputs.first().map(boolean).transpose()?.unwrap_or(false);
            turn += 1;
        }
        state.extend(kept.join(&declared, cx)?);
        Ok(state)
    }))
}

/// A list of one number for each of `count` inputs or outputs, 0 where the attribute is left out.
fn list(node: &Node<'_>, name: &str, count: usize) -> Result<Vec<i64>, Error> {
    let list = node.ints(name)?.map_or_else(|| vec![0; count], <[i64]>::to_vec);
    if list.len() == count {
        return Ok(list);
    }
    Err(Error::invalid_encoding(format!("attribute {name} has {} numbers, not {count}", list.len())))
}

/// The value with the axis `at` moved to the front.
fn to_front(value: Value, at: i64, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let at = axis(at, value.rank())?;
    let order = axis_first(at, value.rank());
    permute(value, &order, cx)
}

/// One index of the first dimension.
fn slice(value: &Value, index: usize, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let dims = value.dims().get(1..).unwrap_or_default();
    let len = crate::tensor::dims::product(dims);
    let plain = value.plain();
    let slice = with_elements!(plain, |elements| {
        cx.output(dims)?.append(|out| Checkpoint::default().copy(&elements[index * len..(index + 1) * len], out, cx))
    })?;
    Ok(slice.retyped(value.ty()))
}

fn scan(node: &Node<'_>) -> Result<OpFn, Error> {
    let body = node.subgraph("body")?;
    let formal = body.graph.inputs().saturating_sub(body.captures.len());
    let scanned = node.int("num_scan_inputs")?.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
    let scanned =
        scanned.ok_or_else(|| Error::invalid_encoding("attribute num_scan_inputs is missing or not positive"))?;
    let states = formal.checked_sub(scanned).filter(|_| node.proto.input.len() == formal);
    let kept_outputs = states.and_then(|states| body.graph.outputs().checked_sub(states));
    let (Some(states), Some(kept_outputs)) = (states, kept_outputs) else {
        return Err(Error::invalid_encoding("the inputs or outputs of the body do not match those of the node"));
    };
    let (axes_in, backwards_in) =
        (list(node, "scan_input_axes", scanned)?, list(node, "scan_input_directions", scanned)?);
    let (axes_out, backwards_out) =
        (list(node, "scan_output_axes", kept_outputs)?, list(node, "scan_output_directions", kept_outputs)?);
    let declared = Declared::outputs(node, "body", states);
    Ok(Box::new(move |mut args, cx| {
        let mut state = (0..states).map(|index| args.take(index)).collect::<Result<Vec<_>, _>>()?;
        let sequences = (0..scanned).map(|index| to_front(args.take(states + index)?, axes_in[index], cx));
        let sequences = sequences.collect::<Result<Vec<_>, _>>()?;
        let captured = captures(&body, &mut args)?;
        drop(args);
        let turns = sequences.first().and_then(|value| value.dims().first()).copied().unwrap_or(0);
        if sequences.iter().any(|value| value.dims().first() != Some(&turns)) {
            return Err(Error::invalid_argument("the scan inputs have different lengths"));
        }
        let mut kept = Kept::new(kept_outputs);
        for turn in 0..turns {
            cx.control.check()?;
            let mut inputs = std::mem::take(&mut state);
            for (value, &backwards) in sequences.iter().zip(&backwards_in) {
                inputs.push(slice(value, if backwards == 0 { turn } else { turns - 1 - turn }, cx)?);
            }
            inputs.extend(captured.iter().cloned());
            let mut outputs = body.graph.run(inputs, cx)?;
            kept.push(outputs.split_off(states).into_iter(), cx)?;
            state = outputs;
        }
        for (values, &backwards) in kept.values.iter_mut().zip(&backwards_out) {
            if backwards != 0 {
                values.reverse();
            }
        }
        for (value, &at) in kept.join(&declared, cx)?.into_iter().zip(&axes_out) {
            // The first axis is moved to where the attribute says.
            let order = axis_first(axis(at, value.rank())?, value.rank());
            state.push(permute(value, &inverse(&order), cx)?);
        }
        Ok(state)
    }))
}
