//! Operators that read elements by index: Gather, GatherElements, GatherND.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::integers::integers;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::budget::Charge;
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::{Dims, axis, count, product, strides};
use crate::tensor::element::{Element, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Gather", (2, 2), gather).device(form!(|node| moving::gather(node, gather))),
    since(11, "GatherElements", (2, 2), gather_elements).device(form!(|node| moving::moving(
        node,
        gather_elements,
        &[0]
    ))),
    since(11, "GatherND", (2, 2), gather_nd).device(form!(|node| moving::moving(node, gather_nd, &[0]))),
];

/// The index of an element; a negative one counts from the end of the dimension.
#[inline]
pub(super) fn normalize_index(index: i64, dim: usize) -> Result<usize, Error> {
    if (0..dim as i64).contains(&index) {
        return Ok(index as usize);
    }
    let counted = if index < 0 { index.checked_add(dim as i64) } else { Some(index) };
    let found = counted.and_then(|index| usize::try_from(index).ok()).filter(|&index| index < dim);
    found.ok_or_else(|| Error::invalid_argument(format!("index {index} is out of range for a dimension of {dim}")))
}

fn gather(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(0);
    Ok(Box::new(move |args, cx| {
        let (value, indices) = (args.get(0)?, args.get(1)?);
        let axis = axis(signed_axis, value.rank())?;
        let dim = value.dims()[axis];
        let mut positions = cx.block::<usize>(indices.len())?;
        let mut checkpoint = Checkpoint::default();
        for &index in &*integers(indices, cx)? {
            checkpoint.step(1, cx)?;
            positions.push(normalize_index(index, dim)?);
        }
        let mut dims = DimVec::from(&value.dims()[..axis]);
        dims.extend_from_slice(indices.dims());
        dims.extend_from_slice(&value.dims()[axis + 1..]);
        let (outer, inner) = (product(&value.dims()[..axis]), product(&value.dims()[axis + 1..]));
        Ok(values![with_elements!(value, |elements| cx.output(&dims)?.append(|out| {
            for block in 0..outer {
                for position in &*positions {
                    let start = (block * dim + position) * inner;
                    checkpoint.copy(&elements[start..start + inner], out, cx)?;
                }
            }
            Ok(())
        }))?])
    }))
}

fn gather_elements(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(0);
    Ok(Box::new(move |args, cx| {
        let (value, indices) = (args.get(0)?, args.get(1)?);
        let axis = axis(signed_axis, value.rank())?;
        let fits = |(position, (index, dim)): (usize, (&usize, &usize))| position == axis || index <= dim;
        if indices.rank() != value.rank() || !indices.dims().iter().zip(value.dims()).enumerate().all(fits) {
            let why = format!("the indices {} do not fit the data {}", Dims(indices.dims()), Dims(value.dims()));
            return Err(Error::invalid_argument(why));
        }
        let (offsets, _charge) = element_offsets(indices, value.dims(), axis, cx)?;
        Ok(values![with_elements!(value, |elements| take(elements, &offsets, 1, indices.dims(), cx))?])
    }))
}

