//! The operators: one table from domain, name and opset to what builds them.
//!
//! Each family has a file of its own and lists its operators in a constant; [`operators`] is all of them, for
//! documentation and for the compiler alike.

#![expect(clippy::doc_markdown, reason = "operators are named as ONNX names them")]
#![expect(clippy::unnecessary_wraps, reason = "every constructor has the type that the table wants")]
#![expect(clippy::float_cmp, reason = "where floats are compared, exactly is what is meant")]
#![expect(clippy::many_single_char_names, reason = "a, b, m, n and k are what matrices and their sizes are called")]
#![expect(clippy::needless_for_each, reason = "one line a loop, of which there are many")]

mod activation;
mod attend;
mod attention;
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
mod cum_prod;
mod deform_conv;
mod depthwise;
mod det;
mod detect;
mod draw;
mod einsum;
mod elementwise;
mod features;
mod flex_attention;
mod forest;
mod fourier;
mod fused_layers;
mod gather;
mod heads;
pub(crate) mod labels;
mod layout;
mod linear;
mod linear_attention;
mod lines;
mod loss;
mod matmul;
mod norm;
mod order;
mod pad;
mod pattern;
mod place;
mod pool;
mod pool_lp;
mod qlinear;
mod quantized;
mod quantized_lstm;
mod real;
mod recurrent;
mod reduce;
mod resize;
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
mod within;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::meter::Cx;
use super::node::{Args, Node};
pub(crate) use conv::anchor as conv_anchor;
pub(crate) use norm::batch_scales;
pub(crate) use weighted::{gemm_anchor, matmul_anchor};

use super::value::Value;
use graphpool::backend::Error;

/// The newest version of ai.onnx that the table was written against.
pub const LATEST_OPSET: i64 = 28;

/// What an operator does at run time.
pub(crate) type Kernel = Box<dyn Fn(Args, &Cx<'_>) -> Result<Vec<Value>, Error> + Send + Sync>;

/// Reads a node's attributes and gives what runs it.
pub(crate) type Build = fn(&Node<'_>) -> Result<Kernel, Error>;

/// An operator that the candle backend runs.
#[derive(Debug, Clone, Copy)]
pub struct Operator {
    /// The domain; empty for ai.onnx.
    pub domain: &'static str,
    /// The name.
    pub name: &'static str,
    /// The first opset at which it is supported.
    pub since: i64,
    /// The last one.
    pub until: i64,
    /// The least and the most inputs.
    pub(crate) inputs: (usize, usize),
    pub(crate) build: Build,
}

const MANY: usize = usize::MAX;

/// An operator of ai.onnx from `since` on.
const fn since(since: i64, name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    Operator { domain: "", name, since, until: LATEST_OPSET, inputs, build }
}

/// An operator of ai.onnx from `since` until `until`.
const fn between(since: i64, until: i64, name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    Operator { domain: "", name, since, until, inputs, build }
}

/// The domain of classical machine learning.
const ML: &str = "ai.onnx.ml";

/// The domain of the operators that onnxruntime adds.
const MICROSOFT: &str = "com.microsoft";

/// An operator of ai.onnx.ml.
const fn learning(since: i64, until: i64, name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    Operator { domain: ML, name, since, until, inputs, build }
}

/// An operator of com.microsoft, which has one version.
const fn microsoft(name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    Operator { domain: MICROSOFT, name, since: 1, until: 1, inputs, build }
}

/// Every operator, by family.
pub fn operators() -> impl Iterator<Item = &'static Operator> {
    [
        activation::OPERATORS,
        attend::OPERATORS,
        attention::OPERATORS,
        bit_cast::OPERATORS,
        bits::OPERATORS,
        cast::OPERATORS,
        causal_conv::OPERATORS,
        compare::OPERATORS,
        constant::OPERATORS,
        control::OPERATORS,
        conv::OPERATORS,
        conv_transpose::OPERATORS,
        cum_prod::OPERATORS,
        deform_conv::OPERATORS,
        det::OPERATORS,
        detect::OPERATORS,
        draw::OPERATORS,
        einsum::OPERATORS,
        elementwise::OPERATORS,
        features::OPERATORS,
        flex_attention::OPERATORS,
        fused_layers::OPERATORS,
        gather::OPERATORS,
        labels::OPERATORS,
        layout::OPERATORS,
        linear::OPERATORS,
        linear_attention::OPERATORS,
        loss::OPERATORS,
        matmul::OPERATORS,
        norm::OPERATORS,
        order::OPERATORS,
        pad::OPERATORS,
        pattern::OPERATORS,
        pool::OPERATORS,
        pool_lp::OPERATORS,
        qlinear::OPERATORS,
        quantized::OPERATORS,
        quantized_lstm::OPERATORS,
        recurrent::OPERATORS,
        reduce::OPERATORS,
        resize::OPERATORS,
        rms_norm::OPERATORS,
        rotary::OPERATORS,
        sample::OPERATORS,
        scatter::OPERATORS,
        shape::OPERATORS,
        signal::OPERATORS,
        slice::OPERATORS,
        softmax::OPERATORS,
        svm::OPERATORS,
        swiglu::OPERATORS,
        tensor_scatter::OPERATORS,
        trees::OPERATORS,
    ]
    .into_iter()
    .flatten()
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

/// An axis of a tensor of `rank` dimensions, counted from the end where it is negative.
fn axis(axis: i64, rank: usize) -> Result<usize, Error> {
    let counted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = counted.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
    found.ok_or_else(|| Error::invalid_argument(format!("axis {axis} of {rank} dimensions")))
}

/// A set of axes, sorted, each once.
fn axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, Error> {
    if axes.len() > rank {
        return Err(Error::invalid_argument(format!("{} axes of {rank} dimensions", axes.len())));
    }
    let mut sorted = axes.iter().map(|&one| axis(one, rank)).collect::<Result<Vec<_>, _>>()?;
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Error::invalid_argument("an axis is named twice"));
    }
    Ok(sorted)
}

/// The product of some dimensions of a value; no overflow, as V2 says.
fn product(dims: &[usize]) -> usize {
    dims.iter().product()
}

/// A type that an operator doesn't take.
fn no_type(value: &Value) -> Error {
    Error::unsupported(format!("elements of type {:?} are not supported", value.ty()))
}
