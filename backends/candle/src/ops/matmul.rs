//! Matrix products: MatMul and Gemm.
//!
//! Products by constant weights are computed by `weighted`, if possible. Other products of floats are computed by
//! [`multiply`], and products of integers by plain loops.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::product::{Matrices, Size, multiply};
use crate::ops::batches::multiply_expanded;
use crate::ops::broadcast::{expand, runs, shape};
use crate::ops::cast::convert;
use crate::ops::elementwise::{Float, Number, add, with_numbers};
use crate::ops::layout::permute;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::weighted;
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "MatMul", (2, 2), matmul).heavy().anchor(weighted::matmul_anchor).device(form!(product::matmul)),
    since(7, "Gemm", (2, 3), gemm).heavy().anchor(weighted::gemm_anchor).device(form!(product::gemm)),
];

fn matmul(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        if a.ty() != b.ty() {
            return Err(Error::invalid_argument(format!(
                "the operands have different types: {:?} and {:?}",
                a.ty(),
                b.ty()
            )));
        }
        Ok(values![match a.ty() {
            ElementType::F32 => multiply_any_rank(a, b, cx, float_products::<f32>)?,
            ElementType::F64 => multiply_any_rank(a, b, cx, float_products::<f64>)?,
            // f16 and bf16 are summed in f32 and rounded once.
            ty @ (ElementType::F16 | ElementType::Bf16) => {
                let (a, b) = (convert(a, ElementType::F32, cx)?, convert(b, ElementType::F32, cx)?);
                convert(multiply_any_rank(a, b, cx, float_products::<f32>)?, ty, cx)?
            }
            ElementType::Bool => return Err(no_type(&a)),
            _ => with_numbers!(a, T => multiply_any_rank(a, b, cx, integer_products::<T>))?,
        }])
    }))
}

