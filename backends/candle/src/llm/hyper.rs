//! The hyperparameters of a language model, read from the metadata of its file and checked.
//!
//! Every number has a bound, so that products of two of them can't overflow, and the shape of each tensor follows from
//! them ([`shapes`](super::shapes)).

use crate::gguf::file::{Gguf, wrong_type};
use crate::quote::quote;
use graphpool::backend::Error;

/// What distinguishes the supported architectures from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Llama and what follows it: Mistral, `SmolLM`, `TinyLlama`.
    Llama,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Queries and keys are normalized for each head.
    Qwen3,
    /// As Qwen 3, and the outputs of attention and feed-forward are normalized too; most layers attend to a window.
    Gemma3,
    /// One matrix for queries, keys and values, and one for the two halves of the feed-forward.
    Phi3,
}

impl Family {
    const ALL: [(&'static str, Self); 5] = [
        ("llama", Self::Llama),
        ("qwen2", Self::Qwen2),
        ("qwen3", Self::Qwen3),
        ("gemma3", Self::Gemma3),
        ("phi3", Self::Phi3),
    ];

    /// Whether a rotation turns element `i` with `i + n/2`, and not `2 i` with `2 i + 1`.
    pub(crate) const fn rotates_halves(self) -> bool {
        !matches!(self, Self::Llama)
    }

    /// Whether queries and keys are normalized for each head.
    pub(crate) const fn normalizes_heads(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Gemma3)
    }

    /// Whether the outputs of attention and feed-forward are normalized before they are added.
    pub(crate) const fn normalizes_outputs(self) -> bool {
        matches!(self, Self::Gemma3)
    }

    /// Whether the feed-forward is gated by GELU, and not by `SiLU`.
    pub(crate) const fn gates_by_gelu(self) -> bool {
        matches!(self, Self::Gemma3)
    }

    /// Whether the gate of the feed-forward is the first half of the rows of `ffn_up`.
    pub(crate) const fn fuses_gate(self) -> bool {
        matches!(self, Self::Phi3)
    }
}

/// The rotation of queries and keys by their position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RopeParameters {
    /// Elements of a head that are rotated.
    pub(crate) dims: usize,
    /// The base of the angles.
    pub(crate) base: f32,
    /// Positions are multiplied by it.
    pub(crate) scale: f32,
    /// Rotated elements are multiplied by it.
    pub(crate) magnitude: f32,
    pub(crate) yarn: Option<Yarn>,
}

/// How the scale of positions depends on the frequency: Peng et al., [YaRN](https://arxiv.org/abs/2309.00071).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Yarn {
    /// The part of high frequencies that is not scaled; 1 for all of it.
    pub(crate) extrapolation: f32,
    /// Frequencies of more turns than this in `context` positions are high.
    pub(crate) fast: f32,
    /// Those of fewer turns than this are scaled as a whole.
    pub(crate) slow: f32,
    /// The context that the model was trained for before it was extended.
    pub(crate) context: usize,
}

/// Which state of a prompt is its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The mean of the states of all tokens.
    Mean,
    /// That of the first token.
    First,
    /// That of the last token.
    Last,
}

/// The hyperparameters of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hyperparameters {
    pub(crate) family: Family,
    pub(crate) layers: usize,
    /// Elements of a token's state.
    pub(crate) width: usize,
    /// Heads of queries, a multiple of `kv_heads`.
    pub(crate) heads: usize,
    /// Heads of keys and values.
    pub(crate) kv_heads: usize,
    /// Elements of a head.
    pub(crate) head_dim: usize,
    /// Elements between the two products of the feed-forward.
    pub(crate) hidden: usize,
    /// The longest sequence that the model was trained for.
    pub(crate) context: usize,
    /// Tokens.
    pub(crate) vocabulary: usize,
    /// Added to the mean square in norms.
    pub(crate) epsilon: f32,
    pub(crate) rope: RopeParameters,
    /// The rotation in layers with a window.
    pub(crate) local_rope: RopeParameters,
    /// Positions that a layer with a window attends to, its own included.
    pub(crate) window: Option<usize>,
    /// Of so many layers in a row, the last has no window.
    pub(crate) window_period: usize,
    /// Scores of attention are multiplied by it.
    pub(crate) score_scale: f32,
    /// Embeddings of tokens are multiplied by it.
    pub(crate) embedding_scale: Option<f32>,
    /// What the embedding of a prompt is, unless the options say otherwise.
    pub(crate) pooling: Pooling,
}

