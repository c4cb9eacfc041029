//! Operator fusion: the roles of operators in a fused step, and the packed weights that steps share.

use crate::math::program::{Batch, Binary, Program, Unary};
use crate::ops::node::OpFn;
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The role of an operator in a fused step.
pub(crate) enum FusionRole {
    Anchor(Anchor),
    Follower(Follower),
    Packer(Packer),
    /// Quantizes a whole tensor, which a step of integers can do.
    Quantizer,
    /// Dequantizes one.
    Dequantizer,
}

/// An operator that is not fused but has constant weights, which are packed once.
pub(crate) struct Packer {
    /// The input that has the weights. The step reads it no more.
    pub(crate) input: usize,
    pub(crate) build: BuildPacked,
}

/// Builds the operator with packed weights. `None` if they exceed the budget.
pub(crate) type BuildPacked = Box<dyn Fn(&mut PackedWeights) -> Option<OpFn> + Send + Sync>;

/// Which dimension of the anchor's output is the channel, which the constants of the followers must match.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Channels {
    /// The second of `rank` dimensions is the channel.
    Second { rank: usize },
    /// The last dimension is the channel; `rank` is `None` if it is not known at load.
    Last { rank: Option<usize> },
}

/// Builds the operator of a fused step, whose only input is the first one of the anchor, from the program of the
/// followers. `None` if the packed weights exceed the budget.
pub(crate) type BuildFused = Box<dyn Fn(Program, &mut PackedWeights) -> Option<Fused> + Send + Sync>;

/// A fused step.
pub(crate) struct Fused {
    pub(crate) kernel: OpFn,
    /// Whether it reads and writes values whose channels are the last dimension.
    pub(crate) channels_last: bool,
}

/// The first operator of a fused step: a product by constant weights.
pub(crate) struct Anchor {
    pub(crate) layout: Channels,
    pub(crate) channels: usize,
    pub(crate) build: BuildFused,
    /// Builds the step of integers for quantized operands, if there is one.
    pub(crate) integers: Option<BuildIntegers>,
}

/// Builds a step of integers, whose only input is the quantized one. `None` if the chain has no such step, or if the
/// packed weights exceed the budget.
pub(crate) type BuildIntegers = Box<dyn Fn(&QuantizedChain, &mut PackedWeights) -> Option<OpFn> + Send + Sync>;

/// A product by weights, between a step that dequantizes its operand and one that quantizes its result.
pub(crate) struct QuantizedChain {
    /// The operand's scale and zero point; without one, that is a U8 of 0.
    pub(crate) scale: f32,
    pub(crate) zero: Option<Value>,
    pub(crate) weights: Dequantized,
    pub(crate) bias: Option<Value>,
    /// Whether negative results are 0.
    pub(crate) relu: bool,
    /// The result's scale and zero point; without one, that is a U8 of 0.
    pub(crate) output_scale: f32,
    pub(crate) output_zero: Option<Value>,
}

/// Weights that were dequantized at load.
#[derive(Clone)]
pub(crate) struct Dequantized {
    pub(crate) value: Value,
    pub(crate) scale: Value,
    pub(crate) zero: Option<Value>,
    /// The dimension whose indexes have a scale each, from the last one if it is negative.
    pub(crate) axis: i64,
    /// The result, which is kept so that its address is not reused.
    result: Value,
}

/// Products of 8-bit numbers, each minus its zero point, whose sum fits i32.
const LONGEST_SUM: usize = i32::MAX as usize / (255 * 255);

