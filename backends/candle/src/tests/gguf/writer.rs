//! Writes GGUF files for tests: any metadata and tensors, and small language models with weights of chance.
//!
//! Integration tests include this file too, so it uses nothing of the crate.

/// Name, dimensions, type, bytes.
pub type Weights = (Vec<u8>, Vec<u64>, u32, Vec<u8>);

/// A file that is being written.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    /// Key, type of the value, its bytes.
    pub metadata: Vec<(Vec<u8>, u32, Vec<u8>)>,
    pub tensors: Vec<Weights>,
    /// What tensors are aligned to; 0 stands for 32.
    pub alignment: u64,
}

/// A string of the format.
pub fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// An array of the format.
pub fn array(ty: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    [&ty.to_le_bytes()[..], &(elements.len() as u64).to_le_bytes(), &elements.concat()].concat()
}

impl Writer {
    pub fn value(&mut self, key: &str, ty: u32, bytes: Vec<u8>) -> &mut Self {
        self.metadata.push((key.as_bytes().to_vec(), ty, bytes));
        self
    }

    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.value(key, 4, value.to_le_bytes().to_vec())
    }

    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.value(key, 6, value.to_le_bytes().to_vec())
    }

    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.value(key, 7, vec![u8::from(value)])
    }

    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.value(key, 8, string(value.as_bytes()))
    }

    pub fn strings(&mut self, key: &str, values: &[String]) -> &mut Self {
        let values: Vec<_> = values.iter().map(|value| string(value.as_bytes())).collect();
        self.value(key, 9, array(8, &values))
    }

    pub fn i32s(&mut self, key: &str, values: &[i32]) -> &mut Self {
        let values: Vec<_> = values.iter().map(|value| value.to_le_bytes().to_vec()).collect();
        self.value(key, 9, array(5, &values))
    }

    pub fn tensor(&mut self, name: &str, dims: &[u64], ty: u32, bytes: Vec<u8>) -> &mut Self {
        self.tensors.push((name.as_bytes().to_vec(), dims.to_vec(), ty, bytes));
        self
    }

    /// Sets a key of the metadata, or adds it.
    pub fn set(&mut self, key: &str, ty: u32, bytes: Vec<u8>) -> &mut Self {
        self.metadata.retain(|(name, ..)| name != key.as_bytes());
        self.value(key, ty, bytes)
    }

    /// The tensor with this name.
    pub fn find(&mut self, name: &str) -> &mut (Vec<u8>, Vec<u64>, u32, Vec<u8>) {
        self.tensors.iter_mut().find(|tensor| tensor.0 == name.as_bytes()).expect("a tensor of this name")
    }

    /// The bytes of the file.
    pub fn finish(&self) -> Vec<u8> {
        self.with_offsets(|_, offset| offset)
    }

    /// The bytes of the file, with the offset of each tensor in the table changed.
    pub fn with_offsets(&self, change: impl Fn(usize, u64) -> u64) -> Vec<u8> {
        let alignment = if self.alignment == 0 { 32 } else { self.alignment };
        let mut file = [&b"GGUF"[..], &3_u32.to_le_bytes()].concat();
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, ty, bytes) in &self.metadata {
            file.extend(string(key));
            file.extend(ty.to_le_bytes());
            file.extend(bytes);
        }
        let mut offset = 0_u64;
        for (index, (name, dims, ty, bytes)) in self.tensors.iter().enumerate() {
            file.extend(string(name));
            file.extend((dims.len() as u32).to_le_bytes());
            for dim in dims {
                file.extend(dim.to_le_bytes());
            }
            file.extend(ty.to_le_bytes());
            file.extend(change(index, offset).to_le_bytes());
            offset = (offset + bytes.len() as u64).next_multiple_of(alignment);
        }
        for (.., bytes) in &self.tensors {
            file.resize((file.len() as u64).next_multiple_of(alignment) as usize, 0);
            file.extend(bytes);
        }
        file
    }
}

/// Numbers of chance, the same for each seed.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        // The numbers of Steele, Lea and Flood's SplitMix.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from -1 to 1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// The sizes of a small model.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub layers: u64,
    pub width: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_dim: u64,
    pub hidden: u64,
    pub context: u32,
}

/// The sizes of the model that most tests use.
pub const TINY: Sizes = Sizes { layers: 2, width: 32, heads: 4, kv_heads: 2, head_dim: 8, hidden: 64, context: 128 };

/// The text of a byte in vocabularies of byte-level BPE: bytes that print stand for themselves, others for letters
/// from U+0100 on.
fn byte_text(byte: u8) -> String {
    let prints = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let before = (0..byte).filter(|&byte| !prints(byte)).count() as u32;
    let code = if prints(byte) { u32::from(byte) } else { 256 + before };
    char::from_u32(code).expect("a letter").to_string()
}

