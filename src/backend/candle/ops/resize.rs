//! Resize and Upsample: nearest, linear and cubic.
//!
//! The interpolations are separable: each dimension that changes has a list of sources and weights for every output
//! index, and is resampled on its own.

use super::super::meter::{Cx, PIECE, Pace};
use super::super::node::{Args, Node};
use super::super::value::{ElementType, Value, strides};
use super::cast::convert;
use super::select::{affordable, offsets, select};
use super::{Kernel, Operator, axis, between, no_type, product, since};
use crate::nn::Error;

pub(super) const OPERATORS: &[Operator] = &[
    between(7, 8, "Upsample", (1, 1), resize),
    between(9, 9, "Upsample", (2, 2), resize),
    between(10, 10, "Resize", (2, 2), resize),
    since(11, "Resize", (1, 4), resize),
];

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// Which place in the input an output index stands for.
#[derive(Clone, Copy, PartialEq)]
enum Transform {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

#[derive(Clone, Copy, PartialEq)]
enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

#[derive(Clone)]
struct Resize {
    mode: Mode,
    transform: Transform,
    rounding: Rounding,
    cubic: f32,
    exclude_outside: bool,
    axes: Option<Vec<i64>>,
    scales: Option<Vec<f32>>,
    /// Which inputs hold the scales and the sizes.
    inputs: (usize, usize),
}

fn resize(node: &Node<'_>) -> Result<Kernel, Error> {
    let mode = match node.string("mode", "nearest")? {
        "nearest" => Mode::Nearest,
        // "bilinear" is what opset 7 called it.
        "linear" | "bilinear" => Mode::Linear,
        "cubic" if node.opset >= 11 => Mode::Cubic,
        _ => return Err(Error::unsupported("this mode")),
    };
    let mut resize = Resize {
        mode,
        transform: Transform::Asymmetric,
        rounding: Rounding::Floor,
        cubic: -0.75,
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
            _ => return Err(Error::unsupported("this coordinate_transformation_mode")),
        };
        resize.rounding = match node.string("nearest_mode", "round_prefer_floor")? {
            "round_prefer_floor" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            _ => return Err(Error::invalid_encoding("a nearest_mode that is none of the four")),
        };
        resize.cubic = node.float("cubic_coeff_a", -0.75)?;
        resize.exclude_outside = node.flag("exclude_outside", false)?;
        // Only a transform that is refused reads it.
        node.ignore(&["extrapolation_value"]);
    }
    if node.opset >= 18 {
        resize.axes = node.ints("axes")?.map(<[i64]>::to_vec);
        let antialias = node.flag("antialias", false)?;
        if antialias || node.string("keep_aspect_ratio_policy", "stretch")? != "stretch" {
            return Err(Error::unsupported("antialias and keep_aspect_ratio_policy"));
        }
    }
    Ok(Box::new(move |mut args, cx| Ok(vec![resize.run(&mut args, cx)?])))
}

