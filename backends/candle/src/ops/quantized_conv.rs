//! Convolutions of quantized tensors: ConvInteger and QLinearConv. Sums are in i32, which wraps around as in ONNX.

use std::sync::Arc;

use crate::compute::context::ExecContext;
use crate::ops::byte_conv::{ByteConv, ByteFilters};
use crate::ops::bytes::Byte;
use crate::ops::fusion::{BuildIntegers, PackedWeights, Packer};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::ops::requantize::{AsSums, Requantize, Scales};
use crate::ops::rescale::Rescale;
use crate::ops::window::{Window, groups};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(10, "ConvInteger", (2, 4), |node| Ok(conv_integer(Attributes::new(node)?, None)))
        .heavy()
        .packer(|node| packer(node, 1, conv_integer)),
    since(10, "QLinearConv", (8, 9), |node| Ok(quantized_conv(Attributes::new(node)?, None)))
        .heavy()
        .packer(|node| packer(node, 3, quantized_conv)),
];

/// The attributes of a convolution.
struct Attributes {
    window: Window,
    groups: usize,
}

impl Attributes {
    fn new(node: &Node<'_>) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { window: Window::new(node)?, groups: groups(node, "group")? }))
    }
}

fn packer(node: &Node<'_>, input: usize, build: fn(Arc<Attributes>, Option<ByteFilters>) -> OpFn) -> Option<Packer> {
    let (attributes, weights) = (Attributes::new(node).ok()?, node.constant(input)?.clone());
    let build = move |packs: &mut PackedWeights| {
        let filters = ByteFilters::new(&weights, attributes.groups, packs)?;
        Some(build(Arc::clone(&attributes), Some(filters)))
    };
    Some(Packer { input, build: Box::new(build) })
}

fn conv_integer(attributes: Arc<Attributes>, filters: Option<ByteFilters>) -> OpFn {
    Box::new(move |args, cx| {
        let zeros = [args.option(2), args.option(3)];
        let Attributes { window, groups } = &*attributes;
        let conv = ByteConv { window, groups: *groups, zeros, bias: None, finish: AsSums };
        Ok(values![conv.run(args.get(0)?, args.option(1), filters.as_ref(), cx)?])
    })
}

fn quantized_conv(attributes: Arc<Attributes>, filters: Option<ByteFilters>) -> OpFn {
    Box::new(move |args, cx| Ok(values![requantized(&args, &attributes, filters.as_ref(), cx)?]))
}

fn requantized(
    args: &Args,
    attributes: &Attributes,
    filters: Option<&ByteFilters>,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let (a, b, y) = (args.get(1)?.elements()?, args.get(4)?.elements()?, args.get(6)?.elements()?);
    let Scales { factors, zero, ty } = Scales::new(a, b, y, args.get(7)?, cx)?;
    let factors = factors.elements::<f32>()?;
    let weights = args.option(3);
    let count = filters.map(ByteFilters::filters).or_else(|| weights?.dims().first().copied());
    if factors.len() != 1 && Some(factors.len()) != count {
        return Err(Error::invalid_argument(format!("{} scales do not fit the filters", factors.len())));
    }
    let bias = args.option(8).map(Value::elements::<i32>).transpose()?;
    let (Attributes { window, groups }, zeros) = (attributes, [Some(args.get(2)?), Some(args.get(5)?)]);
    let groups = *groups;
    let x = args.get(0)?;
    if ty == ElementType::U8 {
        let finish = Requantize::<u8>::new(factors, true, zero);
        ByteConv { window, groups, zeros, bias, finish }.run(x, weights, filters, cx)
    } else {
        let finish = Requantize::<i8>::new(factors, true, zero);
        ByteConv { window, groups, zeros, bias, finish }.run(x, weights, filters, cx)
    }
}

/// Builds the step of integers for a Conv between steps that dequantize and quantize.
pub(super) fn integers(node: &Node<'_>) -> Option<BuildIntegers> {
    let attributes = Attributes::new(node).ok()?;
    Some(Box::new(move |chain, packs| {
        let filters = ByteFilters::new(&chain.weights.value, attributes.groups, packs)?;
        let (factors, addends) = chain.factors(filters.filters(), 0)?;
        let (zero, ty) = chain.output()?;
        packs.spend((factors.len() + addends.len()) * size_of::<f32>())?;
        let zeros = [chain.zero.clone(), chain.weights.zero.clone()];
        let (attributes, relu) = (Arc::clone(&attributes), chain.relu);
        Some(if ty == ElementType::U8 {
            let finish = Rescale::<u8>::new((factors, addends), true, zero, relu);
            rescaled(attributes, filters, zeros, finish)
        } else {
            let finish = Rescale::<i8>::new((factors, addends), true, zero, relu);
            rescaled(attributes, filters, zeros, finish)
        })
    }))
}

fn rescaled<B: Byte>(
    attributes: Arc<Attributes>,
    filters: ByteFilters,
    zeros: [Option<Value>; 2],
    finish: Rescale<B>,
) -> OpFn {
    Box::new(move |args, cx| {
        let Attributes { window, groups } = &*attributes;
        let zeros = zeros.each_ref().map(Option::as_ref);
        let conv = ByteConv { window, groups: *groups, zeros, bias: None, finish: &finish };
        Ok(values![conv.run(args.get(0)?, None, Some(&filters), cx)?])
    })
}
