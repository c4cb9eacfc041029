//! Operators that write elements by index: ScatterElements, Scatter, ScatterND.
//!
//! The updates are applied in order: of two updates of one element the later wins, or both are reduced.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::cast::convert;
use crate::ops::elementwise::{Number, with_numbers};
use crate::ops::gather::{element_offsets, tuple_offset};
use crate::ops::integers::integers;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dims::{Dims, axis, product};
use crate::tensor::element::{Element, ElementType, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(9, "Scatter", (3, 3), scatter_elements).until(10).device(form!(|node| moving::moving(
        node,
        scatter_elements,
        &[0, 2]
    ))),
    since(11, "ScatterElements", (3, 3), scatter_elements).device(form!(|node| scattering(node, scatter_elements))),
    since(11, "ScatterND", (3, 3), scatter_nd).device(form!(|node| scattering(node, scatter_nd))),
];

/// Replacing elements moves them; what combines them is left to the host.
#[cfg(feature = "candle")]
fn scattering(
    node: &Node<'_>,
    build: crate::ops::operator::Build,
) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    if reduction(node)? == Reduction::Replace {
        crate::ops::device::moving::moving(node, build, &[0, 2])
    } else {
        crate::ops::device::moving::none()
    }
}

/// How an update is combined with its element.
#[derive(Clone, Copy, PartialEq)]
enum Reduction {
    Replace,
    Add,
    Multiply,
    Max,
    Min,
}

fn reduction(node: &Node<'_>) -> Result<Reduction, Error> {
    if node.opset < 16 {
        return Ok(Reduction::Replace);
    }
    Ok(match node.string("reduction", "none")? {
        "none" => Reduction::Replace,
        "add" => Reduction::Add,
        "mul" => Reduction::Multiply,
        "max" if node.opset >= 18 => Reduction::Max,
        "min" if node.opset >= 18 => Reduction::Min,
        _ => return Err(Error::invalid_encoding("attribute reduction is not one of none, add, mul, max and min")),
    })
}

fn reduce_fn<T: Number>(reduction: Reduction) -> fn(T, T) -> T {
    match reduction {
        Reduction::Replace => |_, new| new,
        Reduction::Add => T::plus,
        Reduction::Multiply => T::times,
        Reduction::Max => T::larger,
        Reduction::Min => T::smaller,
    }
}

/// Applies runs of `inner` updates to the elements from each start on.
fn apply(
    value: &Value,
    updates: &Value,
    starts: &[usize],
    inner: usize,
    reduction: Reduction,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    if reduction == Reduction::Replace {
        return with_elements!(value, |elements| {
            apply_runs(elements, updates, starts, inner, value.dims(), |_, new| new, cx)
        });
    }
    if value.ty() == ElementType::Bool {
        return Err(crate::tensor::value::no_type(value));
    }
    if matches!(value.ty(), ElementType::F16 | ElementType::Bf16) && updates.ty() == value.ty() {
        // Updates of f16 and bf16 are reduced in f32 and rounded once.
        let wide = |value: &Value| convert(value.clone(), ElementType::F32, cx);
        let result = apply(&wide(value)?, &wide(updates)?, starts, inner, reduction, cx)?;
        return convert(result, value.ty(), cx);
    }
    with_numbers!(*value, T => {
        apply_runs(value.elements::<T>()?, updates, starts, inner, value.dims(), reduce_fn::<T>(reduction), cx)
    })
}

fn apply_runs<T: Element>(
    elements: &[T],
    updates: &Value,
    starts: &[usize],
    inner: usize,
    dims: &[usize],
    f: impl Fn(T, T) -> T,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let updates = updates.elements::<T>()?;
    cx.output::<T>(dims)?.append(|out| {
        let mut checkpoint = Checkpoint::default();
        checkpoint.copy(elements, out, cx)?;
        if inner == 1 {
            for (starts, updates) in starts.chunks(PIECE).zip(updates.chunks(PIECE)) {
                checkpoint.step(starts.len(), cx)?;
                starts.iter().zip(updates).for_each(|(&start, &update)| out[start] = f(out[start], update));
            }
            return Ok(());
        }
        for (&start, updates) in starts.iter().zip(updates.chunks_exact(inner.max(1))) {
            for (out, updates) in out[start..start + inner].chunks_mut(PIECE).zip(updates.chunks(PIECE)) {
                checkpoint.step(updates.len(), cx)?;
                out.iter_mut().zip(updates).for_each(|(out, &update)| *out = f(*out, update));
            }
        }
        Ok(())
    })
}

fn scatter_elements(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(0);
    let reduction = reduction(node)?;
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let (indices, updates) = (args.get(1)?, args.get(2)?);
        let axis = axis(signed_axis, value.rank())?;
        let fits = |(position, (index, dim)): (usize, (&usize, &usize))| position == axis || index <= dim;
        let same = indices.rank() == value.rank() && indices.dims() == updates.dims();
        if !same || !indices.dims().iter().zip(value.dims()).enumerate().all(fits) {
            let why = format!(
                "updates {} with indices {} do not fit the data {}",
                Dims(updates.dims()),
                Dims(indices.dims()),
                Dims(value.dims())
            );
            return Err(Error::invalid_argument(why));
        }
        let (starts, _charge) = element_offsets(indices, value.dims(), axis, cx)?;
        Ok(values![apply(&value, updates, &starts, 1, reduction, cx)?])
    }))
}

fn scatter_nd(node: &Node<'_>) -> Result<OpFn, Error> {
    let reduction = reduction(node)?;
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let (indices, updates) = (args.get(1)?, args.get(2)?);
        let wrong = || {
            let why = format!(
                "updates {} with indices {} do not fit the data {}",
                Dims(updates.dims()),
                Dims(indices.dims()),
                Dims(value.dims())
            );
            Error::invalid_argument(why)
        };
        let (&depth, lookups) = indices.dims().split_last().ok_or_else(wrong)?;
        if depth > value.rank() || depth == 0 {
            return Err(wrong());
        }
        let (indexed, rest) = value.dims().split_at(depth);
        if updates.dims() != [lookups, rest].concat() {
            return Err(wrong());
        }
        let inner = product(rest);
        let list = integers(indices, cx)?;
        let (mut starts, _charge) = cx.list::<usize>(list.len() / depth)?;
        let mut checkpoint = Checkpoint::default();
        for tuple in list.chunks_exact(depth) {
            checkpoint.step(depth, cx)?;
            starts.push(tuple_offset(tuple, indexed)? * inner);
        }
        if inner == 0 {
            return Ok(values![value]);
        }
        Ok(values![apply(&value, updates, &starts, inner, reduction, cx)?])
    }))
}
