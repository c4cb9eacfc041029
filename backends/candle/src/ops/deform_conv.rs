//! DeformConv over two dimensions: a convolution whose kernel positions are shifted by offsets, with bilinear
//! interpolation.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::elementwise::Number;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::ops::window::{Slide, Window, check_weights_rank, groups};
use crate::tensor::dims::{Dims, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, Values, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(19, "DeformConv", (3, 5), convolution).heavy()];

fn convolution(node: &Node<'_>) -> Result<OpFn, Error> {
    let window = Window::new(node)?;
    check_weights_rank(node)?;
    let (channel_groups, offset_groups) = (groups(node, "group")?, groups(node, "offset_group")?);
    Ok(Box::new(move |args, cx| run(args, &window, channel_groups, offset_groups, cx)))
}

/// The inputs of one call and their sizes.
struct Convolution<'a, T> {
    elements: &'a [T],
    weights: &'a [T],
    offsets: &'a [T],
    mask: Option<&'a [T]>,
    bias: Option<&'a [T]>,
    batch: usize,
    channels: usize,
    filters: usize,
    /// Groups of filters, and groups of channels that share offsets.
    groups: usize,
    offset_groups: usize,
    slides: [Slide; 2],
}

fn run(
    mut args: Args,
    window: &Window,
    groups: usize,
    offset_groups: usize,
    cx: &ExecContext<'_>,
) -> Result<Values, Error> {
    let value = args.take(0)?;
    let ty = value.ty();
    let compute_ty = match ty {
        ElementType::F64 => ElementType::F64,
        ElementType::F32 | ElementType::F16 | ElementType::Bf16 => ElementType::F32,
        _ => return Err(no_type(&value)),
    };
    let mut inputs = vec![Some(convert(value, compute_ty, cx)?)];
    for index in 1..5 {
        let input = args.take(index).ok();
        if input.as_ref().is_some_and(|input| input.ty() != ty) {
            return Err(Error::invalid_argument(format!("the inputs have different types: the first is {ty:?}")));
        }
        inputs.push(input.map(|input| convert(input, compute_ty, cx)).transpose()?);
    }
    let result = if compute_ty == ElementType::F64 {
        compute::<f64>(&inputs, window, groups, offset_groups, cx)?
    } else {
        compute::<f32>(&inputs, window, groups, offset_groups, cx)?
    };
    Ok(values![convert(result, ty, cx)?])
}

fn compute<T: Number>(
    inputs: &[Option<Value>],
    window: &Window,
    groups: usize,
    offset_groups: usize,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let [Some(value), Some(weights), Some(offsets), bias, mask] = inputs else {
        return Err(Error::invalid_argument("X, W or offset is missing"));
    };
    let wrong = || {
        let why = format!(
            "the input {}, the weights {} and the offsets {}",
            Dims(value.dims()),
            Dims(weights.dims()),
            Dims(offsets.dims())
        );
        Error::invalid_argument(format!("{why} do not fit {groups} groups and {offset_groups} offset groups"))
    };
    let (&[batch, channels, ref spatial @ ..], &[filters, depth, ref kernel @ ..]) = (value.dims(), weights.dims())
    else {
        return Err(wrong());
    };
    if spatial.len() != 2 || kernel.len() != 2 {
        return Err(Error::unsupported("only two spatial dimensions are supported"));
    }
    let slides: [Slide; 2] = window.slides_over(spatial, kernel)?.as_slice().try_into().map_err(|_| wrong())?;
    let [rows, columns] = slides.map(|slide| slide.output);
    let taps = product(kernel);
    let plane_dims = |each: usize| {
        taps.checked_mul(offset_groups).and_then(|all| all.checked_mul(each)).map(|all| [batch, all, rows, columns])
    };
    let divisible =
        channels % offset_groups == 0 && filters % groups == 0 && depth.checked_mul(groups) == Some(channels);
    let mask_fits = mask.as_ref().is_none_or(|mask| plane_dims(1).is_some_and(|expected| mask.dims() == expected));
    let bias_fits = bias.as_ref().is_none_or(|bias| bias.dims() == [filters]);
    if !divisible || !mask_fits || !bias_fits || plane_dims(2).is_none_or(|expected| offsets.dims() != expected) {
        return Err(wrong());
    }
    let convolution = Convolution {
        elements: value.elements()?,
        weights: weights.elements()?,
        offsets: offsets.elements()?,
        mask: mask.as_ref().map(Value::elements::<T>).transpose()?,
        bias: bias.as_ref().map(Value::elements::<T>).transpose()?,
        batch,
        channels,
        filters,
        groups,
        offset_groups,
        slides,
    };
    cx.output::<T>(&[batch, filters, rows, columns])?.write(T::default(), |out| convolution.run(out, cx))
}

