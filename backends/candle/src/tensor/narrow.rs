//! Conversions of the narrow element types: floats of 8 and 4 bits, integers of 4 and 2 bits.
//!
//! An element is stored as a code: its bits, in the lowest bits of one byte. Operators that only move elements treat
//! codes as bytes. `Cast` and `DequantizeLinear` convert codes to numbers for all other operators.

use std::sync::LazyLock;

use crate::tensor::element::ElementType;

/// The layout of a float type: the numbers of exponent and mantissa bits, the exponent's bias, and the codes that are
/// not finite numbers.
#[derive(Clone, Copy)]
struct Layout {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    special: Special,
}

/// The codes of a float type that are not finite numbers.
#[derive(Clone, Copy, PartialEq)]
enum Special {
    /// Every code is a finite number.
    None,
    /// Codes with the highest exponent are infinities and NaN, as in IEEE 754.
    Ieee,
    /// The highest code of each sign is NaN.
    Highest,
    /// The code of the negative zero is NaN.
    NegativeZero,
}

const fn layout(ty: ElementType) -> Option<Layout> {
    Some(match ty {
        ElementType::F8E4M3Fn => Layout { exponent: 4, mantissa: 3, bias: 7, special: Special::Highest },
        ElementType::F8E4M3Fnuz => Layout { exponent: 4, mantissa: 3, bias: 8, special: Special::NegativeZero },
        ElementType::F8E5M2 => Layout { exponent: 5, mantissa: 2, bias: 15, special: Special::Ieee },
        ElementType::F8E5M2Fnuz => Layout { exponent: 5, mantissa: 2, bias: 16, special: Special::NegativeZero },
        ElementType::F4E2M1 => Layout { exponent: 2, mantissa: 1, bias: 1, special: Special::None },
        _ => return None,
    })
}

impl Layout {
    /// The sign bit.
    const fn sign(self) -> u8 {
        1 << (self.exponent + self.mantissa)
    }

    /// The number of a code.
    fn number(self, code: u8) -> f64 {
        let (negative, rest) = (code & self.sign() != 0, code & (self.sign() - 1));
        let exponent = i32::from(rest >> self.mantissa);
        let fraction = f64::from(rest & ((1 << self.mantissa) - 1)) / f64::from(1_u32 << self.mantissa);
        let highest = (1 << self.exponent) - 1;
        let magnitude = match self.special {
            Special::NegativeZero if negative && rest == 0 => f64::NAN,
            Special::Highest if rest == self.sign() - 1 => f64::NAN,
            Special::Ieee if exponent == highest && fraction == 0.0 => f64::INFINITY,
            Special::Ieee if exponent == highest => f64::NAN,
            _ if exponent == 0 => fraction * 2.0_f64.powi(1 - self.bias),
            _ => (1.0 + fraction) * 2.0_f64.powi(exponent - self.bias),
        };
        if negative { -magnitude } else { magnitude }
    }

    /// The code of the highest finite number.
    const fn highest(self) -> u8 {
        match self.special {
            Special::None | Special::NegativeZero => self.sign() - 1,
            Special::Highest => self.sign() - 2,
            Special::Ieee => self.sign() - 1 - (1 << self.mantissa),
        }
    }

    /// The code of the nearest number of the type; the even one of two that are equally near.
    ///
    /// The code of a number above the highest is that of the highest number if the conversion saturates or the type has
    /// no other code; otherwise it is infinity, or NaN in a type without infinities.
    fn code(self, number: f64, saturate: bool) -> u8 {
        let sign = if number.is_sign_negative() { self.sign() } else { 0 };
        let nan = match self.special {
            // A type without NaN converts it to the negative zero, as ONNX's tests expect.
            Special::NegativeZero | Special::None => self.sign(),
            Special::Highest => sign | (self.sign() - 1),
            // The highest mantissa bit makes it a quiet NaN.
            Special::Ieee => sign | (self.highest() + 1) | (1 << (self.mantissa - 1)),
        };
        if number.is_nan() {
            return nan;
        }
        let highest = self.highest();
        // The exponent of the number's binade, at least that of the subnormal numbers. A binade has 2^mantissa steps.
        let magnitude = number.abs();
        let exponent = if magnitude >= 2.0_f64.powi(1 - self.bias) {
            // The number is no subnormal f64 here, so its exponent bits give the exponent.
            ((magnitude.to_bits() >> 52) as i32 - 1023).min(1100)
        } else {
            1 - self.bias
        };
        let steps = (magnitude / 2.0_f64.powi(exponent - self.mantissa as i32)).round_ties_even();
        // The code of the binade's first number plus the steps. Rounding up at its end gives the next binade's first
        // code.
        let first = f64::from((exponent + self.bias - 1) << self.mantissa);
        let place = first + steps;
        if place <= f64::from(highest) {
            let code = place as u8;
            return if code == 0 && self.special == Special::NegativeZero { 0 } else { sign | code };
        }
        match self.special {
            special if saturate || special == Special::None => sign | highest,
            Special::Ieee => sign | (highest + 1),
            _ => nan,
        }
    }
}