impl QuantizedChain {
    /// The factors of the sums of a channel each, one or `channels`, and what is added after them. The weights' scales
    /// are for indexes of dimension `axis`.
    pub(crate) fn factors(&self, channels: usize, axis: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        // Sums of more products might wrap around, which those of floats don't.
        if self.weights.value.len() / channels.max(1) > LONGEST_SUM {
            return None;
        }
        let scales = self.weights.scale.elements::<f32>().ok()?;
        let own = self.weights.axis;
        let from_end = axis as i64 - self.weights.value.rank() as i64;
        let fits = |value: &Value| value.len() == 1 || value.rank() == 1 && value.len() == channels;
        let zero = self.weights.zero.as_ref();
        if !fits(&self.weights.scale)
            || !zero.is_none_or(fits)
            || (scales.len() > 1 && own != axis as i64 && own != from_end)
        {
            return None;
        }
        let factors: Vec<f32> = scales.iter().map(|scale| self.scale * scale / self.output_scale).collect();
        let bias = self.bias.as_ref().map(Value::elements::<f32>).transpose().ok()?.unwrap_or_default();
        let addends: Vec<f32> = bias.iter().map(|x| x / self.output_scale).collect();
        let normal = |x: &f32| x.is_finite();
        let right = factors.iter().chain(&addends).all(normal) && (addends.is_empty() || addends.len() == channels);
        right.then_some((factors, addends))
    }

    /// The zero point of the result and its type.
    pub(crate) fn output(&self) -> Option<(i32, ElementType)> {
        let Some(zero) = &self.output_zero else { return Some((0, ElementType::U8)) };
        match zero.ty() {
            ElementType::U8 => Some((i32::from(*zero.elements::<u8>().ok()?.first()?), ElementType::U8)),
            ElementType::I8 => Some((i32::from(*zero.elements::<i8>().ok()?.first()?), ElementType::I8)),
            _ => None,
        }
    }
}

/// A later operator of a fused step, which is elementwise.
pub(crate) enum Follower {
    Unary(Unary),
    Binary(Binary),
    Affine(Batch),
}

/// How weights are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PackLayout {
    /// Not packed.
    Plain,
    /// Panels of each group, for values with channels last: the filters of a convolution with this number of groups.
    Last(usize),
    /// 3×3 filters, transformed.
    Winograd,
    /// Packed A of each group: the filters of a convolution with this number of groups.
    Groups(usize),
    /// Packed B of a product.
    Rows,
    /// Packed B of a product by the transposed matrix.
    Columns,
    /// Bytes that are the right operand of a product of integers.
    ByteColumns,
    /// Bytes that are the left operand of products of integers, one for each of this number of groups.
    ByteGroups(usize),
}

/// Packed weights of 8 bits.
#[derive(Default)]
pub(crate) struct PackedBytes {
    pub(crate) bytes: Vec<u8>,
    /// The sums of the rows of a left operand, or of the columns of a right one.
    pub(crate) sums: Vec<i32>,
}

/// Packed weights, and the tensor that they were packed from, which is kept so that its address is not reused.
struct Pack<T> {
    _weights: Value,
    elements: Arc<T>,
}

/// Packed weights by the address, the dimensions and the layout of the weights.
type Packs<T> = HashMap<(usize, Vec<usize>, PackLayout), Pack<T>>;

/// The packed weights of a model, and the bytes that may still be allocated for them.
pub(crate) struct PackedWeights {
    packed: Packs<Vec<f32>>,
    packed_bytes: Packs<PackedBytes>,
    /// What weights were dequantized from, by the address of the result.
    dequantized: HashMap<usize, Dequantized>,
    /// Bytes of the whole budget.
    total: usize,
    /// Bytes that may still be spent.
    remaining: usize,
    /// Bytes that the operators hold.
    spent: usize,
}

