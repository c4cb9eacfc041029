//! Language models that say something, beside llama.cpp: what they write, and their logits for each type of weights.
//!
//! The model of `examples/models/austen`, and `SmolLM2` 135M if `scripts/fetch_models.sh --all` has fetched it. Each is
//! converted to other types here, by candle. `scripts/record_texts.py` records what llama.cpp makes of the same bytes
//! in `austen.json` and `smollm2.json`, and says how.

use super::pass_on;
use crate::llm::cache::{Cache, CacheType};
use crate::llm::forward::{Buffers, Model};
use crate::llm::graph::LanguageGraph;
use crate::quant::QuantType;
use serde_json::{Value, from_value};
use std::collections::BTreeMap;

/// What was recorded for a model.
struct Record {
    prompts: Vec<String>,
    tokens: Vec<Vec<u32>>,
    /// For each type, the tokens after each prompt.
    texts: BTreeMap<String, Vec<Vec<u32>>>,
    /// For each type, logits after the first prompts: tokens with theirs.
    logits: BTreeMap<String, Vec<Vec<(usize, f32)>>>,
}

impl Record {
    fn read(model: &str) -> Self {
        let json = std::fs::read(path("backends/candle/src/tests/llm").join(model).with_extension("json")).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        let part = |name: &str| json[name].clone();
        let record = Self {
            prompts: from_value(part("prompts")).unwrap(),
            tokens: from_value(part("tokens")).unwrap(),
            texts: from_value(part("texts")).unwrap(),
            logits: from_value(part("logits")).unwrap(),
        };
        assert!(record.prompts.len() >= 20 && record.tokens.len() == record.prompts.len());
        for texts in record.texts.values() {
            assert_eq!(texts.len(), record.prompts.len());
        }
        record
    }
}

