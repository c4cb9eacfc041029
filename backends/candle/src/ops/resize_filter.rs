//! The rare modes of Resize: antialias, tf_crop_and_resize, keep_aspect_ratio_policy and tf_half_pixel_for_nn.
//!
//! Each dimension has a list of sources and weights for every output index, as long as the filter is wide, and is
//! resampled on its own.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::cast::convert;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::resize_coordinates::{Mode, Rounding};
use crate::ops::select::check_budget;
use crate::tensor::budget::Charge;
use crate::tensor::dims::{axis, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Stretch,
    NotLarger,
    NotSmaller,
}

/// The coordinate transformation: which coordinate of the input an output index stands for.
#[derive(Clone, Copy, PartialEq)]
enum Transform {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    /// The region of the input in the input roi, ends inclusive.
    TfCropAndResize,
    /// The center of the output element, without the shift by half an input element.
    TfHalfPixel,
}

pub(super) struct Filter {
    mode: Mode,
    transform: Transform,
    rounding: Rounding,
    policy: Policy,
    antialias: bool,
    cubic: f64,
    exclude_outside: bool,
    extrapolation: f64,
    axes: Option<Vec<i64>>,
}

/// One dimension that is resized.
#[derive(Clone, Copy)]
struct Dimension {
    input: usize,
    output: usize,
    scale: f64,
    /// The start and the end of the region of a crop.
    roi: (f64, f64),
}

const INVALID_POLICY: &str = "attribute keep_aspect_ratio_policy is not one of stretch, not_larger and not_smaller";

/// Builds a Resize with one of these modes; `None` if the node uses none of them.
pub(super) fn build(node: &Node<'_>) -> Result<Option<OpFn>, Error> {
    let Some(filter) = filter(node)? else { return Ok(None) };
    Ok(Some(Box::new(move |mut args, cx| Ok(values![filter.run(&mut args, cx)?]))))
}

/// The filter of a node that uses one of these modes.
pub(super) fn filter(node: &Node<'_>) -> Result<Option<Filter>, Error> {
    if node.opset < 11 {
        return Ok(None);
    }
    let mode = match node.string("mode", "nearest")? {
        "nearest" => Mode::Nearest,
        "linear" => Mode::Linear,
        "cubic" => Mode::Cubic,
        _ => return Ok(None),
    };
    let transform = match node.string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Transform::HalfPixel,
        "half_pixel_symmetric" => Transform::HalfPixelSymmetric,
        "pytorch_half_pixel" => Transform::PytorchHalfPixel,
        "align_corners" => Transform::AlignCorners,
        "asymmetric" => Transform::Asymmetric,
        "tf_crop_and_resize" => Transform::TfCropAndResize,
        "tf_half_pixel_for_nn" if node.opset < 13 => Transform::TfHalfPixel,
        _ => return Ok(None),
    };
    let rounding = Rounding::named(node)?;
    let (mut antialias, mut policy, mut axes) = (false, Policy::Stretch, None);
    if node.opset >= 18 {
        antialias = node.flag("antialias", false)? && mode != Mode::Nearest;
        policy = match node.string("keep_aspect_ratio_policy", "stretch")? {
            "stretch" => Policy::Stretch,
            "not_larger" => Policy::NotLarger,
            "not_smaller" => Policy::NotSmaller,
            _ => return Err(Error::invalid_encoding(INVALID_POLICY)),
        };
        axes = node.ints("axes")?.map(<[i64]>::to_vec);
    }
    let is_simple = !matches!(transform, Transform::TfCropAndResize | Transform::TfHalfPixel);
    if is_simple && !antialias && policy == Policy::Stretch {
        return Ok(None);
    }
    Ok(Some(Filter {
        mode,
        transform,
        rounding,
        policy,
        antialias,
        cubic: f64::from(node.float("cubic_coeff_a", -0.75)?),
        exclude_outside: node.flag("exclude_outside", false)?,
        extrapolation: f64::from(node.float("extrapolation_value", 0.0)?),
        axes,
    }))
}

/// The sources of each output index, with their weights; none for a coordinate outside of the input.
pub(super) struct Sources {
    /// The start of the list of each index, and the end of the last one.
    pub(super) starts: Vec<usize>,
    pub(super) list: Vec<(usize, f64)>,
    pub(super) _charges: [Charge; 2],
}

impl Filter {
    fn run(&self, args: &mut Args, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let value = args.take(0)?;
        let ty = value.ty();
        if ty == ElementType::Bool || ty.is_narrow() {
            return Err(no_type(&value));
        }
        let plan = self.plan(value.dims(), args)?;
        let dims: Vec<usize> = plan.iter().map(|dimension| dimension.output).collect();
        check_budget(&dims, &value, cx)?;
        if plan.iter().any(|dimension| dimension.input == 0 && dimension.output > 0) {
            return Err(Error::invalid_argument("an empty dimension cannot be enlarged"));
        }
        if dims.contains(&0) {
            return convert(cx.output::<f32>(&dims)?.write(0.0, |_| Ok(()))?, ty, cx);
        }
        let mut value = convert(value, ElementType::F64, cx)?;
        for (at, &dimension) in plan.iter().enumerate() {
            if self.changes(dimension) {
                let sources = self.sources(dimension, cx)?;
                value = resample(&value, at, &sources, self.extrapolation, cx)?;
            }
        }
        if !matches!(ty, ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16) {
            // Integers are truncated, with a tolerance for integral results that were rounded down.
            value = crate::ops::broadcast::map_into(value, cx, |x: f64| (x + (1e-9 * x.abs()).copysign(x)).trunc())?;
        }
        convert(value, ty, cx)
    }

