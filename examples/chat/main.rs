//! A chat with a language model in the terminal, through graphpool's engine as a guest of wasi-nn would have it.
//!
//! ```sh
//! cargo run --release --example chat
//! cargo run --release --example chat -- --prompt "It was a fine day, and Emma"
//! cargo run --release --example chat -- --guests 8
//! cargo run --release --example chat -- .cache/models/smollm2/model.gguf
//! ```
//!
//! The model of the repository continues what it is given in the words of Jane Austen's novels; other models answer.
//! The chat template of a model's file says how a conversation is written for it.
//! Each answer is shown as it is made. `--guests N` has N guests ask at the same time, each on a thread of its own, with
//! one copy of the weights. The table at the end has the speed of each answer and the memory of weights and sessions.
//! `--help` has the options. The exit status is 1 where an answer could not be made, and 2 for a wrong option.

// The backend is no dependency of a loom build, and neither is what the example prints with.
#[cfg(not(loom))]
mod answer;
#[cfg(not(loom))]
mod conversation;
#[cfg(not(loom))]
mod format;
#[cfg(not(loom))]
mod guests;
#[cfg(not(loom))]
mod model;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod report;
#[cfg(not(loom))]
mod style;

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let options = match options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("chat: {error}\nTry --help.");
            return ExitCode::from(2);
        }
    };
    let report = model::open(&options).and_then(|model| match (options.guests, &options.prompt) {
        (1, None) => conversation::talk(&model, &options),
        (1, Some(prompt)) => conversation::ask_once(&model, &options, prompt),
        _ => guests::ask(&model, &options),
    });
    match report {
        Ok(report) => {
            conversation::show(&report.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}
