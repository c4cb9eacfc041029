//! The numbers by which hosts encode encodings, targets and element types in guest memory, for each family of hosts.
//!
//! | | [`Witx`](Dialect::Witx) | [`WasmEdge`](Dialect::WasmEdge) | [`Wamr`](Dialect::Wamr) | [`WamrLegacy`](Dialect::WamrLegacy) | [`Component`](Dialect::Component) |
//! | --- | --- | --- | --- | --- | --- |
//! | whose | the specification's witx; Wasmtime's core modules | `WasmEdge` | WAMR, module `wasi_ephemeral_nn` | WAMR, module `wasi_nn` | the order of the cases in WIT |
//! | openvino, onnx, tensorflow, pytorch, tensorflowlite | 0 to 4 | 0 to 4 | 0 to 4 | 0 to 4 | 0 to 4 |
//! | ggml | none | 6 | 5 | 5 | 5 |
//! | autodetect | 5 | 5 | 6 | 6 | 6 |
//! | cpu, gpu, tpu | 0 to 2 | 0 to 2 | 0 to 2 | 0 to 2 | 0 to 2 |
//! | fp16, fp32 | 0, 1 | 0, 1 | 0, 1 | 0, 1 | 0, 1 |
//! | fp64 | 2 | 2 | 2 | none | 2 |
//! | bf16 | none | none | none | none | 3 |
//! | u8 | 3 | 3 | 3 | 2 | 4 |
//! | i32 | 4 | 4 | 4 | 3 | 5 |
//! | i64 | 5 | 5 | 5 | none | 6 |
//! | errno of end of sequence, context full, prompt too long, model not found | none | 100 to 103 | 100 to 103 | 100 to 103 | none |
//!
//! Read from the hosts' sources in August 2026. A number that a dialect does not define is an error, even if another
//! dialect defines it. Every other errno is the same in all dialects: [`ErrorKind::errno`].

use super::{Encoding, Error, ErrorKind, Target, TensorType};

/// A family of hosts that uses the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// The specification's core-module form, and Wasmtime's.
    Witx,
    /// `WasmEdge`'s core-module form. Its target `auto` (3) is valid for preloaded models only, and refused here; so
    /// are its encodings past 6.
    WasmEdge,
    /// WAMR's core-module form, import module `wasi_ephemeral_nn`.
    Wamr,
    /// WAMR's older core-module form, import module `wasi_nn`, which counts a tensor's data in elements.
    WamrLegacy,
    /// The cases of the component form's enums (WIT, 0.2.0-rc-2024-10-28) in their order.
    Component,
}

/// The numbers of one encoding, target or type, in the order of [`Dialect::ALL`].
type Numbers = [Option<u8>; 5];

const fn everywhere(number: u8) -> Numbers {
    [Some(number); 5]
}

const ENCODINGS: [(Encoding, Numbers); 7] = [
    (Encoding::OpenVino, everywhere(0)),
    (Encoding::Onnx, everywhere(1)),
    (Encoding::TensorFlow, everywhere(2)),
    (Encoding::PyTorch, everywhere(3)),
    (Encoding::TensorFlowLite, everywhere(4)),
    (Encoding::Ggml, [None, Some(6), Some(5), Some(5), Some(5)]),
    (Encoding::Autodetect, [Some(5), Some(5), Some(6), Some(6), Some(6)]),
];

const TARGETS: [(Target, Numbers); 3] =
    [(Target::Cpu, everywhere(0)), (Target::Gpu, everywhere(1)), (Target::Tpu, everywhere(2))];

const TYPES: [(TensorType, Numbers); 7] = [
    (TensorType::F16, everywhere(0)),
    (TensorType::F32, everywhere(1)),
    (TensorType::F64, [Some(2), Some(2), Some(2), None, Some(2)]),
    (TensorType::Bf16, [None, None, None, None, Some(3)]),
    (TensorType::U8, [Some(3), Some(3), Some(3), Some(2), Some(4)]),
    (TensorType::I32, [Some(4), Some(4), Some(4), Some(3), Some(5)]),
    (TensorType::I64, [Some(5), Some(5), Some(5), None, Some(6)]),
];