/// How a number between two powers of two is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// To the larger one.
    Up,
    /// To the smaller one.
    Down,
    /// To the nearer one; upwards from the middle.
    Nearest,
}

/// The options of a conversion from numbers to codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Whether a number out of the type's range becomes the nearest end of the range.
    pub(crate) saturate: bool,
    /// How powers of two are rounded.
    pub(crate) power: Power,
    /// Whether a float out of an integer type's range wraps around. Otherwise it becomes the nearest end of the range.
    pub(crate) wrap: bool,
}

impl Rule {
    /// The options of a node without attributes.
    pub(crate) const DEFAULT: Self = Self { saturate: true, power: Power::Up, wrap: false };
}

/// The code of a number in the type of powers of two, which has 2⁻¹²⁷ to 2¹²⁷ and NaN.
fn power_code(number: f64, rule: Rule) -> u8 {
    const NAN: u8 = 255;
    let magnitude = number.abs();
    if magnitude.is_nan() {
        return NAN;
    }
    let (lowest, highest) = (2.0_f64.powi(-127), 2.0_f64.powi(127));
    if magnitude < lowest {
        return if rule.saturate { 0 } else { NAN };
    }
    let exponent = ((magnitude.min(highest).to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let part = magnitude / 2.0_f64.powi(exponent);
    let up = match rule.power {
        Power::Up => part > 1.0,
        Power::Down => false,
        Power::Nearest => part >= 1.5,
    };
    let code = exponent + 127 + i32::from(up);
    match u8::try_from(code) {
        Ok(code) if code < NAN && magnitude.is_finite() => code,
        _ if rule.saturate => NAN - 1,
        _ => NAN,
    }
}

/// The bits of a narrow integer type, and whether it is signed.
pub(crate) const fn integer(ty: ElementType) -> Option<(u32, bool)> {
    match ty {
        ElementType::U4 => Some((4, false)),
        ElementType::I4 => Some((4, true)),
        ElementType::U2 => Some((2, false)),
        ElementType::I2 => Some((2, true)),
        _ => None,
    }
}

/// The lowest and the highest number of a narrow integer type.
pub(crate) fn range(ty: ElementType) -> Option<(i32, i32)> {
    let (bits, signed) = integer(ty)?;
    Some(if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) })
}

/// The integer of a code.
pub(crate) fn decode_integer(ty: ElementType, code: u8) -> i32 {
    match integer(ty) {
        Some((bits, true)) => i32::from((code << (8 - bits)).cast_signed() >> (8 - bits)),
        _ => i32::from(code),
    }
}

/// The code of an integer: its lowest bits.
pub(crate) fn encode_integer(ty: ElementType, number: i128) -> u8 {
    let bits = integer(ty).map_or(8, |(bits, _)| bits);
    (number as u8) & (u8::MAX >> (8 - bits))
}

/// The code of a float rounded towards zero.
pub(crate) fn encode_cut(ty: ElementType, number: f64, rule: Rule) -> u8 {
    let (low, high) = range(ty).unwrap_or_default();
    let number = if rule.wrap { number } else { number.clamp(f64::from(low), f64::from(high)) };
    encode_integer(ty, number as i128)
}

/// The number of a code in a float type.
pub(crate) fn decode_float(ty: ElementType, code: u8) -> f64 {
    static TABLES: LazyLock<[[f64; 256]; 5]> = LazyLock::new(|| {
        let types = [
            ElementType::F8E4M3Fn,
            ElementType::F8E4M3Fnuz,
            ElementType::F8E5M2,
            ElementType::F8E5M2Fnuz,
            ElementType::F4E2M1,
        ];
        types.map(|ty| std::array::from_fn(|code| layout(ty).map_or(f64::NAN, |layout| layout.number(code as u8))))
    });
    let table = match ty {
        ElementType::F8E4M3Fn => 0,
        ElementType::F8E4M3Fnuz => 1,
        ElementType::F8E5M2 => 2,
        ElementType::F8E5M2Fnuz => 3,
        ElementType::F4E2M1 => 4,
        _ if code == 255 => return f64::NAN,
        _ => return 2.0_f64.powi(i32::from(code) - 127),
    };
    TABLES[table][usize::from(code)]
}