impl Hyperparameters {
    /// Reads the hyperparameters.
    ///
    /// # Errors
    ///
    /// * `UnsupportedOperation` for an architecture, or a variant of one, that is not supported.
    /// * `InvalidEncoding` for a key that is missing, or whose value is out of bounds.
    pub(crate) fn read(file: &Gguf<'_>) -> Result<Self, Error> {
        let name = file.string("general.architecture")?.ok_or_else(|| missing("general.architecture"))?;
        let Some(&(name, family)) = Family::ALL.iter().find(|(known, _)| known.as_bytes() == name) else {
            let known = Family::ALL.map(|(name, _)| name).join(", ");
            let name = quote(&String::from_utf8_lossy(name));
            return Err(Error::unsupported(format!("the architecture {name} is not supported; {known} are")));
        };
        let keys = Keys { file, prefix: name };
        if keys.integer("expert_count", 0..=u32::MAX as usize)?.is_some_and(|experts| experts > 0) {
            return Err(Error::unsupported("mixtures of experts are not supported"));
        }
        let layers = keys.required("block_count", 1..=1024)?;
        let width = keys.required("embedding_length", 1..=1 << 18)?;
        let heads = keys.required("attention.head_count", 1..=4096)?;
        let kv_heads = keys.integer("attention.head_count_kv", 1..=4096)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let why = format!("the model has {heads} heads of queries, no multiple of the {kv_heads} of keys");
            return Err(Error::invalid_encoding(why));
        }
        let head_dim = keys.integer("attention.key_length", 1..=1024)?;
        let head_dim = match head_dim {
            Some(head_dim) => head_dim,
            None if width.is_multiple_of(heads) && width / heads <= 1024 => width / heads,
            None => {
                let why =
                    format!("the embedding length {width} divided by {heads} heads must be a whole number up to 1024");
                return Err(Error::invalid_encoding(why));
            }
        };
        let values = keys.integer("attention.value_length", 1..=1024)?.unwrap_or(head_dim);
        if values != head_dim {
            let why = format!("heads of {head_dim} elements for keys and {values} for values are not supported");
            return Err(Error::unsupported(why));
        }
        let hidden = keys.required("feed_forward_length", 1..=1 << 20)?;
        let context = keys.required("context_length", 1..=1 << 24)?;
        let rope = keys.rope(head_dim, context)?;
        if file.boolean(&keys.full("attention.causal"))? == Some(false) {
            return Err(Error::unsupported("attention to later tokens is not supported"));
        }
        let epsilon = keys.float("attention.layer_norm_rms_epsilon", 0.0..=1.0)?;
        let epsilon = epsilon.ok_or_else(|| missing(&keys.full("attention.layer_norm_rms_epsilon")))?;
        let is_gemma = family == Family::Gemma3;
        let window = keys.integer("attention.sliding_window", 0..=1 << 24)?.filter(|&window| window > 0 && is_gemma);
        if keys.float("final_logit_softcapping", 0.0..=1e6)?.is_some_and(|cap| cap > 0.0) {
            return Err(Error::unsupported("logits with a soft cap are not supported"));
        }
        let period = keys.integer("attention.sliding_window_pattern", 1..=1024)?.unwrap_or(GEMMA_PERIOD);
        let local_base = keys.float("rope.freq_base_swa", 1.0..=1e12)?.unwrap_or(10_000.0);
        let by_width = is_gemma && layers == LARGE_GEMMA_LAYERS;
        let scored = if by_width { width as f32 / heads as f32 } else { head_dim as f32 };
        Ok(Self {
            family,
            layers,
            width,
            heads,
            kv_heads,
            head_dim,
            hidden,
            context,
            vocabulary: vocabulary(file)?,
            epsilon,
            rope,
            local_rope: if is_gemma {
                RopeParameters { base: local_base, scale: 1.0, yarn: None, ..rope }
            } else {
                rope
            },
            window,
            window_period: period,
            score_scale: 1.0 / scored.sqrt(),
            embedding_scale: is_gemma.then(|| (width as f32).sqrt()),
            pooling: match keys.integer("pooling_type", 0..=4)? {
                None | Some(0 | 3) => Pooling::Last,
                Some(1) => Pooling::Mean,
                Some(2) => Pooling::First,
                Some(_) => return Err(Error::unsupported("models that rank are not supported")),
            },
        })
    }

    /// Elements of all heads of queries.
    pub(crate) const fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of all heads of keys, and of values.
    pub(crate) const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The positions that a layer attends to, its own included; `None` for all that came before.
    pub(crate) fn window_of(&self, layer: usize) -> Option<usize> {
        self.window.filter(|_| layer % self.window_period != self.window_period - 1)
    }
}

/// Of Gemma 3, each sixth layer has no window.
const GEMMA_PERIOD: usize = 6;

/// Layers of Gemma 3's largest model, whose scores are scaled by the width of a head of the state.
const LARGE_GEMMA_LAYERS: usize = 62;

/// The number of tokens: that of the tokenizer's list.
fn vocabulary(file: &Gguf<'_>) -> Result<usize, Error> {
    const KEY: &str = "tokenizer.ggml.tokens";
    let tokens = file.array(KEY)?.ok_or_else(|| missing(KEY))?.len();
    if (1..=1 << 22).contains(&tokens) {
        return Ok(tokens);
    }
    Err(Error::invalid_encoding(format!("the model has {tokens} tokens, and may have 1 to {}", 1 << 22)))
}