/// The path of a file of the repository.
fn path(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn austen() -> Vec<u8> {
    std::fs::read(path("examples/models/austen/austen.gguf")).unwrap()
}

/// `SmolLM2`, if it is there.
fn smollm2() -> Option<Vec<u8>> {
    let file = std::fs::read(path(".cache/models/smollm2/model.gguf")).ok();
    if file.is_none() {
        println!("skipped: scripts/fetch_models.sh --all has not fetched smollm2");
    }
    file
}

fn load(file: &[u8]) -> LanguageGraph {
    LanguageGraph::load(file, b"", b"", 1 << 30).unwrap()
}

/// The logits after a prompt.
fn first(model: &Model, tokens: &[u32]) -> (Vec<f32>, Cache, Buffers) {
    let (mut cache, mut buffers) = (Cache::new(&model.hyper, CacheType::F32), Buffers::default());
    let logits = pass_on(model, &mut cache, tokens, &mut buffers);
    (logits, cache, buffers)
}

/// Fails if the tokens of the prompts are others than llama.cpp's.
fn assert_same_tokens(graph: &LanguageGraph, record: &Record) {
    for (prompt, recorded) in record.prompts.iter().zip(&record.tokens) {
        let tokenizer = &graph.shared().tokenizer;
        let tokens = tokenizer.encode(prompt.as_bytes(), true, 1 << 16, &mut || Ok(())).unwrap();
        let tokens: Vec<_> = tokenizer.start().into_iter().chain(tokens).collect();
        assert_eq!(tokens, *recorded, "{prompt}");
    }
}

/// Fails if a text differs from llama.cpp's where the two tokens are not within `bound` of each other. Returns how many
/// texts are the same.
fn assert_same_texts(graph: &LanguageGraph, record: &Record, ty: QuantType, bound: f32) -> usize {
    let (model, mut equal) = (&graph.shared().model, 0);
    let texts = &record.texts[ty.name()];
    for ((prompt, tokens), text) in record.prompts.iter().zip(&record.tokens).zip(texts) {
        let (mut logits, mut cache, mut buffers) = first(model, tokens);
        let mut same = 0;
        for &token in text {
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            if best as u32 != token {
                let margin = logits[best] - logits[token as usize];
                println!("{}: {prompt:?} differs at token {same}, by a logit of {margin}", ty.name());
                assert!(margin < bound, "{prompt:?} differs at token {same}, by a logit of {margin}");
                break;
            }
            same += 1;
            logits = pass_on(model, &mut cache, &[token], &mut buffers);
        }
        equal += usize::from(same == text.len());
    }
    println!("{}: {equal} of {} texts are the same", ty.name(), texts.len());
    equal
}

/// Fails if the logits after prompts are others than llama.cpp's.
///
/// Activations are rounded to 8 bits before products with blocks. Where a number is as near to one level as to the next
/// but for its last bits, two programs can round it to different levels, and the logits differ by a tenth or more from
/// there on: those of two builds of llama.cpp, for other processors, by 0.30. llama.cpp also rounds them to BF16 before
/// products with BF16, where ours stay f32. So `share` of the prompts must be within 0.05, and all within `bound`.
/// Without such a rounding all are within 0.05.
fn assert_same_logits(graph: &LanguageGraph, record: &Record, ty: QuantType, share: f32, bound: f32) {
    let (mut differences, recorded) = (Vec::new(), &record.logits[ty.name()]);
    for (tokens, recorded) in record.tokens.iter().zip(recorded) {
        let (logits, ..) = first(&graph.shared().model, tokens);
        differences.push(recorded.iter().map(|&(token, logit)| (logit - logits[token]).abs()).fold(0.0, f32::max));
    }
    let within = |bound: f32| differences.iter().filter(|&&difference| difference < bound).count();
    let (exact, near, count) = (within(1e-3), within(0.05), recorded.len());
    let largest = differences.iter().copied().fold(0.0, f32::max);
    println!("{}: of {count} prompts {exact} within 0.001, {near} within 0.05, all within {largest}", ty.name());
    let share = if is_rounded(ty) { share } else { 1.0 };
    assert!(near as f32 >= count as f32 * share, "{}: {differences:?}", ty.name());
    assert!(largest < bound, "{}: {differences:?}", ty.name());
}

/// Whether llama.cpp rounds activations before products with weights of this type.
fn is_rounded(ty: QuantType) -> bool {
    ty.block_len() > 1 || ty == QuantType::Bf16
}

#[test]
fn austen_goes_on_as_in_llama_cpp() {
    let (record, graph) = (Record::read("austen"), load(&austen()));
    assert_same_tokens(&graph, &record);
    // Two builds of llama.cpp have 14 texts of 20 in common.
    assert!(assert_same_texts(&graph, &record, QuantType::Q8_0, 0.5) >= 8);
}

#[cfg(feature = "candle")]
mod converted {
    use super::{QuantType, Record, assert_same_logits, assert_same_texts, assert_same_tokens, austen, load, smollm2};
    use candle_core::Device;
    use candle_core::quantized::gguf_file::{Content, write};
    use candle_core::quantized::{GgmlDType, QTensor};
    use std::io::Cursor;

    fn candles(ty: QuantType) -> GgmlDType {
        match ty {
            QuantType::F32 => GgmlDType::F32,
            QuantType::F16 => GgmlDType::F16,
            QuantType::Bf16 => GgmlDType::BF16,
            QuantType::Q4_0 => GgmlDType::Q4_0,
            QuantType::Q4_1 => GgmlDType::Q4_1,
            QuantType::Q5_0 => GgmlDType::Q5_0,
            QuantType::Q5_1 => GgmlDType::Q5_1,
            QuantType::Q8_0 => GgmlDType::Q8_0,
            QuantType::Q2K => GgmlDType::Q2K,
            QuantType::Q3K => GgmlDType::Q3K,
            QuantType::Q4K => GgmlDType::Q4K,
            QuantType::Q5K => GgmlDType::Q5K,
            QuantType::Q6K => GgmlDType::Q6K,
        }
    }

    /// The file with all matrices of another type. The same bytes for the same file and type.
    fn converted(file: &[u8], ty: QuantType) -> Vec<u8> {
        let mut file = Cursor::new(file);
        let content = Content::read(&mut file).unwrap();
        let mut metadata: Vec<_> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        metadata.sort_by_key(|&(key, _)| key);
        let mut tensors: Vec<_> = content
            .tensor_infos
            .iter()
            .map(|(name, info)| {
                let mut tensor = content.tensor(&mut file.clone(), name, &Device::Cpu).unwrap();
                if info.shape.rank() == 2 {
                    let values = tensor.dequantize(&Device::Cpu).unwrap();
                    tensor = QTensor::quantize(&values, candles(ty)).unwrap();
                }
                (name.as_str(), tensor)
            })
            .collect();
        tensors.sort_by_key(|&(name, _)| name);
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
        let mut bytes = Cursor::new(Vec::new());
        write(&mut bytes, &metadata, &tensors).unwrap();
        bytes.into_inner()
    }

    /// The model with matrices of a type: the file itself where it has that type.
    fn austen_of(ty: QuantType) -> Vec<u8> {
        if ty == QuantType::Q8_0 { austen() } else { converted(&austen(), ty) }
    }

    /// The types that `SmolLM2` is compared in. Its rows have no whole block of 256. The file itself is `Q4_1`.
    const SMOLLM2_TYPES: [QuantType; 7] = [
        QuantType::F16,
        QuantType::Bf16,
        QuantType::Q4_0,
        QuantType::Q4_1,
        QuantType::Q5_0,
        QuantType::Q5_1,
        QuantType::Q8_0,
    ];

    fn smollm2_of(file: &[u8], ty: QuantType) -> Vec<u8> {
        if ty == QuantType::Q4_1 { file.to_vec() } else { converted(file, ty) }
    }

    /// Writes the models of each type to the folder that the variable `MODELS` names, for llama.cpp.
    #[test]
    #[ignore = "writes the files that scripts/record_texts.py reads"]
    fn write_kinds() {
        let folder = std::path::PathBuf::from(std::env::var_os("MODELS").expect("the variable MODELS"));
        let save = |name: &str, ty: QuantType, bytes: Vec<u8>| {
            std::fs::create_dir_all(folder.join(name)).unwrap();
            std::fs::write(folder.join(name).join(ty.name().to_lowercase() + ".gguf"), bytes).unwrap();
        };
        for ty in QuantType::ALL {
            save("austen", ty, austen_of(ty));
        }
        if let Some(file) = smollm2() {
            for ty in SMOLLM2_TYPES {
                save("smollm2", ty, smollm2_of(&file, ty));
            }
        }
    }

    #[test]
    fn austen_in_f16_goes_on_as_in_llama_cpp() {
        let (record, graph) = (Record::read("austen"), load(&austen_of(QuantType::F16)));
        assert_eq!(assert_same_texts(&graph, &record, QuantType::F16, 0.05), record.prompts.len());
    }

    #[test]
    fn logits_of_every_type_are_those_of_llama_cpp() {
        let record = Record::read("austen");
        for ty in QuantType::ALL {
            assert_same_logits(&load(&austen_of(ty)), &record, ty, 0.6, 0.5);
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "takes minutes unless it is optimized")]
    fn smollm2_goes_on_as_in_llama_cpp() {
        let Some(file) = smollm2() else { return };
        let record = Record::read("smollm2");
        for ty in SMOLLM2_TYPES {
            let graph = load(&smollm2_of(&file, ty));
            if ty == QuantType::F16 {
                assert_same_tokens(&graph, &record);
            }
            // 30 layers: more numbers are rounded than in the model of ours.
            let bound = if super::is_rounded(ty) { 1.5 } else { 0.05 };
            assert_same_logits(&graph, &record, ty, 0.0, bound);
            if record.texts.contains_key(ty.name()) {
                assert_same_texts(&graph, &record, ty, bound);
            }
        }
    }
}
