//! SwiGLU: a · sigmoid(alpha · a) · b.

use half::{bf16, f16};

use crate::math::functions::sigmoid;
use crate::ops::broadcast::zip_into;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dims::Dims;
use crate::tensor::element::ElementType;
use crate::tensor::value::no_type;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(28, "SwiGLU", (2, 2), swiglu).device(form!(attention::swiglu))];

fn swiglu(node: &Node<'_>) -> Result<OpFn, Error> {
    let alpha = node.float("alpha", 1.0)?;
    let single = move |a: f32, b: f32| a * sigmoid(alpha * a) * b;
    let double = move |a: f64, b: f64| a / (1.0 + (-f64::from(alpha) * a).exp()) * b;
    Ok(Box::new(move |mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        if a.dims() != b.dims() {
            return Err(Error::invalid_argument(format!(
                "the inputs have different dimensions: {} and {}",
                Dims(a.dims()),
                Dims(b.dims())
            )));
        }
        Ok(values![match a.ty() {
            ElementType::F32 => zip_into(a, b, cx, single),
            ElementType::F64 => zip_into(a, b, cx, double),
            ElementType::F16 => zip_into(a, b, cx, |a: f16, b: f16| f16::from_f32(single(a.to_f32(), b.to_f32()))),
            ElementType::Bf16 => zip_into(a, b, cx, |a: bf16, b: bf16| bf16::from_f32(single(a.to_f32(), b.to_f32()))),
            _ => Err(no_type(&a)),
        }?])
    }))
}
