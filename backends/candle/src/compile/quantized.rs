//! Fuses quantized steps: a step that dequantizes, a product by weights that were dequantized at load, perhaps a Relu,
//! and a step that quantizes become one step of integers.
//!
//! The sums of that step are exact, where those of the floats are rounded. So a result may differ by one where it is
//! near the middle between two integers.

use crate::compile::readers::Readers;
use crate::exec::plan::{Plan, Source, Step};
use crate::math::program::Unary;
use crate::ops::fusion::{Follower, FusionRole, PackedWeights, QuantizedChain};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;

/// The scale and the zero point of a step that quantizes or dequantizes a whole tensor with constants.
fn parameters(step: &Step) -> Option<(f32, Option<Value>)> {
    let (scale, zero) = match step.inputs.as_slice() {
        [_, Source::Constant(scale)] | [_, Source::Constant(scale), Source::Absent] => (scale, None),
        [_, Source::Constant(scale), Source::Constant(zero)] => (scale, Some(zero.clone())),
        _ => return None,
    };
    let &[scale] = scale.elements::<f32>().ok()? else { return None };
    let fits = |zero: &Value| zero.len() == 1 && matches!(zero.ty(), ElementType::U8 | ElementType::I8);
    (scale.is_normal() && zero.as_ref().is_none_or(fits)).then_some((scale, zero))
}

/// The chain from an anchor on.
struct Found {
    kernel: crate::ops::node::OpFn,
    /// The steps that it replaces.
    gone: Vec<usize>,
    /// The slots of its input and of its result.
    input: Source,
    output: usize,
}

/// Replaces each quantized chain in the plan by one step. Weights are packed within the budget of `packs`.
pub(super) fn fuse(plan: &mut Plan, readers: &Readers, packs: &mut PackedWeights) {
    let mut makers = vec![None; plan.slots];
    for (at, step) in plan.steps.iter().enumerate() {
        for slot in step.outputs.iter().flatten() {
            if let Some(maker) = makers.get_mut(*slot) {
                *maker = Some(at);
            }
        }
    }
    let mut gone = vec![false; plan.steps.len()];
    for at in 0..plan.steps.len() {
        let Some(found) = find(plan, at, &makers, readers, packs) else { continue };
        for step in found.gone {
            gone[step] = true;
        }
        if let Some(step) = plan.steps.get_mut(at) {
            step.kernel = found.kernel;
            // The fused kernel's memory is charged to the packed weights.
            step.attribute_bytes = 0;
            step.outputs = vec![Some(found.output)];
            step.inputs = vec![found.input];
            step.role = None;
        }
    }
    if gone.contains(&true) {
        let mut gone = gone.into_iter();
        plan.steps.retain(|_| !gone.next().unwrap_or(false));
        // Removes the steps that dequantized for the chains alone.
        plan.prune();
    }
}

fn find(
    plan: &Plan,
    at: usize,
    makers: &[Option<usize>],
    readers: &Readers,
    packs: &mut PackedWeights,
) -> Option<Found> {
    let step = plan.steps.get(at)?;
    let Some(FusionRole::Anchor(anchor)) = step.role.as_deref() else { return None };
    let build = anchor.integers.as_ref()?;
    let [Source::Slot { index, .. }, Source::Constant(weights), rest @ ..] = step.inputs.as_slice() else {
        return None;
    };
    let bias = match rest {
        [] | [Source::Absent] => None,
        [Source::Constant(bias)] => Some(bias.clone()),
        _ => return None,
    };
    let before = plan.steps.get((*makers.get(*index)?)?)?;
    if !matches!(before.role.as_deref(), Some(FusionRole::Dequantizer)) {
        return None;
    }
    let (scale, zero) = parameters(before)?;
    let (mut gone, mut relu) = (Vec::new(), false);
    let mut next = readers.only(step)?;
    if matches!(plan.steps.get(next)?.role.as_deref(), Some(FusionRole::Follower(Follower::Unary(Unary::Relu)))) {
        relu = true;
        gone.push(next);
        next = readers.only(plan.steps.get(next)?)?;
    }
    let after = plan.steps.get(next)?;
    let (Some(FusionRole::Quantizer), &[Some(output)]) = (after.role.as_deref(), after.outputs.as_slice()) else {
        return None;
    };
    gone.push(next);
    let (output_scale, output_zero) = parameters(after)?;
    let chain = QuantizedChain {
        scale,
        zero,
        weights: packs.dequantized(weights)?.clone(),
        bias,
        relu,
        output_scale,
        output_zero,
    };
    let kernel = build(&chain, packs)?;
    Some(Found { kernel, gone, input: before.inputs.first()?.clone(), output })
}
