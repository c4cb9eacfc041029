//! Language models that say something, beside llama.cpp: what they write, and their logits for each type of weights.
//!
//! The model of `examples/models/austen`, and `SmolLM2` 135M if `scripts/fetch_models.sh --all` has fetched it. Each is
//! converted to other types here, by candle. `scripts/record_texts.py` records what builds of llama.cpp for several
//! processors make of the same bytes in `austen.json` and `smollm2.json`, and says how.
//!
//! llama.cpp rounds activations before products: to 8 bits for weights in blocks, and to the type of the weights for
//! F16 and BF16. Ours are rounded to the same 8 bits for blocks alone. A number that is as near to one level as to the
//! next, but for its last bits, goes to one level in one program and to the other in another, and what follows differs
//! from there on. So no two builds of llama.cpp have the same logits, and the bounds here are what its builds are
//! apart: from one another, and from the logits of the same weights in F32, for which nothing is rounded.

use super::pass_on;
use crate::llm::cache::{Cache, CacheType};
use crate::llm::forward::{Buffers, Model};
use crate::llm::graph::LanguageGraph;
use crate::quant::QuantType;
use serde_json::{Value, from_value};
use std::collections::BTreeMap;

/// How much farther logits may be from the exact ones than those of llama.cpp's farthest build.
const FROM_EXACT: f64 = 1.25;

/// How much farther logits may be from those of a build than two builds are from each other. In the model of ours few
/// numbers are near to two levels, so a prompt more or less in which one is makes much of it.
const FROM_BUILDS: f64 = 3.0;

/// The same for the number of texts that differ, and for the logits where they begin to.
const TEXTS_FROM_BUILDS: f64 = 2.0;

/// What logits may differ by where nothing is rounded. Those that are recorded have three decimals.
const UNROUNDED: f64 = 0.001;

/// Logits after prompts, of tokens that are evenly spaced.
type Logits = Vec<Vec<f64>>;

/// What was recorded for a model.
struct Record {
    prompts: Vec<String>,
    tokens: Vec<Vec<u32>>,
    /// The builds of llama.cpp.
    builds: Vec<String>,
    /// For each type, the tokens after each prompt in the first build.
    texts: BTreeMap<String, Vec<Vec<u32>>>,
    /// For each type and each other build, where its texts leave those of the first one.
    apart: BTreeMap<String, BTreeMap<String, Vec<Option<Apart>>>>,
    /// For each type, the logits of each build, and `exact` ones.
    logits: BTreeMap<String, BTreeMap<String, Logits>>,
}

/// The first token that differs between two texts, and how much higher its logit is than that of the other one's.
type Apart = (usize, f64);

impl Record {
    fn read(model: &str) -> Self {
        let json = std::fs::read(path("backends/candle/src/tests/llm").join(model).with_extension("json")).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        let part = |name: &str| json[name].clone();
        let mut record = Self {
            prompts: from_value(part("prompts")).unwrap(),
            tokens: from_value(part("tokens")).unwrap(),
            builds: from_value(part("builds")).unwrap(),
            texts: from_value(part("texts")).unwrap(),
            apart: from_value(part("apart")).unwrap(),
            logits: from_value(part("logits")).unwrap(),
        };
        let prompts = record.prompts.len();
        assert!(prompts >= 20 && record.tokens.len() == prompts && record.builds.len() >= 3);
        for (ty, texts) in &record.texts {
            assert_eq!((texts.len(), record.apart[ty].len()), (prompts, record.builds.len() - 1));
            assert!(record.apart[ty].values().all(|apart| apart.len() == prompts));
        }
        for of_type in record.logits.values_mut() {
            assert_eq!(of_type.len(), record.builds.len() + 1);
            for logits in of_type.values_mut() {
                assert!(logits.len() == prompts && logits.iter().all(|logits| logits.len() == VALUES));
                logits.iter_mut().flatten().for_each(|logit| *logit /= 1000.0);
            }
        }
        record
    }
}

/// The logits that are recorded after a prompt.
const VALUES: usize = 8;

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

/// Fails if the texts are farther from those of llama.cpp's first build than [`TEXTS_FROM_BUILDS`] allows: by how many
/// differ, or by the logits where they begin to. Texts must be the same if they are in all builds.
fn assert_same_texts(graph: &LanguageGraph, record: &Record, ty: QuantType) {
    let name = ty.name();
    let prompts = record.tokens.iter().zip(&record.texts[name]);
    let ours: Vec<_> = prompts.map(|(tokens, text)| leaves(graph, tokens, text)).collect();
    let differ = |apart: &[Option<Apart>]| apart.iter().flatten().count();
    let most = |apart: &[Option<Apart>]| apart.iter().flatten().map(|apart| apart.1).fold(0.0, f64::max);
    println!("{name}: {} texts of ours differ, by logits of up to {:.3}", differ(&ours), most(&ours));
    let (mut count, mut logit) = (0, 0.0);
    for (build, apart) in &record.apart[name] {
        println!("{name}: {} texts of {build} differ, by logits of up to {:.3}", differ(apart), most(apart));
        (count, logit) = (differ(apart).max(count), most(apart).max(logit));
    }
    assert!(differ(&ours) as f64 <= TEXTS_FROM_BUILDS * count as f64, "{name}: {} texts differ", differ(&ours));
    assert!(most(&ours) <= TEXTS_FROM_BUILDS * logit, "{name}: texts differ by a logit of {}", most(&ours));
}

