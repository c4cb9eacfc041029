//! How the next token is chosen: what a guest may set, with its defaults and ranges.

use graphpool::backend::Error;

/// The most tokens that the window of the penalties may have.
pub(super) const MOST_WINDOW: usize = 1 << 16;

/// How the next token is chosen. The names in the docs are the options of guests.
///
/// The defaults are those of llama.cpp's programs, with a repeat penalty of 1.1 as hosts of wasi-nn have it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SamplerOptions {
    /// `temp`: logits are divided by it. At 0 and below, the token of the highest logit is taken.
    pub(crate) temperature: f32,
    /// `top-k`: only so many tokens of the highest logits; all at 0 and below.
    pub(crate) top_k: i32,
    /// `top-p`: only the fewest tokens whose probabilities have this sum; all from 1.
    pub(crate) top_p: f32,
    /// `min-p`: only tokens with at least this part of the highest probability; all at 0.
    pub(crate) min_p: f32,
    /// `typ-p`: only the most typical tokens whose probabilities have this sum; all from 1.
    pub(crate) typical_p: f32,
    /// `repeat-penalty`: what logits of tokens in the window are divided by, or multiplied with if they are negative.
    pub(crate) repeat_penalty: f32,
    /// `presence-penalty`: what is subtracted from the logit of a token in the window.
    pub(crate) presence_penalty: f32,
    /// `frequency-penalty`: the same for each time that the token is there.
    pub(crate) frequency_penalty: f32,
    /// `repeat-last-n`: tokens in the window of the penalties, from the end of the sequence; none at 0, and for -1 the
    /// most that are supported, 65,536.
    pub(crate) repeat_last_n: i32,
    /// `mirostat`: 0 for none, or version 1 or 2. It replaces top-k, top-p, min-p and typ-p.
    pub(crate) mirostat: i32,
    /// `mirostat-ent`: the surprise per token that mirostat keeps, in bits.
    pub(crate) mirostat_tau: f32,
    /// `mirostat-lr`: the part of its error that mirostat corrects at each token.
    pub(crate) mirostat_eta: f32,
    /// `seed`: the same seed gives the same text. `None` for one that can't be predicted.
    pub(crate) seed: Option<u64>,
    /// `ignore-eos`: tokens that end an answer are never chosen.
    pub(crate) ignore_end: bool,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            repeat_penalty: 1.1,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_last_n: 64,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            seed: None,
            ignore_end: false,
        }
    }
}

impl SamplerOptions {
    /// Checks that each number is in its range.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the option's name, its value and its range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bounds = [
            ("temp", self.temperature, f32::MIN, f32::MAX),
            ("top-p", self.top_p, 0.0, f32::MAX),
            ("min-p", self.min_p, 0.0, 1.0),
            ("typ-p", self.typical_p, 0.0, f32::MAX),
            ("repeat-penalty", self.repeat_penalty, f32::MIN_POSITIVE, f32::MAX),
            ("presence-penalty", self.presence_penalty, f32::MIN, f32::MAX),
            ("frequency-penalty", self.frequency_penalty, f32::MIN, f32::MAX),
            ("mirostat-ent", self.mirostat_tau, 0.0, f32::MAX),
            ("mirostat-lr", self.mirostat_eta, 0.0, 1.0),
        ];
        for (name, value, least, most) in bounds {
            // NaN is in no range.
            if !(least..=most).contains(&value) {
                let range = match (least, most) {
                    (f32::MIN, _) => "a finite number".to_owned(),
                    (f32::MIN_POSITIVE, _) => "a finite number above 0".to_owned(),
                    (_, f32::MAX) => "a finite number from 0".to_owned(),
                    _ => format!("from {least} to {most}"),
                };
                return Err(Error::invalid_argument(format!("{name} is {value}, and must be {range}")));
            }
        }
        if !(0..=2).contains(&self.mirostat) {
            return Err(Error::invalid_argument(format!("mirostat is {}, and must be 0, 1 or 2", self.mirostat)));
        }
        if !(-1..=MOST_WINDOW as i32).contains(&self.repeat_last_n) {
            return Err(Error::invalid_argument(format!(
                "repeat-last-n is {}, and must be from -1 to {MOST_WINDOW}",
                self.repeat_last_n
            )));
        }
        Ok(())
    }

    /// Tokens in the window of the penalties; 0 where no penalty changes anything.
    pub(super) fn window(&self) -> usize {
        let neutral = self.repeat_penalty - 1.0 == 0.0 && self.presence_penalty == 0.0 && self.frequency_penalty == 0.0;
        match self.repeat_last_n {
            _ if neutral => 0,
            ..0 => MOST_WINDOW,
            tokens => tokens as usize,
        }
    }

    /// Candidates that are looked at for each token, of `tokens` tokens.
    pub(super) fn candidates(&self, tokens: usize) -> usize {
        match self.top_k {
            _ if self.temperature <= 0.0 => 0,
            1.. if self.mirostat == 0 => tokens.min(self.top_k as usize),
            _ => tokens,
        }
    }
}