impl Resize {
    fn run(&self, args: &mut Args, cx: &Cx<'_>) -> Result<Value, Error> {
        let value = args.take(0)?;
        let rank = value.rank();
        let axes = match &self.axes {
            Some(list) => list.iter().map(|&one| axis(one, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        // Input size, output size and scale of each dimension.
        let mut plan: Vec<(usize, usize, f32)> = value.dims().iter().map(|&dim| (dim, dim, 1.0)).collect();
        let given = |index: usize| args.option(index).filter(|value| !value.is_empty());
        let sizes = given(self.inputs.1).map(Value::to_i64s).transpose()?;
        let scales = match (&self.scales, given(self.inputs.0)) {
            (Some(scales), _) => Some(scales.clone()),
            (None, Some(scales)) => Some(scales.elements::<f32>()?.iter().copied().take(rank + 1).collect()),
            (None, None) => None,
        };
        let wrong = |len: usize| Error::invalid_argument(format!("{len} scales or sizes of {} axes", axes.len()));
        if let Some(sizes) = sizes {
            if sizes.len() != axes.len() {
                return Err(wrong(sizes.len()));
            }
            for (&at, &size) in axes.iter().zip(&sizes) {
                let output = usize::try_from(size);
                let output = output.map_err(|_| Error::invalid_argument(format!("a size of {size}")))?;
                let input = plan[at].0;
                plan[at] = (input, output, output as f32 / input as f32);
            }
        } else {
            let scales = scales.ok_or_else(|| Error::invalid_argument("neither scales nor sizes"))?;
            if scales.len() != axes.len() {
                return Err(wrong(scales.len()));
            }
            for (&at, &scale) in axes.iter().zip(&scales) {
                if !scale.is_finite() || scale <= 0.0 {
                    return Err(Error::invalid_argument(format!("a scale of {scale:e}")));
                }
                let input = plan[at].0;
                // Past usize's range, the conversion gives its end, which the budget refuses.
                plan[at] = (input, (input as f32 * scale).floor() as usize, scale);
            }
        }
        let dims: Vec<usize> = plan.iter().map(|&(_, output, _)| output).collect();
        affordable(&dims, &value, cx)?;
        if plan.iter().any(|&(input, output, _)| input == 0 && output > 0) {
            return Err(Error::invalid_argument("nothing to resize"));
        }
        if self.mode == Mode::Nearest {
            let lists = plan.iter().zip(strides(value.dims()));
            let lists = lists.map(|(&(input, output, scale), stride)| {
                let indices = (0..output).map(|index| self.nearest(index, input, output, scale));
                offsets(indices, stride, cx)
            });
            return select(&value, &lists.collect::<Result<Vec<_>, _>>()?, cx);
        }
        let ty = value.ty();
        if !matches!(ty, ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16) {
            return Err(no_type(&value));
        }
        let mut value = convert(value, ElementType::F32, cx)?;
        for (at, &(input, output, scale)) in plan.iter().enumerate() {
            if input != output || (scale - 1.0).abs() > 0.0 {
                value = self.resample(&value, at, output, scale, cx)?;
            }
        }
        convert(value, ty, cx)
    }

    /// The place in the input that an output index stands for.
    fn place(&self, index: usize, input: usize, output: usize, scale: f32) -> f32 {
        let (at, old, new) = (index as f32, input as f32, output as f32);
        // What the output's size would be were it no whole number.
        let exact = scale * old;
        match self.transform {
            Transform::Asymmetric => at / scale,
            Transform::HalfPixel => (at + 0.5) / scale - 0.5,
            Transform::PytorchHalfPixel if output > 1 => (at + 0.5) / scale - 0.5,
            Transform::AlignCorners if exact > 1.0 => at * (old - 1.0) / (exact - 1.0),
            Transform::PytorchHalfPixel | Transform::AlignCorners => 0.0,
            Transform::HalfPixelSymmetric => {
                let adjustment = new / exact;
                let center = old / 2.0;
                center * (1.0 - adjustment) + (at + 0.5) / scale - 0.5
            }
        }
    }

    fn nearest(&self, index: usize, input: usize, output: usize, scale: f32) -> usize {
        let place = self.place(index, input, output, scale);
        let rounded = match self.rounding {
            Rounding::PreferFloor => (place - 0.5).ceil(),
            Rounding::PreferCeil => (place + 0.5).floor(),
            Rounding::Floor => place.floor(),
            Rounding::Ceil => place.ceil(),
        };
        // A conversion from below zero gives zero.
        (rounded as usize).min(input - 1)
    }

    /// Sources and weights of one output index.
    fn weights(&self, index: usize, input: usize, output: usize, scale: f32) -> [(usize, f32); 4] {
        let place = self.place(index, input, output, scale);
        let last = input as i64 - 1;
        let inside = |at: i64| at.clamp(0, last) as usize;
        if self.mode == Mode::Linear {
            let place = place.clamp(0.0, last as f32);
            let first = place.floor();
            let part = place - first;
            let first = first as i64;
            return [(inside(first), 1.0 - part), (inside(first + 1), part), (0, 0.0), (0, 0.0)];
        }
        let first = place.floor();
        let part = place - first;
        let a = self.cubic;
        let near = |x: f32| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
        let far = |x: f32| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
        let mut weights = [far(1.0 + part), near(part), near(1.0 - part), far(2.0 - part)];
        let first = first as i64;
        if self.exclude_outside {
            for (weight, at) in weights.iter_mut().zip(first - 1..) {
                if !(0..=last).contains(&at) {
                    *weight = 0.0;
                }
            }
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        let [w0, w1, w2, w3] = weights;
        [(inside(first - 1), w0), (inside(first), w1), (inside(first + 1), w2), (inside(first + 2), w3)]
    }

    fn resample(&self, value: &Value, at: usize, output: usize, scale: f32, cx: &Cx<'_>) -> Result<Value, Error> {
        let input = value.dims()[at];
        let mut dims = value.dims().to_vec();
        dims[at] = output;
        let (outer, inner) = (product(&dims[..at]), product(&dims[at + 1..]));
        let (elements, mut pace) = (value.elements::<f32>()?, Pace::default());
        cx.output::<f32>(&dims)?.write(0.0, |out| {
            for block in 0..outer {
                for index in 0..output {
                    let start = (block * output + index) * inner;
                    let out = &mut out[start..start + inner];
                    for (source, weight) in self.weights(index, input, output, scale) {
                        pace.step(1, cx)?;
                        if weight != 0.0 {
                            let start = (block * input + source) * inner;
                            let row = &elements[start..start + inner];
                            for (out, row) in out.chunks_mut(PIECE).zip(row.chunks(PIECE)) {
                                pace.step(row.len(), cx)?;
                                out.iter_mut().zip(row).for_each(|(out, x)| *out += weight * x);
                            }
                        }
                    }
                }
            }
            Ok(())
        })
    }
}
