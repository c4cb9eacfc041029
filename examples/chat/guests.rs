//! Many guests that ask at the same time, and one that asks alone before, to compare with.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use graphpool::nn::Error;
use indicatif::{ProgressBar, ProgressStyle};

use crate::answer::{Answer, answer};
use crate::model::{Model, session_with};
use crate::options::Options;
use crate::report::Report;

/// What the guests ask, in turn, where the command line has no question.
const QUESTIONS: [&str; 4] = [
    "Write a short story about a lighthouse.",
    "Explain how bread is made.",
    "What should I see in Rome?",
    "Describe the seasons of the year.",
];

/// What they begin where the model continues texts.
const BEGINNINGS: [&str; 4] =
    ["It was a fine day, and Emma", "Mr. Darcy looked", "The house was", "Her sister had never"];

/// One guest alone, and then all of them together.
pub fn ask(model: &Model, options: &Options) -> Result<Report, String> {
    let style = "{msg:20} {bar:40} {pos} tokens of at most {len}";
    let style = ProgressStyle::with_template(style).expect("the template is well-formed");
    let run = |guests: usize, message: String| {
        let length = (guests * options.tokens()) as u64;
        let bar = ProgressBar::new(length).with_style(style.clone()).with_message(message);
        let result = together(model, options, guests, &bar);
        bar.finish_and_clear();
        result
    };
    let (alone, _) = run(1, "one guest alone".to_owned())?;
    let (answers, time) = run(options.guests, format!("{} guests together", options.guests))?;
    Ok(Report::of_guests(model, answers, time, alone.into_iter().next()))
}

/// The answers of so many guests, each of which asks on a thread of its own, and the time until the last has ended.
/// Every session is open until then, so that their memory is seen together.
fn together(
    model: &Model,
    options: &Options,
    guests: usize,
    bar: &ProgressBar,
) -> Result<(Vec<Answer>, Duration), String> {
    let ready = Barrier::new(guests + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..guests)
            .map(|number| {
                let ready = &ready;
                scope.spawn(move || {
                    let guest = model.engine.guest();
                    let context = session_with(model, &guest, options, number);
                    ready.wait();
                    let texts = if model.style.continues() { BEGINNINGS } else { QUESTIONS };
                    let question = options.prompt.as_deref().unwrap_or(texts[number % texts.len()]);
                    let prompt = model.style.prompt(&options.system, &[(question.to_owned(), None)])?;
                    answer(&guest, context?, &prompt, |_| bar.inc(1))
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        let answers = threads.into_iter().map(|thread| {
            let answer: Result<_, Error> =
                thread.join().unwrap_or_else(|_| Err(Error::runtime_error("a thread panicked")));
            answer.map_err(|error| error.to_string())
        });
        let answers = answers.collect::<Result<Vec<_>, _>>()?;
        Ok((answers, start.elapsed()))
    })
}
