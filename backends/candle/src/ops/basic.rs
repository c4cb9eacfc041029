//! The families whose operators are not composed of other operators, and may be parts of composed ones.

use graphpool::backend::Error;

use crate::ops::operator::Operator;
use crate::ops::{
    activation, attention, bit_cast, bits, cast, causal_conv, compare, constant, control, conv, conv_transpose,
    cumulative, deform_conv, det, detect, draw, einsum, elementwise, features, flex_attention, gather, labels, layout,
    linear, linear_attention, loss, matmul, norm, order, pad, pattern, pool, pool_lp, quantize, quantized_conv,
    quantized_lstm, quantized_product, recurrent, reduce, resize, rms_norm, rotary, sample, scatter, shape, signal,
    slice, softmax, svm, swiglu, tensor_scatter, top_k, trees,
};

/// The rows of each family.
pub(super) const FAMILIES: [&[Operator]; 53] = [
    activation::OPERATORS,
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
    cumulative::OPERATORS,
    deform_conv::OPERATORS,
    det::OPERATORS,
    detect::OPERATORS,
    draw::OPERATORS,
    einsum::OPERATORS,
    elementwise::OPERATORS,
    features::OPERATORS,
    flex_attention::OPERATORS,
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
    quantize::OPERATORS,
    quantized_conv::OPERATORS,
    quantized_product::OPERATORS,
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
    top_k::OPERATORS,
    trees::OPERATORS,
];

/// Finds the operator of ai.onnx with a name at an opset.
pub(super) fn find(name: &str, opset: i64) -> Result<&'static Operator, Error> {
    let is = |row: &&Operator| row.domain.is_empty() && row.name == name && (row.since..=row.until).contains(&opset);
    let found = FAMILIES.into_iter().flatten().find(is);
    found.ok_or_else(|| Error::unsupported(format!("{name} of opset {opset} is not supported")))
}
