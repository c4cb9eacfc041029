//! CumProd: products of all elements up to each, along an axis.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::elementwise::{Number, with_numbers};
use crate::ops::integers::integer;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::dims::{axis, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(26, "CumProd", (2, 2), running_product)];

fn running_product(node: &Node<'_>) -> Result<OpFn, Error> {
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let ty = value.ty();
        if ty == ElementType::Bool {
            return Err(no_type(&value));
        }
        // The narrow floats are multiplied as f32, and rounded where a product is written.
        let narrow = matches!(ty, ElementType::F16 | ElementType::Bf16);
        let value = if narrow { convert(value, ElementType::F32, cx)? } else { value };
        let at = axis(integer(args.get(1)?)?, value.rank())?;
        let result = with_numbers!(value, T => products::<T>(&value, at, exclusive, reverse, cx))?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

fn products<T: Number>(
    value: &Value,
    at: usize,
    exclusive: bool,
    reverse: bool,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let (dim, inner) = (value.dims()[at], product(&value.dims()[at + 1..]));
    let (outer, elements) = (product(&value.dims()[..at]), value.elements::<T>()?);
    let (mut products, _charge) = cx.filled(T::from_f64(1.0), inner)?;
    let mut checkpoint = Checkpoint::default();
    cx.output::<T>(value.dims())?.write(T::default(), |out| {
        for block in 0..outer {
            checkpoint.set(T::from_f64(1.0), &mut products, cx)?;
            for turn in 0..dim {
                let step = if reverse { dim - 1 - turn } else { turn };
                let start = (block * dim + step) * inner;
                let rows = out[start..start + inner].iter_mut().zip(&elements[start..start + inner]);
                for (product, (out, &x)) in products.iter_mut().zip(rows) {
                    checkpoint.step(1, cx)?;
                    let before = *product;
                    *product = before.times(x);
                    *out = if exclusive { before } else { *product };
                }
            }
        }
        Ok(())
    })
}