/// `WasmEdge`'s encodings that [`Encoding`] does not have.
const REFUSED: [(u32, &str); 7] = [
    (7, "neuralspeed"),
    (9, "whisper"),
    (10, "mlx"),
    (11, "piper"),
    (12, "chattts"),
    (13, "openvinogenai"),
    (14, "bitnet"),
];

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 5] = [Self::Witx, Self::WasmEdge, Self::Wamr, Self::WamrLegacy, Self::Component];

    /// The dialect's name, for error messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Witx => "witx",
            Self::WasmEdge => "WasmEdge",
            Self::Wamr => "WAMR",
            Self::WamrLegacy => "WAMR's wasi_nn",
            Self::Component => "WIT",
        }
    }

    /// The encoding of a guest's number.
    ///
    /// # Errors
    ///
    /// [`InvalidEncoding`](super::ErrorKind::InvalidEncoding) for a number that the dialect does not define, or whose
    /// encoding this crate does not have.
    pub fn encoding(self, number: u32) -> Result<Encoding, Error> {
        find(&ENCODINGS, self, number).ok_or_else(|| {
            let refused = REFUSED.iter().find(|(refused, _)| self == Self::WasmEdge && *refused == number);
            Error::invalid_encoding(match refused {
                Some((_, name)) => format!("the encoding {name} ({number}) is not supported"),
                None => format!("{number} is not an encoding of {}", self.name()),
            })
        })
    }

    /// The number of an encoding; `None` if the dialect has none.
    #[must_use]
    pub fn encoding_number(self, encoding: Encoding) -> Option<u32> {
        number(&ENCODINGS, self, encoding).map(u32::from)
    }

    /// The target of a guest's number.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument) for a number that the dialect does not define, and for
    /// `WasmEdge`'s `auto`, which a load may not request.
    pub fn target(self, number: u32) -> Result<Target, Error> {
        find(&TARGETS, self, number).ok_or_else(|| {
            Error::invalid_argument(if self == Self::WasmEdge && number == 3 {
                "the target auto (3) is for preloaded models only".to_owned()
            } else {
                format!("{number} is not a target of {}", self.name())
            })
        })
    }

    /// The number of a target; `None` if the dialect has none.
    #[must_use]
    pub fn target_number(self, target: Target) -> Option<u32> {
        number(&TARGETS, self, target).map(u32::from)
    }

    /// The element type of a guest's number.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument) for a number that the dialect does not define.
    pub fn tensor_type(self, number: u8) -> Result<TensorType, Error> {
        find(&TYPES, self, number.into())
            .ok_or_else(|| Error::invalid_argument(format!("{number} is not a tensor type of {}", self.name())))
    }

    /// The number of an element type; `None` if the dialect has none, in which case a tensor of that type has no
    /// representation for its guests.
    #[must_use]
    pub fn tensor_type_number(self, ty: TensorType) -> Option<u8> {
        number(&TYPES, self, ty)
    }

    /// The errno of an error: `WasmEdge`'s and WAMR's own for the ends of a language model's sequence and for a model
    /// that was not found, and [`ErrorKind::errno`] for all others and in the other dialects.
    #[must_use]
    pub const fn errno(self, kind: ErrorKind) -> u16 {
        match (self, kind) {
            (Self::Witx | Self::Component, _) => kind.errno(),
            (_, ErrorKind::EndOfSequence) => 100,
            (_, ErrorKind::ContextFull) => 101,
            (_, ErrorKind::PromptTooLong) => 102,
            (_, ErrorKind::ModelNotFound) => 103,
            _ => kind.errno(),
        }
    }
}

fn find<W: Copy>(words: &[(W, Numbers)], dialect: Dialect, number: u32) -> Option<W> {
    let has = |numbers: &Numbers| numbers[dialect as usize].is_some_and(|its| u32::from(its) == number);
    words.iter().find(|(_, numbers)| has(numbers)).map(|(word, _)| *word)
}

