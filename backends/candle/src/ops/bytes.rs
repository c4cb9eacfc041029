//! Integer types of 8 bits, and loops that convert to and from them.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::math::simd::{Loop, wide_loop};
use crate::tensor::element::Element;

/// An integer type of 8 bits.
pub(super) trait Byte: Element {
    /// The smallest and the largest number.
    const RANGE: (f32, f32);

    /// The number of the byte that the low bits of a number of this range are.
    fn from_bits(bits: u32) -> Self;
}

impl Byte for u8 {
    const RANGE: (f32, f32) = (0.0, 255.0);

    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        bits as Self
    }
}

impl Byte for i8 {
    const RANGE: (f32, f32) = (-128.0, 127.0);

    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        bits as Self
    }
}

/// A number that has the integer part of a small float in its low bits, once it is added: 1.5 · 2²³.
pub(super) const ROUNDER: f32 = 12_582_912.0;

/// The same for f64: 1.5 · 2⁵².
pub(super) const WIDE_ROUNDER: f64 = 6_755_399_441_055_744.0;

/// A loop over elements and results.
struct Each<'a, T, U, F> {
    elements: &'a [T],
    out: &'a mut [U],
    f: F,
}

impl<T: Copy, U, F: Fn(T) -> U> Loop for Each<'_, T, U, F> {
    #[inline(always)]
    fn run(self) {
        self.out.iter_mut().zip(self.elements).for_each(|(out, &x)| *out = (self.f)(x));
    }
}

/// `f` of each element, in a loop for the widest vectors of the processor. The results are appended to `out`.
pub(super) fn extend<T: Copy, U: Copy + Default>(elements: &[T], out: &mut Vec<U>, f: impl Fn(T) -> U) {
    let start = out.len();
    out.resize(start + elements.len(), U::default());
    wide_loop(Each { elements, out: &mut out[start..], f });
}
