//! A window that slides over padded spatial dimensions, and the sizes of convolutions: parts that convolutions and
//! pools share.

use smallvec::{SmallVec, smallvec};

use crate::ops::node::Node;
use crate::ops::real::Real;
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::Dims;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The largest kernel, stride, dilation or pad: sums and products of a few of them fit in 64 bits.
const LARGEST: i64 = 1 << 24;

/// How the padding is determined.
#[derive(Debug, Clone, PartialEq)]
enum Padding {
    /// The pads before and after each dimension.
    Explicit(Vec<(usize, usize)>),
    /// Pads that make the output the input divided by the stride; an odd one goes to the end or to the beginning.
    Same { odd_at_end: bool },
}

/// Attributes of a sliding window.
#[derive(Debug, Clone)]
pub(super) struct Window {
    kernel: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    padding: Padding,
    ceil: bool,
}

/// One spatial dimension of a window: its sizes, and the pads before and after the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slide {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) before: usize,
    pub(super) after: usize,
}

impl Slide {
    /// A dimension of 1.
    pub(super) const UNIT: Self = Self { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };

    /// The slides of one to three dimensions, filled up in front with dimensions of 1.
    pub(super) fn as_three(slides: &[Self]) -> Result<[Self; 3], Error> {
        match *slides {
            [x] => Ok([Self::UNIT, Self::UNIT, x]),
            [y, x] => Ok([Self::UNIT, y, x]),
            [z, y, x] => Ok([z, y, x]),
            _ => Err(Error::unsupported(format!("{} spatial dimensions: one to three are supported", slides.len()))),
        }
    }

    /// The range of kernel positions over the input at output `index`: first, and one past the last.
    #[inline]
    pub(super) fn kernel_range(&self, index: usize) -> (usize, usize) {
        let start = index * self.stride;
        let first = self.before.saturating_sub(start).div_ceil(self.dilation);
        let end = (self.input + self.before).saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        (first.min(end), end)
    }

    /// The input's index under kernel position `at` at output `index`, which must be inside the input.
    #[inline]
    pub(super) fn source(&self, index: usize, at: usize) -> usize {
        index * self.stride + at * self.dilation - self.before
    }

    /// The input's index under kernel position `at` at output `index`; `None` in the padding.
    #[inline]
    pub(super) fn source_inside(&self, index: usize, at: usize) -> Option<usize> {
        (index * self.stride + at * self.dilation).checked_sub(self.before).filter(|&source| source < self.input)
    }

    /// The number of kernel positions over the input or its pads.
    pub(super) fn padded_kernel_len(&self, index: usize) -> usize {
        let available = self.input + self.before + self.after;
        available.saturating_sub(index * self.stride).div_ceil(self.dilation).min(self.kernel)
    }
}

fn sizes(list: Option<&[i64]>, least: i64, name: &str) -> Result<Option<Vec<usize>>, Error> {
    let Some(list) = list else { return Ok(None) };
    let size = |&size: &i64| {
        if (least..=LARGEST).contains(&size) {
            Ok(size as usize)
        } else {
            Err(Error::invalid_encoding(format!("{name} {size} is not between {least} and {LARGEST}")))
        }
    };
    list.iter().map(size).collect::<Result<_, _>>().map(Some)
}

