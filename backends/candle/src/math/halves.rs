//! Conversions between f32 and f16, without branches or calls, so that loops over them become vector instructions.
//!
//! Results are those of the crate `half`, whose conversions of slices call a function for each eight elements.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use half::f16;

use crate::math::simd::{Loop, wide_loop};

/// Converts f16 to f32, exactly. The slices are of one length.
pub(crate) fn widen(from: &[f16], to: &mut [f32]) {
    wide_loop(Widen { from, to });
}

/// Converts f32 to the nearest f16, the even one of two that are as near. The slices are of one length.
pub(crate) fn narrow(from: &[f32], to: &mut [f16]) {
    wide_loop(Narrow { from, to });
}

struct Widen<'a> {
    from: &'a [f16],
    to: &'a mut [f32],
}

impl Loop for Widen<'_> {
    #[inline(always)]
    fn run(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = widened(from.to_bits());
        }
    }
}

struct Narrow<'a> {
    from: &'a [f32],
    to: &'a mut [f16],
}

impl Loop for Narrow<'_> {
    #[inline(always)]
    fn run(self) {
        for (to, &from) in self.to.iter_mut().zip(self.from) {
            *to = f16::from_bits(narrowed(from));
        }
    }
}

/// The f32 of an f16's bits.
#[inline(always)]
fn widened(bits: u16) -> f32 {
    // The exponents' biases differ by 112. A multiplication makes up for that in subnormal numbers too.
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let (sign, rest) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    let number = (f32::from_bits(rest << 13) * SCALE).to_bits();
    // Infinity, and NaN, which is made a quiet one.
    let quiet = if rest > 0x7c00 { 0x0040_0000 } else { 0 };
    let number = if rest >= 0x7c00 { (rest << 13) | 0x7f80_0000 | quiet } else { number };
    f32::from_bits(number | sign)
}

/// The bits of the f16 that is nearest to an f32.
#[inline(always)]
fn narrowed(x: f32) -> u16 {
    let bits = x.to_bits();
    let (sign, rest) = ((bits >> 16) & 0x8000, bits & 0x7fff_ffff);
    // The bits that are cut off round up from their middle on, or past it where the last bit that stays is 0.
    let normal = rest.wrapping_sub(112 << 23).wrapping_add(0xfff + ((rest >> 13) & 1)) >> 13;
    // Adding ½ rounds to the multiples of 2⁻²⁴, which are then in the lowest bits.
    let subnormal = (f32::from_bits(rest) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let nan = 0x7e00 | ((rest >> 13) & 0x3ff);
    let special = if rest > 0x7f80_0000 { nan } else { 0x7c00 };
    // The smallest normal f16 is 2⁻¹⁴, and from 65520 on numbers become infinite.
    let number = if rest < (113 << 23) { subnormal } else { normal };
    let number = if rest >= (127 + 16) << 23 { special } else { number };
    (number | sign) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_becomes_its_f32() {
        let from: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut to = vec![0.0; from.len()];
        widen(&from, &mut to);
        for (from, to) in from.iter().zip(to) {
            assert_eq!(to.to_bits(), from.to_f32().to_bits(), "{:x}", from.to_bits());
        }
    }

    #[test]
    fn every_f32_becomes_the_nearest_f16() {
        // Each f16, the numbers just beside it, the middle to the next one, and those beside that.
        let near = |x: f32| [x.next_down(), x, x.next_up()];
        let mut from: Vec<f32> = (0..0x7c00)
            .flat_map(|bits| {
                let (x, next) = (f16::from_bits(bits).to_f32(), f16::from_bits(bits + 1).to_f32());
                let middle = if next.is_finite() { f32::midpoint(x, next) } else { 65520.0 };
                [near(x), near(middle)].concat()
            })
            .flat_map(|x| [x, -x])
            .collect();
        from.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-45]);
        from.extend((0..1 << 20).map(|index: u32| f32::from_bits(index.wrapping_mul(2_654_435_761))));
        let mut to = vec![f16::ZERO; from.len()];
        narrow(&from, &mut to);
        for (from, to) in from.iter().zip(to) {
            assert_eq!(to.to_bits(), f16::from_f32(*from).to_bits(), "{from:e} {:x}", from.to_bits());
        }
    }
}
