//! Resize in the ways that most models don't use: with an antialiasing filter, of a part of the input
//! (`tf_crop_and_resize`), within an aspect ratio that is kept, and as TensorFlow 1 chose nearest elements.
//!
//! Each dimension has a list of sources and weights for every output index, however many the filter reaches, and is
//! resampled on its own.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::cast::convert;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::resize_coordinates::{Mode, Rounding};
use crate::ops::select::affordable;
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

/// Which place in the input an output index stands for.
#[derive(Clone, Copy, PartialEq)]
enum Transform {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    /// A part of the input that another input names, its ends inclusive.
    Crop,
    /// The middle of the output's element, without a shift back by half an element.
    TfHalfPixel,
}

struct Filter {
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
    /// The part of the input that a crop takes.
    part: (f64, f64),
}

const WRONG_POLICY: &str = "attribute keep_aspect_ratio_policy is not one of stretch, not_larger and not_smaller";

/// What runs a Resize of one of these ways; none where the node asks for none of them.
pub(super) fn build(node: &Node<'_>) -> Result<Option<OpFn>, Error> {
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
        "tf_crop_and_resize" => Transform::Crop,
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
            _ => return Err(Error::invalid_encoding(WRONG_POLICY)),
        };
        axes = node.ints("axes")?.map(<[i64]>::to_vec);
    }
    let usual = !matches!(transform, Transform::Crop | Transform::TfHalfPixel);
    if usual && !antialias && policy == Policy::Stretch {
        return Ok(None);
    }
    let filter = Filter {
        mode,
        transform,
        rounding,
        policy,
        antialias,
        cubic: f64::from(node.float("cubic_coeff_a", -0.75)?),
        exclude_outside: node.flag("exclude_outside", false)?,
        extrapolation: f64::from(node.float("extrapolation_value", 0.0)?),
        axes,
    };
    Ok(Some(Box::new(move |mut args, cx| Ok(vec![filter.run(&mut args, cx)?]))))
}

/// The sources of each output index, with their weights; none for one that lies outside of the input.
struct Sources {
    /// Where the list of each index begins, and where the last one ends.
    starts: Vec<usize>,
    list: Vec<(usize, f64)>,
    _charges: [Charge; 2],
}

impl Filter {
    fn run(&self, args: &mut Args, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let value = args.take(0)?;
        let ty = value.ty();
        if ty == ElementType::Bool || ty.is_narrow() {
            return Err(no_type(&value));
        }
        let plan = self.plan(&value, args)?;
        let dims: Vec<usize> = plan.iter().map(|dimension| dimension.output).collect();
        affordable(&dims, &value, cx)?;
        if plan.iter().any(|dimension| dimension.input == 0 && dimension.output > 0) {
            return Err(Error::invalid_argument("an empty dimension cannot be enlarged"));
        }
        if dims.contains(&0) {
            return convert(cx.output::<f32>(&dims)?.write(0.0, |_| Ok(()))?, ty, cx);
        }
        let mut value = convert(value, ElementType::F64, cx)?;
        for (at, &dimension) in plan.iter().enumerate() {
            let same = dimension.input == dimension.output && dimension.scale == 1.0;
            if !same || (self.transform == Transform::Crop && dimension.part != (0.0, 1.0)) {
                let sources = self.sources(dimension, cx)?;
                value = resample(&value, at, &sources, self.extrapolation, cx)?;
            }
        }
        if !matches!(ty, ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16) {
            // An integer is what is left without the fraction; what rounding took off a whole number is no fraction.
            value = crate::ops::broadcast::map_into(value, cx, |x: f64| (x + (1e-9 * x.abs()).copysign(x)).trunc())?;
        }
        convert(value, ty, cx)
    }

