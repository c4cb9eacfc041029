//! What of a template is refused before it is compiled, for the engine's compiler has no fuel.

use super::engine::{failed, syntax};
use graphpool::backend::Error;
use minijinja::machinery::{Token, tokenize};

/// The most words and marks of one expression, and the most times `elif`: the engine makes a tree of them that may be
/// as deep, and goes through it by recursion.
const MAX_PARTS: usize = 2048;
const MAX_CHOICES: usize = 512;

/// Refuses expressions of very many parts, very many `elif`, and a list or a tuple of constants that is multiplied: the
/// compiler computes with constants, and would write out or compare one of any length.
pub(super) fn check(source: &str) -> Result<(), Error> {
    let (mut parts, mut choices) = (Vec::new(), 0);
    for token in tokenize(source, false, syntax()?) {
        let (token, span) = token.map_err(|error| failed(&error))?;
        let refused = |why: &str| {
            let line = span.start_line;
            Err(Error::too_large(format!("the chat template, line {line}: {why}")))
        };
        choices += usize::from(matches!(token, Token::Ident("elif")));
        let is_start = matches!(token, Token::VariableStart | Token::BlockStart);
        let is_end = matches!(token, Token::VariableEnd | Token::BlockEnd);
        if is_start {
            parts.clear();
        } else if is_end && multiplies_constants(&parts) {
            return refused("a list of constants is multiplied");
        } else {
            parts.push(token);
        }
        if parts.len() > MAX_PARTS {
            return refused(&format!("an expression has more than {MAX_PARTS} parts"));
        }
        if choices > MAX_CHOICES {
            return refused(&format!("elif occurs more than {MAX_CHOICES} times"));
        }
    }
    Ok(())
}

/// Whether a list, a map or a tuple of constants alone stands before or behind a `*`.
fn multiplies_constants(parts: &[Token<'_>]) -> bool {
    let times = parts.iter().enumerate().filter(|(_, part)| matches!(part, Token::Mul));
    times.into_iter().any(|(at, _)| {
        let before = group(parts[..at].iter().rev(), is_close, is_open);
        let behind = group(parts[at + 1..].iter(), is_open, is_close);
        // Behind a value, it is a call or the key of a part of the value, and no constant.
        let is_value = at > before && is_end_of_value(&parts[at - before - 1]);
        (!is_value && holds_constants(&parts[at - before..at])) || holds_constants(&parts[at + 1..at + 1 + behind])
    })
}

/// The length of the group in brackets that the parts begin with.
fn group<'a, 's: 'a>(
    parts: impl Iterator<Item = &'a Token<'s>>,
    goes_in: fn(&Token<'_>) -> bool,
    goes_out: fn(&Token<'_>) -> bool,
) -> usize {
    let (mut depth, mut length) = (0_usize, 0);
    for part in parts {
        if goes_in(part) {
            depth += 1;
        } else if goes_out(part) {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 && length == 0 {
            return 0;
        }
        length += 1;
        if depth == 0 {
            break;
        }
    }
    length
}

const fn is_open(part: &Token<'_>) -> bool {
    matches!(part, Token::BracketOpen | Token::ParenOpen | Token::BraceOpen)
}

const fn is_close(part: &Token<'_>) -> bool {
    matches!(part, Token::BracketClose | Token::ParenClose | Token::BraceClose)
}

fn is_end_of_value(part: &Token<'_>) -> bool {
    match part {
        Token::Ident(word) => !matches!(*word, "in" | "and" | "or" | "not" | "if" | "else" | "is"),
        Token::Str(_) | Token::String(_) => true,
        part => is_close(part),
    }
}

/// Whether a group has a list, a map or a tuple, and no variable.
fn holds_constants(group: &[Token<'_>]) -> bool {
    let has_list = group.iter().any(|part| matches!(part, Token::BracketOpen | Token::BraceOpen | Token::Comma))
        || (group.len() == 2 && matches!(group[0], Token::ParenOpen));
    let is_literal = |word: &str| {
        matches!(
            word,
            "true" | "True" | "false" | "False" | "none" | "None" | "and" | "or" | "not" | "in" | "is" | "if" | "else"
        )
    };
    has_list && !group.iter().any(|part| matches!(part, Token::Ident(word) if !is_literal(word)))
}
