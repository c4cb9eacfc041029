//! Runs the models on candle's CPU or a GPU, through the device forms, and tells where their steps ran.

use std::process::ExitCode;

#[cfg(feature = "candle")]
use graphpool::nn::Error;
#[cfg(feature = "candle")]
use graphpool_candle::CandleBackend;

#[cfg(not(feature = "candle"))]
pub fn check(_: &[String], gpu: bool) -> ExitCode {
    let (option, feature) = if gpu { ("--gpu", "cuda or metal") } else { ("--device", "candle") };
    eprintln!("real_models: {option} needs the feature {feature}");
    ExitCode::from(2)
}

/// Models more than a tenth of whose steps have no form for devices: operators of 8 bits, and STFT in a small model.
#[cfg(feature = "candle")]
const ON_HOST: [&str; 6] = ["mel-kaldi", "smart-turn", "captcha", "tashkeel", "rawi", "title-encoder"];

/// Checks the models of these names, or all of them. Fails on a wrong output, and if more than a tenth of a model's
/// steps run on the host, but for those of [`ON_HOST`].
#[cfg(feature = "candle")]
pub fn check(asked: &[String], gpu: bool) -> ExitCode {
    println!(
        "{:<20}{:>5}{:>12}{:>9}{:>9}{:>9}{:>9}{:>11}",
        "model", "rows", "worst", "device", "lists", "host", "uploads", "downloads"
    );
    let (mut fine, mut skipped) = (true, Vec::new());
    for name in crate::MODELS.into_iter().filter(|&name| asked.is_empty() || asked.iter().any(|asked| asked == name)) {
        let record = match crate::record::Record::open(name) {
            Ok(record) => record,
            Err(why) => {
                skipped.push(why);
                continue;
            }
        };
        match run(&record, gpu) {
            Ok((line, right)) => {
                println!("{name:<20}{line}{}", if right { "" } else { "  FAILED" });
                fine &= right;
            }
            Err(error) => {
                println!("{name:<20}{error}");
                fine = false;
            }
        }
    }
    for why in skipped {
        println!("skipped: {why}");
    }
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line of the table, and whether the outputs are right and most steps ran on the device.
#[cfg(feature = "candle")]
fn run(record: &crate::record::Record, gpu: bool) -> Result<(String, bool), Error> {
    let graph = backend(gpu)?.load_graph(&record.model, 1 << 32)?;
    let (worst, mut right) = crate::measure::check(&graph, record)?;
    let report = graph.device_report().unwrap_or_default();
    let all = report.ran_on_device + report.ran_on_lists + report.ran_on_host;
    right &= report.ran_on_host * 10 <= all || ON_HOST.contains(&record.name.as_str());
    let rows = record.rows.len();
    let each = |count: usize| format!("{:.1}", count as f64 / rows as f64);
    let line = format!(
        "{rows:>5}{worst:>12.1e}{:>9}{:>9}{:>9}{:>9}{:>11}",
        each(report.ran_on_device),
        each(report.ran_on_lists),
        each(report.ran_on_host),
        each(report.uploads),
        each(report.downloads)
    );
    Ok((line, right))
}

/// A backend for candle's CPU or the first GPU.
#[cfg(feature = "candle")]
#[cfg_attr(
    any(feature = "cuda", feature = "metal"),
    expect(clippy::unnecessary_wraps, reason = "fails without the features")
)]
fn backend(gpu: bool) -> Result<CandleBackend, Error> {
    match gpu {
        false => Ok(CandleBackend::with_device(candle_core::Device::Cpu)),
        #[cfg(any(feature = "cuda", feature = "metal"))]
        true => Ok(CandleBackend::with_gpu(0)),
        #[cfg(not(any(feature = "cuda", feature = "metal")))]
        true => Err(Error::unsupported("--gpu needs the feature cuda or metal")),
    }
}
