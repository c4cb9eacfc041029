//! Valid files of small models, of every architecture, tokenizer and type of weights.

use arbitrary::Unstructured;

use crate::session::{number, one_of};
use crate::writer::{Chance, Sizes, TINY, Writer, array, model as written, string};

const ARCHITECTURES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma3", "phi3"];

/// Types of weights, as files number them: number, elements of a block, bytes of a block.
pub(crate) const TYPES: [(u32, u64, u64); 16] = [
    (8, 32, 34),
    (0, 1, 4),
    (1, 1, 2),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (10, 256, 84),
    (11, 256, 110),
    (12, 256, 144),
    (13, 256, 176),
    (14, 256, 210),
    (30, 1, 2),
    (9, 32, 36),
    (20, 32, 18),
    (39, 32, 17),
];

/// Names of pre-tokenizers, and one that is none.
const PRE: [&str; 10] = [
    "gpt-2",
    "llama-bpe",
    "qwen2",
    "smollm",
    "deepseek-llm",
    "deepseek-coder",
    "starcoder",
    "falcon",
    "tekken",
    "none",
];

/// A model with a tokenizer; all of it is valid, except for a type that is not supported.
pub(crate) fn model(input: &mut Unstructured<'_>) -> Writer {
    let architecture = one_of(input, &ARCHITECTURES);
    let (ty, block, bytes) = one_of(input, &TYPES);
    let sizes = sizes(input, block);
    let kind = if matches!(ty, 0 | 1 | 8) { ty } else { 8 };
    let mut writer = written(architecture, sizes, kind, 1);
    if kind != ty {
        let mut chance = Chance(number(input, 1 << 16));
        for (_, dims, of, data) in writer.tensors.iter_mut().filter(|(_, dims, ..)| dims.len() == 2) {
            *of = ty;
            *data = blocks(&mut chance, dims[0] / block * dims[1], bytes);
        }
    }
    match number(input, 4) {
        0 => scored(&mut writer),
        1 => {
            writer.set("tokenizer.ggml.pre", 8, string(one_of(input, &PRE).as_bytes()));
        }
        _ => {}
    }
    writer
}

/// Sizes of a model whose rows are whole blocks.
fn sizes(input: &mut Unstructured<'_>, block: u64) -> Sizes {
    let (heads, kv_heads, head_dim) = one_of(input, &[(4, 2, 8), (1, 1, 32), (8, 1, 4), (2, 2, 16), (4, 4, 64)]);
    let width = if block == 256 || heads * head_dim == 256 { 256 } else { one_of(input, &[32, 64]) };
    let head_dim = if block == 256 { 256 / heads } else { head_dim };
    let kv_heads = if block == 256 { heads } else { kv_heads };
    let (layers, hidden) = (1 + number(input, 3), if block == 256 { 256 } else { 64 });
    let context = one_of(input, &[TINY.context, 1, 5, 33, 1 << 20]);
    Sizes { layers, width, heads, kv_heads, head_dim, hidden, context }
}

/// Blocks of chance. The upper bit of each second byte's exponent is off, so that most scales are no infinity.
fn blocks(chance: &mut Chance, count: u64, bytes: u64) -> Vec<u8> {
    let mut data = Vec::with_capacity((count * bytes) as usize + 8);
    while data.len() < (count * bytes) as usize {
        data.extend((chance.next() & 0xbfff_bfff_bfff_bfff).to_le_bytes());
    }
    data.truncate((count * bytes) as usize);
    data
}

/// Makes the vocabulary one of scored pairs: the tokens of bytes have their names, and the others have blanks.
fn scored(writer: &mut Writer) {
    let count = writer.find("token_embd.weight").1[1];
    let words = ["\u{2581}t", "\u{2581}th", "\u{2581}the", "in", "an", "<unk>", "<s>", "</s>"];
    let (mut tokens, mut types, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..count {
        let is_byte = index < 256;
        let word = words[(index % 8) as usize];
        tokens.push(string(if is_byte { format!("<0x{index:02X}>") } else { word.to_owned() }.as_bytes()));
        types.push(if is_byte { 6_i32 } else { 1 + i32::from(word.starts_with('<')) }.to_le_bytes().to_vec());
        scores.push((-(index as f32)).to_le_bytes().to_vec());
    }
    writer.set("tokenizer.ggml.model", 8, string(b"llama"));
    writer.set("tokenizer.ggml.tokens", 9, array(8, &tokens));
    writer.set("tokenizer.ggml.token_type", 9, array(5, &types));
    writer.set("tokenizer.ggml.scores", 9, array(6, &scores));
}