/// The offset of the element that each of `indices` selects along `axis` of a tensor of `dims`; along the other axes it
/// has the position of the index.
pub(super) fn element_offsets(
    indices: &Value,
    dims: &[usize],
    axis: usize,
    cx: &ExecContext<'_>,
) -> Result<(Vec<usize>, Charge), Error> {
    let list = integers(indices, cx)?;
    let (strides, size) = (strides(dims), dims[axis]);
    let (mut offsets, charge) = cx.list::<usize>(list.len())?;
    let [outer @ .., width] = indices.dims() else { return Ok((offsets, charge)) };
    let (along, is_last) = (strides[axis], axis + 1 == indices.rank());
    let mut position = vec![0_usize; outer.len()];
    let mut checkpoint = Checkpoint::default();
    for row in list.chunks_exact((*width).max(1)) {
        checkpoint.step(position.len(), cx)?;
        let places = position.iter().zip(&strides).enumerate().filter(|&(at, _)| at != axis);
        let base: usize = places.map(|(_, (position, stride))| position * stride).sum();
        for (part, piece) in row.chunks(PIECE).enumerate() {
            checkpoint.step(piece.len(), cx)?;
            let from = offsets.len();
            // All are checked first, and then converted in one loop.
            let in_range = -(size as i64)..size as i64;
            if let Some(&index) = piece.iter().find(|index| !in_range.contains(*index)) {
                normalize_index(index, size)?;
            }
            let counted = |index: i64| if index < 0 { (index + size as i64) as usize } else { index as usize };
            offsets.extend(piece.iter().map(|&index| base + counted(index) * along));
            if !is_last {
                let columns = part * PIECE..;
                offsets[from..].iter_mut().zip(columns).for_each(|(offset, column)| *offset += column);
            }
        }
        for (position, &dim) in position.iter_mut().zip(outer).rev() {
            *position += 1;
            if *position < dim {
                break;
            }
            *position = 0;
        }
    }
    Ok((offsets, charge))
}

/// The offset that a tuple of indices selects in a tensor of `dims`.
pub(super) fn tuple_offset(tuple: &[i64], dims: &[usize]) -> Result<usize, Error> {
    tuple.iter().zip(dims).try_fold(0, |offset, (&index, &dim)| Ok(offset * dim + normalize_index(index, dim)?))
}

fn gather_nd(node: &Node<'_>) -> Result<OpFn, Error> {
    let batch = node.int("batch_dims")?.unwrap_or(0);
    let batch = usize::try_from(batch).map_err(|_| Error::invalid_encoding("attribute batch_dims is negative"))?;
    Ok(Box::new(move |args, cx| {
        let (value, indices) = (args.get(0)?, args.get(1)?);
        let depth = indices.dims().last().copied().unwrap_or(0);
        let shared = value.dims().get(..batch).filter(|dims| indices.dims().get(..batch) == Some(dims));
        let end = batch.checked_add(depth).filter(|&end| end <= value.rank() && batch < indices.rank());
        let (Some(shared), Some(end)) = (shared, end) else {
            let why = format!("the indices {} do not fit the data {}", Dims(indices.dims()), Dims(value.dims()));
            return Err(Error::invalid_argument(why));
        };
        let lookups = &indices.dims()[batch..indices.rank() - 1];
        let dims = [shared, lookups, &value.dims()[end..]].concat();
        let (indexed, inner) = (&value.dims()[batch..end], product(&value.dims()[end..]));
        let (each, batch_len) = (product(lookups), product(&value.dims()[batch..]));
        count(&dims)?;
        let list = integers(indices, cx)?;
        if depth == 0 {
            return Err(Error::unsupported("index tuples of length 0 are not supported"));
        }
        let (mut starts, _charge) = cx.list::<usize>(list.len() / depth)?;
        let mut checkpoint = Checkpoint::default();
        for (number, tuple) in list.chunks_exact(depth).enumerate() {
            checkpoint.step(depth, cx)?;
            starts.push(number / each.max(1) * batch_len + tuple_offset(tuple, indexed)? * inner);
        }
        Ok(values![with_elements!(value, |elements| take(elements, &starts, inner, &dims, cx))?])
    }))
}

/// Concatenates runs of `inner` elements.
fn take<T: Element>(
    elements: &[T],
    starts: &[usize],
    inner: usize,
    dims: &[usize],
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let mut checkpoint = Checkpoint::default();
    cx.output(dims)?.append(|out| {
        if inner == 1 {
            for starts in starts.chunks(PIECE) {
                checkpoint.step(starts.len(), cx)?;
                out.extend(starts.iter().map(|&start| elements[start]));
            }
            return Ok(());
        }
        for &start in starts {
            checkpoint.copy(&elements[start..start + inner], out, cx)?;
        }
        Ok(())
    })
}
