//! Products of quantized matrices: MatMulInteger and QLinearMatMul. Sums are in i32, which wraps around as in ONNX.

use crate::compute::context::ExecContext;
use crate::ops::byte_product::{PackedMatrix, multiply};
use crate::ops::bytes::Byte;
use crate::ops::cast::convert;
use crate::ops::fusion::{PackedWeights, Packer, QuantizedChain};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::ops::requantize::{AsSums, Requantize, Scales};
use crate::ops::rescale::Rescale;
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(10, "MatMulInteger", (2, 4), |_| Ok(matmul_integer(None)))
        .heavy()
        .packer(|node| packer(node, 1, |packed| Some(matmul_integer(packed)))),
    since(10, "QLinearMatMul", (8, 8), |_| Ok(quantized_matmul(None)))
        .heavy()
        .packer(|node| packer(node, 3, |packed| Some(quantized_matmul(packed)))),
];

/// Lets an operator pack its right operand, the input at index `input`, if that is a constant matrix.
pub(super) fn packer(node: &Node<'_>, input: usize, build: fn(Option<PackedMatrix>) -> Option<OpFn>) -> Option<Packer> {
    let weights = node.constant(input).filter(|weights| weights.rank() == 2)?.clone();
    let build = move |packs: &mut PackedWeights| build(Some(PackedMatrix::new(&weights, packs)?));
    Some(Packer { input, build: Box::new(build) })
}

fn matmul_integer(packed: Option<PackedMatrix>) -> OpFn {
    Box::new(move |mut args, cx| {
        let operands = (args.take(0)?, args.take(1).ok());
        Ok(values![multiply(operands, packed.as_ref(), [args.option(2), args.option(3)], AsSums, cx)?])
    })
}

fn quantized_matmul(packed: Option<PackedMatrix>) -> OpFn {
    Box::new(move |mut args, cx| Ok(values![requantized(&mut args, packed.as_ref(), cx)?]))
}

fn requantized(args: &mut Args, packed: Option<&PackedMatrix>, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let operands = (args.take(0)?, args.take(3).ok());
    let scale = |value: Value| convert(value, ElementType::F32, cx);
    let (a, b, y) = (scale(args.take(1)?)?, scale(args.take(4)?)?, scale(args.take(6)?)?);
    let Scales { factors, zero, ty } = Scales::new(a.elements()?, b.elements()?, y.elements()?, args.get(7)?, cx)?;
    let columns = match (&operands.1, packed) {
        (_, Some(matrix)) => matrix.dims()[1],
        (Some(b), None) if b.rank() > 1 => b.dims()[b.rank() - 1],
        _ => 1,
    };
    let factors = factors.elements::<f32>()?;
    if factors.len() != 1 && factors.len() != columns {
        return Err(Error::invalid_argument(format!("{} scales do not fit {columns} columns", factors.len())));
    }
    let zeros = [Some(args.get(2)?), Some(args.get(5)?)];
    match ty {
        ElementType::U8 => multiply(operands, packed, zeros, Requantize::<u8>::new(factors, false, zero), cx),
        _ => multiply(operands, packed, zeros, Requantize::<i8>::new(factors, false, zero), cx),
    }
}

/// Builds the step of integers for a MatMul between steps that dequantize and quantize.
pub(super) fn integers(chain: &QuantizedChain, packs: &mut PackedWeights) -> Option<OpFn> {
    let matrix = PackedMatrix::new(&chain.weights.value, packs)?;
    let (factors, addends) = chain.factors(matrix.dims()[1], 1)?;
    let (zero, ty) = chain.output()?;
    packs.spend((factors.len() + addends.len()) * size_of::<f32>())?;
    let zeros = [chain.zero.clone(), chain.weights.zero.clone()];
    Some(match ty {
        ElementType::U8 => rescaled(matrix, zeros, Rescale::<u8>::new((factors, addends), false, zero, chain.relu)),
        _ => rescaled(matrix, zeros, Rescale::<i8>::new((factors, addends), false, zero, chain.relu)),
    })
}

fn rescaled<B: Byte>(matrix: PackedMatrix, zeros: [Option<Value>; 2], finish: Rescale<B>) -> OpFn {
    Box::new(move |mut args, cx| {
        let zeros = zeros.each_ref().map(Option::as_ref);
        Ok(values![multiply((args.take(0)?, None), Some(&matrix), zeros, &finish, cx)?])
    })
}
