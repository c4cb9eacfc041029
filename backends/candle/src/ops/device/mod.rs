//! The device forms of operators: the operations on a device that compute what the host's kernel computes.
//!
//! A form reads the same attributes as the host's constructor, and refuses what that refuses. For element types that it
//! does not cover it stops with [`Stop::HostOnly`], and the step runs on the host.

pub(super) mod activation;
pub(super) mod arithmetic;
pub(super) mod attention;
pub(super) mod control;
pub(super) mod einsum;
pub(super) mod fused;
pub(super) mod linear_attention;
pub(super) mod loss;
pub(super) mod microsoft_attention;
pub(super) mod moving;
pub(super) mod norm;
pub(super) mod pool;
pub(super) mod power;
pub(super) mod product;
pub(super) mod recurrent;
pub(super) mod reduce;
pub(super) mod resize;
pub(super) mod sample;
pub(super) mod sequence;
pub(super) mod top;

pub(super) use crate::device::math::{Binary, Compare, Extreme, Unary};
pub(super) use arithmetic::Logic;

use crate::device::args::{DeviceArgs, DeviceForm, Outputs, Stop};
use crate::device::context::DeviceContext;
use crate::device::tensor::DeviceTensor;
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

/// The type of a form's result: that of the input at `index`, in which the form does not compute if it is narrow.
pub(super) fn own_type(args: &DeviceArgs, index: usize) -> Result<ElementType, Error> {
    args.get(index).map(crate::device::tensor::Placed::ty)
}

/// One output, in the type of the first input.
pub(super) fn one(result: &DeviceTensor, ty: ElementType, dx: &DeviceContext<'_>) -> Outputs {
    Ok(vec![dx.cast(result, ty)?.into()])
}

/// A form of one tensor of floats.
pub(super) fn unary(
    f: impl Fn(&DeviceTensor, &DeviceContext<'_>) -> Result<DeviceTensor, Error> + Send + Sync + 'static,
) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        one(&f(&x, dx)?, ty, dx)
    }))
}

/// The type of the inputs if they are all of one type. Others are left to the host, which converts or refuses them.
pub(super) fn require_one_type(
    args: &DeviceArgs,
    mut inputs: impl Iterator<Item = usize>,
) -> Result<ElementType, Stop> {
    let ty = own_type(args, 0)?;
    let other = inputs.any(|index| args.option(index).is_some_and(|other| other.ty() != ty));
    if other { host_only() } else { Ok(ty) }
}

/// Stops the form, so that the step runs on the host.
pub(super) fn host_only<T>() -> Result<T, Stop> {
    Err(Stop::HostOnly)
}
