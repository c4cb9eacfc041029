//! Compares an output with the expected one.

use graphpool_candle::{ElementType, Value};
use half::{bf16, f16};

/// The absolute tolerance. ONNX's own runner allows 1e-7, which is less than the rounding errors in the suite's zeros.
const ABSOLUTE: f64 = 1e-6;

/// The relative tolerance of ONNX's own runner.
const RELATIVE: f64 = 1e-3;

/// The relative tolerance for bfloat16: one step. The suite truncates to bfloat16 where most runtimes round.
const RELATIVE_BF16: f64 = 1.0 / 128.0;

fn floats(value: &Value) -> Option<Vec<f64>> {
    match value.ty() {
        ElementType::F16 => Some(value.elements::<f16>().ok()?.iter().map(|x| x.to_f64()).collect()),
        ElementType::Bf16 => Some(value.elements::<bf16>().ok()?.iter().map(|x| x.to_f64()).collect()),
        ElementType::F32 => Some(value.elements::<f32>().ok()?.iter().map(|&x| f64::from(x)).collect()),
        ElementType::F64 => Some(value.elements::<f64>().ok()?.to_vec()),
        _ => None,
    }
}

/// The codes of 8-bit floats, with one code for all NaNs, and the bytes of all other types.
fn codes(value: &Value) -> Vec<u8> {
    let is_nan = |code: u8| match value.ty() {
        ElementType::F8E4M3Fn => code & 0x7f == 0x7f,
        ElementType::F8E5M2 => code & 0x7f > 0x7c,
        _ => false,
    };
    value.to_bytes().into_iter().map(|code| if is_nan(code) { 0x7f } else { code }).collect()
}

/// Describes the first difference between `found` and `wanted`. The tolerance for narrow floats is multiplied by
/// `steps`.
pub fn difference(found: &Value, wanted: &Value, steps: f64) -> Option<String> {
    if found.ty() != wanted.ty() {
        return Some(format!("{:?} instead of {:?}", found.ty(), wanted.ty()));
    }
    if found.dims() != wanted.dims() {
        return Some(format!("dimensions {:?} instead of {:?}", found.dims(), wanted.dims()));
    }
    let (Some(floats_found), Some(floats_wanted)) = (floats(found), floats(wanted)) else {
        return (codes(found) != codes(wanted)).then(|| "other integers".to_owned());
    };
    let relative = match found.ty() {
        ElementType::Bf16 => RELATIVE_BF16 * steps,
        ElementType::F16 => RELATIVE * steps,
        _ => RELATIVE,
    };
    let mut pairs = floats_found.iter().zip(&floats_wanted).enumerate();
    pairs.find_map(|(place, (found, wanted))| {
        #[expect(clippy::float_cmp, reason = "infinities are equal or they are not")]
        let same = found == wanted || (found.is_nan() && wanted.is_nan());
        let near = (found - wanted).abs() <= ABSOLUTE + relative * wanted.abs() && wanted.is_finite();
        (!same && !near).then(|| format!("element {place} is {found} instead of {wanted}"))
    })
}
