//! What a guest says about a session in JSON: the keys that programs for llama.cpp's hosts use.
//!
//! A key that is not known is ignored, as in those hosts, so that programs for them run. A key that names a file or an
//! address of the host is refused: a guest has no business with them.

use super::cache::CacheType;
use super::hyper::Pooling;
use crate::quote::quote;
use crate::text::sampler::SamplerOptions;
use graphpool::backend::Error;
use serde_json::{Map, Value};

/// The most bytes of options.
const MAX_BYTES: usize = 1 << 16;

/// The longest context that a guest can ask for, in tokens.
const MAX_CONTEXT: i64 = 1 << 24;

/// Tokens of a prompt that are passed together, unless the guest says otherwise, and the most that it can say.
const CHUNK: usize = 256;
const MAX_CHUNK: i64 = 2048;

/// The most MiB of shared pages.
const MAX_CACHE_RAM: i64 = 1 << 20;

/// Keys that name files or addresses of the host. Those that end in `-` stand for all that begin so.
const OF_HOST: [&str; 21] = [
    "mmproj",
    "image",
    "model",
    "model-alias",
    "model-draft",
    "model-vocoder",
    "model-url",
    "tts-",
    "hf-",
    "prompt-file",
    "path-prompt-cache",
    "slot-save-path",
    "logits-file",
    "out-file",
    "embd-out",
    "lookup-cache-",
    "ssl-",
    "lora",
    "control-vector",
    "port",
    "hostname",
];

/// The options of a session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    /// `ctx-size`: tokens of prompt and text together; `None` for what the model was trained for.
    pub(crate) context: Option<usize>,
    /// `n-predict`: the most tokens of a text; `None` for no bound.
    pub(crate) predict: Option<usize>,
    /// `reverse-prompt`: where it appears, the text ends before it.
    pub(crate) stop: Vec<Vec<u8>>,
    /// `embedding`: the output is the state of the prompt, and not a text.
    pub(crate) embedding: bool,
    /// `pooling`: which state is the embedding; `None` for what the model says.
    pub(crate) pooling: Option<Pooling>,
    /// `rope-freq-base` and `rope-freq-scale`, in place of the model's. They are the graph's.
    pub(crate) rope_base: Option<f32>,
    pub(crate) rope_scale: Option<f32>,
    /// `embd-normalize`: the norm that embeddings are divided by.
    pub(crate) norm: Norm,
    /// `cache-type-k` and `cache-type-v`.
    pub(crate) cache: CacheType,
    /// `ubatch-size`: tokens of a prompt that are passed together.
    pub(crate) chunk: usize,
    /// `cache-ram`, in MiB: the most bytes of pages of prompts that sessions share; `None` for a part of the weights'.
    /// It is the graph's: what an input says of it has no effect.
    pub(crate) prefix_bytes: Option<usize>,
    /// `grammar`: the name of one of the host's grammars, which the text follows. Whether there is such a grammar is not
    /// checked here.
    pub(crate) grammar: Option<String>,
    pub(crate) sampler: SamplerOptions,
}

/// How embeddings are normalized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Norm {
    /// -1.
    None,
    /// 0: so that the largest magnitude is 32,760.
    Largest,
    /// Any other p, that of the p-norm; 2 for the Euclidean.
    Power(f32),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            context: None,
            predict: None,
            stop: Vec::new(),
            embedding: false,
            pooling: None,
            rope_base: None,
            rope_scale: None,
            norm: Norm::Power(2.0),
            cache: CacheType::F16,
            chunk: CHUNK,
            prefix_bytes: None,
            grammar: None,
            sampler: SamplerOptions::default(),
        }
    }
}

