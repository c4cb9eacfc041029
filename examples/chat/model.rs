//! The engine with one model under a name, whose load is shown.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, Guest, Limits, ModelSource, Target};
use graphpool_candle::{CandleBackend, ChatTemplate};
use indicatif::{ProgressBar, ProgressStyle};

use crate::answer::{count, set};
use crate::format::Format;
use crate::options::Options;
use crate::style::Style;

/// The name that guests load the model by.
const NAME: &str = "chat";

/// The longest time of one step; the first one passes the whole prompt.
const STEP: Duration = Duration::from_mins(10);

/// A model that guests can load.
pub struct Model {
    /// The engine: one for the process.
    pub engine: Engine,
    /// How conversations are written for it.
    pub style: Style,
    /// The name and the length of its file.
    pub file: (String, u64),
    /// How long the load took.
    pub load: Duration,
}

/// Reads the model's file and loads it, with a bar on a terminal.
pub fn open(options: &Options) -> Result<Model, String> {
    let path = options.file.display();
    let start = std::time::Instant::now();
    let file = File::open(&options.file).map_err(|error| format!("{path}: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("{path}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{path} is not a file; a model is one file that ends in .gguf"));
    }
    let length = metadata.len();
    let style = "{msg:18} {bar:40} {binary_bytes} of {binary_total_bytes}";
    let bar = ProgressBar::new(length).with_style(template(style)).with_message("reading the file");
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(|error| error.to_string())?);
    bar.wrap_read(file).read_to_end(&mut bytes).map_err(|error| format!("{path}: {error}"))?;

    let template_of_file = ChatTemplate::from_gguf(&bytes);

    bar.set_style(template("{msg:18} {spinner} {elapsed}"));
    bar.set_message("loading the model");
    bar.enable_steady_tick(Duration::from_millis(100));
    let engine =
        Engine::builder(CandleBackend::new()).with_limits(Limits::default().with_max_compute_time(STEP)).build();
    engine
        .register_model_now(NAME, ModelSource::bytes(bytes), Encoding::Ggml, Target::Cpu)
        .map_err(|error| format!("{path}: {}", causes(&error)))?;
    bar.finish_and_clear();
    let load = start.elapsed();

    let guest = engine.guest();
    let style = match options.format {
        Some(format) => Ok(Style::Format(format)),
        None => style_of(&guest, template_of_file),
    };
    let style = style.map_err(|error| error.to_string())?;
    let name = options.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    drop(guest);
    Ok(Model { engine, style, file: (name, length), load })
}

/// How conversations are written: by the file's template, or in the format whose marks are tokens of the model.
fn style_of(
    guest: &Guest,
    template: Result<Option<ChatTemplate>, graphpool::nn::Error>,
) -> Result<Style, graphpool::nn::Error> {
    let context = session(guest)?;
    let tokens = |text: &str| {
        set(guest, context, 0, text)?;
        Ok(count(guest, context)?.prompt)
    };
    match template {
        // The tokenizer may put the first token in front of every prompt, and then the template must not.
        Ok(Some(template)) if tokens("").is_ok_and(|count| count > 0) => {
            Ok(Style::Template(Box::new(template.without_bos())))
        }
        Ok(Some(template)) => Ok(Style::Template(Box::new(template))),
        Ok(None) => Format::of(tokens).map(Style::Format),
        Err(error) => {
            eprintln!("The template of the file cannot be used: {error}");
            Format::of(tokens).map(Style::Format)
        }
    }
}

/// A session of a guest.
pub fn session(guest: &Guest) -> Result<GuestHandle, graphpool::nn::Error> {
    guest.init_execution_context(guest.load_by_name(NAME)?)
}

/// A session with the options of the command line.
pub fn session_with(
    model: &Model,
    guest: &Guest,
    options: &Options,
    number: usize,
) -> Result<GuestHandle, graphpool::nn::Error> {
    let context = session(guest)?;
    set(guest, context, 1, &options.session(number, model.style.stop()))?;
    Ok(context)
}

/// An error and what has caused it.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the template is well-formed")
}
