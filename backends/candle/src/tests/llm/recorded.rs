//! Logits of the small models beside those that llama.cpp computes for the same files.
//!
//! Recorded with libllama 0.5.0 on one thread, with a cache of f32 and without its flash attention:
//! `llama_get_logits_ith` of the last of the tokens. `write_models` writes the files.

use super::super::gguf::writer::Writer;
use super::{ARCHITECTURES, TINY, load, model, pass, tokens};
use crate::llm::cache::CacheType;

/// Writes the models to the folder that the variable `MODELS` names, for a program of llama.cpp's.
#[test]
#[ignore = "writes the files from which logits were recorded"]
fn write_models() {
    let folder = std::path::PathBuf::from(std::env::var_os("MODELS").expect("the variable MODELS"));
    for architecture in ARCHITECTURES {
        for (name, ty) in [("f32", 0), ("q8_0", 8)] {
            std::fs::write(
                folder.join(format!("{architecture}-{name}.gguf")),
                model(architecture, TINY, ty, 7).finish(),
            )
            .unwrap();
        }
    }
    std::fs::write(folder.join("llama-yarn.gguf"), with_yarn().finish()).unwrap();
}

/// A model whose context was extended from 32 tokens to four times as many.
fn with_yarn() -> Writer {
    let mut writer = model("llama", TINY, 0, 7);
    writer.text("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 4.0);
    writer.u32("llama.rope.scaling.original_context_length", 32);
    writer
}

/// Each 11th logit of the last of [`tokens`], for an architecture and a type of its matrices: F32 (0) or `Q8_0` (8).
const RECORDED: [(&str, u32, [f32; 24]); 10] = [
    (
        "llama",
        0,
        [
            0.49872, -0.48624, -0.23011, 0.17129, 1.06396, 1.2811, -0.12851, -0.31145, -0.49419, -0.4554, 0.73431,
            0.05849, 0.49635, -1.17183, -0.06185, 0.21832, 0.01239, 0.51458, -0.98824, -0.51802, -0.89346, -0.8498,
            -1.04631, -0.90389,
        ],
    ),
    (
        "llama",
        8,
        [
            0.49557, -0.46681, -0.17491, 0.17769, 1.05698, 1.3142, -0.06559, -0.26149, -0.50407, -0.4773, 0.74304,
            0.06839, 0.49786, -1.17961, -0.03412, 0.23358, -0.00117, 0.49212, -1.00564, -0.53414, -0.90606, -0.85136,
            -1.06319, -0.88525,
        ],
    ),
    (
        "qwen2",
        0,
        [
            0.7354, 0.04545, 0.40711, -0.00781, -0.94525, 0.92442, -0.88333, -0.64174, -0.27438, -2.12432, -1.02846,
            -0.38304, 2.29187, -0.57611, 0.67484, 0.18986, 0.59099, 0.88904, 1.33627, 1.41849, 0.36876, -0.40859,
            -0.04735, 0.15248,
        ],
    ),
    (
        "qwen2",
        8,
        [
            0.75859, 0.04736, 0.38524, -0.00277, -0.92979, 0.90108, -0.90629, -0.66859, -0.30094, -2.11993, -1.02161,
            -0.3951, 2.29813, -0.58515, 0.66233, 0.17513, 0.57876, 0.91156, 1.3496, 1.41402, 0.39204, -0.4012,
            -0.04368, 0.1312,
        ],
    ),
    (
        "qwen3",
        0,
        [
            -0.30756, 0.37843, 0.65517, -0.64108, 1.76453, -1.14365, -0.3129, -0.96979, -0.39279, -1.37069, 0.00137,
            -0.49671, 0.12479, -0.10401, 1.1827, -0.17115, -0.34873, 0.44593, 1.55088, 0.3435, 0.56956, 0.29622,
            0.67881, 0.86143,
        ],
    ),
    (
        "qwen3",
        8,
        [
            -0.28223, 0.40074, 0.67749, -0.67005, 1.79396, -1.13166, -0.30862, -0.93189, -0.41605, -1.33292, -0.0244,
            -0.47967, 0.12969, -0.11412, 1.20553, -0.12378, -0.3603, 0.417, 1.52159, 0.34903, 0.57786, 0.31419,
            0.66967, 0.86465,
        ],
    ),
    (
        "gemma3",
        0,
        [
            0.2982, -0.81338, -1.34687, 0.68686, 1.58056, -0.80265, 0.61292, -0.78771, -0.1979, 0.94729, -0.14428,
            0.03045, 0.18767, -0.15438, 0.4152, -0.93665, 1.40727, -0.32398, -1.74173, -0.23434, -0.68707, -1.14875,
            -0.6231, -1.84234,
        ],
    ),
    (
        "gemma3",
        8,
        [
            0.32166, -0.83809, -1.35728, 0.67523, 1.58936, -0.78722, 0.57806, -0.80051, -0.1986, 0.95873, -0.13993,
            0.02546, 0.17909, -0.12847, 0.37774, -0.9271, 1.3861, -0.32378, -1.74504, -0.22536, -0.6765, -1.10813,
            -0.59135, -1.82674,
        ],
    ),
    (
        "phi3",
        0,
        [
            0.34926, -0.99589, -0.73254, 0.4371, 0.98923, 0.60142, -0.2255, -0.6162, -0.90262, -0.0984, 0.23079,
            -0.56246, 0.32511, -0.79389, -0.22891, -0.40616, 0.506, 1.07749, -0.51957, -0.70257, -0.09633, -0.23677,
            -0.38335, -0.96245,
        ],
    ),
    (
        "phi3",
        8,
        [
            0.3464, -0.98301, -0.70646, 0.44837, 1.00428, 0.60478, -0.20469, -0.57152, -0.884, -0.12165, 0.23614,
            -0.5536, 0.33921, -0.80935, -0.22264, -0.38738, 0.50862, 1.06288, -0.52462, -0.69347, -0.10362, -0.24828,
            -0.40134, -0.96168,
        ],
    ),
];

/// As [`RECORDED`], for the model of [`with_yarn`].
const YARN: [f32; 24] = [
    1.03953, -0.77403, -0.1216, -0.16669, 1.18501, 1.21561, -0.47225, 0.00917, -0.78512, 0.21601, 0.22107, 0.37116,
    0.15995, -1.23519, 0.16447, 0.281, 0.15498, 0.40809, -0.96503, -0.51965, -0.74708, -0.83887, -1.14084, -0.86562,
];

#[test]
fn a_context_that_yarn_has_extended_has_the_logits_of_llama_cpp() {
    let graph = load(&with_yarn()).unwrap();
    let (logits, _) = pass(&graph.shared().model, &tokens(), 100, CacheType::F32);
    let differences = YARN.iter().zip(logits[99 * 264..].iter().step_by(11)).map(|(one, other)| (one - other).abs());
    let difference = differences.fold(0.0, f32::max);
    println!("yarn: {difference}");
    assert!(difference < 5e-5, "{difference}");
}

#[test]
fn logits_are_those_of_llama_cpp() {
    for (architecture, ty, recorded) in RECORDED {
        let graph = load(&model(architecture, TINY, ty, 7)).unwrap();
        let (logits, _) = pass(&graph.shared().model, &tokens(), 100, CacheType::F32);
        let last = &logits[99 * 264..];
        let difference =
            recorded.iter().enumerate().map(|(at, logit)| (logit - last[at * 11]).abs()).fold(0.0, f32::max);
        println!("{architecture} {ty}: {difference}");
        // llama.cpp has a table of f16 for GELU. With GELU rounded in this way, both differ by 5e-6. What differs by it
        // may be rounded to another of 8 bits.
        let bound = match (architecture, ty) {
            ("gemma3", 0) => 5e-3,
            ("gemma3", _) => 0.05,
            _ => 5e-5,
        };
        assert!(difference < bound, "{architecture} {ty}: {difference}");
    }
}