impl Options {
    /// These options with those that `json` changes. Blank bytes change none.
    ///
    /// # Errors
    ///
    /// * `InvalidEncoding` for bytes that are no JSON object.
    /// * `InvalidArgument` for a value of the wrong type, or out of its range.
    /// * `UnsupportedOperation` for a key of the host's, and for a value that is not supported.
    /// * `TooLarge` for more than 64 KiB.
    pub(crate) fn with(&self, json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_BYTES {
            let why = format!("the options have {} bytes, and the limit is {MAX_BYTES}", json.len());
            return Err(Error::too_large(why));
        }
        if json.trim_ascii().is_empty() {
            return Ok(self.clone());
        }
        let json = serde_json::from_slice(json)
            .map_err(|error| Error::invalid_encoding(format!("the options are not JSON: {error}")))?;
        let Value::Object(json) = json else {
            return Err(Error::invalid_encoding("the options are JSON, but no object"));
        };
        refuse(&json)?;
        let mut options = self.clone();
        let keys = Keys(&json);
        if let Some(size) = keys.integer("ctx-size", 0..=MAX_CONTEXT)? {
            options.context = (size > 0).then_some(size as usize);
        }
        if let Some(predict) = keys.integer("n-predict", i64::MIN..=i64::MAX)? {
            options.predict = usize::try_from(predict).ok();
        }
        if let Some(stop) = keys.strings("reverse-prompt")? {
            options.stop = stop;
        }
        if let Some(embedding) = keys.boolean("embedding")? {
            options.embedding = embedding;
        }
        if let Some(pooling) = keys.text("pooling")? {
            options.pooling = match pooling {
                "mean" => Some(Pooling::Mean),
                "cls" => Some(Pooling::First),
                "none" | "last" => Some(Pooling::Last),
                other => {
                    let why = format!("the pooling {} is not supported; mean, cls and last are", quote(other));
                    return Err(Error::unsupported(why));
                }
            };
        }
        for (key, place, least, most) in [
            ("rope-freq-base", &mut options.rope_base, 1.0, 1e12),
            ("rope-freq-scale", &mut options.rope_scale, 1e-6, 1e6),
        ] {
            // 0 is for the model's.
            match keys.float(key)? {
                None => {}
                Some(0.0) => *place = None,
                Some(float) if (least..=most).contains(&float) => *place = Some(float),
                Some(float) => {
                    let why = format!("the option {} is {float}, and must be {least} to {most}, or 0", quote(key));
                    return Err(Error::invalid_argument(why));
                }
            }
        }
        if let Some(norm) = keys.integer("embd-normalize", -1..=64)? {
            options.norm = match norm {
                -1 => Norm::None,
                0 => Norm::Largest,
                power => Norm::Power(power as f32),
            };
        }
        if let Some(chunk) = keys.integer("ubatch-size", 1..=MAX_CHUNK)? {
            options.chunk = chunk as usize;
        }
        if let Some(size) = keys.integer("cache-ram", -1..=MAX_CACHE_RAM)? {
            options.prefix_bytes = usize::try_from(size).ok().map(|size| size << 20);
        }
        for key in ["cache-type-k", "cache-type-v"] {
            if let Some(ty) = keys.text(key)? {
                options.cache = match ty {
                    "f16" => CacheType::F16,
                    "f32" => CacheType::F32,
                    other => {
                        let why = format!("the cache type {} is not supported; f16 and f32 are", quote(other));
                        return Err(Error::unsupported(why));
                    }
                };
            }
        }
        match json.get("grammar") {
            None | Some(Value::Null) => {}
            Some(value) if says_nothing(value) => options.grammar = None,
            Some(_) => options.grammar = keys.text("grammar")?.map(str::to_owned),
        }
        keys.sampler(&mut options.sampler)?;
        Ok(options)
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// Refuses keys of the host's, and keys whose absence would mislead. Values that say nothing are let through.
fn refuse(json: &Map<String, Value>) -> Result<(), Error> {
    for (key, value) in json {
        if says_nothing(value) {
            continue;
        }
        let of_host = |name: &&str| if name.ends_with('-') { key.starts_with(*name) } else { key == *name };
        if OF_HOST.iter().any(of_host) {
            let why = format!("the option {} is of the host, and guests can't set it", quote(key));
            return Err(Error::unsupported(why));
        }
        // A session that ignored it would mislead.
        if key == "json-schema" {
            let why =
                if cfg!(feature = "grammar") { "; the option 'grammar' names a grammar of the host's" } else { "" };
            return Err(Error::unsupported(format!("the option 'json-schema' is not supported{why}")));
        }
    }
    Ok(())
}

struct Keys<'a>(&'a Map<String, Value>);

impl<'a> Keys<'a> {
    /// The value of a key; `None` where it is missing or null.
    fn get<T>(&self, key: &str, what: &str, take: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>, Error> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => take(value)
                .map(Some)
                .ok_or_else(|| Error::invalid_argument(format!("the option {} must be {what}", quote(key)))),
        }
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        self.get(key, "true or false", Value::as_bool)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.get(key, "a string", Value::as_str)
    }

    /// A string, or several.
    fn strings(&self, key: &str) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let bytes = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
        self.get(key, "a string or a list of strings", |value| match value {
            Value::Array(values) => values.iter().map(bytes).collect(),
            value => Some(vec![bytes(value)?]),
        })
    }

    fn integer(&self, key: &str, bounds: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, Error> {
        let what = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        self.get(key, &what, |value| value.as_i64().filter(|number| bounds.contains(number)))
    }

    fn float(&self, key: &str) -> Result<Option<f32>, Error> {
        self.get(key, "a number", |value| {
            value.as_f64().map(|number| number as f32).filter(|number| number.is_finite())
        })
    }

    fn sampler(&self, sampler: &mut SamplerOptions) -> Result<(), Error> {
        for (key, place) in [
            ("temp", &mut sampler.temperature),
            ("top-p", &mut sampler.top_p),
            ("min-p", &mut sampler.min_p),
            ("typ-p", &mut sampler.typical_p),
            ("repeat-penalty", &mut sampler.repeat_penalty),
            ("presence-penalty", &mut sampler.presence_penalty),
            ("frequency-penalty", &mut sampler.frequency_penalty),
            ("mirostat-ent", &mut sampler.mirostat_tau),
            ("mirostat-lr", &mut sampler.mirostat_eta),
        ] {
            if let Some(number) = self.float(key)? {
                *place = number;
            }
        }
        // Another name of the same.
        if let Some(number) = self.float("mirostat-eta")? {
            sampler.mirostat_eta = number;
        }
        for (key, place) in [
            ("top-k", &mut sampler.top_k),
            ("repeat-last-n", &mut sampler.repeat_last_n),
            ("mirostat", &mut sampler.mirostat),
        ] {
            if let Some(number) = self.integer(key, i64::from(i32::MIN)..=i64::from(i32::MAX))? {
                *place = number as i32;
            }
        }
        if let Some(ignore) = self.boolean("ignore-eos")? {
            sampler.ignore_end = ignore;
        }
        // -1, also as an unsigned number of 32 bits, asks for a seed of chance.
        if let Some(seed) = self
            .get("seed", "a whole number", |value| value.as_u64().or_else(|| value.as_i64().map(|seed| seed as u64)))?
        {
            let by_chance = seed == u64::MAX || seed == u64::from(u32::MAX);
            sampler.seed = (!by_chance).then_some(seed);
        }
        Ok(())
    }
}
