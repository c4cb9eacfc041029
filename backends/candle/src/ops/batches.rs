//! Products of batches of matrices: which matrices are multiplied with each other, and the dimensions of the results.

use crate::compute::context::ExecContext;
use crate::math::product::Size;
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, broadcast as shape, count, product};
use crate::tensor::element::Element;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The product of operands of any rank, as of MatMul: `multiply` computes the products of a batch of matrices, which are
/// consecutive in both operands, or of all rows by a single matrix if its flag is set. `expand` broadcasts an operand.
pub(super) fn multiply_expanded<T: Element>(
    a: Value,
    b: Value,
    cx: &ExecContext<'_>,
    expand: fn(&Value, &[usize], &ExecContext<'_>) -> Result<Value, Error>,
    multiply: impl Fn(&Value, &Value, Size, bool, &ExecContext<'_>) -> Result<(Vec<T>, Charge), Error>,
) -> Result<Value, Error> {
    let (vector_a, vector_b) = (a.rank() == 1, b.rank() == 1);
    // A vector is a row on the left and a column on the right.
    let a = if vector_a {
        let dims = [1, a.len()];
        a.reshaped(dims)?
    } else {
        a
    };
    let b = if vector_b {
        let dims = [b.len(), 1];
        b.reshaped(dims)?
    } else {
        b
    };
    let (&[ref batch_a @ .., m, k], &[ref batch_b @ .., rows, n]) = (a.dims(), b.dims()) else {
        return Err(Error::invalid_argument("an operand is a scalar, not a matrix"));
    };
    if k != rows {
        return Err(Error::invalid_argument(format!(
            "matrices {} and {} do not multiply",
            Dims(a.dims()),
            Dims(b.dims())
        )));
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
        // With a single matrix on the right, all rows on the left are multiplied at once.
        let size = Size { batch: 1, m: product(batch_a) * m, n, k };
        multiply(&a, &b, size, true, cx)?
    } else {
        let matrices = |rows: usize, columns: usize| {
            let mut dims = batch_dims.clone();
            dims.extend([rows, columns]);
            dims
        };
        let (dims_a, dims_b) = (matrices(m, k), matrices(k, n));
        let a = if a.dims() == &*dims_a { a } else { expand(&a, &dims_a, cx)? };
        let b = if b.dims() == &*dims_b { b } else { expand(&b, &dims_b, cx)? };
        multiply(&a, &b, Size { batch: product(&batch_dims), m, n, k }, false, cx)?
    };
    Value::charged(dims, elements, charge)
}
