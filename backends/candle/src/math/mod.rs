//! Arithmetic on slices of numbers, without tensors: vector loops, matrix products, fused elementwise operators.
//!
//! * [`product`] is the entry for matrix products. It chooses between the loops of [`simd`] and the crate `gemm`
//!   ([`gemm`](self::gemm)).
//! * [`pack`] multiplies matrices that are packed already: weights, and the patches of a convolution.
//! * [`gathered`] multiplies rows that are gathered from an image whose channels are the last dimension.
//! * [`depthwise`] has convolutions with a filter for each channel, of such an image.
//! * [`winograd`] has the transformations for convolutions by 3×3 filters.
//! * [`program`] describes the elementwise operators after a product, [`epilogue`] executes them.
//! * [`integer`] multiplies matrices of bytes exactly.
//! * [`tiles`] transposes matrices.
//! * [`rows`] sums rows of numbers, [`halves`] converts f16.
//! * [`softmax`] has the loops of Softmax.
//! * [`loops`] compiles loops over slices for the widest vectors.
//! * [`functions`] has exp, tanh, erf and sigmoid for vector loops, [`fourier`] the discrete Fourier transform.

pub(crate) mod depthwise;
pub(crate) mod epilogue;
pub(crate) mod fourier;
pub(crate) mod functions;
pub(crate) mod gathered;
#[expect(unsafe_code, reason = "calls the crate gemm directly; the header of the module has the measurements")]
pub(crate) mod gemm;
pub(crate) mod halves;
pub(crate) mod integer;
pub(crate) mod loops;
pub(crate) mod pack;
pub(crate) mod product;
pub(crate) mod program;
pub(crate) mod rows;
pub(crate) mod simd;
pub(crate) mod softmax;
pub(crate) mod tiles;
pub(crate) mod winograd;
