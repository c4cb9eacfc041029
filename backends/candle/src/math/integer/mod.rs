//! Exact products of matrices of bytes: sums in i32, which wrap around.
//!
//! One operand has unsigned bytes, the other one signed bytes, as the processors' instructions take them. Bytes of the
//! other sign are flipped in their highest bit when they are packed, which moves them by 128, and their zero point moves
//! with them: [`Flip`]. Zero points are no part of the product. [`correct`] applies them to its sums by the sums of the
//! rows of the left operand and of the columns of the right one.
//!
//! ```text
//!             GROUP                      NR          NR
//!   row 0  │ word │ word │ …     ┌───────────┬───────────┬──
//!   row 1  │ word │ word │ …     │ line line │           │    GROUP rows of the matrix: a byte of each,
//!   row 2  │ word │ word │ …     │ line line │           │    column by column
//!            left operand             panel       panel
//! ```
//!
//! A [`unit`] is a set of instructions: AVX-512 VNNI (`vnni`), AVX2 (`avx2`), Arm's dot products (`neon`), and what the
//! compiler makes of plain loops ([`plain`]). The left operand is packed into rows of words ([`pack_left`]), the right
//! one into panels ([`pack_right`]); [`multiply`] computes the sums of some rows and panels.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for the vector unit")]

#[cfg(target_arch = "x86_64")]
mod avx2;
mod correct;
mod kernel;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
#[expect(unsafe_code, reason = "one instruction that pulp has no function for")]
mod neon;
mod pack;
mod plain;
mod processor;
#[cfg(test)]
mod tests;
mod unit;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "one instruction that pulp has no function for")]
mod vnni;

pub(crate) use correct::{Zeros, correct};
pub(crate) use pack::{Flip, add_bytes};
pub(crate) use processor::{Processor, Right, Sums};

/// Which operand has the unsigned bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unsigned {
    Left,
    Right,
}
