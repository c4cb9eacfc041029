//! Puts checks into the instructions of a compiled template.
//!
//! The engine charges fuel for what an instruction makes, but it takes a value that holds other values as cheap: a list
//! in a list in a list may be nested without end, and a list that holds another twice, which holds another twice, takes
//! for ever to write or to compare. So each instruction that reads whole values or puts them into others gets a call of
//! the filter [`GUARD`] or [`STORE`] in front of it, with the operands as arguments. The filter gives them back as a
//! list, which is unpacked in their place.

use minijinja::machinery::{Instruction, Instructions};
use std::collections::BTreeSet;

/// The filter that looks at operands. No template can name it.
pub(super) const GUARD: &str = "\u{1}guard";

/// As [`GUARD`], for operands that another value will hold.
pub(super) const STORE: &str = "\u{1}store";

/// As [`GUARD`], for a value and the key of a part of it.
pub(super) const INDEX: &str = "\u{1}index";

/// The number of a filter that the engine keeps in no table.
const NOT_KEPT: u8 = u8::MAX;

/// The operands of an instruction that a check looks at.
#[derive(Debug, Clone, Copy)]
enum Operands {
    /// None of them.
    None,
    /// So many on top of the stack, which the instruction reads whole.
    Read(u16),
    /// The top one, which is the key of a part of the second.
    Index,
    /// So many on top of the stack, which the instruction stores in another value.
    Stored(u16),
    /// The second one, which the instruction stores in the top one.
    StoredInTop,
}

/// The instructions with checks, or the line and the reason for which the template is refused.
pub(super) fn with_checks<'s>(old: &Instructions<'s>) -> Result<Instructions<'s>, (usize, &'static str)> {
    let old_ones = || (0..).map_while(|at| old.get(at).map(|instruction| (at, instruction)));
    let targets: BTreeSet<u32> = old_ones().filter_map(|(_, instruction)| target(instruction)).collect();
    let mut new = Instructions::new(old.name(), old.source());
    // The places at which the old instructions begin, checks included.
    let mut places = Vec::new();
    let mut moved = Vec::new();
    for (at, instruction) in old_ones() {
        let line = old.get_line(at).unwrap_or(0);
        let after_name = at > 0
            && !targets.contains(&at)
            && matches!(old.get(at - 1), Some(Instruction::LoadConst(key)) if key.as_str().is_some());
        let operands = operands(instruction, after_name).map_err(|why| (line, why))?;
        let mut add = |instruction| new.add_with_line(instruction, u16::try_from(line).unwrap_or(u16::MAX));
        let mut check = |filter, count: u16| {
            let first = add(Instruction::ApplyFilter(filter, Some(count), NOT_KEPT));
            add(Instruction::UnpackList(usize::from(count)));
            first
        };
        let first = match operands {
            Operands::None | Operands::Read(0) | Operands::Stored(0) => None,
            Operands::Read(count) => Some(check(GUARD, count)),
            Operands::Index => Some(check(INDEX, 2)),
            Operands::Stored(count) => Some(check(STORE, count)),
            Operands::StoredInTop => {
                let first = add(Instruction::Swap);
                add(Instruction::ApplyFilter(STORE, Some(1), NOT_KEPT));
                add(Instruction::UnpackList(1));
                add(Instruction::Swap);
                Some(first)
            }
        };
        let own = new.add_with_line(instruction.clone(), u16::try_from(line).unwrap_or(u16::MAX));
        places.push(first.unwrap_or(own));
        if target(instruction).is_some() {
            moved.push(own);
        }
    }
    // A jump may go behind the last instruction.
    places.push((0..u32::MAX).find(|&at| new.get(at).is_none()).unwrap_or(0));
    for at in moved {
        if let Some(target) = new.get_mut(at).and_then(target_mut) {
            *target = places.get(*target as usize).copied().ok_or((0, "it jumps out of itself"))?;
        }
    }
    Ok(new)
}

/// Where an instruction may go on.
fn target(instruction: &Instruction<'_>) -> Option<u32> {
    target_mut(&mut instruction.clone()).copied()
}

fn target_mut<'a>(instruction: &'a mut Instruction<'_>) -> Option<&'a mut u32> {
    match instruction {
        Instruction::Iterate(to)
        | Instruction::Jump(to)
        | Instruction::JumpIfFalse(to)
        | Instruction::JumpIfFalseOrPop(to)
        | Instruction::JumpIfTrueOrPop(to)
        | Instruction::BuildMacro(_, to, _) => Some(to),
        _ => None,
    }
}

/// The operands that are checked, or why the template is refused.
fn operands(instruction: &Instruction<'_>, after_name: bool) -> Result<Operands, &'static str> {
    let many = |count: usize| u16::try_from(count).map_err(|_| "a list or a map has more than 65,535 elements");
    let given = |count: &Option<u16>| count.ok_or("arguments by * and ** are not supported");
    Ok(match instruction {
        Instruction::BuildList(Some(count)) | Instruction::BuildTuple(Some(count)) => Operands::Stored(many(*count)?),
        Instruction::BuildMap(count) | Instruction::BuildKwargs(count) => {
            Operands::Stored(many(count.saturating_mul(2))?)
        }
        Instruction::SetAttr(_) => Operands::StoredInTop,
        // A key that the template has written as a string, which is found at once.
        Instruction::GetItem if after_name => Operands::None,
        Instruction::GetItem => Operands::Index,
        Instruction::Add
        | Instruction::Mul
        | Instruction::Eq
        | Instruction::Ne
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::In
        | Instruction::StringConcat
        | Instruction::CompareAndPreserve(_) => Operands::Read(2),
        Instruction::Slice => Operands::Read(4),
        Instruction::Emit => Operands::Read(1),
        // These keep the values that they are called with, or divide by their number.
        Instruction::CallMethod("changed" | "cycle", _) => return Err("loop.changed and loop.cycle are not supported"),
        Instruction::ApplyFilter(_, count, _)
        | Instruction::PerformTest(_, count, _)
        | Instruction::CallFunction(_, count)
        | Instruction::CallMethod(_, count)
        | Instruction::CallObject(count) => Operands::Read(given(count)?),
        Instruction::MergeKwargs(_) | Instruction::UnpackLists(_) => {
            return Err("arguments by * and ** are not supported");
        }
        _ => Operands::None,
    })
}
