//! Control flow: If, Loop, Scan.
//!
//! Each iteration passes the captured values to the body, checks for cancellation, and charges every value that it
//! keeps for the scan outputs.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::format::messages::ValueInfoProto;
use crate::format::ports;
use crate::ops::layout::{axis_first, inverse, join, permute};
use crate::ops::node::{Args, Node, OpFn, Subgraph};
use crate::ops::operator::{MANY, Operator, form, since};
use crate::tensor::budget::Charge;
use crate::tensor::dims::axis;
use crate::tensor::element::{ElementType, with_elements};
use crate::tensor::value::{Value, Values};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "If", (1, 1), if_operator).heavy().device(form!(control::branch)),
    since(1, "Loop", (0, MANY), loop_operator).unbounded(),
    since(9, "Scan", (1, MANY), scan).unbounded(),
];

fn if_operator(node: &Node<'_>) -> Result<OpFn, Error> {
    let (then_branch, else_branch) = (node.subgraph("then_branch")?, node.subgraph("else_branch")?);
    for branch in [&then_branch, &else_branch] {
        if branch.graph.outputs() != node.outputs() || branch.graph.inputs() != branch.captures.len() {
            return Err(Error::invalid_encoding("a branch of If must have no inputs, and the outputs of the node"));
        }
    }
    Ok(Box::new(move |mut args, cx| {
        let is_true = boolean(args.get(0)?)?;
        let branch = if is_true { &then_branch } else { &else_branch };
        // A value that both branches capture is an input of the node once for each.
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

/// Bytes that are charged for the bookkeeping of each kept value, besides its dimensions.
const KEPT_BYTES: usize = 320;

/// The scan outputs of a body: for each output, its value from each iteration.
struct ScanOutputs {
    values: Vec<Vec<Value>>,
    charges: Vec<Charge>,
}

impl ScanOutputs {
    fn new(outputs: usize) -> Self {
        Self { values: vec![Vec::new(); outputs], charges: Vec::new() }
    }

    fn push(&mut self, values: impl Iterator<Item = Value>, cx: &ExecContext<'_>) -> Result<(), Error> {
        for (scan_outputs, value) in self.values.iter_mut().zip(values) {
            self.charges.push(cx.budget.charge(KEPT_BYTES + value.rank() * size_of::<usize>())?);
            let mut dims = Vec::with_capacity(value.rank() + 1);
            dims.push(1);
            dims.extend_from_slice(value.dims());
            scan_outputs.push(value.reshaped(dims)?);
        }
        Ok(())
    }

    /// Concatenates the values of each output along a new first axis.
    fn join(self, declarations: &[Declared], cx: &ExecContext<'_>) -> Result<Values, Error> {
        let join = |(values, declarations): (Vec<Value>, &Declared)| {
            if values.is_empty() {
                return declarations.empty();
            }
            join(&values.iter().collect::<Vec<_>>(), 0, cx)
        };
        self.values.into_iter().zip(declarations).map(join).collect()
    }
}

/// The type and dimensions that a body declares for an output, unknown dimensions as 0; `None` without a declaration.
struct Declared(Option<(ElementType, Vec<usize>)>);

impl Declared {
    /// The declarations of the outputs from `first` on of the graph in attribute `name`.
    fn outputs(node: &Node<'_>, name: &str, first: usize) -> Vec<Self> {
        let body = node.proto.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name));
        let outputs = body.and_then(|body| body.g.as_ref()).map_or(&[][..], |graph| &graph.output);
        let declarations = |info: &ValueInfoProto| {
            let port = ports::port(info).ok()?;
            Some((port.ty, port.dims.unwrap_or_default().iter().map(|dim| dim.unwrap_or(0)).collect()))
        };
        outputs.get(first..).unwrap_or_default().iter().map(|info| Self(declarations(info))).collect()
    }

    /// The scan output of a body that never ran.
    fn empty(&self) -> Result<Value, Error> {
        let Some((ty, dims)) = &self.0 else {
            return Err(Error::unsupported("the body never ran and does not declare the type of its output"));
        };
        Value::from_bytes([&[0], dims.as_slice()].concat(), *ty, &[])
    }
}

/// The values that a body captures, from the inputs of the node.
fn captures(body: &Subgraph, args: &mut Args) -> Result<Values, Error> {
    body.captures.iter().map(|&index| args.take(index)).collect()
}

fn loop_operator(node: &Node<'_>) -> Result<OpFn, Error> {
    let body = node.subgraph("body")?;
    let body_inputs = body.graph.inputs().saturating_sub(body.captures.len());
    let carried = body_inputs
        .checked_sub(2)
        .ok_or_else(|| Error::invalid_encoding("the body of a Loop must have at least two inputs"))?;
    let scan_count = body.graph.outputs().checked_sub(carried + 1);
    let scan_count = scan_count
        .ok_or_else(|| Error::invalid_encoding("the body of a Loop has fewer outputs than loop-carried values"))?;
    if node.proto.input.len().max(2) != carried + 2 || node.outputs() > carried + scan_count {
        return Err(Error::invalid_encoding("the inputs or outputs of the body do not match those of the node"));
    }
    // A Loop without inputs may have fewer than two input names; the captures follow the names.
    let input_names = node.proto.input.len();
    let declarations = Declared::outputs(node, "body", carried + 1);
    Ok(Box::new(move |mut args, cx| {
        let input = |index: usize| if index < input_names { args.option(index) } else { None };
        let iterations = input(0).map(crate::ops::integers::integer).transpose()?.unwrap_or(i64::MAX);
        let mut condition = input(1).map(boolean).transpose()?.unwrap_or(true);
        let mut state = (2..2 + carried).map(|index| args.take(index)).collect::<Result<Vec<_>, _>>()?;
        let captured = captures(&body, &mut args)?;
        drop(args);
        let mut scan_outputs = ScanOutputs::new(scan_count);
        let mut iteration = 0;
        while condition && iteration < iterations {
            cx.control.check()?;
            let mut inputs = vec![Value::scalar(iteration)?, Value::scalar(condition)?];
            inputs.append(&mut state);
            inputs.extend(captured.iter().cloned());
            let mut outputs = body.graph.run(inputs.into(), cx)?.into_vec();
            let scan_inputs = outputs.split_off(carried + 1);
            scan_outputs.push(scan_inputs.into_iter(), cx)?;
            state = outputs.split_off(1);
            condition = outputs.first().map(boolean).transpose()?.unwrap_or(false);
            iteration += 1;
        }
        state.extend(scan_outputs.join(&declarations, cx)?);
        Ok(state.into())
    }))
}

/// An attribute with one number for each of `count` inputs or outputs; all 0 by default.
fn list(node: &Node<'_>, name: &str, count: usize) -> Result<Vec<i64>, Error> {
    let list = node.ints(name)?.map_or_else(|| vec![0; count], <[i64]>::to_vec);
    if list.len() == count {
        return Ok(list);
    }
    Err(Error::invalid_encoding(format!("attribute {name} has {} numbers, not {count}", list.len())))
}

/// The value with axis `at` moved to the front.
fn to_front(value: Value, at: i64, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let at = axis(at, value.rank())?;
    let order = axis_first(at, value.rank());
    permute(value, &order, cx)
}

/// The slice at `index` of the first dimension.
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
    let body_inputs = body.graph.inputs().saturating_sub(body.captures.len());
    let scan_inputs =
        node.int("num_scan_inputs")?.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
    let scan_inputs =
        scan_inputs.ok_or_else(|| Error::invalid_encoding("attribute num_scan_inputs is missing or not positive"))?;
    let states = body_inputs.checked_sub(scan_inputs).filter(|_| node.proto.input.len() == body_inputs);
    let scan_output_count = states.and_then(|states| body.graph.outputs().checked_sub(states));
    let (Some(states), Some(scan_output_count)) = (states, scan_output_count) else {
        return Err(Error::invalid_encoding("the inputs or outputs of the body do not match those of the node"));
    };
    let (axes_in, backwards_in) =
        (list(node, "scan_input_axes", scan_inputs)?, list(node, "scan_input_directions", scan_inputs)?);
    let (axes_out, backwards_out) =
        (list(node, "scan_output_axes", scan_output_count)?, list(node, "scan_output_directions", scan_output_count)?);
    let declarations = Declared::outputs(node, "body", states);
    Ok(Box::new(move |mut args, cx| {
        let mut state = (0..states).map(|index| args.take(index)).collect::<Result<Vec<_>, _>>()?;
        let sequences = (0..scan_inputs).map(|index| to_front(args.take(states + index)?, axes_in[index], cx));
        let sequences = sequences.collect::<Result<Vec<_>, _>>()?;
        let captured = captures(&body, &mut args)?;
        drop(args);
        let iterations = sequences.first().and_then(|value| value.dims().first()).copied().unwrap_or(0);
        if sequences.iter().any(|value| value.dims().first() != Some(&iterations)) {
            return Err(Error::invalid_argument("the scan inputs have different lengths"));
        }
        let mut scan_outputs = ScanOutputs::new(scan_output_count);
        for iteration in 0..iterations {
            cx.control.check()?;
            let mut inputs = std::mem::take(&mut state);
            for (value, &backwards) in sequences.iter().zip(&backwards_in) {
                inputs.push(slice(value, if backwards == 0 { iteration } else { iterations - 1 - iteration }, cx)?);
            }
            inputs.extend(captured.iter().cloned());
            let mut outputs = body.graph.run(inputs.into(), cx)?.into_vec();
            scan_outputs.push(outputs.split_off(states).into_iter(), cx)?;
            state = outputs;
        }
        for (values, &backwards) in scan_outputs.values.iter_mut().zip(&backwards_out) {
            if backwards != 0 {
                values.reverse();
            }
        }
        for (value, &at) in scan_outputs.join(&declarations, cx)?.into_iter().zip(&axes_out) {
            // The first axis is moved to where the attribute says.
            let order = axis_first(axis(at, value.rank())?, value.rank());
            state.push(permute(value, &inverse(&order), cx)?);
        }
        Ok(state.into())
    }))
}
