//! Arithmetic over slices: vector loops, matrix products, and what is done to a product before it goes to memory.

pub(crate) mod epilogue;
pub(crate) mod fourier;
pub(crate) mod functions;
#[expect(unsafe_code, reason = "the one call into the crate gemm, whose header has what it gains")]
pub(crate) mod gemm;
pub(crate) mod pack;
pub(crate) mod product;
pub(crate) mod program;
pub(crate) mod simd;
