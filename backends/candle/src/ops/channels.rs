//! Values whose channels are the last dimension, and what operators do with them.
//!
//! ONNX orders the dimensions of an image as batch, channels, height, width. Convolutions of constant weights are
//! faster with the channels last, so `compile::channels` gives the values between them this order. An operator between
//! them has a [`LastForm`], or it gets its values in ONNX's order.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::fusion::{Follower, FusionRole};
use crate::ops::layout::join;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::Operator;
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::product;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The rows and columns of a part of a matrix that is transposed at once.
const TILE: usize = 16;

/// What a step does with values whose channels are the last dimension.
pub(crate) enum LastForm {
    /// It reads and writes such values only, of this rank.
    Only { rank: usize },
    /// Its kernel does the same to each element, wherever it is.
    Elementwise,
    /// Another kernel reads and writes such values.
    Kernel(OpFn),
}

impl LastForm {
    /// The form of a node, if it has one.
    pub(crate) fn of(operator: &Operator, node: &Node<'_>, role: Option<&FusionRole>) -> Option<Self> {
        match role {
            Some(FusionRole::Follower(Follower::Unary(_) | Follower::Binary(_))) => Some(Self::Elementwise),
            _ => operator.last.and_then(|last| last(node)).map(Self::Kernel),
        }
    }
}

/// Moves the channels from the second dimension to the last, or back.
pub(crate) fn moved(to_last: bool) -> OpFn {
    Box::new(move |args, cx| Ok(values![move_channels(args.get(0)?, to_last, cx)?]))
}

fn move_channels(value: &Value, to_last: bool, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (rank, mut dims) = (value.rank(), DimVec::from(value.dims()));
    if rank <= 2 {
        return Ok(value.clone());
    }
    // Each image is transposed as a matrix of `rows` × `columns`.
    let (rows, columns) = if to_last {
        dims[1..].rotate_left(1);
        (value.dims()[1], product(&value.dims()[2..]))
    } else {
        dims[1..].rotate_right(1);
        (product(&value.dims()[1..rank - 1]), value.dims()[rank - 1])
    };
    if rows == 1 || columns == 1 {
        return value.clone().reshaped(dims);
    }
    let (elements, mut checkpoint) = (value.elements::<f32>()?, Checkpoint::default());
    cx.output::<f32>(&dims)?.write(0.0, |out| {
        for (from, to) in elements.chunks_exact(rows * columns).zip(out.chunks_exact_mut(rows * columns)) {
            transpose(from, rows, columns, to, &mut checkpoint, cx)?;
        }
        Ok(())
    })
}

/// Writes the transposed matrix of `rows` × `columns`, none of which is 0, to `to`.
fn transpose(
    from: &[f32],
    rows: usize,
    columns: usize,
    to: &mut [f32],
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    for (first, to) in to.chunks_mut(TILE * rows).enumerate() {
        let first = first * TILE;
        checkpoint.step(to.len(), cx)?;
        // A tile of the source is in the cache while its lines are read again.
        for (top, from) in from.chunks(TILE * columns).enumerate() {
            let top = top * TILE;
            let mut lines: [&[f32]; TILE] = [&[]; TILE];
            let count = from.len() / columns;
            for (line, row) in lines.iter_mut().zip(from.chunks_exact(columns)) {
                *line = &row[first..columns.min(first + TILE)];
            }
            for (column, to) in to.chunks_exact_mut(rows).enumerate() {
                let to = &mut to[top..top + count];
                if let Ok(to) = <&mut [f32; TILE]>::try_from(&mut *to) {
                    *to = lines.map(|line| line.get(column).copied().unwrap_or_default());
                } else {
                    to.iter_mut()
                        .zip(&lines)
                        .for_each(|(to, line)| *to = line.get(column).copied().unwrap_or_default());
                }
            }
        }
    }
    Ok(())
}

/// Concat of values whose channels are the last dimension.
pub(super) fn concat(node: &Node<'_>) -> Option<OpFn> {
    let axis = match node.int("axis").ok()?? {
        0 => 0,
        1 => -1,
        axis if axis > 1 => axis - 1,
        _ => return None,
    };
    Some(Box::new(move |args, cx| {
        let values = (0..args.len()).map(|index| args.get(index)).collect::<Result<Vec<_>, _>>()?;
        Ok(values![join(&values, axis, cx)?])
    }))
}