fn number<W: Copy + PartialEq>(words: &[(W, Numbers)], dialect: Dialect, word: W) -> Option<u8> {
    words.iter().find(|(its, _)| *its == word).and_then(|(_, numbers)| numbers[dialect as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ErrorKind;

    /// The words of a list, with their numbers from 0; `-` for a number that the dialect does not define.
    fn words(list: &str) -> Vec<Option<&str>> {
        list.split(' ').map(|word| (word != "-").then_some(word)).collect()
    }

    #[test]
    fn each_number_is_its_word_and_each_word_its_number() {
        let first = "openvino onnx tensorflow pytorch tensorflowlite";
        for (dialect, encodings, types) in [
            (Dialect::Witx, "autodetect -", "fp16 fp32 fp64 u8 i32 i64 -"),
            (Dialect::WasmEdge, "autodetect ggml", "fp16 fp32 fp64 u8 i32 i64 -"),
            (Dialect::Wamr, "ggml autodetect", "fp16 fp32 fp64 u8 i32 i64 -"),
            (Dialect::WamrLegacy, "ggml autodetect", "fp16 fp32 u8 i32 - - -"),
            (Dialect::Component, "ggml autodetect", "fp16 fp32 fp64 bf16 u8 i32 i64"),
        ] {
            let encodings = format!("{first} {encodings} - - - - - - - -");
            for (number, word) in words(&encodings).into_iter().enumerate() {
                let found = dialect.encoding(number as u32);
                assert_eq!(found.as_ref().ok().map(ToString::to_string).as_deref(), word, "{dialect:?} {number}");
                match found {
                    Ok(encoding) => assert_eq!(dialect.encoding_number(encoding), Some(number as u32)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidEncoding),
                }
            }
            for (number, word) in words("cpu gpu tpu - -").into_iter().enumerate() {
                let found = dialect.target(number as u32);
                assert_eq!(found.as_ref().ok().map(ToString::to_string).as_deref(), word, "{dialect:?} {number}");
                if let Ok(target) = found {
                    assert_eq!(dialect.target_number(target), Some(number as u32));
                }
            }
            for (number, word) in words(types).into_iter().enumerate() {
                let found = dialect.tensor_type(number as u8);
                assert_eq!(found.as_ref().ok().map(ToString::to_string).as_deref(), word, "{dialect:?} {number}");
                match found {
                    Ok(ty) => assert_eq!(dialect.tensor_type_number(ty), Some(number as u8)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument),
                }
            }
            for number in [7, 255, 256, 1 << 16, u32::MAX] {
                assert!(dialect.encoding(number).is_err() && dialect.target(number).is_err());
            }
            assert!((7..=255).all(|number| dialect.tensor_type(number).is_err()));
        }
        assert_eq!(Dialect::Witx.encoding_number(Encoding::Ggml), None);
        let lacks = |dialect: Dialect| TensorType::ALL.map(|ty| dialect.tensor_type_number(ty).is_none());
        assert_eq!(lacks(Dialect::Wamr), [false, false, false, true, false, false, false]);
        assert_eq!(lacks(Dialect::WamrLegacy), [false, false, true, true, false, false, true]);
    }

    #[test]
    fn the_ends_of_a_sequence_have_numbers_where_a_dialect_has_them() {
        let of_sequences =
            [ErrorKind::EndOfSequence, ErrorKind::ContextFull, ErrorKind::PromptTooLong, ErrorKind::ModelNotFound];
        for (dialect, numbers) in [
            (Dialect::Witx, [5, 7, 7, 8]),
            (Dialect::WasmEdge, [100, 101, 102, 103]),
            (Dialect::Wamr, [100, 101, 102, 103]),
            (Dialect::WamrLegacy, [100, 101, 102, 103]),
            (Dialect::Component, [5, 7, 7, 8]),
        ] {
            assert_eq!(of_sequences.map(|kind| dialect.errno(kind)), numbers, "{dialect:?}");
            let others = ErrorKind::ALL.into_iter().filter(|kind| !of_sequences.contains(kind));
            others.for_each(|kind| assert_eq!(dialect.errno(kind), kind.errno(), "{dialect:?} {kind}"));
        }
    }

    #[test]
    fn every_dialect_has_its_place_in_the_tables() {
        for (place, dialect) in Dialect::ALL.into_iter().enumerate() {
            assert_eq!(dialect as usize, place);
        }
    }

    #[test]
    fn a_refusal_names_the_number_and_whose_it_is() {
        let told = |error: Error| error.to_string();
        assert!(
            told(Dialect::WasmEdge.encoding(9).unwrap_err()).ends_with("the encoding whisper (9) is not supported")
        );
        assert!(told(Dialect::Wamr.encoding(9).unwrap_err()).ends_with("9 is not an encoding of WAMR"));
        assert!(told(Dialect::WasmEdge.target(3).unwrap_err()).ends_with("auto (3) is for preloaded models only"));
        assert!(told(Dialect::Witx.tensor_type(6).unwrap_err()).ends_with("6 is not a tensor type of witx"));
    }
}
