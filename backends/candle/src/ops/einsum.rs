//! Einsum: products and sums over named dimensions.
//!
//! Operands are contracted in pairs. Dimensions of both operands that are not needed later are summed by a matrix
//! product, and those of one operand are summed before it.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::product::{Matrices, Size, multiply};
use crate::ops::cast::convert;
use crate::ops::elementwise::{Float, Number, with_numbers};
use crate::ops::equation::{Equation, INVALID_EQUATION, Name, repeated, without};
use crate::ops::layout::permute;
use crate::ops::matmul::product_in_batches;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{MANY, Operator, form, since};
use crate::tensor::dims::{Dims, count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(12, "Einsum", (1, MANY), einsum).heavy().device(form!(on_device))];

#[cfg(feature = "candle")]
fn on_device(node: &Node<'_>) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    crate::ops::device::einsum::einsum(Equation::new(node)?)
}

fn einsum(node: &Node<'_>) -> Result<OpFn, Error> {
    let equation = Equation::new(node)?;
    Ok(Box::new(move |mut args, cx| {
        let ty = args.get(0)?.ty();
        let compute_ty = match ty {
            ElementType::F16 | ElementType::Bf16 => ElementType::F32,
            ElementType::Bool => return Err(no_type(args.get(0)?)),
            ty => ty,
        };
        let (mut operands, mut all) = (Vec::with_capacity(equation.operands()), Vec::new());
        for index in 0..equation.operands() {
            let value = args.take(index)?;
            if value.ty() != ty {
                return Err(Error::invalid_argument("the operands have different types"));
            }
            let names = equation.names(index, value.rank())?;
            all.extend_from_slice(&names);
            operands.push(diagonal(convert(value, compute_ty, cx)?, names, cx)?);
        }
        let result = contract(operands, &equation.output(all)?, cx)?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// Takes the diagonal of dimensions with the same name, so that each name occurs once.
fn diagonal(mut value: Value, mut names: Vec<Name>, cx: &ExecContext<'_>) -> Result<(Value, Vec<Name>), Error> {
    while let Some((first, second)) = repeated(&names) {
        let size = value.dims()[first];
        if value.dims()[second] != size {
            return Err(Error::invalid_argument(format!(
                "a term names two dimensions of {} alike, and they have different sizes",
                Dims(value.dims())
            )));
        }
        let mut order = vec![first, second];
        order.extend((0..value.rank()).filter(|&position| position != first && position != second));
        let moved = permute(value, &order, cx)?;
        let rest = moved.dims()[2..].to_vec();
        let len = product(&rest);
        let dims = [&[size], rest.as_slice()].concat();
        value = with_numbers!(moved, T => copy_diagonal::<T>(&moved, &dims, len, cx))?;
        let name = names[first];
        names = std::iter::once(name).chain(names.into_iter().filter(|&other| other != name)).collect();
    }
    Ok((value, names))
}

fn copy_diagonal<T: crate::tensor::element::Element>(
    value: &Value,
    dims: &[usize],
    len: usize,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let (elements, size, mut checkpoint) = (value.elements::<T>()?, dims[0], Checkpoint::default());
    cx.output::<T>(dims)?.append(|out| {
        for index in 0..size {
            let start = (index * size + index) * len;
            checkpoint.copy(&elements[start..start + len], out, cx)?;
        }
        Ok(())
    })
}

/// Merges the dimensions that each list names into one. A name that the value lacks counts as 1.
fn grouped(value: Value, names: &[Name], groups: [&[Name]; 3], cx: &ExecContext<'_>) -> Result<Value, Error> {
    let position = |name: &Name| names.iter().position(|other| other == name);
    let order: Vec<usize> = groups.iter().flat_map(|group| group.iter().filter_map(position)).collect();
    let sizes =
        groups.map(|group| group.iter().filter_map(position).map(|position| value.dims()[position]).product::<usize>());
    permute(value, &order, cx)?.reshaped(sizes.to_vec())
}

fn size_of((value, names): &(Value, Vec<Name>), name: Name) -> Option<usize> {
    names.iter().position(|&other| other == name).map(|position| value.dims()[position])
}

fn contract(operands: Vec<(Value, Vec<Name>)>, output: &[Name], cx: &ExecContext<'_>) -> Result<Value, Error> {
    if repeated(output).is_some() {
        return Err(Error::invalid_encoding(INVALID_EQUATION));
    }
    let mut operands = operands.into_iter();
    let mut result = operands.next().ok_or_else(|| Error::invalid_encoding(INVALID_EQUATION))?;
    loop {
        let next = operands.next();
        let later: Vec<Name> = operands.as_slice().iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let (last, other) = match next {
            Some(other) => (false, other),
            None => (true, (convert(Value::scalar(1_i64)?, result.0.ty(), cx)?, Vec::new())),
        };
        result = contract_pair(result, other, |name| output.contains(&name) || later.contains(&name), cx)?;
        if last {
            break;
        }
    }
    let (value, names) = result;
    let order = output.iter().map(|name| names.iter().position(|other| other == name)).collect::<Option<Vec<_>>>();
    let order =
        order.ok_or_else(|| Error::invalid_encoding("the output term names a dimension that no operand has"))?;
    permute(value, &order, cx)
}

/// The product of two operands, summed over the dimensions that are not needed later.
fn contract_pair(
    a: (Value, Vec<Name>),
    b: (Value, Vec<Name>),
    needed: impl Fn(Name) -> bool,
    cx: &ExecContext<'_>,
) -> Result<(Value, Vec<Name>), Error> {
    let (mut batch, mut summed, mut only_a, mut only_b) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for &name in &a.1 {
        match size_of(&b, name) {
            Some(size) if size != size_of(&a, name).unwrap_or(1) => {
                return if name < 32 {
                    Err(Error::unsupported("an ellipsis that broadcasts is not supported"))
                } else {
                    Err(Error::invalid_argument("two operands name dimensions of different sizes alike"))
                };
            }
            Some(_) if needed(name) => batch.push(name),
            Some(_) => summed.push(name),
            None => only_a.push(name),
        }
    }
    only_b.extend(b.1.iter().copied().filter(|name| !a.1.contains(name)));
    // Dimensions of one operand that are not needed later are summed before the product.
    let (rows, extra_a): (Vec<Name>, Vec<Name>) = only_a.into_iter().partition(|&name| needed(name));
    let (columns, extra_b): (Vec<Name>, Vec<Name>) = only_b.into_iter().partition(|&name| needed(name));
    let a = (reduced(a.0, &a.1, &extra_a, cx)?, without(&a.1, &extra_a));
    let b = (reduced(b.0, &b.1, &extra_b, cx)?, without(&b.1, &extra_b));
    let sizes = |of: &(Value, Vec<Name>), names: &[Name]| -> Vec<usize> {
        names.iter().filter_map(|&name| size_of(of, name)).collect()
    };
    let dims = [sizes(&a, &batch), sizes(&a, &rows), sizes(&b, &columns)].concat();
    count(&dims)?;
    let left = oriented(a.0, &a.1, &batch, [&rows, &summed], cx)?;
    let right = oriented(b.0, &b.1, &batch, [&summed, &columns], cx)?;
    let names = [batch, rows, columns].concat();
    let result = match left.0.ty() {
        ElementType::F32 => products::<f32>(&left, &right, cx)?,
        ElementType::F64 => products::<f64>(&left, &right, cx)?,
        _ => {
            let upright = |(value, flipped): (Value, bool)| {
                if flipped { permute(value, &[0, 2, 1], cx) } else { Ok(value) }
            };
            product_in_batches(upright(left)?, upright(right)?, cx)?
        }
    };
    Ok((result.reshaped(dims)?, names))
}

/// A batch of matrices with these rows and columns, and whether it is stored column by column: the last dimension stays
/// the last, so that long runs of elements are moved.
fn oriented(
    value: Value,
    names: &[Name],
    batch: &[Name],
    [rows, columns]: [&[Name]; 2],
    cx: &ExecContext<'_>,
) -> Result<(Value, bool), Error> {
    let last = names.iter().zip(value.dims()).rfind(|(_, size)| **size != 1).map(|(name, _)| *name);
    let flipped = last.is_some_and(|last| rows.contains(&last));
    let groups = if flipped { [batch, columns, rows] } else { [batch, rows, columns] };
    grouped(value, names, groups, cx).map(|value| (value, flipped))
}

/// The products of two batches of [`oriented`] matrices.
fn products<T: Float>(left: &(Value, bool), right: &(Value, bool), cx: &ExecContext<'_>) -> Result<Value, Error> {
    fn matrices<T: Float>((value, flipped): &(Value, bool)) -> Result<(Matrices<'_, T>, [usize; 3]), Error> {
        let &[batch, rows, columns] = value.dims() else {
            return Err(Error::runtime_error("a batch of matrices has three dimensions"));
        };
        let matrices = Matrices::row_major(value.elements::<T>()?, rows, columns);
        Ok(if *flipped { (matrices.transposed(), [batch, columns, rows]) } else { (matrices, [batch, rows, columns]) })
    }
    let ((a, [batch, m, k]), (b, [.., n])) = (matrices::<T>(left)?, matrices::<T>(right)?);
    let (elements, charge) = multiply::<T>(a, b, Size { batch, m, n, k }, cx)?;
    Value::charged(vec![batch, m, n], elements, charge)
}

/// The value summed over some of its dimensions.
fn reduced(value: Value, names: &[Name], over: &[Name], cx: &ExecContext<'_>) -> Result<Value, Error> {
    if over.is_empty() {
        return Ok(value);
    }
    let kept = without(names, over);
    let dims: Vec<usize> = kept
        .iter()
        .filter_map(|name| names.iter().position(|other| other == name))
        .map(|position| value.dims()[position])
        .collect();
    let grouped = grouped(value, names, [&kept, over, &[]], cx)?;
    let inner = grouped.dims()[1];
    with_numbers!(grouped, T => sums::<T>(&grouped, &dims, inner, cx))
}

/// The sum of each row of `inner` elements.
fn sums<T: Number>(value: &Value, dims: &[usize], inner: usize, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (elements, mut checkpoint) = (value.elements::<T>()?, Checkpoint::default());
    cx.output::<T>(dims)?.write(T::default(), |out| {
        for (out, row) in out.iter_mut().zip(elements.chunks_exact(inner.max(1))) {
            for piece in row.chunks(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                *out = piece.iter().fold(*out, |sum, &x| sum.plus(x));
            }
        }
        Ok(())
    })
}
