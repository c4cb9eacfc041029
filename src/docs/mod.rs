//! Essays: the design and its reasons, the evidence that it is correct, its limits, and the threat model.

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("verification.md")]
pub mod verification {}

#[doc = include_str!("mutants.md")]
pub mod mutants {}

#[doc = include_str!("limitations.md")]
pub mod limitations {}

#[doc = include_str!("security.md")]
pub mod security {}
