//! How operators become one step: what each row of the table says of it, and the layouts of weights that steps share.

use crate::math::program::{Batch, Binary, Program, Unary};
use crate::ops::node::OpFn;
use crate::tensor::value::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// How an operator takes part.
pub(crate) enum FusionRole {
    Anchor(Anchor),
    Follower(Follower),
}

/// What the constants that follow must fit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Channels {
    /// The second of `rank` dimensions is the channel.
    Second { rank: usize },
    /// The last dimension is; the rank is `rank` where it is known, 1 or more where not.
    Last { rank: Option<usize> },
}

/// Makes the kernel of a chain, which reads the step's first input and nothing else, out of the operators after the
/// anchor. `None` where the weights would take too much memory.
pub(crate) type Build = Box<dyn Fn(Program, &mut PackedWeights) -> Option<OpFn> + Send + Sync>;

/// A step by constant weights.
pub(crate) struct Anchor {
    pub(crate) layout: Channels,
    pub(crate) channels: usize,
    pub(crate) build: Build,
}

/// An elementwise step, but for what it reads.
pub(crate) enum Follower {
    Unary(Unary),
    Binary(Binary),
    Affine(Batch),
}

/// A layout of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PackLayout {
    /// As they are.
    Plain,
    /// Filters of a convolution in so many groups.
    Groups(usize),
    /// The right-hand side of a product.
    Rows,
    /// The same out of the transposed matrix.
    Columns,
}

/// Weights, kept so that their address stays theirs, and their layout.
struct Pack {
    _weights: Value,
    elements: Arc<Vec<f32>>,
}

/// Weights as kernels want them, and what may still be spent on more of them.
pub(crate) struct PackedWeights {
    /// By the address of the weights, their dimensions and their layout.
    made: HashMap<(usize, Vec<usize>, PackLayout), Pack>,
    left: usize,
    /// Bytes that kernels hold.
    spent: usize,
}

impl PackedWeights {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { made: HashMap::new(), left: bytes, spent: 0 }
    }

    /// Spends no more than `bytes` from now on.
    pub(crate) fn limit_to(&mut self, bytes: usize) {
        self.left = self.left.min(bytes);
    }

    /// Bytes that were spent, on layouts and on what else kernels hold.
    pub(crate) fn spent(&self) -> usize {
        self.spent
    }

    /// Takes `bytes` off the budget.
    pub(crate) fn charge(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        self.spent += bytes;
        Some(())
    }

    /// Gives the room of so many elements back, which no kernel has.
    pub(crate) fn release(&mut self, len: usize) {
        let bytes = len * size_of::<f32>();
        self.spent = self.spent.saturating_sub(bytes);
        self.left += bytes;
    }

    /// Room for `len` elements that are in no other pack, where the budget has it.
    pub(crate) fn allocate(&mut self, len: usize) -> Option<Vec<f32>> {
        self.charge(len.checked_mul(size_of::<f32>())?)?;
        let mut room = Vec::new();
        room.try_reserve_exact(len).ok()?;
        Some(room)
    }

    /// The weights in a layout, of `len` elements, made by `lay` once for all that use them.
    pub(crate) fn get_or_pack(
        &mut self,
        weights: &Value,
        way: PackLayout,
        len: usize,
        lay: impl FnOnce(&[f32], &mut Vec<f32>),
    ) -> Option<Arc<Vec<f32>>> {
        let elements = weights.elements::<f32>().ok()?;
        let key = (elements.as_ptr().addr(), weights.dims().to_vec(), way);
        if let Some(pack) = self.made.get(&key) {
            return Some(Arc::clone(&pack.elements));
        }
        let mut room = self.allocate(len)?;
        lay(elements, &mut room);
        let made = Arc::new(room);
        self.made.insert(key, Pack { _weights: weights.clone(), elements: Arc::clone(&made) });
        Some(made)
    }
}
