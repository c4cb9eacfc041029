//! Einsum: products and sums over named dimensions.
//!
//! Operands are contracted in pairs. Dimensions of both operands that are not needed later are summed by a matrix
//! product, and those of one operand are summed before it.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::cast::convert;
use crate::ops::elementwise::{Number, with_numbers};
use crate::ops::layout::permute;
use crate::ops::matmul::product_in_batches;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{MANY, Operator, since};
use crate::tensor::dims::{Dims, MAX_RANK, count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(12, "Einsum", (1, MANY), einsum).heavy()];

/// The name of a dimension: a letter, or an index into the ellipsis, counted from its end.
type Name = u32;

/// One term of the equation: the letters before the ellipsis, if any, and those after it.
#[derive(Debug, Clone)]
struct Term {
    before: Vec<Name>,
    ellipsis: bool,
    after: Vec<Name>,
}

const INVALID_EQUATION: &str = "attribute equation is not a valid equation";

fn term(text: &str) -> Result<Term, Error> {
    let (before, after, ellipsis) = match text.split_once("...") {
        Some((before, after)) => (before, after, true),
        None => (text, "", false),
    };
    let letters = |text: &str| -> Result<Vec<Name>, Error> {
        let letter = |c: char| {
            c.is_ascii_alphabetic().then_some(u32::from(c)).ok_or_else(|| Error::invalid_encoding(INVALID_EQUATION))
        };
        text.chars().map(letter).collect()
    };
    if text.len() > MAX_RANK + 3 {
        return Err(Error::invalid_encoding(INVALID_EQUATION));
    }
    Ok(Term { before: letters(before)?, ellipsis, after: letters(after)? })
}

impl Term {
    /// The names of `rank` dimensions.
    fn names(&self, rank: usize) -> Result<Vec<Name>, Error> {
        let own = self.before.len() + self.after.len();
        let wrong = || Error::invalid_argument(format!("an operand has {rank} dimensions, and its term names {own}"));
        let ellipsis_dims =
            rank.checked_sub(own).filter(|&ellipsis_dims| self.ellipsis || ellipsis_dims == 0).ok_or_else(wrong)?;
        // Counted from the end, as in broadcasting. The numbers of letters are larger.
        let ellipsis_dims = (0..ellipsis_dims as u32).rev();
        Ok(self.before.iter().copied().chain(ellipsis_dims).chain(self.after.iter().copied()).collect())
    }
}

fn einsum(node: &Node<'_>) -> Result<OpFn, Error> {
    let equation: String = node.string("equation", "")?.split_whitespace().collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(term(right)?)),
        None => (equation.as_str(), None),
    };
    let count = left.split(',').count();
    if count != node.proto.input.len() {
        return Err(Error::invalid_encoding(format!(
            "the equation has {count} terms, and the node has {} inputs",
            node.proto.input.len()
        )));
    }
    let terms = left.split(',').map(term).collect::<Result<Vec<_>, _>>()?;
    Ok(Box::new(move |mut args, cx| {
        let ty = args.get(0)?.ty();
        let compute_ty = match ty {
            ElementType::F16 | ElementType::Bf16 => ElementType::F32,
            ElementType::Bool => return Err(no_type(args.get(0)?)),
            ty => ty,
        };
        let (mut operands, mut all) = (Vec::with_capacity(terms.len()), Vec::new());
        for (index, term) in terms.iter().enumerate() {
            let value = args.take(index)?;
            if value.ty() != ty {
                return Err(Error::invalid_argument("the operands have different types"));
            }
            let names = term.names(value.rank())?;
            all.extend_from_slice(&names);
            operands.push(diagonal(convert(value, compute_ty, cx)?, names, cx)?);
        }
        let output = match &right {
            Some(term) => {
                // The ellipsis stands for as many dimensions as in the operands.
                let ellipsis_dims = operands
                    .iter()
                    .flat_map(|(_, names)| names)
                    .filter(|&&name| name < 32)
                    .map(|&name| name as usize + 1)
                    .max();
                let ellipsis_dims = if term.ellipsis { ellipsis_dims.unwrap_or(0) } else { 0 };
                term.names(term.before.len() + term.after.len() + ellipsis_dims)?
            }
            None => implied(all),
        };
        let result = contract(operands, &output, cx)?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

/// The output term of an equation without one: the ellipsis, and the letters that occur once, in alphabetical order.
///
/// `all` holds each name as often as it occurs; a letter that a term repeats is summed over the diagonal.
fn implied(mut all: Vec<Name>) -> Vec<Name> {
    all.sort_unstable();
    let ellipsis_dims: Vec<Name> = (0..32).filter(|name| all.contains(name)).rev().collect();
    let once = all.chunk_by(|a, b| a == b).filter(|same| same.len() == 1).flatten().filter(|&&name| name >= 32);
    ellipsis_dims.iter().chain(once).copied().collect()
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

fn repeated(names: &[Name]) -> Option<(usize, usize)> {
    names.iter().enumerate().find_map(|(first, name)| {
        let second = names.iter().skip(first + 1).position(|other| other == name)?;
        Some((first, first + 1 + second))
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
    let left = grouped(a.0, &a.1, [&batch, &rows, &summed], cx)?;
    let right = grouped(b.0, &b.1, [&batch, &summed, &columns], cx)?;
    let names = [batch, rows, columns].concat();
    Ok((product_in_batches(left, right, cx)?.reshaped(dims)?, names))
}

fn without(names: &[Name], left_out: &[Name]) -> Vec<Name> {
    names.iter().copied().filter(|name| !left_out.contains(name)).collect()
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
