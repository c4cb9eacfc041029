//! The engine of the process.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{env, io, mem};

use graphpool::nn::{Encoding, Engine, Error, ModelSource, Target};
use graphpool_candle::CandleBackend;

use crate::config::Config;

/// Made by the first `init_backend` that succeeds.
static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);

/// Whether refused calls are written to standard error.
static LOG: AtomicBool = AtomicBool::new(false);

/// The engine. If there is none yet, it is made from the environment; what is wrong with that is written to standard
/// error, and the next call tries again.
pub(crate) fn engine() -> Result<Engine, Error> {
    let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = &*engine {
        return Ok(engine.clone());
    }
    let made = make().inspect_err(|error| write(format_args!("init_backend: {}", error.message())))?;
    Ok(engine.insert(made).clone())
}

fn make() -> Result<Engine, Error> {
    let config = Config::read(|name| env::var_os(name))?;
    let backend = match NonZeroUsize::new(config.threads) {
        None | Some(NonZeroUsize::MIN) => CandleBackend::new(),
        Some(threads) => CandleBackend::with_threads(threads)?,
    };
    let engine = Engine::builder(backend).with_limits(config.guest).with_engine_limits(config.engine).build();
    if let Some(directory) = &config.models {
        if config.configs > 0 || !config.watch {
            engine.register_directory(directory, Target::Cpu)?;
            allow_configs(&engine, directory, config.configs)?;
        }
        if config.watch {
            // For as long as the process: it has no end of its own. It follows the names that are taken already.
            mem::forget(engine.watch_directory(directory, Target::Cpu)?);
        }
    }
    // Relaxed: it orders nothing.
    LOG.store(config.log, Ordering::Relaxed);
    Ok(engine)
}

/// Lets guests load each language model of the directory in up to `most` configurations of their own.
fn allow_configs(engine: &Engine, directory: &Path, most: usize) -> Result<(), Error> {
    for model in engine.list_models().into_iter().filter(|model| model.encoding == Encoding::Ggml) {
        let source = ModelSource::path(directory.join(format!("{}.gguf", model.name))).with_guest_configs(most);
        engine.remove_model(&model.name)?;
        engine.register_model(&model.name, source, model.encoding, model.target)?;
    }
    Ok(())
}

/// Reports a call that was refused, if the host wants that.
pub(crate) fn refused(error: &Error) {
    // Relaxed: it orders nothing.
    if LOG.load(Ordering::Relaxed) {
        write(format_args!("{}", error.message()));
    }
}

fn write(line: std::fmt::Arguments<'_>) {
    // A host without standard error does without.
    let _ = writeln!(io::stderr(), "graphpool: {line}");
}
