//! Matrices of quantized weights, and their products with rows of f32 activations on the caller's thread.
//!
//! [`QuantType`] names the types of ggml that are supported, [`QuantMatrix`] is a matrix of one of them. The weights
//! come from a guest's file: every length is checked, no pointer is cast, and a scale may be any number, NaN among
//! them.
//!
//! * Blocks of all types become tiles of 16 rows when they are loaded ([`tile`]). A [`kernel`] multiplies a tile with
//!   several rows of activations, which are quantized to 8 bits before ([`activations`]). It is compiled for each
//!   vector unit: AVX-512 VNNI (`vnni`), AVX2 (`avx2`), Arm's dot products (`neon`), and any other processor
//!   ([`plain`]). [`processor`] chooses at run time.
//! * F32, F16 and BF16 are kept as they are ([`floats`]) and multiplied in f32 ([`dense`]).
//!
//! A row of a product depends on its own activations alone, not on the rows that are computed beside it: the order of
//! its additions is the same for every number of rows.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for the vector unit")]
#![expect(clippy::doc_markdown, reason = "Q4_0 and the like are names of formats, not of items")]

mod activations;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "one instruction that pulp has no function for")]
mod avx2;
mod columns;
mod dense;
#[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "one instruction that pulp has no function for"))]
mod fetch;
mod floats;
mod kernel;
mod levels;
mod matrix;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
#[expect(unsafe_code, reason = "two instructions that pulp has no functions for")]
mod neon;
mod plain;
mod processor;
mod rows;
mod tile;
mod types;
mod vector;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "two instructions that pulp has no functions for")]
mod vnni;

#[cfg(test)]
mod tests;

pub(crate) use fetch::fetch;
pub(crate) use floats::widen;
pub(crate) use matrix::{QuantMatrix, Scratch};
pub(crate) use rows::RowSource;
pub(crate) use types::QuantType;
