//! Steps that become one: a convolution or a product by weights, and the elementwise operators after it.
//!
//! Each operator that can be the first of such a chain says so with an [`Anchor`], each that can follow with a
//! [`Follower`]; [`fuse`] finds the chains in a compiled plan. A chain ends where more than one of its values is read
//! by anything outside of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::node::Node;
use super::ops::{self, Kernel};
use super::plan::{Plan, Source};
use super::tail::{Batch, Binary, Constants, LONGEST, Op, Operand, Program, Unary};
use super::value::Value;

/// Readers of a value beyond which a chain does not go on from it.
const READERS: usize = 8;

/// How an operator takes part.
pub(crate) enum Part {
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
pub(crate) type Build = Box<dyn Fn(Program, &mut Packs) -> Option<Kernel> + Send + Sync>;

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
pub(crate) enum Way {
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
pub(crate) struct Packs {
    /// By the address of the weights, their dimensions and their layout.
    made: HashMap<(usize, Vec<usize>, Way), Pack>,
    left: usize,
    /// Bytes that kernels hold.
    spent: usize,
}

impl Packs {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { made: HashMap::new(), left: bytes, spent: 0 }
    }

    /// Spends no more than `bytes` from now on.
    pub(crate) fn leave(&mut self, bytes: usize) {
        self.left = self.left.min(bytes);
    }

    /// Bytes that were spent, on layouts and on what else kernels hold.
    pub(crate) fn spent(&self) -> usize {
        self.spent
    }

    /// Takes `bytes` off the budget.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        self.spent += bytes;
        Some(())
    }

    /// Gives the room of so many elements back, which no kernel has.
    pub(crate) fn free(&mut self, len: usize) {
        let bytes = len * size_of::<f32>();
        self.spent = self.spent.saturating_sub(bytes);
        self.left += bytes;
    }

    /// Room for `len` elements that are in no other pack, where the budget has it.
    pub(crate) fn room(&mut self, len: usize) -> Option<Vec<f32>> {
        self.take(len.checked_mul(size_of::<f32>())?)?;
        let mut room = Vec::new();
        room.try_reserve_exact(len).ok()?;
        Some(room)
    }

    /// The weights in a layout, of `len` elements, made by `lay` once for all that use them.
    pub(crate) fn of(
        &mut self,
        weights: &Value,
        way: Way,
        len: usize,
        lay: impl FnOnce(&[f32], &mut Vec<f32>),
    ) -> Option<Arc<Vec<f32>>> {
        let elements = weights.elements::<f32>().ok()?;
        let key = (elements.as_ptr().addr(), weights.dims().to_vec(), way);
        if let Some(pack) = self.made.get(&key) {
            return Some(Arc::clone(&pack.elements));
        }
        let mut room = self.room(len)?;
        lay(elements, &mut room);
        let made = Arc::new(room);
        self.made.insert(key, Pack { _weights: weights.clone(), elements: Arc::clone(&made) });
        Some(made)
    }
}

/// How a node takes part, if it does.
pub(crate) fn part(domain: &str, name: &str, node: &Node<'_>) -> Option<Part> {
    if !domain.is_empty() {
        return None;
    }
    let follower = match name {
        "Conv" => return ops::conv_anchor(node).map(Part::Anchor),
        "MatMul" => return ops::matmul_anchor(node).map(Part::Anchor),
        "Gemm" => return ops::gemm_anchor(node).map(Part::Anchor),
        "Relu" => Follower::Unary(Unary::Relu),
        "LeakyRelu" => Follower::Unary(Unary::LeakyRelu(node.float("alpha", 0.01).ok()?)),
        "Sigmoid" => Follower::Unary(Unary::Sigmoid),
        "HardSigmoid" => {
            Follower::Unary(Unary::HardSigmoid(node.float("alpha", 0.2).ok()?, node.float("beta", 0.5).ok()?))
        }
        "HardSwish" => Follower::Unary(Unary::HardSwish),
        "Tanh" => Follower::Unary(Unary::Tanh),
        "Erf" => Follower::Unary(Unary::Erf),
        "Gelu" if node.string("approximate", "none").ok()? == "none" => Follower::Unary(Unary::Gelu),
        "Clip" => Follower::Unary(clip(node)?),
        "Add" => Follower::Binary(Binary::Add),
        "Sub" => Follower::Binary(Binary::Sub),
        "Mul" => Follower::Binary(Binary::Mul),
        "Div" => Follower::Binary(Binary::Div),
        "BatchNormalization" => batch(node)?,
        _ => return None,
    };
    Some(Part::Follower(follower))
}

fn clip(node: &Node<'_>) -> Option<Unary> {
    if node.opset < 11 {
        return Some(Unary::Clip(Some(node.float("min", f32::MIN).ok()?), Some(node.float("max", f32::MAX).ok()?)));
    }
    let bound = |index: usize| -> Option<Option<f32>> {
        if !node.has_input(index) {
            return Some(None);
        }
        match node.constant(index)?.elements::<f32>().ok()? {
            [bound] => Some(Some(*bound)),
            _ => None,
        }
    };
    Some(Unary::Clip(bound(1)?, bound(2)?))
}

fn batch(node: &Node<'_>) -> Option<Follower> {
    let list = |index: usize| Constants::of(node.constant(index)?);
    let parameters = [list(1)?, list(2)?, list(3)?, list(4)?];
    Some(Follower::Affine(Batch { parameters, epsilon: node.float("epsilon", 1e-5).ok()? }))
}

