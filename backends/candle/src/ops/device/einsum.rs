//! The device form of Einsum. Operands are contracted in pairs, as on the host.

use crate::device::args::{DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::tensor::DeviceTensor;
use crate::ops::device::{host_only, one, require_one_type};
use crate::ops::equation::{Equation, INVALID_EQUATION, Name, repeated, without};
use crate::tensor::dims::count;
use graphpool::backend::Error;

/// A tensor with the names of its dimensions, each of which occurs once.
type Named = (DeviceTensor, Vec<Name>);

pub(in crate::ops) fn einsum(equation: Equation) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..args.len())?;
        let (mut operands, mut all) = (Vec::with_capacity(equation.operands()), Vec::new());
        for index in 0..equation.operands() {
            let value = args.float(index, dx)?;
            let names = equation.names(index, value.rank())?;
            // Diagonals, and sums of no elements, are left to the host.
            if repeated(&names).is_some() || value.is_empty() {
                return host_only();
            }
            all.extend_from_slice(&names);
            operands.push((value, names));
        }
        let output = equation.output(all)?;
        if repeated(&output).is_some() {
            return Err(Error::invalid_encoding(INVALID_EQUATION).into());
        }
        let mut operands = operands.into_iter();
        let mut result = operands.next().ok_or_else(|| Error::invalid_encoding(INVALID_EQUATION))?;
        while let Some(next) = operands.next() {
            let later: Vec<Name> = operands.as_slice().iter().flat_map(|(_, names)| names.iter().copied()).collect();
            result = contract(&result, &next, |name| output.contains(&name) || later.contains(&name), dx)?;
        }
        let extra: Vec<Name> = result.1.iter().copied().filter(|name| !output.contains(name)).collect();
        let (value, names) = reduced(&result, &extra, dx)?;
        let order = output.iter().map(|name| names.iter().position(|other| other == name)).collect::<Option<Vec<_>>>();
        let order =
            order.ok_or_else(|| Error::invalid_encoding("the output term names a dimension that no operand has"))?;
        one(&dx.permute(&value, &order)?, ty, dx)
    }))
}

fn size_of((value, names): &Named, name: Name) -> Option<usize> {
    names.iter().position(|&other| other == name).map(|position| value.dims()[position])
}

/// The product of two operands, summed over the dimensions that are not needed later.
fn contract(a: &Named, b: &Named, needed: impl Fn(Name) -> bool, dx: &DeviceContext<'_>) -> Result<Named, Stop> {
    let (mut batch, mut summed, mut only_a) = (Vec::new(), Vec::new(), Vec::new());
    for &name in &a.1 {
        match size_of(b, name) {
            // The host's kernel says what is wrong.
            Some(size) if size != size_of(a, name).unwrap_or(1) => return host_only(),
            Some(_) if needed(name) => batch.push(name),
            Some(_) => summed.push(name),
            None => only_a.push(name),
        }
    }
    let only_b = without(&b.1, &a.1);
    // Dimensions of one operand that are not needed later are summed before the product.
    let (rows, extra_a): (Vec<Name>, Vec<Name>) = only_a.into_iter().partition(|&name| needed(name));
    let (columns, extra_b): (Vec<Name>, Vec<Name>) = only_b.into_iter().partition(|&name| needed(name));
    let (a, b) = (reduced(a, &extra_a, dx)?, reduced(b, &extra_b, dx)?);
    let sizes =
        |of: &Named, names: &[Name]| -> Vec<usize> { names.iter().filter_map(|&name| size_of(of, name)).collect() };
    let dims = [sizes(&a, &batch), sizes(&a, &rows), sizes(&b, &columns)].concat();
    count(&dims)?;
    let left = grouped(&a, [&batch, &rows, &summed], dx)?;
    let right = grouped(&b, [&batch, &summed, &columns], dx)?;
    let product = dx.reshape(&dx.matmul(&left, &right)?, &dims)?;
    Ok((product, [batch, rows, columns].concat()))
}

/// The tensor with the dimensions that each list names as one.
fn grouped((value, names): &Named, groups: [&[Name]; 3], dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    let position = |name: &Name| names.iter().position(|other| other == name);
    let order: Vec<usize> = groups.iter().flat_map(|group| group.iter().filter_map(position)).collect();
    let sizes =
        groups.map(|group| group.iter().filter_map(position).map(|position| value.dims()[position]).product::<usize>());
    dx.reshape(&dx.permute(value, &order)?, &sizes)
}

/// The tensor summed over some of its dimensions.
fn reduced((value, names): &Named, over: &[Name], dx: &DeviceContext<'_>) -> Result<Named, Error> {
    let axes: Vec<usize> = over.iter().filter_map(|name| names.iter().position(|other| other == name)).collect();
    let kept = without(names, over);
    let dims: Vec<usize> =
        value.dims().iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &dim)| dim).collect();
    Ok((dx.reshape(&dx.sum(value, &axes)?, &dims)?, kept))
}
