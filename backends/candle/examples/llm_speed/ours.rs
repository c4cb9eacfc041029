//! Our part: an engine, and guests that pass prompts and make texts on a thread each.

use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, EngineLimits, Error, Guest, Limits, ModelSource, Step, Target, TensorType};
use graphpool_candle::CandleBackend;

use crate::options::Options;
use crate::{Measured, Work};

/// The name that guests load the model by.
const NAME: &str = "model";

/// Of which prompts are made, so that each begins otherwise.
const WORDS: [&str; 16] = [
    " the", " sea", " a", " house", " and", " light", " of", " morning", " in", " bread", " was", " old", " to",
    " red", " with", " rain",
];

/// An engine with the model.
pub struct Ours {
    engine: Engine,
}

impl Ours {
    /// Loads the model.
    pub fn load(options: &Options) -> Result<Self, String> {
        let most = options.sessions.iter().copied().max().unwrap_or(1);
        let limits = EngineLimits::default();
        let most = most.max(limits.max_computing());
        let engine = Engine::builder(CandleBackend::new())
            .with_engine_limits(limits.with_max_computing(most))
            .with_limits(Limits::default().with_max_compute_time(Duration::from_mins(10)))
            .build();
        let bytes = fs::read(&options.file).map_err(|error| format!("{}: {error}", options.file.display()))?;
        engine
            .register_model_now(NAME, ModelSource::bytes(bytes), Encoding::Ggml, Target::Cpu)
            .map_err(|error| error.to_string())?;
        Ok(Self { engine })
    }

    /// Measures one work. Another round has other prompts.
    pub fn measure(&self, work: Work, round: usize) -> Result<Measured, String> {
        let measured = match work {
            Work::Prompt(tokens) => self.prompt(tokens, round),
            Work::Generate { sessions, tokens, depth } => self.generate(sessions, tokens, depth, round),
        };
        measured.map_err(|error| error.to_string())
    }

    fn prompt(&self, tokens: usize, round: usize) -> Result<Measured, Error> {
        let guest = self.engine.guest();
        let context = session(&guest, tokens + 8)?;
        let tokens = set_prompt(&guest, context, tokens, round)?;
        let start = Instant::now();
        step(&guest, context)?;
        Ok(Measured { tokens, seconds: start.elapsed().as_secs_f64() })
    }

    fn generate(&self, sessions: usize, tokens: usize, depth: usize, round: usize) -> Result<Measured, Error> {
        let ready = Barrier::new(sessions + 1);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..sessions)
                .map(|number| {
                    let ready = &ready;
                    scope.spawn(move || {
                        let guest = self.engine.guest();
                        let context = session(&guest, depth + tokens + 32).and_then(|context| {
                            set_prompt(&guest, context, depth, round * 64 + number)?;
                            step(&guest, context)?;
                            Ok(context)
                        });
                        ready.wait();
                        let context = context?;
                        (0..tokens).try_for_each(|_| step(&guest, context))
                    })
                })
                .collect();
            ready.wait();
            let start = Instant::now();
            for thread in threads {
                thread.join().unwrap_or_else(|_| Err(Error::runtime_error("a thread panicked")))?;
            }
            Ok(Measured { tokens: sessions * tokens, seconds: start.elapsed().as_secs_f64() })
        })
    }
}

/// A session with room for so many tokens, which always chooses the likeliest and does not end by itself.
fn session(guest: &Guest, tokens: usize) -> Result<GuestHandle, Error> {
    let context = guest.init_execution_context(guest.load_by_name(NAME)?)?;
    set(guest, context, 1, &format!(r#"{{"temp": 0, "ignore-eos": true, "ctx-size": {tokens}}}"#))?;
    Ok(context)
}

/// Sets a prompt of at most `tokens` tokens, and about as many. Returns how many.
fn set_prompt(guest: &Guest, context: GuestHandle, tokens: usize, number: usize) -> Result<usize, Error> {
    let mut state = number;
    let words: Vec<_> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        WORDS[state >> 16 & 15]
    })
    .take(tokens)
    .collect();
    let mut count = tokens;
    loop {
        set(guest, context, 0, &words[..count].concat())?;
        let counted = guest.with_output(context, 1, |counts| {
            let counts = serde_json::from_slice::<serde_json::Value>(counts.data())
                .map_err(|error| Error::runtime_error(error.to_string()))?;
            Ok(counts["input_tokens"].as_u64().unwrap_or_default() as usize)
        })?;
        if counted <= tokens || count == 1 {
            return Ok(counted);
        }
        count = (count * tokens / counted).clamp(1, count - 1);
    }
}

fn set(guest: &Guest, context: GuestHandle, index: u32, text: &str) -> Result<(), Error> {
    let length = u32::try_from(text.len()).map_err(|_| Error::too_large("the text has 4 GiB or more"))?;
    guest.set_input_given(context, index, &[length], TensorType::U8, text.as_bytes())
}

fn step(guest: &Guest, context: GuestHandle) -> Result<(), Error> {
    match guest.compute_single(context)? {
        Step::More => Ok(()),
        step => Err(Error::runtime_error(format!("the text ended with {step:?}"))),
    }
}
