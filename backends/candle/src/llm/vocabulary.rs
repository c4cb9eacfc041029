//! The vocabulary of a model, from the metadata of its file.

use crate::gguf::file::Gguf;
use crate::quote::quote;
use crate::tensor::budget::{LoadBudget, allocation};
use crate::text::strings::StringList;
use crate::text::vocabulary::Vocabulary;
use graphpool::backend::Error;

/// Reads the keys `tokenizer.ggml.*`. What it allocates is charged.
///
/// # Errors
///
/// `InvalidEncoding` for a key of another type than it must have, and `TooLarge` past the budget.
pub(crate) fn read(file: &Gguf<'_>, budget: &mut LoadBudget) -> Result<Vocabulary, Error> {
    let token = |key: &str| -> Result<Option<u32>, Error> {
        // Some files have -1 for a token that the model lacks.
        Ok(file.integer(key)?.and_then(|token| u32::try_from(token).ok()))
    };
    let flag = |key: &str| file.boolean(&format!("tokenizer.ggml.{key}"));
    Ok(Vocabulary {
        name: text(file, "general.name", budget)?,
        model: text(file, "tokenizer.ggml.model", budget)?.unwrap_or_default(),
        pre: text(file, "tokenizer.ggml.pre", budget)?,
        tokens: strings(file, "tokenizer.ggml.tokens", budget)?,
        scores: list(file, "tokenizer.ggml.scores", budget, |array| Some(array.floats()?.map(|score| score as f32)))?,
        types: list(file, "tokenizer.ggml.token_type", budget, |array| {
            Some(array.integers()?.map(|kind| i32::try_from(kind).unwrap_or(0)))
        })?,
        merges: strings(file, "tokenizer.ggml.merges", budget)?,
        bos: token("tokenizer.ggml.bos_token_id")?,
        eos: token("tokenizer.ggml.eos_token_id")?,
        eot: token("tokenizer.ggml.eot_token_id")?,
        eom: token("tokenizer.ggml.eom_token_id")?,
        unk: token("tokenizer.ggml.unknown_token_id")?,
        add_bos: flag("add_bos_token")?,
        add_space_prefix: flag("add_space_prefix")?,
    })
}

/// The most bytes of a short text, such as the name of a tokenizer.
const MAX_TEXT: usize = 256;

fn text(file: &Gguf<'_>, key: &str, budget: &mut LoadBudget) -> Result<Option<String>, Error> {
    let Some(bytes) = file.string(key)? else { return Ok(None) };
    if bytes.len() > MAX_TEXT {
        let why = format!("the key {} has {} bytes, and the limit is {MAX_TEXT}", quote(key), bytes.len());
        return Err(Error::invalid_encoding(why));
    }
    budget.charge(allocation(bytes.len()))?;
    let text = str::from_utf8(bytes);
    text.map(|text| Some(text.to_owned()))
        .map_err(|_| Error::invalid_encoding(format!("the key {} is not UTF-8", quote(key))))
}

fn wrong(key: &str, wanted: &str) -> Error {
    Error::invalid_encoding(format!("the key {} is no array of {wanted}", quote(key)))
}

fn strings(file: &Gguf<'_>, key: &str, budget: &mut LoadBudget) -> Result<StringList, Error> {
    let Some(array) = file.array(key)? else { return Ok(StringList::default()) };
    let strings = || array.strings().ok_or_else(|| wrong(key, "strings"));
    // No overflow: the strings are in the file.
    let bytes = strings()?.map(<[u8]>::len).sum();
    budget.charge(StringList::memory(array.len(), bytes))?;
    let mut list = StringList::with_capacity(array.len(), bytes);
    for string in strings()? {
        if !list.push(string) {
            return Err(Error::too_large(format!("the strings of the key {} have more than 4 GiB", quote(key))));
        }
    }
    Ok(list)
}

fn list<'a, T, I: Iterator<Item = T>>(
    file: &Gguf<'a>,
    key: &str,
    budget: &mut LoadBudget,
    elements: impl FnOnce(&crate::gguf::value::Array<'a>) -> Option<I>,
) -> Result<Vec<T>, Error> {
    let Some(array) = file.array(key)? else { return Ok(Vec::new()) };
    let elements = elements(&array).ok_or_else(|| wrong(key, "such numbers"))?;
    budget.charge(allocation(array.len().saturating_mul(size_of::<T>())))?;
    let mut list = Vec::with_capacity(array.len());
    list.extend(elements);
    Ok(list)
}
