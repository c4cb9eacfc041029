//! Matrix products: MatMul and Gemm, and the product that transposed convolutions and recurrences are made of.
//!
//! By constant weights a product is `weighted`'s, where it can be. Others of floats are the `gemm` crate's, but for
//! small ones of f32, which are `kernel`'s; those of integers are plain loops.

use crate::compute::context::{Cx, PIECE, Pace};
use crate::math::gemm::{Factor, Matrix};
use crate::math::{gemm, simd};
use crate::ops::broadcast::{expand, runs, shape};
use crate::ops::cast::convert;
use crate::ops::elementwise::{Number, add, with_numbers};
use crate::ops::layout::permute;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::ops::weighted;
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, count, product};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::{Value, no_type};
use candle_core::CpuStorage;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "MatMul", (2, 2), matmul).heavy().anchor(weighted::matmul_anchor),
    since(7, "Gemm", (2, 3), general).heavy().anchor(weighted::gemm_anchor),
];

/// Multiplications of a small product between two looks at the compute's token.
const PART: usize = 1 << 24;

/// A type that matrices are multiplied in.
pub(super) trait Float: Number + Factor {
    fn unwrap(storage: CpuStorage) -> Option<Vec<Self>>;
    fn elements(storage: &CpuStorage) -> Option<&[Self]>;
}

macro_rules! float {
    ($ty:ty, $name:ident) => {
        impl Float for $ty {
            fn unwrap(storage: CpuStorage) -> Option<Vec<Self>> {
                if let CpuStorage::$name(elements) = storage { Some(elements) } else { None }
            }
            fn elements(storage: &CpuStorage) -> Option<&[Self]> {
                if let CpuStorage::$name(elements) = storage { Some(elements) } else { None }
            }
        }
    };
}

float!(f32, F32);
float!(f64, F64);

/// Matrices in a storage: where the first begins and how far apart batches, rows and columns are.
#[derive(Clone, Copy)]
pub(super) struct Matrices<'a> {
    pub(super) storage: &'a CpuStorage,
    pub(super) start: usize,
    pub(super) batch: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<'a> Matrices<'a> {
    /// Row-major matrices one after the other.
    pub(super) fn rows(storage: &'a CpuStorage, rows: usize, columns: usize) -> Self {
        Self { storage, start: 0, batch: rows * columns, row: columns, column: 1 }
    }

    /// The same matrices with rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
}

/// How many products of which size.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) batch: usize,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

/// The products of `batch` pairs of matrices, m×k by k×n, row-major one after the other.
pub(super) fn multiply<T: Float>(
    a: Matrices<'_>,
    b: Matrices<'_>,
    size: Size,
    cx: &Cx<'_>,
) -> Result<(Vec<T>, Charge), Error> {
    let Size { batch, m, n, k } = size;
    let elements = count(&[batch, m, n])?;
    if let (CpuStorage::F32(left), CpuStorage::F32(right)) = (a.storage, b.storage)
        && let Some((out, charge)) = small((a, left), (b, right), size, cx)?
    {
        let out = T::unwrap(CpuStorage::F32(out)).ok_or_else(|| Error::runtime_error("a product of another type"))?;
        return Ok((out, charge));
    }
    let (Some(left), Some(right)) = (T::elements(a.storage), T::elements(b.storage)) else {
        return Err(Error::invalid_argument("a product of two types"));
    };
    let (mut out, charge) = cx.filled(T::default(), elements)?;
    if elements == 0 || k == 0 {
        return Ok((out, charge));
    }
    let mut parts = vec![(); cx.parts(batch, elements.saturating_mul(k))];
    cx.spread(&mut parts, &mut out, m * n, |cx, (), start, out| {
        for (index, out) in out.chunks_exact_mut(m * n).enumerate() {
            let index = start / (m * n) + index;
            let left = Matrix { elements: left, start: a.start + index * a.batch, row: a.row, column: a.column };
            let right = Matrix { elements: right, start: b.start + index * b.batch, row: b.row, column: b.column };
            gemm::product(left, right, out, (m, n, k), cx)?;
        }
        Ok(())
    })?;
    Ok((out, charge))
}

