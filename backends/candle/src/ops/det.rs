//! Det: the determinant of each matrix, by Gaussian elimination.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::dims::{Dims, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::no_type;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(11, "Det", (1, 1), determinant).heavy()];

fn determinant(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| {
        let value = args.take(0)?;
        let ty = value.ty();
        if !matches!(ty, ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16) {
            return Err(no_type(&value));
        }
        let (outer, n) = match *value.dims() {
            [ref outer @ .., rows, columns] if rows == columns => (outer.to_vec(), rows),
            _ => {
                return Err(Error::invalid_argument(format!(
                    "the last two dimensions of {} must be equal",
                    Dims(value.dims())
                )));
            }
        };
        let value = convert(value, ElementType::F64, cx)?;
        let elements = value.elements::<f64>()?;
        let (mut scratch, _charge) = cx.scratch::<f64>(n.saturating_mul(n))?;
        let mut checkpoint = Checkpoint::default();
        let result = cx.output::<f64>(&outer)?.append(|out| {
            for matrix in 0..product(&outer) {
                scratch.clear();
                checkpoint.copy(&elements[matrix * n * n..(matrix + 1) * n * n], &mut scratch, cx)?;
                out.push(determinant_of(&mut scratch, n, &mut checkpoint, cx)?);
            }
            Ok(())
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// The determinant of an n×n matrix, which is overwritten, by elimination with partial pivoting.
fn determinant_of(
    matrix: &mut [f64],
    n: usize,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<f64, Error> {
    let mut determinant = 1.0;
    for column in 0..n {
        checkpoint.step(n, cx)?;
        let mut pivot = column;
        for row in column + 1..n {
            if matrix[row * n + column].abs() > matrix[pivot * n + column].abs() {
                pivot = row;
            }
        }
        let (above, below) = matrix.split_at_mut((column + 1) * n);
        let first = &mut above[column * n..];
        if pivot > column {
            first.swap_with_slice(&mut below[(pivot - column - 1) * n..(pivot - column) * n]);
            determinant = -determinant;
        }
        determinant *= first[column];
        if first[column] == 0.0 {
            return Ok(0.0);
        }
        for row in below.chunks_exact_mut(n) {
            checkpoint.step(n - column, cx)?;
            let factor = row[column] / first[column];
            row[column..].iter_mut().zip(&first[column..]).for_each(|(x, first)| *x -= factor * first);
        }
    }
    Ok(determinant)
}
