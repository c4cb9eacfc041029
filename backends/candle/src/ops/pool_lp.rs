//! Pooling by a p-norm, and the inverses of pooling and im2col: LpPool, GlobalLpPool, MaxUnpool, Col2Im.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::cast::convert;
use crate::ops::constant::dims as sizes;
use crate::ops::integers::integers;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::pool::{Pool, pool, promote};
use crate::ops::real::{Real, with_reals};
use crate::ops::window::Window;
use crate::tensor::dims::{Dims, count, product, strides};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(2, "LpPool", (1, 1), lp_pool).heavy().device(form!(lp_pool_on_device)),
    since(2, "GlobalLpPool", (1, 1), global).device(form!(|node| pool::lp_pool(power(node)?, None))),
    since(9, "MaxUnpool", (2, 3), unpool),
    since(18, "Col2Im", (3, 3), col2im).heavy(),
];

fn power(node: &Node<'_>) -> Result<i32, Error> {
    let p = i32::try_from(node.int("p")?.unwrap_or(2)).ok().filter(|&p| p > 0);
    p.ok_or_else(|| Error::invalid_encoding("attribute p is out of range"))
}

#[cfg(feature = "candle")]
fn lp_pool_on_device(node: &Node<'_>) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    let ceil = node.opset >= 18 && node.flag("ceil_mode", false)?;
    crate::ops::device::pool::lp_pool(power(node)?, Some(Window::new(node)?.ceil(ceil)))
}

