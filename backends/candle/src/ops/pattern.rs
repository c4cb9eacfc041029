//! Triangles, diagonals, one-hot vectors and centered crops: Trilu, EyeLike, OneHot, CenterCropPad.

use crate::ops::integers::{Integers, integer};

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::broadcast::expand_like;
use crate::ops::cast::convert;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dims::{axis, count, product};
use crate::tensor::element::{Element, ElementType, with_elements};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(14, "Trilu", (1, 2), trilu).device(form!(|node| moving::moving(node, trilu, &[0]))),
    since(9, "EyeLike", (1, 1), eye).device(form!(|node| moving::from_typed_dims(node, eye))),
    since(9, "OneHot", (3, 3), one_hot).device(form!(|node| moving::moving(node, one_hot, &[2]))),
    since(18, "CenterCropPad", (2, 2), center_crop_pad).device(form!(|node| moving::moving(
        node,
        center_crop_pad,
        &[0]
    ))),
];

/// Keeps the triangle above the k-th diagonal, or that below it.
fn trilu(node: &Node<'_>) -> Result<OpFn, Error> {
    let upper = node.flag("upper", true)?;
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        let k = args.option(1).map(integer).transpose()?.unwrap_or(0);
        let &[.., rows, columns] = value.dims() else {
            return Err(Error::invalid_argument("the input must have at least two dimensions"));
        };
        // Diagonals outside of the matrix are equivalent; the clamp keeps the sums below from overflowing.
        let k = k.clamp(-(rows as i64), columns as i64);
        let mut checkpoint = Checkpoint::default();
        Ok(values![with_elements!(value, |elements| cx.output(value.dims())?.append(|out| {
            for (index, row) in elements.chunks_exact(columns).enumerate() {
                let diagonal = ((index % rows) as i64 + k).clamp(-1, columns as i64);
                let start = out.len();
                checkpoint.copy(row, out, cx)?;
                let row = &mut out[start..];
                let cut = if upper {
                    &mut row[..diagonal.max(0) as usize]
                } else {
                    let first = (diagonal + 1).clamp(0, columns as i64) as usize;
                    &mut row[first..]
                };
                for piece in cut.chunks_mut(PIECE) {
                    checkpoint.step(piece.len(), cx)?;
                    clear(piece);
                }
            }
            Ok(())
        }))?])
    }))
}

fn clear<T: Element>(elements: &mut [T]) {
    elements.fill(T::default());
}

fn eye(node: &Node<'_>) -> Result<OpFn, Error> {
    let (ty, k) = (node.element_type("dtype")?, node.int("k")?.unwrap_or(0));
    Ok(Box::new(move |args, cx| {
        let like = args.get(0)?;
        let &[rows, columns] = like.dims() else {
            return Err(Error::invalid_argument("the input must have two dimensions"));
        };
        let k = k.clamp(-(rows as i64), columns as i64);
        let mut checkpoint = Checkpoint::default();
        let ones = cx.output::<u8>(like.dims())?.write(0, |out| {
            for (index, row) in out.chunks_exact_mut(columns.max(1)).enumerate() {
                checkpoint.step(1, cx)?;
                if let Some(one) = usize::try_from(index as i64 + k).ok().and_then(|position| row.get_mut(position)) {
                    *one = 1;
                }
            }
            Ok(())
        })?;
        Ok(values![convert(ones, ty.unwrap_or(like.ty()), cx)?])
    }))
}

/// The indices or the depth of OneHot, which may be numbers of any type.
fn integers_of(value: &Value, cx: &ExecContext<'_>) -> Result<Integers, Error> {
    if value.ty() == ElementType::Bool {
        return Err(no_type(value));
    }
    convert(value.clone(), ElementType::I64, cx).map(Integers)
}

fn one_hot(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(-1);
    Ok(Box::new(move |args, cx| {
        let (indices, values) = (args.get(0)?, args.get(2)?);
        let depth = match *integers_of(args.get(1)?, cx)? {
            [depth] => usize::try_from(depth),
            ref other => {
                return Err(Error::invalid_argument(format!("depth must have one element, not {}", other.len())));
            }
        };
        let depth = depth.map_err(|_| Error::invalid_argument("depth is negative"))?;
        let axis = axis(signed_axis, indices.rank() + 1)?;
        let mut dims = indices.dims().to_vec();
        dims.insert(axis, depth);
        count(&dims)?;
        let inner = product(&indices.dims()[axis..]);
        let list = integers_of(indices, cx)?;
        let mut checkpoint = Checkpoint::default();
        Ok(values![with_elements!(values, |values| {
            let &[off, on] = values else {
                return Err(Error::invalid_argument(format!("values must have two elements, not {}", values.len())));
            };
            cx.output(&dims)?.write(off, |out| {
                for (number, &index) in list.iter().enumerate() {
                    checkpoint.step(1, cx)?;
                    // A negative index counts from the end; an index out of range sets no element.
                    let index = if index < 0 { index.saturating_add(depth as i64) } else { index };
                    if let Some(position) = usize::try_from(index).ok().filter(|&position| position < depth) {
                        out[(number / inner * depth + position) * inner + number % inner] = on;
                    }
                }
                Ok(())
            })
        })?])
    }))
}

/// Crops dimensions that are too long at both ends, and pads those that are too short with zeros.
fn center_crop_pad(node: &Node<'_>) -> Result<OpFn, Error> {
    let axes_attribute = node.ints("axes")?.map(<[i64]>::to_vec);
    Ok(Box::new(move |args, cx| {
        let (value, shape) = (args.get(0)?, crate::ops::constant::dims(args.get(1)?)?);
        let rank = value.rank();
        let axes = match &axes_attribute {
            Some(list) => list.iter().map(|&one| axis(one, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        if axes.len() != shape.len() {
            return Err(Error::invalid_argument(format!("there are {} sizes and {} axes", shape.len(), axes.len())));
        }
        let mut dims = value.dims().to_vec();
        for (&axis, &size) in axes.iter().zip(&shape) {
            dims[axis] = size;
        }
        count(&dims)?;
        let ends: Vec<(i64, i64)> = value
            .dims()
            .iter()
            .zip(&dims)
            .map(|(&old, &new)| {
                let change = new as i64 - old as i64;
                // An odd element is cropped or padded at the end.
                let before = change / 2;
                (before, change - before)
            })
            .collect();
        Ok(values![with_elements!(value, |elements| padded(elements, value, &ends, &dims, cx))?])
    }))
}

fn padded<T: Element>(
    elements: &[T],
    value: &Value,
    ends: &[(i64, i64)],
    dims: &[usize],
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    if value.is_empty() {
        return expand_like(&[T::default()], &Value::scalar(T::default())?, dims, cx);
    }
    crate::ops::pad::constant(elements, value.dims(), ends, dims, T::default(), cx)
}
