//! Device forms of pools.

use crate::device::args::{DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Extreme, Unary};
use crate::device::tensor::DeviceTensor;
use crate::ops::device::product::{refuse_wide, windows};
use crate::ops::device::{host_only, one, own_type};
use crate::ops::node::Node;
use crate::ops::window::{Slide, Window};
use crate::tensor::dims::{Dims, product};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The slide of each spatial dimension.
fn slides(window: &Window, dims: &[usize]) -> Result<Vec<Slide>, Stop> {
    let [_, _, spatial @ ..] = dims else {
        return Err(Error::invalid_argument(format!("{} has no spatial dimensions", Dims(dims))).into());
    };
    let kernel = window.kernel().ok_or_else(|| Error::invalid_encoding("attribute kernel_shape is missing"))?;
    let slides = window.slides_over(spatial, kernel)?;
    Slide::as_three(&slides)?;
    refuse_wide(&slides)?;
    Ok(slides.to_vec())
}

/// One pool after the other along each dimension: `pool` of the elements under the kernel.
fn along_each(
    x: DeviceTensor,
    slides: &[Slide],
    filler: f64,
    dx: &DeviceContext<'_>,
    pool: impl Fn(&DeviceTensor, usize) -> Result<DeviceTensor, Error>,
) -> Result<DeviceTensor, Error> {
    let mut x = x;
    for (at, slide) in slides.iter().enumerate() {
        let pooled = pool(&windows(&x, at + 2, slide, filler, dx)?, at + 3)?;
        let mut dims = pooled.dims().to_vec();
        dims.remove(at + 3);
        x = dx.reshape(&pooled, &dims)?;
    }
    Ok(x)
}

pub(in crate::ops) fn max_pool(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let window = Window::new(node)?.ceil(node.opset >= 10 && node.flag("ceil_mode", false)?);
    node.ignore(&["storage_order"]);
    let indices = node.outputs() > 1;
    Ok(Box::new(move |args, dx| {
        if indices {
            return host_only();
        }
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        let slides = slides(&window, x.dims())?;
        if x.is_empty() {
            return host_only();
        }
        let largest = |x: &DeviceTensor, axis: usize| dx.extreme_of(Extreme::Max, x, &[axis]);
        one(&along_each(x, &slides, f64::NEG_INFINITY, dx, largest)?, ty, dx)
    }))
}

/// For each output of a dimension, the number of kernel positions that an average counts.
fn counts(slide: &Slide, count_pads: bool) -> Vec<f32> {
    let count = |at: usize| {
        let (first, end) = slide.kernel_range(at);
        if count_pads { slide.padded_kernel_len(at) } else { end - first }
    };
    (0..slide.output).map(|at| count(at).max(1) as f32).collect()
}

pub(in crate::ops) fn average_pool(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let window = Window::new(node)?.ceil(node.opset >= 10 && node.flag("ceil_mode", false)?);
    let count_pads = node.opset >= 7 && node.flag("count_include_pad", false)?;
    Ok(Box::new(move |args, dx| {
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        let slides = slides(&window, x.dims())?;
        if x.is_empty() {
            return host_only();
        }
        let mut result = along_each(x, &slides, 0.0, dx, |x, axis| dx.sum(x, &[axis]))?;
        for (at, slide) in slides.iter().enumerate() {
            let mut dims = vec![1; result.rank()];
            dims[at + 2] = slide.output;
            let _counts = dx.cx.budget.charge(slide.output.saturating_mul(size_of::<f32>()))?;
            let counts = Value::new(dims, counts(slide, count_pads))?;
            let Some(counts) = dx.upload(&counts)? else { return host_only() };
            result = dx.div(&result, &dx.cast(&counts, result.ty())?)?;
        }
        one(&result, ty, dx)
    }))
}

/// The largest element, or the mean, of all spatial dimensions.
pub(in crate::ops) fn global(largest: bool) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        let [_, _, spatial @ ..] = x.dims() else {
            return Err(Error::invalid_argument(format!("{} has no spatial dimensions", Dims(x.dims()))).into());
        };
        if product(spatial) == 0 {
            return Err(Error::invalid_argument("the spatial dimensions of a pool are empty").into());
        }
        let axes: Vec<usize> = (2..x.rank()).collect();
        let result = if largest { dx.extreme_of(Extreme::Max, &x, &axes)? } else { dx.mean(&x, &axes)? };
        one(&result, ty, dx)
    }))
}

/// The p-norm of the elements under the kernel, or of all spatial dimensions without a window.
pub(in crate::ops) fn lp_pool(p: i32, window: Option<Window>) -> Result<DeviceForm, Stop> {
    let p = f64::from(p);
    Ok(Box::new(move |args, dx| {
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        if x.is_empty() || x.rank() < 2 {
            return host_only();
        }
        let powers = dx.power(&dx.unary(Unary::Abs, &x)?, p)?;
        let sums = match &window {
            Some(window) => {
                let slides = slides(window, x.dims())?;
                along_each(powers, &slides, 0.0, dx, |x, axis| dx.sum(x, &[axis]))?
            }
            None => dx.sum(&powers, &(2..x.rank()).collect::<Vec<_>>())?,
        };
        one(&dx.power(&sums, 1.0 / p)?, ty, dx)
    }))
}
