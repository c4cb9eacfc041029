//! RMSNormalization: divides each row of a tensor by its root mean square, and multiplies it by a scale.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::ops::broadcast::shape;
use crate::ops::cast::convert;
use crate::ops::elementwise::mul;
use crate::ops::heads::float_type;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::real::Real;
use crate::tensor::dims::{Dims, axis, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] =
    &[since(23, "RMSNormalization", (2, 2), normalization).device(form!(norm::root_mean_square))];

fn normalization(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(-1);
    let epsilon = node.float("epsilon", 1e-5)?;
    let stash = float_type(node, "stash_type")?;
    Ok(Box::new(move |mut args, cx| {
        let (value, scale) = (args.take(0)?, args.take(1)?);
        let ty = scale.ty();
        if let Some(other) = [&value, &scale].into_iter().find(|value| !is_float(value.ty())) {
            return Err(no_type(other));
        }
        let axis = axis(signed_axis, value.rank())?;
        if *shape(value.dims(), scale.dims())? != *value.dims() {
            return Err(Error::invalid_argument(format!(
                "the scale {} does not broadcast to the input {}",
                Dims(scale.dims()),
                Dims(value.dims())
            )));
        }
        let is_f64 = value.ty() == ElementType::F64 || stash == Some(ElementType::F64);
        let compute_ty = if is_f64 { ElementType::F64 } else { ElementType::F32 };
        let (value, scale) = (convert(value, compute_ty, cx)?, convert(scale, compute_ty, cx)?);
        let width = product(&value.dims()[axis..]);
        let value = if is_f64 {
            normalized::<f64>(value, width, epsilon, cx)?
        } else {
            normalized::<f32>(value, width, epsilon, cx)?
        };
        Ok(values![convert(mul(value, scale, cx)?, ty, cx)?])
    }))
}

fn is_float(ty: ElementType) -> bool {
    matches!(ty, ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16)
}

fn normalized<T: Real>(mut value: Value, width: usize, epsilon: f32, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let mut checkpoint = Checkpoint::default();
    let mut rows = |elements: &mut [T]| -> Result<(), Error> {
        for row in elements.chunks_exact_mut(width.max(1)) {
            let mut squares = [T::ZERO; loops::PARTS];
            for piece in row.chunks(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                loops::fold(&mut squares, piece, |sum: T, x: T| sum.plus(x.times(x)));
            }
            let sum = squares.into_iter().fold(T::ZERO, T::plus);
            let mean = sum.divided_by(T::from_f64(width as f64)).plus(T::from_f64(f64::from(epsilon)));
            let root = T::from_f64(mean.to_f64().sqrt());
            for piece in row.chunks_mut(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                T::map(piece, move |x| x.divided_by(root));
            }
        }
        Ok(())
    };
    if let Some(elements) = value.elements_mut::<T>() {
        rows(elements)?;
        return Ok(value);
    }
    let elements = value.elements::<T>()?;
    cx.output::<T>(value.dims())?.append(|out| {
        Checkpoint::default().copy(elements, out, cx)?;
        rows(out)
    })
}