/// The products where they are small and lie as the kernels want them.
fn small(
    (a, left): (Matrices<'_>, &[f32]),
    (b, right): (Matrices<'_>, &[f32]),
    size: Size,
    cx: &Cx<'_>,
) -> Result<Option<(Vec<f32>, Charge)>, Error> {
    let Size { batch, m, n, k } = size;
    let by_columns = b.row == 1 && (n == 1 || b.column == k) && simd::suits_dots(m, n, k);
    let by_rows = b.column == 1 && simd::suits(m, n, k);
    let elements = count(&[batch, m, n])?;
    if elements == 0 || k == 0 || a.column != 1 || !(by_columns || by_rows) {
        return Ok(None);
    }
    let (mut out, charge) = cx.filled(0.0, elements)?;
    // The sums of what is large are cut where they are added up anyway, or between two results.
    let rows = (PART / k).max(1);
    let depth = (PART / n).max(4) / 4 * 4;
    let mut parts = vec![(); cx.parts(batch, elements.saturating_mul(k))];
    cx.spread(&mut parts, &mut out, m * n, |cx, (), start, out| {
        for (index, out) in out.chunks_exact_mut(m * n).enumerate() {
            cx.control.check()?;
            let index = start / (m * n) + index;
            let (left, right) = (&left[a.start + index * a.batch..], &right[b.start + index * b.batch..]);
            if !by_columns && m <= simd::FEW_ROWS {
                for from in (0..k).step_by(depth) {
                    cx.control.check()?;
                    let left = simd::Rows { elements: &left[from..], pitch: a.row };
                    let right = simd::Rows { elements: &right[from * b.row..], pitch: b.row };
                    simd::product(left, right, out, n, depth.min(k - from));
                }
            } else if !by_columns {
                let (left, right) =
                    (simd::Rows { elements: left, pitch: a.row }, simd::Rows { elements: right, pitch: b.row });
                simd::product(left, right, out, n, k);
            } else if n == 1 && a.row == k {
                for (left, out) in left.chunks(rows * k).zip(out.chunks_mut(rows)) {
                    cx.control.check()?;
                    simd::add_dots(left, &right[..k], out);
                }
            } else {
                for (row, out) in out.chunks_exact_mut(n).enumerate() {
                    let left = &left[row * a.row..row * a.row + k];
                    for (right, out) in right.chunks(rows * k).zip(out.chunks_mut(rows)) {
                        cx.control.check()?;
                        simd::add_dots(right, left, out);
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(Some((out, charge)))
}

fn matmul(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        if a.ty() != b.ty() {
            return Err(Error::invalid_argument(format!("{:?} by {:?}", a.ty(), b.ty())));
        }
        Ok(vec![match a.ty() {
            ElementType::F32 => product_of(a, b, cx, floats::<f32>)?,
            ElementType::F64 => product_of(a, b, cx, floats::<f64>)?,
            // The 16-bit floats are summed as f32, and rounded once.
            ty @ (ElementType::F16 | ElementType::Bf16) => {
                let (a, b) = (convert(a, ElementType::F32, cx)?, convert(b, ElementType::F32, cx)?);
                convert(product_of(a, b, cx, floats::<f32>)?, ty, cx)?
            }
            ElementType::Bool => return Err(no_type(&a)),
            _ => with_numbers!(a, T => product_of(a, b, cx, integers::<T>))?,
        }])
    }))
}

/// Products of matrices that lie one after the other in both operands, or of all of `a` by the one in `b`.
type Product<T> = fn(&Value, &Value, Size, bool, &Cx<'_>) -> Result<(Vec<T>, Charge), Error>;

fn floats<T: Float>(a: &Value, b: &Value, size: Size, one_b: bool, cx: &Cx<'_>) -> Result<(Vec<T>, Charge), Error> {
    let left = Matrices::rows(a.storage()?, size.m, size.k);
    let mut right = Matrices::rows(b.storage()?, size.k, size.n);
    if one_b {
        right.batch = 0;
    }
    multiply(left, right, size, cx)
}

fn integers<T: Number>(a: &Value, b: &Value, size: Size, one_b: bool, cx: &Cx<'_>) -> Result<(Vec<T>, Charge), Error> {
    let Size { batch, m, n, k } = size;
    let (left, right) = (a.elements::<T>()?, b.elements::<T>()?);
    let elements = count(&[batch, m, n])?;
    let (mut out, charge) = cx.scratch::<T>(elements)?;
    if elements == 0 {
        return Ok((out, charge));
    }
    let mut pace = Pace::default();
    for index in 0..batch {
        let right = if one_b { right } else { &right[index * k * n..(index + 1) * k * n] };
        for row in 0..m {
            let left = &left[(index * m + row) * k..(index * m + row + 1) * k];
            let start = out.len();
            pace.fill(T::default(), start + n, &mut out, cx)?;
            for (&x, right) in left.iter().zip(right.chunks_exact(n)) {
                for (out, right) in out[start..].chunks_mut(PIECE).zip(right.chunks(PIECE)) {
                    pace.step(right.len(), cx)?;
                    out.iter_mut().zip(right).for_each(|(out, &y)| *out = out.plus(x.times(y)));
                }
            }
        }
    }
    Ok((out, charge))
}

/// MatMul of operands of any rank.
fn product_of<T: Element>(a: Value, b: Value, cx: &Cx<'_>, multiply: Product<T>) -> Result<Value, Error> {
    let (vector_a, vector_b) = (a.rank() == 1, b.rank() == 1);
    // A vector is a row on the left and a column on the right.
    let a = if vector_a {
        let dims = vec![1, a.len()];
        a.reshaped(dims)?
    } else {
        a
    };
    let b = if vector_b {
        let dims = vec![b.len(), 1];
        b.reshaped(dims)?
    } else {
        b
    };
    let (&[ref batch_a @ .., m, k], &[ref batch_b @ .., rows, n]) = (a.dims(), b.dims()) else {
        return Err(Error::invalid_argument("a scalar is no matrix"));
    };
    if k != rows {
        return Err(Error::invalid_argument(format!("{} by {}", Dims(a.dims()), Dims(b.dims()))));
    }
    let batch_dims = shape(batch_a, batch_b)?;
    let mut dims = batch_dims.clone();
    if !vector_a {
        dims.push(m);
    }
    if !vector_b {
        dims.push(n);
    }
    count(&dims)?;
    let (elements, charge) = if product(batch_b) == 1 {
        // One matrix on the right: all rows on the left at once.
        let size = Size { batch: 1, m: product(batch_a) * m, n, k };
        multiply(&a, &b, size, true, cx)?
    } else {
        let (dims_a, dims_b) = ([batch_dims.as_slice(), &[m, k]].concat(), [batch_dims.as_slice(), &[k, n]].concat());
        let a = if a.dims() == dims_a { a } else { expand::<T>(&a, &dims_a, cx)? };
        let b = if b.dims() == dims_b { b } else { expand::<T>(&b, &dims_b, cx)? };
        multiply(&a, &b, Size { batch: product(&batch_dims), m, n, k }, false, cx)?
    };
    Value::charged(dims, elements, charge)
}

/// The product of two tensors of i32, of any rank; sums wrap around.
pub(super) fn integer_product(a: Value, b: Value, cx: &Cx<'_>) -> Result<Value, Error> {
    product_of(a, b, cx, integers::<i32>)
}

/// The products of two batches of as many matrices, in their own type; those of integers wrap around.
pub(super) fn product_in_batches(a: Value, b: Value, cx: &Cx<'_>) -> Result<Value, Error> {
    match a.ty() {
        ElementType::F64 => product_of(a, b, cx, floats::<f64>),
        ElementType::F32 => product_of(a, b, cx, floats::<f32>),
        _ => with_numbers!(a, T => product_of(a, b, cx, integers::<T>)),
    }
}

fn general(node: &Node<'_>) -> Result<OpFn, Error> {
    let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
    let (flip_a, flip_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    Ok(Box::new(move |mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        let ty = a.ty();
        let through = match ty {
            ElementType::F64 => ElementType::F64,
            ElementType::F32 | ElementType::F16 | ElementType::Bf16 => ElementType::F32,
            ElementType::Bool => return Err(no_type(&a)),
            _ => {
                let scaled = [alpha, beta].map(|factor| (factor - 1.0).abs() > 0.0);
                if scaled.contains(&true) {
                    return Err(Error::unsupported("integers by alpha or beta"));
                }
                return Ok(vec![general_integers(a, b, args.take(2).ok(), [flip_a, flip_b], cx)?]);
            }
        };
        if b.ty() != ty {
            return Err(Error::invalid_argument(format!("{ty:?} by {:?}", b.ty())));
        }
        let (a, b) = (convert(a, through, cx)?, convert(b, through, cx)?);
        let (&[rows_a, columns_a], &[rows_b, columns_b]) = (a.dims(), b.dims()) else {
            return Err(Error::invalid_argument("two dimensions are wanted"));
        };
        let (m, k) = if flip_a { (columns_a, rows_a) } else { (rows_a, columns_a) };
        let (inner, n) = if flip_b { (columns_b, rows_b) } else { (rows_b, columns_b) };
        if inner != k {
            return Err(Error::invalid_argument(format!("{m}×{k} by {inner}×{n}")));
        }
        let left = Matrices::rows(a.storage()?, rows_a, columns_a);
        let right = Matrices::rows(b.storage()?, rows_b, columns_b);
        let left = if flip_a { left.transposed() } else { left };
        let right = if flip_b { right.transposed() } else { right };
        let size = Size { batch: 1, m, n, k };
        let bias = args.take(2).ok().map(|bias| convert(bias, through, cx)).transpose()?;
        let result = if through == ElementType::F64 {
            combine::<f64>(left, right, size, bias, (alpha, beta), cx)?
        } else {
            combine::<f32>(left, right, size, bias, (alpha, beta), cx)?
        };
        Ok(vec![convert(result, ty, cx)?])
    }))
}

/// a · b + bias, of integers, which wrap around.
fn general_integers(a: Value, b: Value, bias: Option<Value>, flip: [bool; 2], cx: &Cx<'_>) -> Result<Value, Error> {
    if (a.rank(), b.rank()) != (2, 2) || a.ty() != b.ty() {
        let why = format!("{:?} in {} by {:?} in {}", a.ty(), Dims(a.dims()), b.ty(), Dims(b.dims()));
        return Err(Error::invalid_argument(why));
    }
    let a = if flip[0] { permute(a, &[1, 0], cx)? } else { a };
    let b = if flip[1] { permute(b, &[1, 0], cx)? } else { b };
    let result = with_numbers!(a, T => product_of(a, b, cx, integers::<T>))?;
    match bias {
        Some(bias) if shape(bias.dims(), result.dims())? != result.dims() => {
            Err(Error::invalid_argument(format!("a bias of {}", Dims(bias.dims()))))
        }
        Some(bias) => add(result, bias, cx),
        None => Ok(result),
    }
}

/// alpha · a · b + beta · bias.
fn combine<T: Float>(
    a: Matrices<'_>,
    b: Matrices<'_>,
    size: Size,
    bias: Option<Value>,
    (alpha, beta): (f32, f32),
    cx: &Cx<'_>,
) -> Result<Value, Error> {
    let (mut elements, charge) = multiply::<T>(a, b, size, cx)?;
    if (alpha - 1.0).abs() > 0.0 {
        let alpha = T::from_f64(f64::from(alpha));
        let mut pace = Pace::default();
        for piece in elements.chunks_mut(PIECE) {
            pace.step(piece.len(), cx)?;
            piece.iter_mut().for_each(|x| *x = x.times(alpha));
        }
    }
    let dims = vec![size.m, size.n];
    if let Some(bias) = bias {
        if shape(bias.dims(), &dims)? != dims {
            return Err(Error::invalid_argument(format!("a bias of {}", Dims(bias.dims()))));
        }
        let beta = T::from_f64(f64::from(beta));
        let addends = bias.elements::<T>()?;
        runs(&dims, [bias.dims()], cx, |run| {
            let out = &mut elements[run.out..run.out + run.len];
            let i = run.starts[0];
            if run.steps == [1] {
                let addends = &addends[i..i + run.len];
                out.iter_mut().zip(addends).for_each(|(x, &c)| *x = x.plus(beta.times(c)));
            } else {
                let c = beta.times(addends[i]);
                out.iter_mut().for_each(|x| *x = x.plus(c));
            }
        })?;
    }
    Value::charged(dims, elements, charge)
}
