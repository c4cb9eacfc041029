//! Operators that rearrange elements: Transpose, Concat, Split, Tile, Expand, DepthToSpace, SpaceToDepth.

use smallvec::{SmallVec, smallvec};

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::broadcast::{expand_like, shape};
use crate::ops::constant::dims;
use crate::ops::integers::integers;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{MANY, Operator, form, since};
use crate::ops::select::{check_budget, offsets, select};
use crate::ops::transpose;
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::{Dims, axis, product, strides};
use crate::tensor::element::with_elements;
use crate::tensor::value::{MAX_RANK, Value, Values};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Transpose", (1, 1), transposition).device(form!(moving::transpose)),
    since(4, "Concat", (1, MANY), concat).channels_last(concat_last).device(form!(moving::concat)),
    since(2, "Split", (1, 2), split).device(form!(|node| moving::split(node, split))),
    since(6, "Tile", (2, 2), tile).device(form!(|node| moving::moving(node, tile, &[0]))),
    since(8, "Expand", (2, 2), expand).device(form!(moving::expand)),
    since(1, "DepthToSpace", (1, 1), depth_to_space).device(form!(|node| moving::moving(node, depth_to_space, &[0]))),
    since(1, "SpaceToDepth", (1, 1), space_to_depth).device(form!(|node| moving::moving(node, space_to_depth, &[0]))),
];

fn transposition(node: &Node<'_>) -> Result<OpFn, Error> {
    let perm = node.ints("perm")?.map(<[i64]>::to_vec);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let permutation = match &perm {
            Some(list) if list.len() == value.rank() => {
                list.iter().map(|&one| axis(one, value.rank())).collect::<Result<_, _>>()?
            }
            Some(list) => {
                let why = format!(
                    "attribute perm has {} axes, and the input has dimensions {}",
                    list.len(),
                    Dims(value.dims())
                );
                return Err(Error::invalid_argument(why));
            }
            None => (0..value.rank()).rev().collect::<DimVec>(),
        };
        Ok(values![permute(value, &permutation, cx)?])
    }))
}

/// The value with its dimensions in another order; an error if `permutation` does not hold each dimension once.
pub(super) fn permute(value: Value, permutation: &[usize], cx: &ExecContext<'_>) -> Result<Value, Error> {
    let mut seen = [false; MAX_RANK];
    let seen = seen.get_mut(..value.rank()).unwrap_or_default();
    for &position in permutation {
        match seen.get_mut(position) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                return Err(Error::invalid_argument("the permutation names an axis twice, or one that does not exist"));
            }
        }
    }
    let dims: DimVec = permutation.iter().map(|&position| value.dims()[position]).collect();
    // Moving a dimension of 1 moves no element.
    let moved = permutation.iter().filter(|&&position| value.dims()[position] != 1);
    if moved.clone().zip(moved.skip(1)).all(|(a, b)| a < b) {
        return value.reshaped(dims);
    }
    let strides = strides(value.dims());
    if let Some(transposed) = transpose::transposed(&value, permutation, &strides, &dims, cx)? {
        return Ok(transposed);
    }
    let lists = permutation
        .iter()
        .zip(&dims)
        .map(|(&position, &dim)| offsets(0..dim, strides[position], cx))
        .collect::<Result<SmallVec<[_; 4]>, _>>()?;
    select(&value, &lists, cx)
}

/// The permutation that undoes `permutation`.
pub(super) fn inverse(permutation: &[usize]) -> DimVec {
    let mut inverse: DimVec = smallvec![0; permutation.len()];
    permutation.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
    inverse
}

/// The permutation of `rank` axes that moves one to the front.
pub(super) fn axis_first(axis: usize, rank: usize) -> DimVec {
    std::iter::once(axis).chain((0..rank).filter(|&other| other != axis)).collect()
}

fn concat(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.ok_or_else(|| Error::invalid_encoding("attribute axis is missing"))?;
    Ok(Box::new(move |args, cx| {
        let values = (0..args.len()).map(|index| args.get(index)).collect::<Result<SmallVec<[_; 8]>, _>>()?;
        Ok(values![join(&values, signed_axis, cx)?])
    }))
}

/// Concat of values whose channels are the last dimension.
fn concat_last(node: &Node<'_>) -> Option<OpFn> {
    let axis = match node.int("axis").ok()?? {
        0 => 0,
        1 => -1,
        axis if axis > 1 => axis - 1,
        _ => return None,
    };
    Some(Box::new(move |args, cx| {
        let values = (0..args.len()).map(|index| args.get(index)).collect::<Result<SmallVec<[_; 8]>, _>>()?;
        Ok(values![join(&values, axis, cx)?])
    }))
}

