//! Applies zero points to the sums of a product.

use crate::math::simd::{Loop, wide_loop};

/// The zero points of a row of sums, which are those of the packed bytes ([`Flip::zero_point`](super::Flip::zero_point)).
///
/// Σ (a − za)(b − zb) = Σ ab − za Σ b − zb (Σ a − k za)
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zeros<'a> {
    /// The left operand's zero point in this row.
    pub(crate) left: i32,
    /// The sum of the left operand's row.
    pub(crate) row_sum: i32,
    /// The right operand's zero point, or one for each column.
    pub(crate) right: &'a [i32],
    /// The sums of the right operand's columns; empty if `left` is 0.
    pub(crate) column_sums: &'a [i32],
    /// The number of summands.
    pub(crate) k: usize,
    /// What is added to every sum.
    pub(crate) bias: i32,
}

/// Applies the zero points to a row of sums.
pub(crate) fn correct(sums: &mut [i32], zeros: Zeros<'_>) {
    let rest = zeros.row_sum.wrapping_sub((zeros.k as i32).wrapping_mul(zeros.left));
    let one = match zeros.right {
        [zero] => Some(zeros.bias.wrapping_sub(zero.wrapping_mul(rest))),
        _ => None,
    };
    if zeros.left == 0 && one == Some(0) {
        return;
    }
    wide_loop(Correct { sums, zeros, rest, one });
}

struct Correct<'a> {
    sums: &'a mut [i32],
    zeros: Zeros<'a>,
    /// The sum of the left operand's row with its zero point.
    rest: i32,
    /// What is added to every sum, if the right operand has one zero point.
    one: Option<i32>,
}

impl Loop for Correct<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { sums, zeros: Zeros { left, right, column_sums, bias, .. }, rest, one } = self;
        if left != 0 {
            for (sum, &column) in sums.iter_mut().zip(column_sums) {
                *sum = sum.wrapping_sub(left.wrapping_mul(column));
            }
        }
        if let Some(one) = one {
            for sum in sums {
                *sum = sum.wrapping_add(one);
            }
        } else {
            for (sum, &zero) in sums.iter_mut().zip(right) {
                *sum = sum.wrapping_sub(zero.wrapping_mul(rest)).wrapping_add(bias);
            }
        }
    }
}
