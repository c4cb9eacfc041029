//! Text forms of encodings, targets and element types: the case names of the component form's enums, in lower case.

use std::fmt;
use std::str::FromStr;

use super::{Encoding, Error, Target, TensorType};

macro_rules! words {
    ($type:ident, $what:literal, $($word:literal => $value:ident),+) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$value => $word),+ })
            }
        }

        /// Parses the displayed word, in upper or lower case.
        impl FromStr for $type {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self, Error> {
                $(if word.eq_ignore_ascii_case($word) {
                    return Ok(Self::$value);
                })+
                let word: String = word.chars().take(32).collect();
                let known = [$($word),+].join(", ");
                Err(Error::invalid_argument(format!(concat!("{:?} is not ", $what, "; there are {}"), word, known)))
            }
        }
    };
}

words!(
    Encoding, "an encoding",
    "openvino" => OpenVino, "onnx" => Onnx, "tensorflow" => TensorFlow, "pytorch" => PyTorch,
    "tensorflowlite" => TensorFlowLite, "ggml" => Ggml, "autodetect" => Autodetect
);
words!(Target, "a target", "cpu" => Cpu, "gpu" => Gpu, "tpu" => Tpu);
words!(
    TensorType, "a tensor type",
    "fp16" => F16, "fp32" => F32, "fp64" => F64, "bf16" => Bf16, "u8" => U8, "i32" => I32, "i64" => I64
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_displayed_is_read_again() {
        for ty in TensorType::ALL {
            assert_eq!(ty.to_string().parse(), Ok(ty));
            assert_eq!(ty.to_string().to_uppercase().parse(), Ok(ty));
        }
        for number in 0..7 {
            let encoding = super::super::wire::Dialect::Component.encoding(number).unwrap();
            assert_eq!(encoding.to_string().parse(), Ok(encoding));
        }
        for target in [Target::Cpu, Target::Gpu, Target::Tpu] {
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        assert_eq!(format!("{:>6}", Target::Cpu), "   cpu");
    }

    #[test]
    fn another_word_is_refused_with_those_that_there_are() {
        let error = "onxx".parse::<Encoding>().unwrap_err().to_string();
        assert!(error.contains("\"onxx\" is not an encoding") && error.contains("onnx"), "{error}");
        assert!("".parse::<Target>().is_err());
        assert!("x".repeat(1 << 20).parse::<TensorType>().unwrap_err().to_string().len() < 200);
    }
}
