//! graphpool for C: the functions, structures and rules of `include/graphpool.h`, which is made from this package.
//!
//! Rust programs use the package `graphpool` itself. The functions here are the ones that the header declares, and its
//! text is the text of their documentation.

#![allow(clippy::doc_markdown, reason = "the documentation is the header's text, which is no Markdown")]
#![allow(clippy::missing_safety_doc, reason = "the header states the rules for pointers once for all functions")]
#![allow(non_camel_case_types, reason = "the names are C's: gp_engine and the like")]

// For what the tests of this package share.
#[cfg(test)]
extern crate self as graphpool_c;

mod backends;
mod call;
mod code;
mod engine;
mod guest;
mod host;
mod inference;
mod jobs;
mod limits;
mod lists;
mod models;
mod numbers;
mod paths;
mod resolver;
mod single;
mod starts;
mod version;
mod watch;

pub use backends::*;
pub use code::*;
pub use engine::*;
pub use guest::*;
pub use host::*;
pub use inference::*;
pub use jobs::*;
pub use limits::*;
pub use lists::*;
pub use models::*;
pub use numbers::*;
pub use resolver::*;
pub use single::*;
pub use starts::*;
pub use version::*;
pub use watch::*;

// A pointer of C carries a 64-bit handle.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());