/// The code of a number in a float type.
pub(crate) fn encode_float(ty: ElementType, number: f64, rule: Rule) -> u8 {
    match layout(ty) {
        Some(layout) => layout.code(number, rule.saturate),
        None => power_code(number, rule),
    }
}

/// Unpacks `count` codes of `bits` bits each. The first code of a byte is in its lowest bits.
pub(crate) fn unpack(bytes: impl Iterator<Item = u8>, bits: u32, count: usize) -> Vec<u8> {
    let each = 8 / bits;
    let mask = u8::MAX >> (8 - bits);
    let codes = bytes.flat_map(|byte| (0..each).map(move |place| (byte >> (place * bits)) & mask));
    let mut unpacked = Vec::with_capacity(count);
    unpacked.extend(codes.take(count));
    unpacked
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests {
    use super::*;

    const FLOATS: [ElementType; 6] = [
        ElementType::F8E4M3Fn,
        ElementType::F8E4M3Fnuz,
        ElementType::F8E5M2,
        ElementType::F8E5M2Fnuz,
        ElementType::F4E2M1,
        ElementType::F8E8M0,
    ];

    #[test]
    fn each_number_of_a_type_has_the_code_that_it_was_decoded_from() {
        for ty in FLOATS {
            for code in 0..=u8::MAX >> (8 - ty.bits()) {
                let number = decode_float(ty, code);
                if number.is_nan() {
                    assert!(decode_float(ty, encode_float(ty, number, Rule::DEFAULT)).is_nan(), "{ty:?} {code}");
                } else if number.is_finite() {
                    assert_eq!(encode_float(ty, number, Rule::DEFAULT), code, "{ty:?} {number}");
                }
            }
        }
    }

    #[test]
    fn a_number_between_two_becomes_the_nearer_one_and_the_even_one_of_two_as_near() {
        for ty in FLOATS.into_iter().filter(|&ty| ty != ElementType::F8E8M0) {
            let highest = layout(ty).unwrap().highest();
            for code in 0..highest {
                let (low, high) = (decode_float(ty, code), decode_float(ty, code + 1));
                let middle = f64::midpoint(low, high);
                let even = if code % 2 == 0 { code } else { code + 1 };
                assert_eq!(encode_float(ty, middle, Rule::DEFAULT), even, "{ty:?} {middle}");
                assert_eq!(encode_float(ty, middle.next_down(), Rule::DEFAULT), code, "{ty:?} {middle}");
                assert_eq!(encode_float(ty, middle.next_up(), Rule::DEFAULT), code + 1, "{ty:?} {middle}");
            }
        }
    }

    #[test]
    fn numbers_past_a_range_become_its_end_or_what_is_past_it() {
        let wrapping = Rule { saturate: false, ..Rule::DEFAULT };
        for (ty, highest) in
            [(ElementType::F8E4M3Fn, 448.0), (ElementType::F8E5M2, 57344.0), (ElementType::F4E2M1, 6.0)]
        {
            for number in [1e9, f64::INFINITY, f64::MAX] {
                assert_eq!(decode_float(ty, encode_float(ty, number, Rule::DEFAULT)), highest);
                assert_eq!(decode_float(ty, encode_float(ty, -number, Rule::DEFAULT)), -highest);
                assert!(ty == ElementType::F4E2M1 || !decode_float(ty, encode_float(ty, number, wrapping)).is_finite());
            }
            assert_eq!(encode_float(ty, f64::MIN_POSITIVE / 4.0, Rule::DEFAULT), 0);
        }
    }

    #[test]
    fn integers_keep_their_lowest_bits() {
        assert_eq!([0, 7, 8, 15].map(|code| decode_integer(ElementType::I4, code)), [0, 7, -8, -1]);
        assert_eq!([0, 1, 2, 3].map(|code| decode_integer(ElementType::I2, code)), [0, 1, -2, -1]);
        assert_eq!([-9, 200, 15].map(|number| encode_integer(ElementType::U4, number)), [7, 8, 15]);
        assert_eq!(unpack([0b1110_0100].into_iter(), 2, 3), [0, 1, 2]);
        assert_eq!(unpack([0x21, 0x43].into_iter(), 4, 3), [1, 2, 3]);
    }
}