/// Tokens of the small models: each byte, a few merges, and three control tokens.
pub fn vocabulary(writer: &mut Writer) -> u64 {
    let mut tokens: Vec<String> = (0..=255).map(byte_text).collect();
    let merges = [("t", "h"), ("th", "e"), ("\u{120}", "the"), ("i", "n"), ("a", "n")];
    tokens.extend(merges.iter().map(|(one, other)| format!("{one}{other}")));
    let controls = ["<|start|>", "<|end|>", "<|turn|>"];
    let first = tokens.len() as u32;
    tokens.extend(controls.map(String::from));
    let mut types = vec![1; tokens.len()];
    types[first as usize..].fill(3);
    let merges: Vec<String> = merges.iter().map(|(one, other)| format!("{one} {other}")).collect();
    writer.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "gpt-2");
    writer.strings("tokenizer.ggml.tokens", &tokens).i32s("tokenizer.ggml.token_type", &types);
    writer.strings("tokenizer.ggml.merges", &merges);
    writer.u32("tokenizer.ggml.bos_token_id", first).u32("tokenizer.ggml.eos_token_id", first + 1);
    writer.bool("tokenizer.ggml.add_bos_token", false);
    tokens.len() as u64
}

/// The bytes of a matrix with weights of chance, of the type F32 (0), F16 (1) or `Q8_0` (8).
pub fn matrix(chance: &mut Chance, rows: u64, cols: u64, ty: u32) -> Vec<u8> {
    let scale = 1.5 / (cols as f32).sqrt();
    let mut bytes = Vec::new();
    for _ in 0..rows {
        let row: Vec<f32> = (0..cols).map(|_| chance.float() * scale).collect();
        match ty {
            0 => row.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            1 => row.iter().for_each(|&x| bytes.extend(half(x).to_le_bytes())),
            8 => row.chunks(32).for_each(|block| {
                let largest = block.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                bytes.extend(half(largest / 127.0).to_le_bytes());
                let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
                bytes.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
            }),
            other => panic!("no weights of the type {other}"),
        }
    }
    bytes
}

/// The bits of the f16 towards zero from a number that is 0 or of its normal range.
fn half(x: f32) -> u16 {
    let bits = x.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32 - 112;
    let sign = (bits >> 16) as u16 & 0x8000;
    if exponent <= 0 { sign } else { sign | ((exponent as u16) << 10) | ((bits >> 13) & 0x3ff) as u16 }
}

/// A small model of an architecture, with weights of chance. `ty` is the type of its matrices.
pub fn model(architecture: &str, sizes: Sizes, ty: u32, seed: u64) -> Writer {
    let Sizes { layers, width, heads, kv_heads, head_dim, hidden, context } = sizes;
    let (mut writer, mut chance) = (Writer::default(), Chance(seed));
    writer.text("general.architecture", architecture);
    let key = |name: &str| format!("{architecture}.{name}");
    for (name, value) in [
        ("block_count", layers),
        ("embedding_length", width),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
        ("feed_forward_length", hidden),
        ("context_length", u64::from(context)),
        ("rope.dimension_count", head_dim),
    ] {
        writer.u32(&key(name), value as u32);
    }
    writer.f32(&key("attention.layer_norm_rms_epsilon"), 1e-5).f32(&key("rope.freq_base"), 10_000.0);
    if architecture == "gemma3" {
        writer.u32(&key("attention.sliding_window"), 16);
    }
    let tokens = vocabulary(&mut writer);
    let vector = |chance: &mut Chance, len: u64, around: f32| {
        (0..len).flat_map(|_| (around + chance.float() * 0.2).to_le_bytes()).collect::<Vec<u8>>()
    };
    let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
    writer.tensor("token_embd.weight", &[width, tokens], ty, matrix(&mut chance, tokens, width, ty));
    writer.tensor("output_norm.weight", &[width], 0, vector(&mut chance, width, 1.0));
    for layer in 0..layers {
        let mut add = |name: &str, rows: u64, cols: u64| {
            let bytes = matrix(&mut chance, rows, cols, ty);
            writer.tensor(&format!("blk.{layer}.{name}.weight"), &[cols, rows], ty, bytes);
        };
        if architecture == "phi3" {
            add("attn_qkv", queries + 2 * keys, width);
            add("ffn_up", 2 * hidden, width);
        } else {
            add("attn_q", queries, width);
            add("attn_k", keys, width);
            add("attn_v", keys, width);
            add("ffn_gate", hidden, width);
            add("ffn_up", hidden, width);
        }
        add("attn_output", width, queries);
        add("ffn_down", width, hidden);
        let mut vectors = vec![("attn_norm.weight", width, 1.0), ("ffn_norm.weight", width, 1.0)];
        match architecture {
            "qwen2" => {
                vectors.extend([("attn_q.bias", queries, 0.0), ("attn_k.bias", keys, 0.0), ("attn_v.bias", keys, 0.0)]);
            }
            "qwen3" => vectors.extend([("attn_q_norm.weight", head_dim, 1.0), ("attn_k_norm.weight", head_dim, 1.0)]),
            "gemma3" => vectors.extend([
                ("attn_q_norm.weight", head_dim, 1.0),
                ("attn_k_norm.weight", head_dim, 1.0),
                ("post_attention_norm.weight", width, 1.0),
                ("post_ffw_norm.weight", width, 1.0),
            ]),
            _ => {}
        }
        for (name, len, around) in vectors {
            writer.tensor(&format!("blk.{layer}.{name}"), &[len], 0, vector(&mut chance, len, around));
        }
    }
    writer
}
