//! The operators: one table from domain, name and opset to what builds them.
//!
//! Each family has a file of its own and lists its operators in a constant; [`operators`] is all of them, for the
//! documentation and for the compiler alike.

#![expect(clippy::doc_markdown, reason = "operators are named as ONNX names them")]
#![expect(clippy::unnecessary_wraps, reason = "every constructor has the type that the table wants")]
#![expect(clippy::float_cmp, reason = "where floats are compared, exactly is what is meant")]
#![expect(clippy::many_single_char_names, reason = "a, b, m, n and k are what matrices and their sizes are called")]
#![expect(clippy::needless_for_each, reason = "one line a loop, of which there are many")]

mod activation;
mod attention;
mod basic;
mod bit_cast;
mod bits;
mod broadcast;
mod cast;
mod causal_conv;
mod compare;
mod constant;
mod control;
mod conv;
mod conv_double;
mod conv_transpose;
mod cumulative;
mod deform_conv;
mod delegate;
mod depthwise;
mod det;
mod detect;
mod draw;
mod einsum;
mod elementwise;
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
mod loss;
mod matmul;
mod max_pool_rows;
mod microsoft_attention;
pub(crate) mod node;
mod norm;
pub(crate) mod operator;
mod order;
mod pad;
mod patches;
mod pattern;
mod pool;
mod pool_lp;
mod qlinear;
mod quantize;
mod quantized_lstm;
mod quantized_product;
mod real;
mod recurrent;
mod reduce;
mod resize;
mod resize_coordinates;
mod resize_filter;
mod rms_norm;
mod rnn_cells;
mod rotary;
mod sample;
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
mod trees;
mod weighted;
mod window;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ops::operator::Operator;

/// The families whose operators are made of others.
const COMPOSITES: [&[Operator]; 3] = [fused_layers::OPERATORS, microsoft_attention::OPERATORS, qlinear::OPERATORS];

/// Every operator that is supported, by family.
///
/// *Work* is what folding constants at load goes by: an operator whose work is linear takes a few steps for each element
/// that it reads or writes. *Fused* operators become one step with others: the first is a product by constant weights,
/// and those after it are elementwise.
///
#[doc = include_str!("../operators.md")]
pub fn operators() -> impl Iterator<Item = &'static Operator> {
    basic::FAMILIES.into_iter().chain(COMPOSITES).flatten()
}

/// The operator of this name at this opset, or why there is none.
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