/// Where a model's text after a prompt leaves another one.
fn leaves(graph: &LanguageGraph, tokens: &[u32], text: &[u32]) -> Option<Apart> {
    let model = &graph.shared().model;
    let (mut logits, mut cache, mut buffers) = first(model, tokens);
    for (at, &token) in text.iter().enumerate() {
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        if best as u32 != token {
            return Some((at, f64::from(logits[best] - logits[token as usize])));
        }
        logits = pass_on(model, &mut cache, &[token], &mut buffers);
    }
    None
}

/// The root of the mean square of the differences.
fn distance(a: &Logits, b: &Logits) -> f64 {
    let squares: Vec<_> = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b) * (a - b)).collect();
    (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
}

/// Fails if the logits after prompts are farther from the exact ones than [`FROM_EXACT`] allows, or farther from those
/// of a build than [`FROM_BUILDS`] allows. Where ours round no activations they are the exact ones.
fn assert_same_logits(graph: &LanguageGraph, record: &Record, ty: QuantType) {
    let (name, recorded) = (ty.name(), &record.logits[ty.name()]);
    let evenly =
        |logits: Vec<f32>| logits.iter().step_by(logits.len().div_ceil(VALUES)).copied().map(f64::from).collect();
    let ours: Logits = record.tokens.iter().map(|tokens| evenly(first(&graph.shared().model, tokens).0)).collect();
    let builds: Vec<_> = record.builds.iter().map(|build| (build, &recorded[build])).collect();
    let exact = distance(&ours, &recorded["exact"]);
    let (mut from_exact, mut between, mut from_builds) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (index, (_, logits)) in builds.iter().enumerate() {
        from_exact = from_exact.max(distance(logits, &recorded["exact"]));
        from_builds = from_builds.max(distance(logits, &ours));
        for (_, others) in &builds[..index] {
            between = between.max(distance(logits, others));
        }
    }
    println!(
        "{name}: ours are {exact:.4} from the exact logits, builds up to {from_exact:.4}; ours up to {from_builds:.4} \
         from a build, two builds up to {between:.4}"
    );
    let bound = if ty.block_len() > 1 { FROM_EXACT * from_exact } else { UNROUNDED };
    assert!(exact <= bound, "{name}: {exact} from the exact logits");
    assert!(from_builds <= FROM_BUILDS * between + UNROUNDED, "{name}: {from_builds} from a build");
}

#[test]
fn austen_goes_on_as_in_llama_cpp() {
    let (record, graph) = (Record::read("austen"), load(&austen()));
    assert_same_tokens(&graph, &record);
    assert_same_texts(&graph, &record, QuantType::Q8_0);
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

    /// Writes the models of each type, and the same weights in F32, to the folder that the variable `MODELS` names.
    #[test]
    #[ignore = "writes the files that scripts/record_texts.py reads"]
    fn write_kinds() {
        let folder = std::path::PathBuf::from(std::env::var_os("MODELS").expect("the variable MODELS"));
        let save = |name: &str, ty: QuantType, bytes: Vec<u8>| {
            let exact = converted(&bytes, QuantType::F32);
            for (name, bytes) in [(name.to_owned(), bytes), (format!("{name}_exact"), exact)] {
                std::fs::create_dir_all(folder.join(&name)).unwrap();
                std::fs::write(folder.join(&name).join(ty.name().to_lowercase() + ".gguf"), bytes).unwrap();
            }
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
        assert_same_texts(&load(&austen_of(QuantType::F16)), &Record::read("austen"), QuantType::F16);
    }

    #[test]
    fn logits_of_every_type_are_those_of_llama_cpp() {
        let record = Record::read("austen");
        for ty in QuantType::ALL {
            assert_same_logits(&load(&austen_of(ty)), &record, ty);
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "takes minutes unless it is optimized")]
    fn smollm2_goes_on_as_in_llama_cpp() {
        let Some(file) = smollm2() else { return };
        let record = Record::read("smollm2");
        for ty in SMOLLM2_TYPES {
            let graph = load(&smollm2_of(&file, ty));
            assert_same_logits(&graph, &record, ty);
            if record.texts.contains_key(ty.name()) {
                assert_same_tokens(&graph, &record);
                assert_same_texts(&graph, &record, ty);
            }
        }
    }
}