impl Window {
    /// Reads the attributes of a convolution or pool.
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Error> {
        let pads = sizes(node.ints("pads")?, 0, "pads")?.unwrap_or_default();
        let padding = match node.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => {
                if pads.len() % 2 != 0 {
                    return Err(Error::invalid_encoding(format!(
                        "attribute pads has an odd number of elements, {}",
                        pads.len()
                    )));
                }
                let (before, after) = pads.split_at(pads.len() / 2);
                Padding::Explicit(before.iter().copied().zip(after.iter().copied()).collect())
            }
            "VALID" => Padding::Explicit(Vec::new()),
            "SAME_UPPER" => Padding::Same { odd_at_end: true },
            "SAME_LOWER" => Padding::Same { odd_at_end: false },
            _ => {
                return Err(Error::invalid_encoding(
                    "attribute auto_pad is not one of NOTSET, SAME_UPPER, SAME_LOWER and VALID",
                ));
            }
        };
        Ok(Self {
            kernel: sizes(node.ints("kernel_shape")?, 1, "kernel_shape")?,
            strides: sizes(node.ints("strides")?, 1, "strides")?,
            dilations: sizes(node.ints("dilations")?, 1, "dilations")?,
            padding,
            ceil: false,
        })
    }

    /// Sets whether output sizes are rounded up.
    pub(super) fn ceil(self, ceil: bool) -> Self {
        Self { ceil, ..self }
    }

    /// The size of the window, if the attributes give it.
    pub(super) fn kernel(&self) -> Option<&[usize]> {
        self.kernel.as_deref()
    }

    /// Stride and dilation of one dimension, by default 1.
    pub(super) fn steps(&self, position: usize) -> (usize, usize) {
        let of = |list: &Option<Vec<usize>>| list.as_ref().and_then(|list| list.get(position)).copied().unwrap_or(1);
        (of(&self.strides), of(&self.dilations))
    }

    /// The explicit pads of one dimension; `None` if the sizes determine them.
    pub(super) fn pads(&self, position: usize) -> Option<(usize, usize)> {
        match &self.padding {
            Padding::Explicit(pads) => Some(pads.get(position).copied().unwrap_or((0, 0))),
            Padding::Same { .. } => None,
        }
    }

    /// Whether an odd pad goes to the end, if the sizes determine the pads.
    pub(super) fn odd_at_end(&self) -> bool {
        self.padding == Padding::Same { odd_at_end: true }
    }

    /// Whether the attributes are absent or have `rank` dimensions.
    fn agrees(&self, rank: usize) -> bool {
        let fits = |list: &Option<Vec<usize>>| list.as_ref().is_none_or(|list| list.len() == rank);
        let pads = match &self.padding {
            Padding::Explicit(pads) => pads.is_empty() || pads.len() == rank,
            Padding::Same { .. } => true,
        };
        fits(&self.kernel) && fits(&self.strides) && fits(&self.dilations) && pads
    }

    /// Checks that the attributes and the kernel have `rank` dimensions.
    pub(super) fn check(&self, kernel: &[usize], rank: usize) -> Result<(), Error> {
        let sized = kernel.iter().all(|size| (1..=LARGEST as usize).contains(size));
        if self.agrees(rank) && kernel.len() == rank && sized && self.kernel().is_none_or(|own| own == kernel) {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "the attributes or the kernel {} do not fit {rank} spatial dimensions",
            Dims(kernel)
        )))
    }

    /// The slide of each dimension of a window of size `kernel` over the spatial dimensions `input`.
    pub(super) fn slides_over(&self, input: &[usize], kernel: &[usize]) -> Result<SmallVec<[Slide; 3]>, Error> {
        self.check(kernel, input.len())?;
        let slide = |(position, (&input, &kernel)): (usize, (&usize, &usize))| {
            let (stride, dilation) = self.steps(position);
            let span = (kernel - 1) * dilation + 1;
            let too_small = || {
                Error::invalid_argument(format!("a window of {span} is larger than the input of {input} and its pads"))
            };
            let (output, before, after) = if let Some((before, after)) = self.pads(position) {
                let available = (input + before + after).checked_sub(span).ok_or_else(too_small)?;
                let mut output = if self.ceil { available.div_ceil(stride) } else { available / stride } + 1;
                // A window that begins past the input would cover pads alone.
                if self.ceil && (output - 1) * stride >= input + before {
                    output -= 1;
                }
                (output, before, after)
            } else {
                let output = input.div_ceil(stride);
                let pads = (output.saturating_sub(1) * stride + span).saturating_sub(input);
                let (small, large) = (pads / 2, pads - pads / 2);
                if self.odd_at_end() { (output, small, large) } else { (output, large, small) }
            };
            Ok(Slide { input, output, kernel, stride, dilation, before, after })
        };
        input.iter().zip(kernel).enumerate().map(slide).collect()
    }
}

/// The number of groups that an attribute gives, by default 1.
pub(super) fn groups(node: &Node<'_>, name: &str) -> Result<usize, Error> {
    let groups = usize::try_from(node.int(name)?.unwrap_or(1)).ok().filter(|groups| (1..=1 << 24).contains(groups));
    groups.ok_or_else(|| Error::invalid_encoding(format!("attribute {name} is not between 1 and {}", 1 << 24)))
}

/// The sizes of a convolution, checked against each other.
pub(super) struct ConvShape<'a> {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) filters: usize,
    /// Channels of one group.
    pub(super) depth: usize,
    /// The spatial dimensions of the input.
    pub(super) spatial: &'a [usize],
    /// The spatial dimensions of the weights.
    pub(super) kernel: &'a [usize],
    pub(super) slides: [Slide; 3],
    /// The dimensions of the output.
    pub(super) output: DimVec,
}

impl<'a> ConvShape<'a> {
    /// The convolution of a tensor of dimensions `input` by weights of dimensions `weights`.
    pub(super) fn new(input: &'a [usize], weights: &'a [usize], window: &Window, groups: usize) -> Result<Self, Error> {
        let (batch, channels, spatial) = planes(input)?;
        let (filters, depth, kernel) = planes(weights)?;
        if depth.checked_mul(groups) != Some(channels) || filters % groups != 0 || kernel.len() != spatial.len() {
            let (input, weights) = (Dims(input), Dims(weights));
            let why = format!("the weights {weights} do not fit the input {input} in {groups} groups");
            return Err(Error::invalid_argument(why));
        }
        let slides = window.slides_over(spatial, kernel)?;
        let mut output: DimVec = smallvec![batch, filters];
        output.extend(slides.iter().map(|slide| slide.output));
        Ok(Self { batch, channels, filters, depth, spatial, kernel, slides: Slide::as_three(&slides)?, output })
    }
}

/// Splits dimensions into batch, channels and one to three spatial dimensions.
pub(super) fn planes(dims: &[usize]) -> Result<(usize, usize, &[usize]), Error> {
    match dims {
        [n, c, spatial @ ..] if (1..=3).contains(&spatial.len()) => Ok((*n, *c, spatial)),
        _ => Err(Error::unsupported(format!("{}: one to three spatial dimensions are supported", Dims(dims)))),
    }
}

/// Refuses constant weights without one to three spatial dimensions, at load.
pub(super) fn check_weights_rank(node: &Node<'_>) -> Result<(), Error> {
    node.constant(1).map_or(Ok(()), |weights| planes(weights.dims()).map(drop))
}

/// The elements of a bias, one for each filter.
pub(super) fn biases<T: Real>(bias: Option<&Value>, filters: usize) -> Result<Option<&[T]>, Error> {
    let Some(bias) = bias else { return Ok(None) };
    let elements = bias.elements::<T>()?;
    if elements.len() != filters {
        return Err(Error::invalid_argument(format!(
            "the bias has {} elements, and there are {filters} filters",
            elements.len()
        )));
    }
    Ok(Some(elements))
}