impl Anchor {
    /// A constant as an operand of what follows, where it doesn't make the result larger.
    fn operand(&self, value: &Value) -> Option<Operand> {
        let elements = value.elements::<f32>().ok()?;
        let dims = value.dims();
        let (rank, channels) = (dims.len(), self.channels);
        let most = match self.layout {
            Channels::Second { rank } | Channels::Last { rank: Some(rank) } => rank,
            Channels::Last { rank: None } => 1,
        };
        if rank > most {
            return None;
        }
        if let [element] = elements {
            return Some(Operand::Scalar(*element));
        }
        let place = match self.layout {
            Channels::Second { rank: full } => (rank + 1).checked_sub(full)?,
            Channels::Last { .. } => rank.checked_sub(1)?,
        };
        let fits = elements.len() == channels && dims.get(place) == Some(&channels);
        if fits { Constants::of(value).map(Operand::Channels) } else { None }
    }

    /// The operator of a step, where all that it reads is among `registers` or constant.
    fn follow(&self, follower: &Follower, inputs: &[Source], registers: &HashMap<usize, usize>) -> Option<Op> {
        let register = |source: &Source| match source {
            Source::Slot { index, .. } => registers.get(index).copied(),
            _ => None,
        };
        let [first, rest @ ..] = inputs else { return None };
        Some(match follower {
            Follower::Unary(unary) => Op::Unary(*unary, register(first)?),
            Follower::Affine(batch) => {
                let fits = batch.channels() == Some(self.channels) && matches!(self.layout, Channels::Second { .. });
                Op::Affine(fits.then(|| register(first))??, batch.clone())
            }
            Follower::Binary(binary) => {
                let operand = |source: &Source| match source {
                    Source::Constant(value) => self.operand(value),
                    source => register(source).map(Operand::Register),
                };
                Op::Binary(*binary, operand(first)?, operand(rest.first()?)?)
            }
        })
    }
}

/// What a chain came to.
struct Chain {
    program: Program,
    /// The steps that are part of it, besides the first.
    steps: Vec<usize>,
    /// The slot of its result.
    slot: usize,
}

/// Makes one step of each chain.
pub(crate) fn fuse(plan: &mut Plan, packs: &mut Packs) {
    const OUTSIDE: usize = usize::MAX;
    if !plan.steps.iter().any(|step| matches!(step.part.as_deref(), Some(Part::Anchor(_)))) {
        plan.steps.iter_mut().for_each(|step| step.part = None);
        return;
    }
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); plan.slots];
    let inputs = plan.steps.iter().enumerate().flat_map(|(at, step)| step.inputs.iter().map(move |input| (at, input)));
    for (at, source) in inputs.chain(plan.outputs.iter().map(|output| (OUTSIDE, output))) {
        if let Source::Slot { index, .. } = source
            && let Some(readers) = readers.get_mut(*index)
        {
            readers.push(at);
        }
    }
    let mut gone = vec![false; plan.steps.len()];
    for at in 0..plan.steps.len() {
        let Some(step) = plan.steps.get(at) else { continue };
        let (Some(Part::Anchor(anchor)), [Some(slot)]) = (step.part.as_deref(), step.outputs.as_slice()) else {
            continue;
        };
        let chain = follow(plan, anchor, *slot, &readers, &gone);
        let Some(kernel) = (anchor.build)(chain.program, packs) else { continue };
        for step in chain.steps {
            gone[step] = true;
        }
        if let Some(step) = plan.steps.get_mut(at) {
            step.kernel = kernel;
            // All that it holds is the packs'.
            step.held = 0;
            step.outputs = vec![Some(chain.slot)];
            step.inputs.truncate(1);
        }
    }
    let mut gone = gone.into_iter();
    plan.steps.retain(|_| !gone.next().unwrap_or(false));
    for step in &mut plan.steps {
        step.part = None;
    }
}

/// The longest chain from `slot` on with one result.
fn follow(plan: &Plan, anchor: &Anchor, slot: usize, readers: &[Vec<usize>], gone: &[bool]) -> Chain {
    let mut best = Chain { program: Program::default(), steps: Vec::new(), slot };
    let (mut ops, mut steps, mut slots) = (Vec::new(), Vec::new(), vec![slot]);
    let mut registers = HashMap::from([(slot, 0)]);
    let readers_of = |slot: usize| readers.get(slot).map_or(&[][..], Vec::as_slice);
    let mut next: BTreeSet<usize> = BTreeSet::new();
    let reach = |slot: usize, next: &mut BTreeSet<usize>| {
        let readers = readers_of(slot);
        if readers.len() <= READERS {
            next.extend(readers);
        }
    };
    reach(slot, &mut next);
    while let Some(at) = next.pop_first()
        && ops.len() < LONGEST
    {
        let Some(step) = plan.steps.get(at).filter(|_| gone.get(at) == Some(&false)) else { continue };
        let (Some(Part::Follower(follower)), [Some(made)]) = (step.part.as_deref(), step.outputs.as_slice()) else {
            continue;
        };
        let Some(op) = anchor.follow(follower, &step.inputs, &registers) else { continue };
        ops.push(op);
        steps.push(at);
        slots.push(*made);
        registers.insert(*made, ops.len());
        reach(*made, &mut next);
        // The values that something else than the chain reads.
        let outside = |slot: &usize| readers_of(*slot).iter().any(|reader| !steps.contains(reader));
        let mut results = slots.iter().enumerate().filter(|(_, slot)| outside(slot));
        if let (Some((result, &slot)), None) = (results.next(), results.next()) {
            best = Chain { program: Program { ops: ops.clone(), result }, steps: steps.clone(), slot };
        }
    }
    best
}