fn missing(key: &str) -> Error {
    Error::invalid_encoding(format!("the GGUF file has no key {}", quote(key)))
}

/// The keys of an architecture, which its name is in front of.
struct Keys<'f, 'a> {
    file: &'f Gguf<'a>,
    prefix: &'static str,
}

impl Keys<'_, '_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn required(&self, key: &str, bounds: std::ops::RangeInclusive<usize>) -> Result<usize, Error> {
        self.integer(key, bounds)?.ok_or_else(|| missing(&self.full(key)))
    }

    /// An integer, or an array with the same integer for each layer.
    fn integer(&self, key: &str, bounds: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, Error> {
        use crate::gguf::value::Value;
        let key = self.full(key);
        let integer = match self.file.value(&key) {
            None => return Ok(None),
            Some(&Value::Integer(integer)) => integer,
            Some(Value::Array(array)) => {
                let mut integers = array.integers().ok_or_else(|| wrong_type(&key, "an array", "an integer"))?;
                let Some(first) = integers.next() else {
                    return Err(Error::invalid_encoding(format!("the key {} is an empty array", quote(&key))));
                };
                if integers.any(|other| other != first) {
                    let why = format!("the key {} differs between layers, which is not supported", quote(&key));
                    return Err(Error::unsupported(why));
                }
                first
            }
            Some(value) => return Err(wrong_type(&key, value.description(), "an integer")),
        };
        match usize::try_from(integer).ok().filter(|integer| bounds.contains(integer)) {
            Some(integer) => Ok(Some(integer)),
            None => Err(Error::invalid_encoding(format!(
                "the key {} is {integer}, and must be {} to {}",
                quote(&key),
                bounds.start(),
                bounds.end()
            ))),
        }
    }

    fn float(&self, key: &str, bounds: std::ops::RangeInclusive<f64>) -> Result<Option<f32>, Error> {
        let key = self.full(key);
        let Some(float) = self.file.float(&key)? else { return Ok(None) };
        if bounds.contains(&float) {
            return Ok(Some(float as f32));
        }
        let (least, most) = bounds.into_inner();
        Err(Error::invalid_encoding(format!("the key {} is {float}, and must be {least} to {most}", quote(&key))))
    }

    fn rope(&self, head_dim: usize, context: usize) -> Result<RopeParameters, Error> {
        let dims = self.integer("rope.dimension_count", 1..=1024)?.unwrap_or(head_dim);
        if dims > head_dim || !dims.is_multiple_of(2) {
            let why =
                format!("{dims} elements of a head are rotated, and must be even and at most the head's {head_dim}");
            return Err(Error::invalid_encoding(why));
        }
        let base = self.float("rope.freq_base", 1.0..=1e12)?.unwrap_or(10_000.0);
        let kind = self.file.string(&self.full("rope.scaling.type"))?.unwrap_or(b"linear");
        let factor = self.float("rope.scaling.factor", FACTORS)?.or(self.float("rope.scale_linear", FACTORS)?);
        let magnitude = self.float("rope.scaling.attn_factor", FACTORS)?.unwrap_or(1.0);
        let yarn = match kind {
            b"none" => return Ok(RopeParameters { dims, base, scale: 1.0, magnitude, yarn: None }),
            b"linear" => None,
            b"yarn" => Some(self.yarn(context)?),
            other => {
                let name = quote(&String::from_utf8_lossy(other));
                return Err(Error::unsupported(format!(
                    "the rope scaling {name} is not supported; none, linear and yarn are"
                )));
            }
        };
        Ok(RopeParameters { dims, base, scale: 1.0 / factor.unwrap_or(1.0), magnitude, yarn })
    }

    fn yarn(&self, context: usize) -> Result<Yarn, Error> {
        if self.float("rope.scaling.yarn_log_multiplier", 0.0..=1e6)?.is_some_and(|multiplier| multiplier > 0.0) {
            return Err(Error::unsupported("the key 'rope.scaling.yarn_log_multiplier' is not supported"));
        }
        let context = self.integer("rope.scaling.original_context_length", 1..=1 << 24)?.unwrap_or(context);
        let float = |key: &str, default: f32| {
            self.float(&format!("rope.scaling.{key}"), 0.0..=1e6).map(|float| float.unwrap_or(default))
        };
        Ok(Yarn {
            extrapolation: float("yarn_ext_factor", 1.0)?,
            fast: float("yarn_beta_fast", 32.0)?,
            slow: float("yarn_beta_slow", 1.0)?,
            context,
        })
    }
}

/// Bounds of factors of a rotation.
const FACTORS: std::ops::RangeInclusive<f64> = 1e-6..=1e6;
