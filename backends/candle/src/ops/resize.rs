//! Resize and Upsample: nearest, linear and cubic.
//!
//! The interpolations are separable: each dimension that changes has a list of sources and weights for every output
//! index, and is resampled on its own.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::real::{Real, promote, with_reals};
use crate::ops::resize_coordinates::{Axis, Mode, Rounding, Transform, cubic_weights};
use crate::ops::resize_filter;
use crate::ops::resize_rows::resample;
use crate::ops::select::{check_budget, offsets, select};
use crate::tensor::dims::{axis, strides};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::{MAX_RANK, Value};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(7, "Upsample", (1, 1), resize).until(8).device(form!(on_device)),
    since(9, "Upsample", (2, 2), resize).until(9).device(form!(on_device)),
    since(10, "Resize", (2, 2), resize).until(10).heavy().channels_last(resize_last).device(form!(on_device)),
    since(11, "Resize", (1, 4), resize).heavy().channels_last(resize_last).device(form!(on_device)),
];

/// The nearest elements are moved; the others are sums of weighted sources.
#[cfg(feature = "candle")]
fn on_device(node: &Node<'_>) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    use crate::ops::device::{moving, resize};
    if let Some(filter) = resize_filter::filter(node)? {
        let outside = filter.outside();
        return resize::resize(Box::new(move |dims, args, cx| filter.all_sources(dims, args, cx)), outside);
    }
    let settings = Resize::new(node)?;
    if settings.mode == Mode::Nearest {
        return moving::moving(node, resize, &[0]);
    }
    resize::resize(Box::new(move |dims, args, cx| settings.all_sources(dims, args, cx)), 0.0)
}

#[derive(Clone)]
struct Resize {
    mode: Mode,
    transform: Transform,
    rounding: Rounding,
    /// Whether coordinates are rounded up where a dimension shrinks, as at opset 10.
    ceil: bool,
    cubic_coefficient: f32,
    exclude_outside: bool,
    axes: Option<Vec<i64>>,
    scales: Option<Vec<f32>>,
    /// The indices of the inputs scales and sizes.
    inputs: (usize, usize),
}

fn resize(node: &Node<'_>) -> Result<OpFn, Error> {
    if let Some(kernel) = resize_filter::build(node)? {
        return Ok(kernel);
    }
    let resize = Resize::new(node)?;
    Ok(Box::new(move |mut args, cx| Ok(values![resize.run(&mut args, cx)?])))
}

/// Resize of values whose channels are the last dimension: the same with its scales and sizes in that order.
fn resize_last(node: &Node<'_>) -> Option<OpFn> {
    // Regions of interest, of which each dimension has two numbers, are not moved.
    let region = node.string("coordinate_transformation_mode", "").ok()? == "tf_crop_and_resize";
    if region || node.ints("axes").ok()?.is_some() {
        return None;
    }
    let kernel = resize(node).ok()?;
    Some(Box::new(move |mut args, cx| {
        let mut moved = vec![Some(args.take(0)?)];
        for index in 1..args.len() {
            moved.push(args.take(index).ok().map(channel_moved).transpose()?);
        }
        kernel(Args::new(moved), cx)
    }))
}

/// A list with an element for each dimension, of which the second is moved to the end.
fn channel_moved(list: Value) -> Result<Value, Error> {
    fn moved<T: Element>(list: &Value) -> Result<Value, Error> {
        let mut elements = list.elements::<T>()?.to_vec();
        elements[1..].rotate_left(1);
        Value::new(list.dims().to_vec(), elements)
    }
    match list.ty() {
        _ if list.len() < 3 || list.len() > MAX_RANK => Ok(list),
        ElementType::F32 => moved::<f32>(&list),
        ElementType::I64 => moved::<i64>(&list),
        _ => Ok(list),
    }
}