/// Concatenates the values along an axis.
pub(super) fn join(values: &[&Value], signed_axis: i64, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let first = values.first().ok_or_else(|| Error::invalid_argument("there are no tensors to concatenate"))?;
    let axis = axis(signed_axis, first.rank())?;
    let mut dims = DimVec::from(first.dims());
    dims[axis] = 0;
    for value in values {
        let same = |(position, (a, b)): (usize, (&usize, &usize))| position == axis || a == b;
        if value.rank() != first.rank() || !value.dims().iter().zip(first.dims()).enumerate().all(same) {
            let why = format!("{} and {} do not concatenate along axis {axis}", Dims(first.dims()), Dims(value.dims()));
            return Err(Error::invalid_argument(why));
        }
        dims[axis] = dims[axis].saturating_add(value.dims()[axis]);
    }
    let outer = product(&dims[..axis]);
    let ty = first.ty();
    if ty.is_narrow() && values.iter().all(|value| value.ty() == ty) {
        let plain: Vec<Value> = values.iter().map(|value| value.plain()).collect();
        return Ok(join(&plain.iter().collect::<Vec<_>>(), axis as i64, cx)?.retyped(ty));
    }
    with_elements!(first, |_elements| {
        let mut parts: SmallVec<[_; 8]> = smallvec![(_elements, product(&first.dims()[axis..]))];
        for value in values.iter().skip(1) {
            parts.push((value.elements()?, product(&value.dims()[axis..])));
        }
        let mut checkpoint = Checkpoint::default();
        if outer > 1 && parts.iter().all(|(_, len)| (1..=4).contains(len)) {
            let total = parts.iter().map(|(_, len)| len).sum();
            return cx.output(&dims)?.write(_elements.first().copied().unwrap_or_default(), |out| {
                let mut at = 0;
                for (elements, len) in &parts {
                    for (out, elements) in out.chunks_mut(PIECE * total).zip(elements.chunks(PIECE * len)) {
                        checkpoint.step(elements.len(), cx)?;
                        match len {
                            1 => place::<_, 1>(elements, out, total, at),
                            2 => place::<_, 2>(elements, out, total, at),
                            3 => place::<_, 3>(elements, out, total, at),
                            _ => place::<_, 4>(elements, out, total, at),
                        }
                    }
                    at += len;
                }
                Ok(())
            });
        }
        cx.output(&dims)?.append(|out| {
            for block in 0..outer {
                for (elements, len) in &parts {
                    checkpoint.copy(&elements[block * len..(block + 1) * len], out, cx)?;
                }
            }
            Ok(())
        })
    })
}

/// Copies groups of `N` elements to position `at` of each block of `total`.
fn place<T: Copy, const N: usize>(elements: &[T], out: &mut [T], total: usize, at: usize) {
    for (out, group) in out.chunks_exact_mut(total).zip(elements.as_chunks::<N>().0) {
        out[at..at + N].copy_from_slice(group);
    }
}

fn split(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(0);
    let split_attribute = if node.opset < 13 { node.ints("split")?.map(<[i64]>::to_vec) } else { None };
    let count = node.outputs();
    if node.opset >= 18
        && let Some(number) = node.int("num_outputs")?
        && number != count as i64
    {
        return Err(Error::invalid_encoding(format!("the node has {count} outputs, and num_outputs is {number}")));
    }
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        let axis = axis(signed_axis, value.rank())?;
        let size_of_axis = value.dims()[axis];
        let parts = match (&split_attribute, args.option(1)) {
            (Some(list), _) => list.clone(),
            (None, Some(list)) if list.len() == count => integers(list, cx)?.to_vec(),
            (None, Some(list)) => {
                return Err(Error::invalid_argument(format!(
                    "split has {} sizes, and the node has {count} outputs",
                    list.len()
                )));
            }
            (None, None) => {
                // All parts have the same size, except that the last may be smaller.
                let part = size_of_axis.div_ceil(count.max(1));
                (0..count).map(|index| size_of_axis.saturating_sub(index * part).min(part) as i64).collect()
            }
        };
        let sizes = parts.iter().map(|&part| usize::try_from(part).ok()).collect::<Option<Vec<_>>>();
        let fit = |sizes: &Vec<usize>| {
            sizes.len() == count
                && sizes.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size)) == Some(size_of_axis)
        };
        let sizes = sizes.filter(fit).ok_or_else(|| {
            Error::invalid_argument(format!(
                "the {} sizes in split do not divide a dimension of {size_of_axis} among {count} outputs",
                parts.len()
            ))
        })?;
        let (outer, inner) = (product(&value.dims()[..axis]), product(&value.dims()[axis + 1..]));
        let mut begin = 0;
        let mut outputs = Values::with_capacity(count);
        for size in sizes {
            let mut dims = value.dims().to_vec();
            dims[axis] = size;
            let mut checkpoint = Checkpoint::default();
            outputs.push(with_elements!(value, |elements| cx.output(&dims)?.append(|out| {
                for block in 0..outer {
                    let start = (block * size_of_axis + begin) * inner;
                    checkpoint.copy(&elements[start..start + size * inner], out, cx)?;
                }
                Ok(())
            }))?);
            begin += size;
        }
        Ok(outputs)
    }))
}

