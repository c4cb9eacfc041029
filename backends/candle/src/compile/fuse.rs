//! Operator fusion: a product by constant weights and the elementwise operators after it become one step.
//!
//! The fused step applies the elementwise operators while the product's result is in the processor's cache, so that
//! results are written to memory once. An operator that can be the first of a chain has an [`Anchor`], an operator that
//! can follow has a [`Follower`]. [`fuse`] finds the chains in a compiled plan. Exactly one value of a chain is read by
//! steps outside of it, or is an output of the plan.

use std::collections::{BTreeSet, HashMap};

use crate::compile::quantized;
use crate::compile::readers::Readers;
use crate::exec::plan::{Plan, Source};
use crate::math::program::{Constants, LONGEST, Op, Operand, Program};
use crate::ops::channels::LastForm;
use crate::ops::fusion::{Anchor, Channels, Follower, Fused, FusionRole, PackedWeights};
use crate::ops::node::Node;
use crate::ops::operator::{Fusion, Operator};
use crate::tensor::value::Value;

/// The most readers of a value through which a chain continues.
const READERS: usize = 8;

impl Anchor {
    /// A constant as an operand of an elementwise operator, if it does not broadcast the result to a larger shape.
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

    /// The operator of a step, if it reads only constants and slots that have a register.
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

/// How a node can be fused with others, if it can.
pub(crate) fn role(operator: &Operator, node: &Node<'_>) -> Option<FusionRole> {
    match operator.fusion {
        Fusion::None => None,
        Fusion::Anchor(anchor) => anchor(node).map(FusionRole::Anchor),
        Fusion::Follower(follower) => follower(node).map(FusionRole::Follower),
        Fusion::Packer(packer) => packer(node).map(FusionRole::Packer),
        Fusion::Quantization(role) => role(node),
    }
}

/// A chain of steps after an anchor.
struct Chain {
    /// The elementwise operators.
    program: Program,
    /// The indexes of the steps that the fused step replaces, without the anchor's.
    steps: Vec<usize>,
    /// The slot of its result.
    slot: usize,
}

/// Replaces each chain in the plan by one step. Weights are packed within the budget of `packs`.
pub(crate) fn fuse(plan: &mut Plan, packs: &mut PackedWeights) {
    pack(plan, packs);
    if !plan.steps.iter().any(|step| matches!(step.role.as_deref(), Some(FusionRole::Anchor(_)))) {
        plan.steps.iter_mut().for_each(|step| step.role = None);
        return;
    }
    quantized::fuse(plan, &Readers::new(plan), packs);
    let readers = Readers::new(plan).into_lists();
    let mut gone = vec![false; plan.steps.len()];
    for at in 0..plan.steps.len() {
        let Some(step) = plan.steps.get(at) else { continue };
        let (Some(FusionRole::Anchor(anchor)), [Some(slot)]) = (step.role.as_deref(), step.outputs.as_slice()) else {
            continue;
        };
        let chain = follow(plan, anchor, *slot, &readers, &gone);
        let rank = match anchor.layout {
            Channels::Second { rank } => rank,
            Channels::Last { .. } => 0,
        };
        let Some(Fused { kernel, channels_last }) = (anchor.build)(chain.program, packs) else { continue };
        for step in chain.steps {
            gone[step] = true;
        }
        if let Some(step) = plan.steps.get_mut(at) {
            step.kernel = kernel;
            step.last = channels_last.then_some(LastForm::Only { rank });
            // The fused kernel's memory is charged to the packed weights.
            step.attribute_bytes = 0;
            step.outputs = vec![Some(chain.slot)];
            step.inputs.truncate(1);
        }
    }
    let mut gone = gone.into_iter();
    plan.steps.retain(|_| !gone.next().unwrap_or(false));
    for step in &mut plan.steps {
        step.role = None;
    }
}

/// Packs the weights of the steps that are not fused.
fn pack(plan: &mut Plan, packs: &mut PackedWeights) {
    for step in &mut plan.steps {
        if let Some(FusionRole::Packer(packer)) = step.role.as_deref()
            && let Some(kernel) = (packer.build)(packs)
        {
            step.kernel = kernel;
            if let Some(input) = step.inputs.get_mut(packer.input) {
                *input = Source::Absent;
            }
            step.role = None;
        }
    }
}

/// The longest chain that starts at `slot`, the anchor's output, and has exactly one result.
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
        let (Some(FusionRole::Follower(follower)), [Some(made)]) = (step.role.as_deref(), step.outputs.as_slice())
        else {
            continue;
        };
        let Some(op) = anchor.follow(follower, &step.inputs, &registers) else { continue };
        ops.push(op);
        steps.push(at);
        slots.push(*made);
        registers.insert(*made, ops.len());
        reach(*made, &mut next);
        // Whether a value is read by a step outside of the chain.
        let outside = |slot: &usize| readers_of(*slot).iter().any(|reader| !steps.contains(reader));
        let mut results = slots.iter().enumerate().filter(|(_, slot)| outside(slot));
        if let (Some((result, &slot)), None) = (results.next(), results.next()) {
            best = Chain { program: Program { ops: ops.clone(), result }, steps: steps.clone(), slot };
        }
    }
    best
}