    /// Whether the elements of a dimension change.
    fn changes(&self, dimension: Dimension) -> bool {
        let same = dimension.input == dimension.output && dimension.scale == 1.0;
        !same || (self.transform == Transform::TfCropAndResize && dimension.roi != (0.0, 1.0))
    }

    /// What elements get that are outside of the input.
    #[cfg(feature = "candle")]
    pub(super) fn outside(&self) -> f64 {
        self.extrapolation
    }

    /// The dimensions that change, with their sources; `None` if the result or the input has no elements.
    #[cfg(feature = "candle")]
    pub(super) fn all_sources(
        &self,
        dims: &[usize],
        args: &Args,
        cx: &ExecContext<'_>,
    ) -> Result<Option<Vec<(usize, Sources)>>, Error> {
        let plan = self.plan(dims, args)?;
        if plan.iter().any(|dimension| dimension.input == 0 || dimension.output == 0) {
            return Ok(None);
        }
        let changed = plan.into_iter().enumerate().filter(|(_, dimension)| self.changes(*dimension));
        changed.map(|(at, dimension)| Ok((at, self.sources(dimension, cx)?))).collect::<Result<_, _>>().map(Some)
    }

    fn plan(&self, dims: &[usize], args: &Args) -> Result<Vec<Dimension>, Error> {
        let rank = dims.len();
        let axes = match &self.axes {
            Some(list) => list.iter().map(|&one| axis(one, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        let whole = |&dim: &usize| Dimension { input: dim, output: dim, scale: 1.0, roi: (0.0, 1.0) };
        let mut plan: Vec<Dimension> = dims.iter().map(whole).collect();
        let given = |index: usize| args.option(index).filter(|value| !value.is_empty());
        let wrong =
            |len: usize| Error::invalid_argument(format!("there are {len} scales or sizes and {} axes", axes.len()));
        if let Some(sizes) = given(3).map(Value::to_i64s).transpose()? {
            if sizes.len() != axes.len() {
                return Err(wrong(sizes.len()));
            }
            let size = |&size: &i64| {
                usize::try_from(size).map_err(|_| Error::invalid_argument(format!("size {size} is negative")))
            };
            let sizes = sizes.iter().map(size).collect::<Result<Vec<_>, _>>()?;
            let scales = axes.iter().zip(&sizes).map(|(&at, &size)| size as f64 / plan[at].input as f64);
            let common = match self.policy {
                Policy::Stretch => None,
                Policy::NotLarger => Some(scales.fold(f64::INFINITY, f64::min)),
                Policy::NotSmaller => Some(scales.fold(0.0, f64::max)),
            };
            for (&at, &size) in axes.iter().zip(&sizes) {
                let input = plan[at].input;
                let scale = common.unwrap_or(size as f64 / input as f64);
                // Rounded half up. The conversion saturates, and the budget refuses that size.
                let output = common.map_or(size, |scale| (scale * input as f64 + 0.5).floor() as usize);
                plan[at] = Dimension { output, scale, ..plan[at] };
            }
        } else {
            let scales = given(2)
                .ok_or_else(|| Error::invalid_argument("neither scales nor sizes are given"))?
                .elements::<f32>()?;
            if scales.len() != axes.len() {
                return Err(wrong(scales.len()));
            }
            for (&at, &scale) in axes.iter().zip(scales) {
                if !scale.is_finite() || scale <= 0.0 {
                    return Err(Error::invalid_argument(format!("scale {scale:e} is not positive and finite")));
                }
                let output = (plan[at].input as f32 * scale).floor() as usize;
                plan[at] = Dimension { output, scale: f64::from(scale), ..plan[at] };
            }
        }
        if self.transform == Transform::TfCropAndResize {
            let roi = given(1).ok_or_else(|| Error::invalid_argument("input roi is missing"))?;
            if roi.len() != 2 * axes.len() {
                return Err(Error::invalid_argument(format!(
                    "roi has {} numbers for {} axes, which need two each",
                    roi.len(),
                    axes.len()
                )));
            }
            let ends: Vec<f64> = match roi.ty() {
                ElementType::F32 => roi.elements::<f32>()?.iter().map(|&end| f64::from(end)).collect(),
                ElementType::F64 => roi.elements::<f64>()?.to_vec(),
                ElementType::F16 => roi.elements::<half::f16>()?.iter().map(|end| end.to_f64()).collect(),
                _ => return Err(no_type(roi)),
            };
            for (position, &at) in axes.iter().enumerate() {
                plan[at].roi = (ends[position], ends[position + axes.len()]);
            }
        }
        Ok(plan)
    }

    /// The coordinate in the input of an output index; `None` if a crop leaves the input there.
    fn coordinate(&self, index: usize, dimension: Dimension) -> Option<f64> {
        let Dimension { input, output, scale, roi } = dimension;
        let (at, old, new) = (index as f64, input as f64, output as f64);
        let exact = scale * old;
        Some(match self.transform {
            Transform::Asymmetric => at / scale,
            Transform::TfHalfPixel => (at + 0.5) / scale,
            Transform::HalfPixel => (at + 0.5) / scale - 0.5,
            Transform::PytorchHalfPixel if output > 1 => (at + 0.5) / scale - 0.5,
            Transform::AlignCorners if exact > 1.0 => at * (old - 1.0) / (exact - 1.0),
            Transform::PytorchHalfPixel | Transform::AlignCorners => 0.0,
            Transform::HalfPixelSymmetric => old / 2.0 * (1.0 - new / exact) + (at + 0.5) / scale - 0.5,
            Transform::TfCropAndResize => {
                let (start, end) = roi;
                let last = old - 1.0;
                let offset =
                    if new > 1.0 { at * (end - start) * last / (new - 1.0) } else { (end - start) * last / 2.0 };
                return Some(start * last + offset).filter(|coordinate| (0.0..=last).contains(coordinate));
            }
        })
    }

    fn sources(&self, dimension: Dimension, cx: &ExecContext<'_>) -> Result<Sources, Error> {
        // The radius of the filter in elements, which grows with the downscaling.
        let filter_scale = if self.antialias { dimension.scale.min(1.0) } else { 1.0 };
        let radius = match self.mode {
            Mode::Nearest => 1.0,
            Mode::Linear => 1.0 / filter_scale,
            Mode::Cubic => 2.0 / filter_scale,
        };
        let max_taps = (2.0 * radius).ceil() as usize + 2;
        let (mut starts, charge) = cx.list(dimension.output.saturating_add(1))?;
        let (mut list, list_charge) = cx.list(dimension.output.saturating_mul(max_taps))?;
        let highest = dimension.input as i64 - 1;
        let mut checkpoint = Checkpoint::default();
        for index in 0..dimension.output {
            checkpoint.step(max_taps, cx)?;
            starts.push(list.len());
            let Some(center) = self.coordinate(index, dimension) else { continue };
            if self.mode == Mode::Nearest {
                let rounded = match self.rounding {
                    Rounding::PreferFloor => (center - 0.5).ceil(),
                    Rounding::PreferCeil => (center + 0.5).floor(),
                    Rounding::Floor => center.floor(),
                    Rounding::Ceil => center.ceil(),
                };
                list.push(((rounded as i64).clamp(0, highest) as usize, 1.0));
                continue;
            }
            let before = list.len();
            // Elements outside count as the one at the edge, or are excluded. The clamp bounds the loop below.
            let center = center.clamp(-(dimension.input as f64), 2.0 * dimension.input as f64);
            let (first, past) = ((center - radius).floor() as i64, (center + radius).ceil() as i64);
            for at in first..=past {
                let weight = self.weight((at as f64 - center) * filter_scale);
                let outside = !(0..=highest).contains(&at);
                if weight != 0.0 && !(outside && self.exclude_outside) && list.len() - before < max_taps {
                    list.push((at.clamp(0, highest) as usize, weight));
                }
            }
            let sum: f64 = list[before..].iter().map(|(_, weight)| weight).sum();
            list[before..].iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
        starts.push(list.len());
        Ok(Sources { starts, list, _charges: [charge, list_charge] })
    }

    /// The weight of the filter at a distance from its center.
    fn weight(&self, distance: f64) -> f64 {
        let (x, a) = (distance.abs(), self.cubic);
        match self.mode {
            Mode::Cubic if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Mode::Cubic if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Mode::Cubic => 0.0,
            Mode::Linear | Mode::Nearest => (1.0 - x).max(0.0),
        }
    }
}

fn resample(value: &Value, at: usize, sources: &Sources, outside: f64, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (input, output) = (value.dims()[at], sources.starts.len() - 1);
    let mut dims = value.dims().to_vec();
    dims[at] = output;
    let (outer, inner) = (product(&dims[..at]), product(&dims[at + 1..]));
    let (elements, mut checkpoint) = (value.elements::<f64>()?, Checkpoint::default());
    cx.output::<f64>(&dims)?.write(0.0, |out| {
        for block in 0..outer {
            for (index, ends) in sources.starts.windows(2).enumerate() {
                let start = (block * output + index) * inner;
                let out = &mut out[start..start + inner];
                let list = &sources.list[ends[0]..ends[1]];
                if list.is_empty() {
                    checkpoint.set(outside, out, cx)?;
                }
                for &(source, weight) in list {
                    let start = (block * input + source) * inner;
                    let row = &elements[start..start + inner];
                    for (out, row) in out.chunks_mut(PIECE).zip(row.chunks(PIECE)) {
                        checkpoint.step(row.len(), cx)?;
                        out.iter_mut().zip(row).for_each(|(out, x)| *out += weight * x);
                    }
                }
            }
        }
        Ok(())
    })
}
