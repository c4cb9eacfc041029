//! The core-module form, called by modules that do what a test says.

#![allow(missing_docs, reason = "a test")]
#![cfg(all(feature = "witx", feature = "async"))]

mod asynchronous;
mod backend;
mod digits;
mod hostile;
mod language;
mod layout;
mod lifetimes;
mod memories;
mod options;
mod puppet;
mod single;
#[path = "../../../../tests/nn/speaker.rs"]
mod speaker;
mod threads;
