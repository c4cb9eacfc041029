//! The wasi-nn engine as a host uses it, with backends of the tests' own.

#![cfg(all(feature = "nn", not(any(loom, shuttle))))]

mod admission;
mod backends;
mod calls;
mod closing;
mod concurrency;
mod configs;
#[cfg(feature = "conformance")]
mod conformance;
mod errors;
mod fairness;
mod files;
mod guards;
mod host;
mod infer;
mod inline;
mod lifetime;
mod limits;
mod load_async;
mod load_cancel;
#[cfg(feature = "metrics")]
mod metrics;
mod model_errors;
mod names;
mod observe;
mod oracle;
mod panics;
mod plugins;
mod policy;
#[path = "../regressions/mod.rs"]
mod regressions;
mod reload;
mod resolver;
mod scripted;
mod sharing;
mod single;
mod speaker;
mod streams;
mod suspend;
#[cfg(feature = "watch")]
mod watch;
