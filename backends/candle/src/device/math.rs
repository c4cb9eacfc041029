//! Operations on floats of type F32 and F64: elementwise functions, comparisons, products and reductions.
//!
//! Where candle and ONNX differ, ONNX's rule is built from several operations: the maximum and minimum of elements with
//! a NaN are NaN, and candle's devices ignore it.

use crate::device::context::DeviceContext;
use crate::device::tensor::DeviceTensor;
use crate::tensor::dims::{Dims, broadcast as shape, product};
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

/// A function of each element.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unary {
    Abs,
    Ceil,
    Cos,
    Erf,
    Exp,
    Floor,
    Log,
    Neg,
    Reciprocal,
    Sin,
    Sqrt,
    Square,
    Tanh,
}

/// Arithmetic of two elements.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
}

/// A comparison of two elements.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A function of all elements of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Extreme {
    Max,
    Min,
}

impl DeviceContext<'_> {
    /// An error unless the elements are F32 or F64.
    fn require_floats(x: &DeviceTensor) -> Result<(), Error> {
        match x.ty {
            ElementType::F32 | ElementType::F64 => Ok(()),
            ty => Err(Error::unsupported(format!("elements of type {ty:?} are not supported on the device"))),
        }
    }

    /// `f` of each element of a tensor of floats.
    pub(crate) fn unary(&self, f: Unary, x: &DeviceTensor) -> Result<DeviceTensor, Error> {
        Self::require_floats(x)?;
        self.make(x.dims(), x.ty, || match f {
            Unary::Abs => x.tensor.abs(),
            Unary::Ceil => x.tensor.ceil(),
            Unary::Cos => x.tensor.cos(),
            Unary::Erf => x.tensor.erf(),
            Unary::Exp => x.tensor.exp(),
            Unary::Floor => x.tensor.floor(),
            Unary::Log => x.tensor.log(),
            Unary::Neg => x.tensor.neg(),
            Unary::Reciprocal => x.tensor.recip(),
            Unary::Sin => x.tensor.sin(),
            Unary::Sqrt => x.tensor.sqrt(),
            Unary::Square => x.tensor.sqr(),
            Unary::Tanh => x.tensor.tanh(),
        })
    }

    /// `factor` · x + `term`.
    pub(crate) fn affine(&self, x: &DeviceTensor, factor: f64, term: f64) -> Result<DeviceTensor, Error> {
        Self::require_floats(x)?;
        self.make(x.dims(), x.ty, || x.tensor.affine(factor, term))
    }

    /// x to the power of `exponent`.
    pub(crate) fn power(&self, x: &DeviceTensor, exponent: f64) -> Result<DeviceTensor, Error> {
        Self::require_floats(x)?;
        self.make(x.dims(), x.ty, || x.tensor.powf(exponent))
    }

    /// Both tensors in the dimensions that they broadcast to; an error unless they are of one type.
    fn pair(&self, a: &DeviceTensor, b: &DeviceTensor) -> Result<(DeviceTensor, DeviceTensor), Error> {
        if a.ty != b.ty {
            let why = format!("the operands have different types: {:?} and {:?}", a.ty, b.ty);
            return Err(Error::invalid_argument(why));
        }
        let dims = shape(a.dims(), b.dims())?;
        Ok((self.broadcast(a, &dims)?, self.broadcast(b, &dims)?))
    }

    /// `f` of each pair of elements of two tensors of floats.
    pub(crate) fn binary(&self, f: Binary, a: &DeviceTensor, b: &DeviceTensor) -> Result<DeviceTensor, Error> {
        Self::require_floats(a)?;
        let (a, b) = self.pair(a, b)?;
        self.make(a.dims(), a.ty, || match f {
            Binary::Add => &a.tensor + &b.tensor,
            Binary::Sub => &a.tensor - &b.tensor,
            Binary::Mul => &a.tensor * &b.tensor,
            Binary::Div => &a.tensor / &b.tensor,
        })
    }

    pub(crate) fn add(&self, a: &DeviceTensor, b: &DeviceTensor) -> Result<DeviceTensor, Error> {
        self.binary(Binary::Add, a, b)
    }

    pub(crate) fn sub(&self, a: &DeviceTensor, b: &DeviceTensor) -> Result<DeviceTensor, Error> {
        self.binary(Binary::Sub, a, b)
    }

    pub(crate) fn mul(&self, a: &DeviceTensor, b: &DeviceTensor) -> Result<DeviceTensor, Error> {
        self.binary(Binary::Mul, a, b)
    }

    pub(crate) fn div(&self, a: &DeviceTensor, b: &DeviceTensor) -> Result<DeviceTensor, Error> {
        self.binary(Binary::Div, a, b)
    }

    /// Compares each pair of elements of two tensors of one type.
    pub(crate) fn compare(&self, f: Compare, a: &DeviceTensor, b: &DeviceTensor) -> Result<DeviceTensor, Error> {
        let (a, b) = self.pair(a, b)?;
        self.make(a.dims(), ElementType::Bool, || match f {
            Compare::Equal => a.tensor.eq(&b.tensor),
            Compare::NotEqual => a.tensor.ne(&b.tensor),
            Compare::Less => a.tensor.lt(&b.tensor),
            Compare::LessOrEqual => a.tensor.le(&b.tensor),
            Compare::Greater => a.tensor.gt(&b.tensor),
            Compare::GreaterOrEqual => a.tensor.ge(&b.tensor),
        })
    }

    /// Compares each element with a number.
    pub(crate) fn compare_with(&self, f: Compare, x: &DeviceTensor, number: f64) -> Result<DeviceTensor, Error> {
        Self::require_floats(x)?;
        self.compare(f, x, &self.number(number, x.ty)?)
    }

    /// The elements of `a` where the condition holds, and of `b` where it does not.
    pub(crate) fn select(
        &self,
        condition: &DeviceTensor,
        a: &DeviceTensor,
        b: &DeviceTensor,
    ) -> Result<DeviceTensor, Error> {
        if condition.ty != ElementType::Bool {
            return Err(Error::invalid_argument(format!("a condition is {:?}, not Bool", condition.ty)));
        }
        if a.ty != b.ty {
            let why = format!("the operands have different types: {:?} and {:?}", a.ty, b.ty);
            return Err(Error::invalid_argument(why));
        }
        let dims = shape(condition.dims(), &shape(a.dims(), b.dims())?)?;
        let condition = self.broadcast(condition, &dims)?;
        let (a, b) = (self.broadcast(a, &dims)?, self.broadcast(b, &dims)?);
        self.make(&dims, a.ty, || condition.tensor.where_cond(&a.tensor, &b.tensor))
    }

    /// The larger or the smaller of each pair of elements; NaN if either is.
    pub(crate) fn extreme(&self, f: Extreme, a: &DeviceTensor, b: &DeviceTensor) -> Result<DeviceTensor, Error> {
        Self::require_floats(a)?;
        let compare = if f == Extreme::Max { Compare::Greater } else { Compare::Less };
        // A NaN in `b` is kept, because no comparison with it holds. So is `b` of two zeros, as on the host.
        let kept = self.select(&self.compare(compare, a, b)?, a, b)?;
        self.select(&self.compare(Compare::NotEqual, a, a)?, a, &kept)
    }

    /// The products of the matrices in the last two dimensions. The others broadcast.
    #[expect(
        clippy::many_single_char_names,
        reason = "a, b, m, n and k are the usual names of matrices and their sizes"
    )]
    pub(crate) fn matmul(&self, a: &DeviceTensor, b: &DeviceTensor) -> Result<DeviceTensor, Error> {
        Self::require_floats(a)?;
        let (&[ref batch_a @ .., m, k], &[ref batch_b @ .., inner, n]) = (a.dims(), b.dims()) else {
            return Err(Error::invalid_argument("the operands of a product must have two dimensions or more"));
        };
        if inner != k || a.ty != b.ty {
            let (a, b) = (Dims(a.dims()), Dims(b.dims()));
            return Err(Error::invalid_argument(format!("matrices {a} and {b} do not multiply")));
        }
        let batch = shape(batch_a, batch_b)?;
        let dims = [batch.as_slice(), &[m, n]].concat();
        if k == 0 {
            // Not every device takes matrices without elements.
            return self.filled(&dims, 0.0, a.ty);
        }
        if product(batch_b) == 1 {
            // One product of all rows.
            let rows = product(batch_a) * m;
            let (a, b) = (self.reshape(a, &[rows, k])?, self.contiguous(&self.reshape(b, &[k, n])?)?);
            let result = self.make(&[rows, n], a.ty, || a.tensor.matmul(&b.tensor))?;
            return self.reshape(&result, &dims);
        }
        let each = product(&batch);
        let matrices = |x: &DeviceTensor, rows: usize, columns: usize| {
            let x = self.broadcast(x, &[batch.as_slice(), &[rows, columns]].concat())?;
            self.reshape(&x, &[each, rows, columns])
        };
        let (a, b) = (matrices(a, m, k)?, matrices(b, k, n)?);
        let result = self.make(&[each, m, n], a.ty, || a.tensor.matmul(&b.tensor))?;
        self.reshape(&result, &dims)
    }

    /// The tensor with these axes at the end as one axis, and the dimensions before it.
    fn axes_last(&self, x: &DeviceTensor, axes: &[usize]) -> Result<(DeviceTensor, Vec<usize>), Error> {
        let kept: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
        let order: Vec<usize> = kept.iter().chain(axes).copied().collect();
        let dims: Vec<usize> = kept.iter().map(|&axis| x.dims()[axis]).collect();
        let inner: usize = axes.iter().map(|&axis| x.dims()[axis]).product();
        let rows = self.reshape(&self.permute(x, &order)?, &[product(&dims), inner])?;
        Ok((rows, dims))
    }

    /// The dimensions of `x` with 1 for each of `axes`.
    fn kept(x: &DeviceTensor, axes: &[usize]) -> Vec<usize> {
        x.dims().iter().enumerate().map(|(axis, &dim)| if axes.contains(&axis) { 1 } else { dim }).collect()
    }

    /// The sum over `axes`, which stay as dimensions of 1. A sum of no elements is 0.
    pub(crate) fn sum(&self, x: &DeviceTensor, axes: &[usize]) -> Result<DeviceTensor, Error> {
        Self::require_floats(x)?;
        let dims = Self::kept(x, axes);
        if axes.is_empty() {
            return Ok(x.clone());
        }
        if x.is_empty() {
            return self.filled(&dims, 0.0, x.ty);
        }
        let (rows, _) = self.axes_last(x, axes)?;
        let sums = self.make(&[rows.dims()[0], 1], x.ty, || rows.tensor.sum_keepdim(1))?;
        self.reshape(&sums, &dims)
    }

    /// The mean over `axes`, which stay as dimensions of 1. A mean of no elements is NaN.
    pub(crate) fn mean(&self, x: &DeviceTensor, axes: &[usize]) -> Result<DeviceTensor, Error> {
        let inner: usize = axes.iter().map(|&axis| x.dims()[axis]).product();
        let sum = self.sum(x, axes)?;
        self.binary(Binary::Div, &sum, &self.number(inner as f64, x.ty)?)
    }

    /// The largest or the smallest element over `axes`, which stay as dimensions of 1; NaN if any element is.
    pub(crate) fn extreme_of(&self, f: Extreme, x: &DeviceTensor, axes: &[usize]) -> Result<DeviceTensor, Error> {
        Self::require_floats(x)?;
        let dims = Self::kept(x, axes);
        if axes.is_empty() {
            return Ok(x.clone());
        }
        if x.is_empty() {
            let none = if f == Extreme::Max { f64::NEG_INFINITY } else { f64::INFINITY };
            return self.filled(&dims, none, x.ty);
        }
        let (rows, _) = self.axes_last(x, axes)?;
        let found = self.make(&[rows.dims()[0], 1], x.ty, || match f {
            Extreme::Max => rows.tensor.max_keepdim(1),
            Extreme::Min => rows.tensor.min_keepdim(1),
        })?;
        let wrong = self.cast(&self.compare(Compare::NotEqual, &rows, &rows)?, x.ty)?;
        let wrong = self.make(&[rows.dims()[0], 1], x.ty, || wrong.tensor.sum_keepdim(1))?;
        let wrong = self.compare_with(Compare::Greater, &wrong, 0.0)?;
        let found = self.select(&wrong, &self.number(f64::NAN, x.ty)?, &found)?;
        self.reshape(&found, &dims)
    }

    /// The numbers from 0 on along an axis of a tensor of `rank` dimensions, whose others are 1. `ty` is F32 or F64.
    pub(crate) fn places(&self, rank: usize, axis: usize, dim: usize, ty: ElementType) -> Result<DeviceTensor, Error> {
        let mut dims = vec![1; rank];
        dims[axis] = dim;
        let places = self.cx.output::<f64>(&dims)?.collect((0..dim).map(|at| at as f64))?;
        let places = self.upload(&places)?.ok_or_else(|| Error::unsupported("the device has no tensors of F64"))?;
        self.cast(&places, ty)
    }

    /// The first index of an axis at which the condition holds, or the last one, in a float type that holds it. The
    /// axis is not empty, and the condition holds somewhere. candle's own index of the largest element is not always
    /// the first on a GPU.
    pub(crate) fn index_of(&self, condition: &DeviceTensor, axis: usize, last: bool) -> Result<DeviceTensor, Error> {
        let dim = condition.dims()[axis];
        let ty = if dim <= 1 << 24 { ElementType::F32 } else { ElementType::F64 };
        let places = self.places(condition.rank(), axis, dim, ty)?;
        let nowhere = self.number(if last { -1.0 } else { dim as f64 }, ty)?;
        let places = self.select(condition, &places, &nowhere)?;
        self.extreme_of(if last { Extreme::Max } else { Extreme::Min }, &places, &[axis])
    }

    /// The convolution of planes [batch, channels, height, width] by filters [filters, channels / groups, height,
    /// width], without pads, with one stride and one dilation for both dimensions. The caller has checked the sizes.
    pub(crate) fn convolve(
        &self,
        x: &DeviceTensor,
        filters: &DeviceTensor,
        output: &[usize],
        (stride, dilation, groups): (usize, usize, usize),
    ) -> Result<DeviceTensor, Error> {
        Self::require_floats(x)?;
        let (x, filters) = (self.contiguous(x)?, self.contiguous(filters)?);
        // candle builds the matrix of patches: for each output, the elements under the kernel. It also copies the input
        // and the filters, and the results of groups before it joins them.
        let patches = product(&filters.dims()[1..]).saturating_mul(groups).saturating_mul(product(&output[2..]));
        let _patches = self.charge(&[output[0], patches], x.ty)?;
        let _copies = (self.charge(x.dims(), x.ty)?, self.charge(filters.dims(), x.ty)?, self.charge(output, x.ty)?);
        self.make(output, x.ty, || x.tensor.conv2d(&filters.tensor, 0, stride, dilation, groups))
    }

    /// A matrix with its two last dimensions exchanged.
    pub(crate) fn transpose(&self, x: &DeviceTensor) -> Result<DeviceTensor, Error> {
        let mut order: Vec<usize> = (0..x.rank()).collect();
        let rank = order.len();
        if rank < 2 {
            return Err(Error::invalid_argument("a matrix must have two dimensions"));
        }
        order.swap(rank - 2, rank - 1);
        self.permute(x, &order)
    }

    /// The tensors one after the other along a new axis, for operators that compute step by step.
    pub(crate) fn stack(&self, parts: &[DeviceTensor], axis: usize) -> Result<DeviceTensor, Error> {
        let parts = parts.iter().map(|part| {
            let mut dims = part.dims().to_vec();
            if axis > dims.len() {
                return Err(Error::invalid_argument("a new axis is past the last dimension"));
            }
            dims.insert(axis, 1);
            self.reshape(part, &dims)
        });
        self.join(&parts.collect::<Result<Vec<_>, _>>()?, axis)
    }
}