/// The products of a batch of matrices, which are consecutive in both operands. With `one_b`, `b` holds a single matrix
/// for all of `a`.
type Product<T> = fn(&Value, &Value, Size, bool, &ExecContext<'_>) -> Result<(Vec<T>, Charge), Error>;

fn float_products<T: Float>(
    a: &Value,
    b: &Value,
    size: Size,
    one_b: bool,
    cx: &ExecContext<'_>,
) -> Result<(Vec<T>, Charge), Error> {
    let left = Matrices::row_major(a.elements::<T>()?, size.m, size.k);
    let mut right = Matrices::row_major(b.elements::<T>()?, size.k, size.n);
    if one_b {
        right.batch = 0;
    }
    multiply(left, right, size, cx)
}

fn integer_products<T: Number>(
    a: &Value,
    b: &Value,
    size: Size,
    one_b: bool,
    cx: &ExecContext<'_>,
) -> Result<(Vec<T>, Charge), Error> {
    let Size { batch, m, n, k } = size;
    let (left, right) = (a.elements::<T>()?, b.elements::<T>()?);
    let elements = count(&[batch, m, n])?;
    let (mut out, charge) = cx.scratch::<T>(elements)?;
    if elements == 0 {
        return Ok((out, charge));
    }
    let mut checkpoint = Checkpoint::default();
    for index in 0..batch {
        let right = if one_b { right } else { &right[index * k * n..(index + 1) * k * n] };
        for row in 0..m {
            let left = &left[(index * m + row) * k..(index * m + row + 1) * k];
            let start = out.len();
            checkpoint.fill(T::default(), start + n, &mut out, cx)?;
            for (&x, right) in left.iter().zip(right.chunks_exact(n)) {
                for (out, right) in out[start..].chunks_mut(PIECE).zip(right.chunks(PIECE)) {
                    checkpoint.step(right.len(), cx)?;
                    out.iter_mut().zip(right).for_each(|(out, &y)| *out = out.plus(x.times(y)));
                }
            }
        }
    }
    Ok((out, charge))
}

/// MatMul of operands of any rank; `multiply` computes the products.
fn multiply_any_rank<T: Element>(
    a: Value,
    b: Value,
    cx: &ExecContext<'_>,
    multiply: Product<T>,
) -> Result<Value, Error> {
    multiply_expanded(a, b, cx, expand::<T>, multiply)
}

/// The products of two batches of matrices, in their own type. Sums of integers wrap around.
pub(super) fn product_in_batches(a: Value, b: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    match a.ty() {
        ElementType::F64 => multiply_any_rank(a, b, cx, float_products::<f64>),
        ElementType::F32 => multiply_any_rank(a, b, cx, float_products::<f32>),
        _ => with_numbers!(a, T => multiply_any_rank(a, b, cx, integer_products::<T>)),
    }
}

fn gemm(node: &Node<'_>) -> Result<OpFn, Error> {
    let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
    let (trans_a, trans_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    Ok(Box::new(move |mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        let ty = a.ty();
        let compute_ty = match ty {
            ElementType::F64 => ElementType::F64,
            ElementType::F32 | ElementType::F16 | ElementType::Bf16 => ElementType::F32,
            ElementType::Bool => return Err(no_type(&a)),
            _ => {
                let scaled = [alpha, beta].map(|factor| (factor - 1.0).abs() > 0.0);
                if scaled.contains(&true) {
                    return Err(Error::unsupported("alpha and beta other than 1 are not supported for integers"));
                }
                return Ok(values![gemm_integers(a, b, args.take(2).ok(), [trans_a, trans_b], cx)?]);
            }
        };
        if b.ty() != ty {
            return Err(Error::invalid_argument(format!("the operands have different types: {ty:?} and {:?}", b.ty())));
        }
        let (a, b) = (convert(a, compute_ty, cx)?, convert(b, compute_ty, cx)?);
        let (&[rows_a, columns_a], &[rows_b, columns_b]) = (a.dims(), b.dims()) else {
            return Err(Error::invalid_argument("the operands must have two dimensions"));
        };
        let (m, k) = if trans_a { (columns_a, rows_a) } else { (rows_a, columns_a) };
        let (inner, n) = if trans_b { (columns_b, rows_b) } else { (rows_b, columns_b) };
        if inner != k {
            return Err(Error::invalid_argument(format!("matrices {m}×{k} and {inner}×{n} do not multiply")));
        }
        let size = Size { batch: 1, m, n, k };
        let bias = args.take(2).ok().map(|bias| convert(bias, compute_ty, cx)).transpose()?;
        let result = if compute_ty == ElementType::F64 {
            gemm_floats::<f64>([&a, &b], [trans_a, trans_b], size, bias, (alpha, beta), cx)?
        } else {
            gemm_floats::<f32>([&a, &b], [trans_a, trans_b], size, bias, (alpha, beta), cx)?
        };
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// a · b + bias of integers, which wrap around.
fn gemm_integers(
    a: Value,
    b: Value,
    bias: Option<Value>,
    transpose: [bool; 2],
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    if (a.rank(), b.rank()) != (2, 2) || a.ty() != b.ty() {
        let why =
            format!("matrices of {:?} {} and {:?} {} do not multiply", a.ty(), Dims(a.dims()), b.ty(), Dims(b.dims()));
        return Err(Error::invalid_argument(why));
    }
    let a = if transpose[0] { permute(a, &[1, 0], cx)? } else { a };
    let b = if transpose[1] { permute(b, &[1, 0], cx)? } else { b };
    let result = with_numbers!(a, T => multiply_any_rank(a, b, cx, integer_products::<T>))?;
    match bias {
        Some(bias) if &*shape(bias.dims(), result.dims())? != result.dims() => {
            Err(Error::invalid_argument(format!("the bias {} does not broadcast to the product", Dims(bias.dims()))))
        }
        Some(bias) => add(result, bias, cx),
        None => Ok(result),
    }
}

/// alpha · a · b + beta · bias, with the matrices transposed as the flags say.
fn gemm_floats<T: Float>(
    [a, b]: [&Value; 2],
    [trans_a, trans_b]: [bool; 2],
    size: Size,
    bias: Option<Value>,
    (alpha, beta): (f32, f32),
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    fn matrices<T: Float>(
        value: &Value,
        transpose: bool,
        rows: usize,
        columns: usize,
    ) -> Result<Matrices<'_, T>, Error> {
        let elements = value.elements::<T>()?;
        Ok(if transpose {
            Matrices::row_major(elements, columns, rows).transposed()
        } else {
            Matrices::row_major(elements, rows, columns)
        })
    }
    let (a, b) = (matrices(a, trans_a, size.m, size.k)?, matrices(b, trans_b, size.k, size.n)?);
    let (mut elements, charge) = multiply::<T>(a, b, size, cx)?;
    if (alpha - 1.0).abs() > 0.0 {
        let alpha = T::from_f64(f64::from(alpha));
        let mut checkpoint = Checkpoint::default();
        for piece in elements.chunks_mut(PIECE) {
            checkpoint.step(piece.len(), cx)?;
            piece.iter_mut().for_each(|x| *x = x.times(alpha));
        }
    }
    let dims = [size.m, size.n];
    if let Some(bias) = bias {
        if *shape(bias.dims(), &dims)? != dims {
            return Err(Error::invalid_argument(format!(
                "the bias {} does not broadcast to the product",
                Dims(bias.dims())
            )));
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