fn tile(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|args, cx| {
        let (value, repeats) = (args.get(0)?, dims(args.get(1)?)?);
        if repeats.len() != value.rank() {
            return Err(Error::invalid_argument(format!(
                "there are {} repeats, and the input has dimensions {}",
                repeats.len(),
                Dims(value.dims())
            )));
        }
        let out = value.dims().iter().zip(&repeats).map(|(&dim, &repeat)| dim.checked_mul(repeat));
        let out: Option<Vec<usize>> = out.collect();
        let out = out.ok_or_else(|| Error::too_large("an output dimension is too large to be addressed"))?;
        check_budget(&out, value, cx)?;
        if out.contains(&0) {
            return Ok(values![with_elements!(value, |elements| {
                cx.output(&out)?.collect(elements.iter().copied().take(0))
            })?]);
        }
        let lists = value.dims().iter().zip(&out).zip(strides(value.dims()));
        let lists = lists.map(|((&dim, &out), stride)| {
            let indices = (0..out).map(|index| index % dim);
            offsets(indices, stride, cx)
        });
        Ok(values![select(value, &lists.collect::<Result<Vec<_>, _>>()?, cx)?])
    }))
}

fn expand(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| {
        let value = args.take(0)?;
        let out = shape(value.dims(), &dims(args.get(1)?)?)?;
        if value.dims() == &*out {
            return Ok(values![value]);
        }
        Ok(values![with_elements!(value, |elements| expand_like(elements, &value, &out, cx))?])
    }))
}

/// Attribute blocksize, which must be positive.
fn block_size(node: &Node<'_>) -> Result<usize, Error> {
    let block =
        node.int("blocksize")?.and_then(|size| usize::try_from(size).ok()).filter(|size| (1..65536).contains(size));
    block.ok_or_else(|| Error::invalid_encoding("attribute blocksize is missing or out of range"))
}

fn depth_to_space(node: &Node<'_>) -> Result<OpFn, Error> {
    let block = block_size(node)?;
    let columns_first = match if node.opset < 11 { "DCR" } else { node.string("mode", "DCR")? } {
        "DCR" => false,
        "CRD" => true,
        _ => return Err(Error::invalid_encoding("attribute mode is neither DCR nor CRD")),
    };
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let &[n, c, h, w] = value.dims() else {
            return Err(Error::invalid_argument("the input must have four dimensions"));
        };
        let depth = c / (block * block);
        if depth * block * block != c {
            return Err(Error::invalid_argument(format!("{c} channels do not divide into blocks of {block}×{block}")));
        }
        let out = vec![n, depth, h.saturating_mul(block), w.saturating_mul(block)];
        let (split, order) = if columns_first {
            (vec![n, depth, block, block, h, w], [0, 1, 4, 2, 5, 3])
        } else {
            (vec![n, block, block, depth, h, w], [0, 3, 4, 1, 5, 2])
        };
        Ok(values![permute(value.reshaped(split)?, &order, cx)?.reshaped(out)?])
    }))
}

fn space_to_depth(node: &Node<'_>) -> Result<OpFn, Error> {
    let block = block_size(node)?;
    let order = match if node.opset >= 28 { node.string("mode", "DCR")? } else { "DCR" } {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        _ => return Err(Error::invalid_encoding("attribute mode is neither DCR nor CRD")),
    };
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let &[n, c, h, w] = value.dims() else {
            return Err(Error::invalid_argument("the input must have four dimensions"));
        };
        if h % block != 0 || w % block != 0 {
            return Err(Error::invalid_argument(format!("{h}×{w} does not divide into blocks of {block}×{block}")));
        }
        let out = vec![n, c.saturating_mul(block * block), h / block, w / block];
        let split = vec![n, c, h / block, block, w / block, block];
        Ok(values![permute(value.reshaped(split)?, &order, cx)?.reshaped(out)?])
    }))
}