fn lp_pool(node: &Node<'_>) -> Result<OpFn, Error> {
    let ceil = node.opset >= 18 && node.flag("ceil_mode", false)?;
    let (window, p) = (Window::new(node)?.ceil(ceil), power(node)?);
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let pool = pool(&window, &value)?;
        let result = with_reals!(value, T => powers::<T>(&value, &pool, p, cx))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

fn powers<T: Real>(value: &Value, pool: &Pool, p: i32, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let &Pool { slides: [zs, ys, xs], ref dims } = pool;
    let (elements, root) = (value.elements::<T>()?, T::from_f64(1.0 / f64::from(p)));
    let plane = zs.input * ys.input * xs.input;
    let mut checkpoint = Checkpoint::default();
    cx.output::<T>(dims)?.append(|out| {
        for plane in elements.chunks_exact(plane.max(1)) {
            for position in 0..zs.output * ys.output * xs.output {
                checkpoint.step(1, cx)?;
                let (z, rest) = (position / (ys.output * xs.output), position % (ys.output * xs.output));
                let (y, x) = (rest / xs.output, rest % xs.output);
                let ((z0, z1), (y0, y1), (x0, x1)) = (zs.kernel_range(z), ys.kernel_range(y), xs.kernel_range(x));
                let mut sum = T::default();
                for dz in z0..z1 {
                    for dy in y0..y1 {
                        checkpoint.step(x1 - x0, cx)?;
                        let line = (zs.source(z, dz) * ys.input + ys.source(y, dy)) * xs.input;
                        sum += (x0..x1).map(|dx| plane[line + xs.source(x, dx)].abs().powi(p)).sum::<T>();
                    }
                }
                out.push(sum.powf(root));
            }
        }
        Ok(())
    })
}

fn global(node: &Node<'_>) -> Result<OpFn, Error> {
    let p = power(node)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let [n, c, spatial @ ..] = value.dims() else {
            return Err(Error::invalid_argument(format!("{} has no spatial dimensions", Dims(value.dims()))));
        };
        let mut dims = vec![*n, *c];
        dims.resize(value.rank(), 1);
        let inner = product(spatial);
        if inner == 0 {
            return Err(Error::invalid_argument("the spatial dimensions of a pool are empty"));
        }
        let result = with_reals!(value, T => norms::<T>(&value, inner, &dims, p, cx))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// The norm of each row of `inner` elements.
fn norms<T: Real>(value: &Value, inner: usize, dims: &[usize], p: i32, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let rows = value.elements::<T>()?.chunks_exact(inner);
    let (mut checkpoint, root) = (Checkpoint::default(), T::from_f64(1.0 / f64::from(p)));
    cx.output::<T>(dims)?.append(|out| {
        for row in rows {
            let mut sum = T::default();
            for piece in row.chunks(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                sum = piece.iter().fold(sum, |sum, x| sum + x.abs().powi(p));
            }
            out.push(sum.powf(root));
        }
        Ok(())
    })
}

fn unpool(node: &Node<'_>) -> Result<OpFn, Error> {
    let window = Window::new(node)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let indices = args.get(1)?;
        let kernel = window.kernel().ok_or_else(|| Error::invalid_encoding("attribute kernel_shape is missing"))?;
        let [n, c, spatial @ ..] = value.dims() else {
            return Err(Error::invalid_argument(format!("{} has no spatial dimensions", Dims(value.dims()))));
        };
        if indices.dims() != value.dims() {
            return Err(Error::invalid_argument(format!(
                "the indices {} do not fit the input {}",
                Dims(indices.dims()),
                Dims(value.dims())
            )));
        }
        window.check(kernel, spatial.len())?;
        let mut inferred = vec![*n, *c];
        for (position, (&size, &kernel)) in spatial.iter().zip(kernel).enumerate() {
            let (stride, _) = window.steps(position);
            let (before, after) = window.pads(position).unwrap_or((0, 0));
            let size = size.checked_sub(1).and_then(|steps| steps.checked_mul(stride)?.checked_add(kernel));
            let size = size.and_then(|size| size.checked_sub(before + after));
            inferred.push(
                size.ok_or_else(|| Error::invalid_argument("a spatial dimension is empty or smaller than its pads"))?,
            );
        }
        let dims = match args.option(2) {
            Some(shape) => sizes(shape)?,
            None => inferred.as_slice().into(),
        };
        let fits = dims.len() == inferred.len() && inferred.iter().zip(&dims).all(|(inferred, dim)| inferred <= dim);
        if !fits {
            return Err(Error::invalid_argument(format!(
                "the unpooled dimensions {} do not fit the output shape {}",
                Dims(&inferred),
                Dims(&dims)
            )));
        }
        count(&dims)?;
        // The indices are those in the tensor that was pooled, which may be smaller than the output.
        let (pooled_len, output_strides) = (count(&inferred)?, strides(&dims));
        let pooled_strides = strides(&inferred);
        let list = integers(indices, cx)?;
        let wrong_index =
            || Error::invalid_argument(format!("an index is not below {pooled_len}, the number of pooled elements"));
        let mut checkpoint = Checkpoint::default();
        let result = with_reals!(value, T => cx.output::<T>(&dims)?.write(0.0, |out| {
            for (&element, &index) in value.elements::<T>()?.iter().zip(&*list) {
                checkpoint.step(dims.len(), cx)?;
                let index = usize::try_from(index).ok().filter(|&index| index < pooled_len).ok_or_else(wrong_index)?;
                let at = inferred.iter().zip(&pooled_strides).zip(&output_strides);
                let at: usize = at.map(|((&dim, &step), &to)| index / step % dim.max(1) * to).sum();
                out[at] = element;
            }
            Ok(())
        }))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// Adds each column to the block of the image that im2col would copy it from.
fn col2im(node: &Node<'_>) -> Result<OpFn, Error> {
    let window = Window::new(node)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let (image, block) = (sizes(args.get(1)?)?, sizes(args.get(2)?)?);
        let wrong = || {
            Error::invalid_argument(format!(
                "the columns {} do not fit an image of {} with blocks of {}",
                Dims(value.dims()),
                Dims(&image),
                Dims(&block)
            ))
        };
        let &[n, rows, positions] = value.dims() else { return Err(wrong()) };
        let over = window.slides_over(&image, &block)?;
        let size = count(&block)?;
        let outputs = over.iter().map(|slide| slide.output).collect::<Vec<_>>();
        if count(&outputs)? != positions || size == 0 || rows % size != 0 {
            return Err(wrong());
        }
        let channels = rows / size;
        let dims = [&[n, channels], image.as_slice()].concat();
        let plane = count(&image)?;
        let (output_strides, kernel_strides) = (strides(&image), strides(&block));
        let position_strides = strides(&outputs);
        let mut checkpoint = Checkpoint::default();
        let result = with_reals!(value, T => cx.output::<T>(&dims)?.write(0.0, |out| {
            for (row, columns) in value.elements::<T>()?.chunks_exact(positions.max(1)).enumerate() {
                let (tap, image) = (row % size, row / size);
                for (position, element) in columns.iter().enumerate() {
                    checkpoint.step(over.len(), cx)?;
                    let at = over.iter().enumerate().try_fold(0, |at, (axis, slide)| {
                        let output = position / position_strides[axis] % slide.output;
                        let index = slide.source_inside(output, tap / kernel_strides[axis] % block[axis])?;
                        Some(at + index * output_strides[axis])
                    });
                    if let Some(at) = at {
                        out[image * plane + at] += element;
                    }
                }
            }
            Ok(())
        }))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}