impl Resize {
    fn new(node: &Node<'_>) -> Result<Self, Error> {
        let mode = match node.string("mode", "nearest")? {
            "nearest" => Mode::Nearest,
            // "bilinear" is what opset 7 called it.
            "linear" | "bilinear" => Mode::Linear,
            "cubic" if node.opset >= 11 => Mode::Cubic,
            _ => return Err(Error::unsupported("attribute mode is not one of nearest, linear and cubic")),
        };
        let mut resize = Self {
            mode,
            transform: Transform::Asymmetric,
            rounding: Rounding::Floor,
            ceil: node.opset == 10,
            cubic_coefficient: -0.75,
            exclude_outside: false,
            axes: None,
            scales: None,
            inputs: (1, usize::MAX),
        };
        if node.opset < 9 {
            resize.scales = node.floats("scales")?.map(<[f32]>::to_vec);
        }
        if node.opset >= 11 {
            resize.inputs = (2, 3);
            resize.transform = match node.string("coordinate_transformation_mode", "half_pixel")? {
                "half_pixel" => Transform::HalfPixel,
                "half_pixel_symmetric" => Transform::HalfPixelSymmetric,
                "pytorch_half_pixel" => Transform::PytorchHalfPixel,
                "align_corners" => Transform::AlignCorners,
                "asymmetric" => Transform::Asymmetric,
                _ => return Err(Error::unsupported("this coordinate_transformation_mode is not supported")),
            };
            resize.rounding = Rounding::named(node)?;
            resize.cubic_coefficient = node.float("cubic_coeff_a", -0.75)?;
            resize.exclude_outside = node.flag("exclude_outside", false)?;
            // It belongs to tf_crop_and_resize, which `resize_filter` computes.
            node.ignore(&["extrapolation_value"]);
        }
        if node.opset >= 18 {
            resize.axes = node.ints("axes")?.map(<[i64]>::to_vec);
            let antialias = node.flag("antialias", false)?;
            if antialias || node.string("keep_aspect_ratio_policy", "stretch")? != "stretch" {
                return Err(Error::unsupported("antialias and keep_aspect_ratio_policy are not supported"));
            }
        }
        Ok(resize)
    }

    fn run(&self, args: &mut Args, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let value = args.take(0)?;
        let plan = self.plan(value.dims(), args)?;
        let dims: Vec<usize> = plan.iter().map(|axis| axis.output).collect();
        check_budget(&dims, &value, cx)?;
        if plan.iter().any(|axis| axis.input == 0 && axis.output > 0) {
            return Err(Error::invalid_argument("an empty dimension cannot be enlarged"));
        }
        if self.mode == Mode::Nearest {
            let lists = plan.iter().zip(strides(value.dims()));
            let lists = lists.map(|(&axis, stride)| {
                // Opset 10 does not define the rounding. Its test and onnxruntime round up where a dimension shrinks.
                let rounding = if self.ceil && axis.output < axis.input { Rounding::Ceil } else { self.rounding };
                let nearest = |index: usize| axis.coordinate(index, self.transform).nearest(rounding, axis.input);
                offsets((0..axis.output).map(nearest), stride, cx)
            });
            return select(&value, &lists.collect::<Result<Vec<_>, _>>()?, cx);
        }
        let (mut value, ty) = promote(value, cx)?;
        let mut changed: Vec<(usize, Axis)> =
            plan.into_iter().enumerate().filter(|(_, axis)| !axis.is_same()).collect();
        // The last dimension takes longest for an element. So it comes last where the others make fewer elements of
        // the value, and first where they make more.
        if changed.iter().all(|(_, axis)| axis.output >= axis.input) {
            changed.reverse();
        }
        for (at, axis) in changed {
            value = with_reals!(value, T => self.resample::<T>(&value, at, axis, cx))?;
        }
        convert(value, ty, cx)
    }

