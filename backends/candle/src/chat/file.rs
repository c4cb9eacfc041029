//! The template of a GGUF file, from its metadata.

use super::{ChatTemplate, MAX_SOURCE};
use crate::gguf::file::Gguf;
use crate::gguf::source::with_head;
use crate::quote::quote;
use crate::tensor::budget::LoadBudget;
use graphpool::backend::{Error, ModelFile};
use std::path::Path;

/// The key of the template.
const TEMPLATE: &str = "tokenizer.chat_template";

/// The most memory for the metadata of a file: that of the largest vocabularies has 20 MB.
const MEMORY: usize = 256 << 20;

/// The most bytes of a token's text.
const MAX_TOKEN: usize = 256;

impl ChatTemplate {
    /// The template of a GGUF file with the texts of its first and last token, or `None` if the file has none.
    ///
    /// The bytes may be the beginning of the file alone, up to its tensors; the metadata is read and checked.
    ///
    /// # Errors
    ///
    /// Those of [`from_source`](Self::from_source), and
    ///
    /// * [`InvalidEncoding`](graphpool::backend::ErrorKind::InvalidEncoding) for bytes that are no GGUF file.
    /// * [`UnsupportedOperation`](graphpool::backend::ErrorKind::UnsupportedOperation) for a version of the format
    ///   other than 2 and 3, and for tensors of a type that is not known.
    /// * [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) for more than 65,536 keys or tensors.
    pub fn from_gguf(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let mut budget = LoadBudget::new(MEMORY);
        let file = Gguf::read_head(bytes, isize::MAX as usize, &mut budget)?;
        let file = file.ok_or_else(|| Error::invalid_encoding("the GGUF file ends within its header"))?;
        of_file(&file)
    }

    /// As [`from_gguf`](Self::from_gguf), from a file, of which the metadata is read and not the weights.
    ///
    /// # Errors
    ///
    /// Those of [`from_gguf`](Self::from_gguf), [`NotFound`](graphpool::backend::ErrorKind::NotFound) for a file that
    /// can't be opened, and `TooLarge` for metadata of more than 256 MiB.
    pub fn from_gguf_file(path: impl AsRef<Path>) -> Result<Option<Self>, Error> {
        let path = path.as_ref();
        let file = ModelFile::open(path)
            .map_err(|error| Error::not_found(format!("the file {}: {error}", quote(&path.to_string_lossy()))))?;
        with_head(&file, LoadBudget::new(MEMORY), |head, _| of_file(head))
    }
}

fn of_file(file: &Gguf<'_>) -> Result<Option<ChatTemplate>, Error> {
    let Some(source) = file.string(TEMPLATE)? else { return Ok(None) };
    // Before the bytes are looked at.
    if source.len() > MAX_SOURCE {
        let why = format!("the chat template has {} bytes, and the limit is {MAX_SOURCE}", source.len());
        return Err(Error::too_large(why));
    }
    let source = str::from_utf8(source)
        .map_err(|_| Error::invalid_encoding(format!("the key {} is not UTF-8", quote(TEMPLATE))))?;
    let template = ChatTemplate::from_source(source)?;
    Ok(Some(template.with_tokens(token(file, "bos")?, token(file, "eos")?)))
}

/// The text of a token that the file names, or nothing.
fn token(file: &Gguf<'_>, name: &str) -> Result<String, Error> {
    // Some files have -1 for a token that the model lacks.
    let id = file.integer(&format!("tokenizer.ggml.{name}_token_id"))?.and_then(|id| usize::try_from(id).ok());
    let (Some(id), Some(tokens)) = (id, file.array("tokenizer.ggml.tokens")?) else { return Ok(String::new()) };
    let Some(text) = tokens.strings().and_then(|mut strings| strings.nth(id)) else { return Ok(String::new()) };
    let text = str::from_utf8(text).ok().filter(|text| text.len() <= MAX_TOKEN);
    let why = || format!("the {name} token of the GGUF file is not UTF-8 of at most {MAX_TOKEN} bytes");
    text.map(str::to_owned).ok_or_else(|| Error::invalid_encoding(why()))
}
