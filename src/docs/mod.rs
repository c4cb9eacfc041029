//! Essays: why the crate is built as it is, what shows that it is right, and where it ends.

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
