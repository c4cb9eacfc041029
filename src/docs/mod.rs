//! A guide for those who embed the engine, and essays: the design and its reasons, the evidence that it is correct, its
//! limits, and the threat model.

// Its examples run with a backend, which a model checker's build has none of.
#[cfg(all(feature = "nn", not(any(loom, shuttle))))]
#[doc = include_str!("guide.md")]
pub mod guide {}

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
