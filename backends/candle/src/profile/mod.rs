//! Profiles: how long each step of a model took, and how many bytes it wrote.
//!
//! A host gives a [`collector::Profile`] to a backend. At load the steps of the plan get a [`record::ModelRecord`]
//! there, and each compute adds to it. [`report::ProfileReport`] is a copy of what was collected, which is written as a
//! table, as JSON or as a picture. Names of steps are a guest's bytes: [`text`] makes them plain.

pub(crate) mod collector;
mod json;
pub(crate) mod record;
pub(crate) mod report;
mod svg;
mod table;
mod text;
mod times;
