//! Steps that become one: a convolution or a product by weights, and the elementwise operators after it.
//!
//! Each operator that can be the first of such a chain says so with an [`Anchor`], each that can follow with a
//! [`Follower`]; [`fuse`] finds the chains in a compiled plan. A chain ends where more than one of its values is read
//! by anything outside of it.

use std::collections::{BTreeSet, HashMap};

use crate::exec::plan::{Plan, Source};
use crate::math::program::{Constants, LONGEST, Op, Operand, Program};
use crate::ops::fusion::{Anchor, Channels, Follower, FusionRole, PackedWeights};
use crate::ops::node::Node;
use crate::ops::operator::{Fusion, Operator};
use crate::tensor::value::Value;

/// Readers of a value beyond which a chain does not go on from it.
const READERS: usize = 8;

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

/// How a node becomes one step with others, if it does.
pub(crate) fn role(operator: &Operator, node: &Node<'_>) -> Option<FusionRole> {
    match operator.fusion {
        Fusion::None => None,
        Fusion::Anchor(anchor) => anchor(node).map(FusionRole::Anchor),
        Fusion::Follower(follower) => follower(node).map(FusionRole::Follower),
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
pub(crate) fn fuse(plan: &mut Plan, packs: &mut PackedWeights) {
    const OUTSIDE: usize = usize::MAX;
    if !plan.steps.iter().any(|step| matches!(step.role.as_deref(), Some(FusionRole::Anchor(_)))) {
        plan.steps.iter_mut().for_each(|step| step.role = None);
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
        let (Some(FusionRole::Anchor(anchor)), [Some(slot)]) = (step.role.as_deref(), step.outputs.as_slice()) else {
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
        // The values that something else than the chain reads.
        let outside = |slot: &usize| readers_of(*slot).iter().any(|reader| !steps.contains(reader));
        let mut results = slots.iter().enumerate().filter(|(_, slot)| outside(slot));
        if let (Some((result, &slot)), None) = (results.next(), results.next()) {
            best = Chain { program: Program { ops: ops.clone(), result }, steps: steps.clone(), slot };
        }
    }
    best
}