    /// What each dimension of an input becomes.
    fn plan(&self, dims: &[usize], args: &Args) -> Result<Vec<Axis>, Error> {
        let rank = dims.len();
        let axes = match &self.axes {
            Some(list) => list.iter().map(|&one| axis(one, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        let mut plan: Vec<Axis> = dims.iter().map(|&dim| Axis::of_sizes(dim, dim)).collect();
        let given = |index: usize| args.option(index).filter(|value| !value.is_empty());
        let sizes = given(self.inputs.1).map(Value::to_i64s).transpose()?;
        let scales = match (&self.scales, given(self.inputs.0)) {
            (Some(scales), _) => Some(scales.clone()),
            (None, Some(scales)) => Some(scales.elements::<f32>()?.iter().copied().take(rank + 1).collect()),
            (None, None) => None,
        };
        let wrong =
            |len: usize| Error::invalid_argument(format!("there are {len} scales or sizes and {} axes", axes.len()));
        if let Some(sizes) = sizes {
            if sizes.len() != axes.len() {
                return Err(wrong(sizes.len()));
            }
            for (&at, &size) in axes.iter().zip(&sizes) {
                let output = usize::try_from(size);
                let output = output.map_err(|_| Error::invalid_argument(format!("size {size} is negative")))?;
                plan[at] = Axis::of_sizes(plan[at].input, output);
            }
        } else {
            let scales = scales.ok_or_else(|| Error::invalid_argument("neither scales nor sizes are given"))?;
            if scales.len() != axes.len() {
                return Err(wrong(scales.len()));
            }
            for (&at, &scale) in axes.iter().zip(&scales) {
                if !scale.is_finite() || scale <= 0.0 {
                    return Err(Error::invalid_argument(format!("scale {scale:e} is not positive and finite")));
                }
                plan[at] = Axis::of_scale(plan[at].input, scale);
            }
        }
        Ok(plan)
    }

    /// The dimensions that change, with their sources; `None` if the result or the input has no elements.
    #[cfg(feature = "candle")]
    fn all_sources(
        &self,
        dims: &[usize],
        args: &Args,
        cx: &ExecContext<'_>,
    ) -> Result<Option<Vec<(usize, resize_filter::Sources)>>, Error> {
        let plan = self.plan(dims, args)?;
        if plan.iter().any(|axis| axis.input == 0 || axis.output == 0) {
            return Ok(None);
        }
        let mut checkpoint = Checkpoint::default();
        let mut sources = |axis: Axis| -> Result<resize_filter::Sources, Error> {
            let (mut starts, charge) = cx.list(axis.output.saturating_add(1))?;
            let (mut list, list_charge) = cx.list(axis.output.saturating_mul(4))?;
            starts.push(0);
            for index in 0..axis.output {
                checkpoint.step(16, cx)?;
                list.extend(self.weights::<f64>(index, axis).into_iter().filter(|&(_, weight)| weight != 0.0));
                starts.push(list.len());
            }
            Ok(resize_filter::Sources { starts, list, _charges: [charge, list_charge] })
        };
        let changed = plan.into_iter().enumerate().filter(|(_, axis)| !axis.is_same());
        changed.map(|(at, axis)| Ok((at, sources(axis)?))).collect::<Result<_, _>>().map(Some)
    }

    /// Sources and weights of one output index.
    fn weights<T: Real>(&self, index: usize, axis: Axis) -> [(usize, T); 4] {
        let coordinate = axis.coordinate(index, self.transform);
        let (first, part) = (coordinate.floor(), coordinate.part());
        let last = axis.input as i128 - 1;
        let inside = |at: i128| at.clamp(0, last) as usize;
        let weight = T::from_f64;
        if self.mode == Mode::Linear {
            // A coordinate outside takes the element at the edge.
            let (first, part) = if (0..last).contains(&first) { (first, part) } else { (first.clamp(0, last), 0.0) };
            let unused = (0, T::default());
            return [(inside(first), weight(1.0 - part)), (inside(first + 1), weight(part)), unused, unused];
        }
        let mut weights = cubic_weights(part, f64::from(self.cubic_coefficient));
        if self.exclude_outside {
            for (weight, at) in weights.iter_mut().zip(first - 1..) {
                if !(0..=last).contains(&at) {
                    *weight = 0.0;
                }
            }
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        let [w0, w1, w2, w3] = weights.map(weight);
        [(inside(first - 1), w0), (inside(first), w1), (inside(first + 1), w2), (inside(first + 2), w3)]
    }

    fn resample<T: Real>(&self, value: &Value, at: usize, axis: Axis, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let mut checkpoint = Checkpoint::default();
        let (mut taps, _charge) = cx.list::<[(usize, T); 4]>(axis.output)?;
        for index in 0..axis.output {
            checkpoint.step(16, cx)?;
            taps.push(self.weights(index, axis));
        }
        resample(value, at, &taps, cx)
    }
}
