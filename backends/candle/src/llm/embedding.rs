//! The state of a prompt as an embedding: its norm, and its form in JSON.

use super::options::Norm;
use std::fmt::Write as _;

/// Divides a vector by its norm. A vector of zeros stays as it is.
pub(super) fn normalize(vector: &mut [f32], norm: Norm) {
    let magnitudes = vector.iter().map(|&x| f64::from(x.abs()));
    let divisor = match norm {
        Norm::None => 1.0,
        Norm::Largest => magnitudes.fold(0.0, f64::max) / 32_760.0,
        Norm::Power(p) => magnitudes.map(|x| x.powf(f64::from(p))).sum::<f64>().powf(1.0 / f64::from(p)),
    };
    if divisor > 0.0 {
        for x in vector {
            *x = (f64::from(*x) / divisor) as f32;
        }
    }
}

/// The most bytes that the JSON of an embedding of `width` numbers takes while it is made, with the vector: a number
/// has up to 39 digits before the point, and the text grows by doubling.
pub(super) const fn bytes(width: usize) -> usize {
    width.saturating_mul(3 * 56 + 2 * size_of::<f32>()).saturating_add(256)
}

/// The JSON of an embedding, with 10 decimals, as programs for llama.cpp's hosts read it. Numbers that JSON does not
/// have are 0.
pub(super) fn json(vector: &[f32]) -> Vec<u8> {
    let mut json = format!(r#"{{"n_embedding": {}, "embedding": ["#, vector.len());
    for (index, &x) in vector.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let x = if x.is_finite() { x } else { 0.0 };
        // Writing to a string can't fail.
        let _ = write!(json, "{comma}{x:.10}");
    }
    json.push_str("]}");
    json.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the quotients are exact")]
    fn a_vector_is_divided_by_the_norm_that_was_asked_for() {
        let of = |norm| {
            let mut vector = [3.0, -4.0];
            normalize(&mut vector, norm);
            vector
        };
        assert_eq!(of(Norm::None), [3.0, -4.0]);
        assert_eq!(of(Norm::Power(2.0)), [0.6, -0.8]);
        assert_eq!(of(Norm::Power(1.0)), [3.0 / 7.0, -4.0 / 7.0]);
        assert_eq!(of(Norm::Largest), [24_570.0, -32_760.0]);
        let mut zeros = [0.0; 2];
        normalize(&mut zeros, Norm::Power(2.0));
        assert_eq!(zeros, [0.0; 2]);
    }

    #[test]
    fn an_embedding_is_json_whatever_its_numbers_are() {
        let text = json(&[0.5, f32::NAN, f32::INFINITY]);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["n_embedding"], 3);
        assert_eq!(value["embedding"], serde_json::json!([0.5, 0.0, 0.0]));
    }
}
