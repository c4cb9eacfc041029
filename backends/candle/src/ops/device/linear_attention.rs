//! The device form of LinearAttention, one position at a time, in F32.

use crate::device::args::{DeviceArgs, DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::Unary;
use crate::device::tensor::DeviceTensor;
use crate::ops::device::recurrent::KEPT_BYTES;
use crate::ops::device::{host_only, own_type};
use crate::ops::linear_sizes::{LinearAttributes, LinearSizes};
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

/// The input at `index`, if it is given.
fn optional(args: &mut DeviceArgs, index: usize, dx: &DeviceContext<'_>) -> Result<Option<DeviceTensor>, Stop> {
    match args.option(index).map(crate::device::tensor::Placed::ty) {
        None => Ok(None),
        // The host refuses F64.
        Some(ElementType::F64) => host_only(),
        Some(_) => args.float(index, dx).map(Some),
    }
}

pub(in crate::ops) fn attention(attributes: LinearAttributes) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = own_type(args, 0)?;
        let state_ty = if args.option(3).is_some() { own_type(args, 3)? } else { ty };
        let mut inputs = Vec::with_capacity(6);
        for index in 0..6 {
            inputs.push(optional(args, index, dx)?);
        }
        let [Some(query), Some(key), Some(value), past, decay, beta] = inputs.as_slice() else {
            return Err(Error::invalid_argument("queries, keys or values are missing").into());
        };
        let past_dims = past.as_ref().map(DeviceTensor::dims);
        let sizes = attributes.sizes([query.dims(), key.dims(), value.dims()], past_dims)?;
        let &LinearSizes { batch, len, key: size, value: depth, .. } = &sizes;
        let (heads, group) = (attributes.key_heads, attributes.heads / attributes.key_heads);
        let gate = |x: &DeviceTensor, widths| -> Result<DeviceTensor, Error> {
            let (heads, each) = attributes.gate(x.dims(), &sizes, widths)?;
            dx.reshape(x, &[batch, len, heads, each, 1])
        };
        let decay = decay.as_ref().map(|decay| gate(decay, attributes.decay_widths(&sizes))).transpose()?;
        let decay = decay.map(|decay| dx.unary(Unary::Exp, &decay)).transpose()?;
        let beta = beta.as_ref().map(|beta| gate(beta, attributes.beta_widths())).transpose()?;
        if sizes.state.contains(&0) || len == 0 {
            return host_only();
        }
        let split = |x: &DeviceTensor, rest: [usize; 2]| dx.reshape(x, &[batch, len, heads, rest[0], rest[1]]);
        let query = dx.affine(&split(query, [group, size])?, f64::from(sizes.scale), 0.0)?;
        let (key, value) = (split(key, [size, 1])?, split(value, [1, depth])?);
        let at = |x: &DeviceTensor, position: usize| {
            let x = dx.narrow(x, 1, position, 1)?;
            let &[batch, _, heads, rows, columns] = x.dims() else { return Ok(x) };
            dx.reshape(&x, &[batch, heads, rows, columns])
        };
        let mut state = match past {
            Some(past) => past.clone(),
            None => dx.filled(&sizes.state, 0.0, ElementType::F32)?,
        };
        let _kept = dx.cx.budget.charge(len.saturating_mul(KEPT_BYTES))?;
        let mut outputs = Vec::with_capacity(len);
        for position in 0..len {
            let (key, mut new) = (at(&key, position)?, at(&value, position)?);
            if let Some(decay) = &decay {
                state = dx.mul(&state, &at(decay, position)?)?;
            }
            if let Some(beta) = &beta {
                let held = dx.matmul(&dx.transpose(&key)?, &state)?;
                new = dx.mul(&dx.sub(&new, &held)?, &at(beta, position)?)?;
            }
            state = dx.add(&state, &dx.mul(&key, &new)?)?;
            let read = dx.matmul(&at(&query, position)?, &state)?;
            outputs.push(dx.reshape(&read, &[batch, 1, attributes.heads * depth])?);
        }
        let result = dx.join(&outputs, 1)?;
        Ok(vec![dx.cast(&result, ty)?.into(), dx.cast(&state, state_ty)?.into()])
    }))
}