impl PackedWeights {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            packed: HashMap::new(),
            packed_bytes: HashMap::new(),
            dequantized: HashMap::new(),
            total: bytes,
            remaining: bytes,
            spent: 0,
        }
    }

    /// Limits the remaining budget to `bytes`.
    pub(crate) fn limit_to(&mut self, bytes: usize) {
        self.remaining = self.remaining.min(bytes);
    }

    /// Bytes that were spent on packed weights and other constants of operators.
    pub(crate) fn spent(&self) -> usize {
        self.spent
    }

    /// Whether a second form of weights, of `len` elements, leaves half of the budget for the first form of others.
    pub(crate) fn spares(&self, len: usize) -> bool {
        let left = len.checked_mul(size_of::<f32>()).and_then(|bytes| self.remaining.checked_sub(bytes));
        left.is_some_and(|left| left >= self.total / 2)
    }

    /// Spends `bytes` of the budget; `None` if less is left.
    pub(crate) fn spend(&mut self, bytes: usize) -> Option<()> {
        self.remaining = self.remaining.checked_sub(bytes)?;
        self.spent += bytes;
        Some(())
    }

    /// Returns the bytes of `len` elements that no operator holds to the budget.
    pub(crate) fn release(&mut self, len: usize) {
        let bytes = len * size_of::<f32>();
        self.spent = self.spent.saturating_sub(bytes);
        self.remaining += bytes;
    }

    /// An empty list with capacity for `len` elements, charged to the budget; `None` if less is left.
    pub(crate) fn allocate(&mut self, len: usize) -> Option<Vec<f32>> {
        self.spend(len.checked_mul(size_of::<f32>())?)?;
        let mut elements = Vec::new();
        elements.try_reserve_exact(len).ok()?;
        Some(elements)
    }

    /// The weights packed in a layout, `len` elements. `pack_into` runs once for all operators that share them.
    pub(crate) fn packed(
        &mut self,
        weights: &Value,
        layout: PackLayout,
        len: usize,
        pack_into: impl FnOnce(&[f32], &mut Vec<f32>),
    ) -> Option<Arc<Vec<f32>>> {
        let elements = weights.elements::<f32>().ok()?;
        let key = (elements.as_ptr().addr(), weights.dims().to_vec(), layout);
        if let Some(pack) = self.packed.get(&key) {
            return Some(Arc::clone(&pack.elements));
        }
        let mut packed = self.allocate(len)?;
        pack_into(elements, &mut packed);
        let packed = Arc::new(packed);
        self.packed.insert(key, Pack { _weights: weights.clone(), elements: Arc::clone(&packed) });
        Some(packed)
    }

    /// Weights of 8 bits packed in a layout: `len` bytes and `sums` sums. `pack_into` is as in [`packed`](Self::packed).
    pub(crate) fn packed_bytes(
        &mut self,
        (weights, elements): (&Value, &[u8]),
        layout: PackLayout,
        (len, sums): (usize, usize),
        pack_into: impl FnOnce(&mut PackedBytes),
    ) -> Option<Arc<PackedBytes>> {
        let key = (elements.as_ptr().addr(), weights.dims().to_vec(), layout);
        if let Some(pack) = self.packed_bytes.get(&key) {
            return Some(Arc::clone(&pack.elements));
        }
        self.spend(sums.checked_mul(size_of::<i32>())?.checked_add(len)?)?;
        let mut packed = PackedBytes::default();
        packed.bytes.try_reserve_exact(len).ok()?;
        packed.sums.try_reserve_exact(sums).ok()?;
        pack_into(&mut packed);
        let packed = Arc::new(packed);
        self.packed_bytes.insert(key, Pack { _weights: weights.clone(), elements: Arc::clone(&packed) });
        Some(packed)
    }

    /// Keeps what a constant was dequantized from: the inputs of DequantizeLinear.
    pub(crate) fn remember(&mut self, inputs: &[Option<Value>], axis: i64, result: &Value) {
        let (Some(Some(value)), Some(Some(scale))) = (inputs.first(), inputs.get(1)) else { return };
        let zero = inputs.get(2).and_then(Clone::clone);
        if let (ElementType::U8 | ElementType::I8, Ok(elements)) = (value.ty(), result.elements::<f32>()) {
            let (value, scale, result) = (value.clone(), scale.clone(), result.clone());
            self.dequantized.insert(elements.as_ptr().addr(), Dequantized { value, scale, zero, axis, result });
        }
    }

    /// What a constant was dequantized from.
    pub(crate) fn dequantized(&self, value: &Value) -> Option<&Dequantized> {
        let found = self.dequantized.get(&value.elements::<f32>().ok()?.as_ptr().addr())?;
        (found.result.dims() == value.dims()).then_some(found)
    }
}
