//! CumSum and CumProd: the sum or product of all elements up to each one, along an axis.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::ops::cast::convert;
use crate::ops::elementwise::{Number, with_numbers};
use crate::ops::integers::integer;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dims::{axis, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(11, "CumSum", (2, 2), |node| {
        cumulative(node, |value, scan, cx| with_numbers!(value, T => scan.run(value, T::default(), T::plus, cx)))
    })
    .device(form!(|node| reduce::cumulative(node, Binary::Add, 0.0))),
    since(26, "CumProd", (2, 2), |node| {
        cumulative(node, |value, scan, cx| with_numbers!(value, T => scan.run(value, T::from_f64(1.0), T::times, cx)))
    })
    .device(form!(|node| reduce::cumulative(node, Binary::Mul, 1.0))),
];

/// A scan along one axis.
#[derive(Clone, Copy)]
struct Scan {
    axis: usize,
    /// Whether each result leaves out the element at its own position.
    exclusive: bool,
    /// Whether the scan begins at the end of the axis.
    reverse: bool,
}

fn cumulative(
    node: &Node<'_>,
    run: impl Fn(&Value, Scan, &ExecContext<'_>) -> Result<Value, Error> + Send + Sync + 'static,
) -> Result<OpFn, Error> {
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let ty = value.ty();
        // f16 and bf16 are accumulated in f32, and each result is rounded.
        let narrow = matches!(ty, ElementType::F16 | ElementType::Bf16);
        let value = if narrow { convert(value, ElementType::F32, cx)? } else { value };
        let axis = axis(integer(args.get(1)?)?, value.rank())?;
        let result = run(&value, Scan { axis, exclusive, reverse }, cx)?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

impl Scan {
    /// Accumulates the elements along the axis with `f`, beginning with `start`.
    fn run<T: Number>(
        self,
        value: &Value,
        start: T,
        f: impl Fn(T, T) -> T + Copy,
        cx: &ExecContext<'_>,
    ) -> Result<Value, Error> {
        let Self { axis, exclusive, reverse } = self;
        let (dim, inner) = (value.dims()[axis], product(&value.dims()[axis + 1..]));
        let (outer, elements) = (product(&value.dims()[..axis]), value.elements::<T>()?);
        let (mut totals, _charge) = cx.filled(start, inner)?;
        let mut checkpoint = Checkpoint::default();
        let advance = move |total: &mut T, x: T| {
            let before = *total;
            *total = f(before, x);
            if exclusive { before } else { *total }
        };
        cx.output::<T>(value.dims())?.write(T::default(), |out| {
            if inner == 1 {
                for (out, row) in out.chunks_exact_mut(dim).zip(elements.chunks_exact(dim)) {
                    let mut total = start;
                    if reverse {
                        for (out, row) in out.rchunks_mut(PIECE).zip(row.rchunks(PIECE)) {
                            checkpoint.step(row.len(), cx)?;
                            out.iter_mut().zip(row).rev().for_each(|(out, &x)| *out = advance(&mut total, x));
                        }
                    } else {
                        for (out, row) in out.chunks_mut(PIECE).zip(row.chunks(PIECE)) {
                            checkpoint.step(row.len(), cx)?;
                            out.iter_mut().zip(row).for_each(|(out, &x)| *out = advance(&mut total, x));
                        }
                    }
                }
                return Ok(());
            }
            for block in 0..outer {
                checkpoint.set(start, &mut totals, cx)?;
                for step in 0..dim {
                    let index = if reverse { dim - 1 - step } else { step };
                    let first = (block * dim + index) * inner;
                    let rows =
                        out[first..first + inner].chunks_mut(PIECE).zip(elements[first..first + inner].chunks(PIECE));
                    for (totals, (out, row)) in totals.chunks_mut(PIECE).zip(rows) {
                        checkpoint.step(row.len(), cx)?;
                        let items = totals.iter_mut().zip(out).zip(row);
                        loops::for_each(items, move |((total, out), &x)| *out = advance(total, x));
                    }
                }
            }
            Ok(())
        })
    }
}
