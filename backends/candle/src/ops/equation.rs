//! The equation of an Einsum: the names of the dimensions of its operands and of its result.

use crate::ops::node::Node;
use crate::tensor::dims::MAX_RANK;
use graphpool::backend::Error;

/// The name of a dimension: a letter, or an index into the ellipsis, counted from its end.
pub(super) type Name = u32;

/// One term of the equation: the letters before the ellipsis, if any, and those after it.
#[derive(Debug, Clone)]
pub(super) struct Term {
    before: Vec<Name>,
    ellipsis: bool,
    after: Vec<Name>,
}

pub(super) const INVALID_EQUATION: &str = "attribute equation is not a valid equation";

fn term(text: &str) -> Result<Term, Error> {
    let (before, after, ellipsis) = match text.split_once("...") {
        Some((before, after)) => (before, after, true),
        None => (text, "", false),
    };
    let letters = |text: &str| -> Result<Vec<Name>, Error> {
        let letter = |c: char| {
            c.is_ascii_alphabetic().then_some(u32::from(c)).ok_or_else(|| Error::invalid_encoding(INVALID_EQUATION))
        };
        text.chars().map(letter).collect()
    };
    if text.len() > MAX_RANK + 3 {
        return Err(Error::invalid_encoding(INVALID_EQUATION));
    }
    Ok(Term { before: letters(before)?, ellipsis, after: letters(after)? })
}

impl Term {
    /// The names of `rank` dimensions.
    fn names(&self, rank: usize) -> Result<Vec<Name>, Error> {
        let own = self.before.len() + self.after.len();
        let wrong = || Error::invalid_argument(format!("an operand has {rank} dimensions, and its term names {own}"));
        let ellipsis_dims =
            rank.checked_sub(own).filter(|&ellipsis_dims| self.ellipsis || ellipsis_dims == 0).ok_or_else(wrong)?;
        // Counted from the end, as in broadcasting. The numbers of letters are larger.
        let ellipsis_dims = (0..ellipsis_dims as u32).rev();
        Ok(self.before.iter().copied().chain(ellipsis_dims).chain(self.after.iter().copied()).collect())
    }
}

/// An equation: the terms of the operands, and that of the result if it is given.
pub(super) struct Equation {
    terms: Vec<Term>,
    right: Option<Term>,
}

impl Equation {
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Error> {
        let equation: String = node.string("equation", "")?.split_whitespace().collect();
        let (left, right) = match equation.split_once("->") {
            Some((left, right)) => (left, Some(term(right)?)),
            None => (equation.as_str(), None),
        };
        let count = left.split(',').count();
        if count != node.proto.input.len() {
            return Err(Error::invalid_encoding(format!(
                "the equation has {count} terms, and the node has {} inputs",
                node.proto.input.len()
            )));
        }
        Ok(Self { terms: left.split(',').map(term).collect::<Result<Vec<_>, _>>()?, right })
    }

    /// The number of operands.
    pub(super) fn operands(&self) -> usize {
        self.terms.len()
    }

    /// The names of the dimensions of an operand of `rank`.
    pub(super) fn names(&self, operand: usize, rank: usize) -> Result<Vec<Name>, Error> {
        self.terms.get(operand).ok_or_else(|| Error::invalid_encoding(INVALID_EQUATION))?.names(rank)
    }

    /// The names of the dimensions of the result. `all` are those of all operands.
    pub(super) fn output(&self, all: Vec<Name>) -> Result<Vec<Name>, Error> {
        let Some(term) = &self.right else { return Ok(implied(all)) };
        // The ellipsis stands for as many dimensions as in the operands.
        let ellipsis_dims = all.iter().filter(|&&name| name < 32).map(|&name| name as usize + 1).max();
        let ellipsis_dims = if term.ellipsis { ellipsis_dims.unwrap_or(0) } else { 0 };
        term.names(term.before.len() + term.after.len() + ellipsis_dims)
    }
}

/// The output term of an equation without one: the ellipsis, and the letters that occur once, in alphabetical order.
///
/// `all` holds each name as often as it occurs; a letter that a term repeats is summed over the diagonal.
fn implied(mut all: Vec<Name>) -> Vec<Name> {
    all.sort_unstable();
    let ellipsis_dims: Vec<Name> = (0..32).filter(|name| all.contains(name)).rev().collect();
    let once = all.chunk_by(|a, b| a == b).filter(|same| same.len() == 1).flatten().filter(|&&name| name >= 32);
    ellipsis_dims.iter().chain(once).copied().collect()
}

/// The positions of the first two equal names.
pub(super) fn repeated(names: &[Name]) -> Option<(usize, usize)> {
    names.iter().enumerate().find_map(|(first, name)| {
        let second = names.iter().skip(first + 1).position(|other| other == name)?;
        Some((first, first + 1 + second))
    })
}

/// The names that are not left out.
pub(super) fn without(names: &[Name], left_out: &[Name]) -> Vec<Name> {
    names.iter().copied().filter(|name| !left_out.contains(name)).collect()
}
