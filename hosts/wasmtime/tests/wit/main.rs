//! The component form, called by components that are made here from text.

mod backend;
mod cancel;
mod computes;
mod digits;
mod leaks;
mod loads;
mod puppet;
mod setup;
mod tensors;
mod world;
