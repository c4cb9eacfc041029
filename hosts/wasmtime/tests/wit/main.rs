//! The component form, called by components that are made here from text.

mod accounting;
mod backend;
mod cancel;
mod computes;
mod digits;
mod host;
mod leaks;
mod loads;
mod puppet;
mod setup;
mod tensors;
mod world;