impl<T: Number> Convolution<'_, T> {
    fn run(&self, out: &mut [T], cx: &ExecContext<'_>) -> Result<(), Error> {
        let [rows, columns] = self.slides;
        let taps = rows.kernel * columns.kernel;
        let (depth, each) = (self.channels / self.groups, self.filters / self.groups);
        // The patches of one row of outputs: channel × tap × column.
        let width = columns.output;
        let (mut patch, _charge) =
            cx.filled(T::default(), crate::tensor::dims::count(&[self.channels, taps, width])?)?;
        let mut checkpoint = Checkpoint::default();
        for batch in 0..self.batch {
            for row in 0..rows.output {
                self.fill(&mut patch, batch, row, &mut checkpoint, cx)?;
                for filter in 0..self.filters {
                    let start = ((batch * self.filters + filter) * rows.output + row) * width;
                    let out = &mut out[start..start + width];
                    checkpoint.set(self.bias.map_or(T::default(), |bias| bias[filter]), out, cx)?;
                    let weights = &self.weights[filter * depth * taps..(filter + 1) * depth * taps];
                    let patch = &patch[filter / each * depth * taps * width..];
                    for (&weight, line) in weights.iter().zip(patch.chunks_exact(width)) {
                        checkpoint.step(width, cx)?;
                        out.iter_mut().zip(line).for_each(|(out, &x)| *out = out.plus(weight.times(x)));
                    }
                }
            }
        }
        Ok(())
    }

    fn fill(
        &self,
        patch: &mut [T],
        batch: usize,
        row: usize,
        checkpoint: &mut Checkpoint,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let [rows, columns] = self.slides;
        let (taps, width) = (rows.kernel * columns.kernel, columns.output);
        let (plane, shared) = (rows.input * columns.input, self.channels / self.offset_groups);
        for (index, line) in patch.chunks_exact_mut(width).enumerate() {
            checkpoint.step(8 * width, cx)?;
            let (channel, tap) = (index / taps, index % taps);
            let plane = &self.elements[(batch * self.channels + channel) * plane..][..plane];
            // Each tap of a group has two planes of offsets, y and x, and one plane of the mask.
            let at = (batch * self.offset_groups + channel / shared) * taps + tap;
            let of = |list: &'_ [T], plane: usize, column: usize| list[(plane * rows.output + row) * width + column];
            let (kernel_row, kernel_column) = (tap / columns.kernel, tap % columns.kernel);
            let base = |slide: Slide, index: usize, tap: usize| {
                (index * slide.stride + tap * slide.dilation) as f64 - slide.before as f64
            };
            let y = base(rows, row, kernel_row);
            for (column, out) in line.iter_mut().enumerate() {
                let y = y + of(self.offsets, 2 * at, column).to_f64();
                let x = base(columns, column, kernel_column) + of(self.offsets, 2 * at + 1, column).to_f64();
                let sample = interpolated(plane, [rows.input, columns.input], y, x);
                *out = self.mask.map_or(sample, |mask| sample.times(of(mask, at, column)));
            }
        }
        Ok(())
    }
}

/// The bilinear interpolation of a plane at (y, x); 0 outside and for NaN.
fn interpolated<T: Number>(plane: &[T], [rows, columns]: [usize; 2], y: f64, x: f64) -> T {
    if !(y > -1.0 && x > -1.0 && y < rows as f64 && x < columns as f64) {
        return T::default();
    }
    let (top, left) = (y.floor(), x.floor());
    let (fraction_y, fraction_x) = (y - top, x - left);
    let mut sum = T::default();
    for (row, weight_y) in [(top as i64, 1.0 - fraction_y), (top as i64 + 1, fraction_y)] {
        for (column, weight_x) in [(left as i64, 1.0 - fraction_x), (left as i64 + 1, fraction_x)] {
            if (0..rows as i64).contains(&row) && (0..columns as i64).contains(&column) {
                let element = plane[row as usize * columns + column as usize];
                sum = sum.plus(T::from_f64(weight_y * weight_x).times(element));
            }
        }
    }
    sum
}