    fn plan(&self, value: &Value, args: &Args) -> Result<Vec<Dimension>, Error> {
        let rank = value.rank();
        let axes = match &self.axes {
            Some(list) => list.iter().map(|&one| axis(one, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        let whole = |&dim: &usize| Dimension { input: dim, output: dim, scale: 1.0, part: (0.0, 1.0) };
        let mut plan: Vec<Dimension> = value.dims().iter().map(whole).collect();
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
                // Half an element more is one. Out of usize's range, the conversion gives its end, which is refused.
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
        if self.transform == Transform::Crop {
            let part = given(1).ok_or_else(|| Error::invalid_argument("input roi is missing"))?;
            if part.len() != 2 * axes.len() {
                return Err(Error::invalid_argument(format!(
                    "roi has {} numbers for {} axes, which need two each",
                    part.len(),
                    axes.len()
                )));
            }
            let ends: Vec<f64> = match part.ty() {
                ElementType::F32 => part.elements::<f32>()?.iter().map(|&end| f64::from(end)).collect(),
                ElementType::F64 => part.elements::<f64>()?.to_vec(),
                ElementType::F16 => part.elements::<half::f16>()?.iter().map(|end| end.to_f64()).collect(),
                _ => return Err(no_type(part)),
            };
            for (place, &at) in axes.iter().enumerate() {
                plan[at].part = (ends[place], ends[place + axes.len()]);
            }
        }
        Ok(plan)
    }

    /// The place in the input that an output index stands for; none outside of it.
    fn place(&self, index: usize, dimension: Dimension) -> Option<f64> {
        let Dimension { input, output, scale, part } = dimension;
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
            Transform::Crop => {
                let (start, end) = part;
                let last = old - 1.0;
                let along =
                    if new > 1.0 { at * (end - start) * last / (new - 1.0) } else { (end - start) * last / 2.0 };
                return Some(start * last + along).filter(|place| (0.0..=last).contains(place));
            }
        })
    }

    fn sources(&self, dimension: Dimension, cx: &ExecContext<'_>) -> Result<Sources, Error> {
        // Elements that a filter reaches on either side: more of them the more inputs there are to an output.
        let squeeze = if self.antialias { dimension.scale.min(1.0) } else { 1.0 };
        let reach = match self.mode {
            Mode::Nearest => 1.0,
            Mode::Linear => 1.0 / squeeze,
            Mode::Cubic => 2.0 / squeeze,
        };
        let most = (2.0 * reach).ceil() as usize + 2;
        let (mut starts, charge) = cx.list(dimension.output.saturating_add(1))?;
        let (mut list, also) = cx.list(dimension.output.saturating_mul(most))?;
        let highest = dimension.input as i64 - 1;
        let mut checkpoint = Checkpoint::default();
        for index in 0..dimension.output {
            checkpoint.step(most, cx)?;
            starts.push(list.len());
            let Some(middle) = self.place(index, dimension) else { continue };
            if self.mode == Mode::Nearest {
                let rounded = match self.rounding {
                    Rounding::PreferFloor => (middle - 0.5).ceil(),
                    Rounding::PreferCeil => (middle + 0.5).floor(),
                    Rounding::Floor => middle.floor(),
                    Rounding::Ceil => middle.ceil(),
                };
                list.push(((rounded as i64).clamp(0, highest) as usize, 1.0));
                continue;
            }
            let before = list.len();
            // What is past an end counts as the element there, or not at all. No place is further out than the input is
            // long, but for the crop's, which lies inside.
            let middle = middle.clamp(-(dimension.input as f64), 2.0 * dimension.input as f64);
            let (first, past) = ((middle - reach).floor() as i64, (middle + reach).ceil() as i64);
            for at in first..=past {
                let share = self.weight((at as f64 - middle) * squeeze);
                let outside = !(0..=highest).contains(&at);
                if share != 0.0 && !(outside && self.exclude_outside) && list.len() - before < most {
                    list.push((at.clamp(0, highest) as usize, share));
                }
            }
            let sum: f64 = list[before..].iter().map(|(_, weight)| weight).sum();
            list[before..].iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
        starts.push(list.len());
        Ok(Sources { starts, list, _charges: [charge, also] })
    }

    /// The filter at a distance from its middle.
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
