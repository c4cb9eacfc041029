//! The operators: a table from domain, name and opset to the constructor.
//!
//! Each family of operators has a file, which lists them in `OPERATORS`; [`operators`] gives all of them.

#![expect(clippy::doc_markdown, reason = "operators are named as ONNX names them")]
#![expect(clippy::unnecessary_wraps, reason = "every constructor has the type of the table")]
#![expect(clippy::float_cmp, reason = "comparisons of floats are exact on purpose")]
#![expect(clippy::many_single_char_names, reason = "a, b, m, n and k are the usual names of matrices and their sizes")]
#![expect(clippy::needless_for_each, reason = "a short loop reads better on one line")]

/// The results of an operator.
macro_rules! values {
    ($($value:expr),+ $(,)?) => { smallvec::smallvec![$($value),+] };
}

mod activation;
mod attention;
mod average_pool;
mod basic;
mod batches;
mod bit_cast;
mod bits;
mod broadcast;
mod byte_conv;
mod byte_depthwise;
mod byte_patches;
mod byte_product;
mod bytes;
mod cast;
mod causal_conv;
pub(crate) mod channels;
mod compare;
mod constant;
mod control;
mod conv;
mod conv_double;
mod conv_last;
mod conv_transpose;
mod cumulative;
mod deform_conv;
mod delegate;
mod depthwise;
mod depthwise_last;
mod det;
mod detect;
#[cfg(feature = "candle")]
mod device;
mod draw;
mod einsum;
mod elementwise;
mod equation;
mod features;
mod flex_attention;
mod forest;
mod fused_layers;
pub(crate) mod fusion;
mod gather;
mod heads;
mod integers;
pub(crate) mod labels;
mod layout;
mod linear;
mod linear_attention;
mod linear_sizes;
mod loss;
mod matmul;
mod microsoft_attention;
mod microsoft_heads;
mod modifiers;
pub(crate) mod node;
mod norm;
pub(crate) mod operator;
mod order;
mod packed_steps;
mod pad;
mod patches;
mod pattern;
mod pool;
mod pool_last;
mod pool_lp;
mod pool_rows;
mod qlinear;
mod quantize;
mod quantize_bytes;
mod quantized_conv;
mod quantized_lstm;
mod quantized_product;
mod real;
mod recurrent;
mod reduce;
mod reduce_f32;
mod reduced;
mod requantize;
mod rescale;
mod resize;
mod resize_coordinates;
mod resize_filter;
mod resize_rows;
mod rms_norm;
mod rnn_cells;
mod rotary;
mod sample;
mod sampler;
mod scatter;
mod scores;
mod select;
mod shape;
mod signal;
mod slice;
mod softmax;
mod svm;
mod swiglu;
mod tensor_scatter;
mod top;
mod top_k;
mod transpose;
mod trees;
mod weighted;
mod window;
mod winograd;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ops::operator::Operator;

/// The families whose operators are composed of other operators.
const COMPOSITES: [&[Operator]; 3] = [fused_layers::OPERATORS, microsoft_attention::OPERATORS, qlinear::OPERATORS];

/// Every operator that is supported, by family.
///
/// *Work* decides whether constants are folded at load: linear work is a few steps for each element that is read or
/// written. *Fused* operators run as one step with others: the first is a product by constant weights, and those after
/// it are elementwise. Operators with a *device* form run on a device (`CandleBackend::with_device`), where the element
/// types are floats, for operators that move or compare elements also booleans and integers.
///
#[doc = include_str!("../operators.md")]
pub fn operators() -> impl Iterator<Item = &'static Operator> {
    basic::FAMILIES.into_iter().chain(COMPOSITES).flatten()
}

/// Finds the operator of a domain and a name at an opset; the error says why there is none.
pub(crate) fn find(domain: &str, name: &str, opset: i64) -> Result<&'static Operator, &'static str> {
    type Table = HashMap<(&'static str, &'static str), Vec<&'static Operator>>;
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let mut table = Table::new();
        for operator in operators() {
            table.entry((operator.domain, operator.name)).or_default().push(operator);
        }
        table
    });
    let rows = TABLE.get(&(domain, name)).ok_or("the operator is not supported")?;
    let row = rows.iter().find(|row| (row.since..=row.until).contains(&opset));
    row.copied().ok_or("the operator is not supported at this opset")
}
