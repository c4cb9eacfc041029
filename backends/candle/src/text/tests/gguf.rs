//! The vocabularies of GGUF files.

use crate::gguf::file::Gguf;
use crate::llm::vocabulary::read;
use crate::tensor::budget::LoadBudget;
use crate::text::vocabulary::Vocabulary;

/// The vocabulary of a file.
pub(super) fn vocabulary(file: &[u8]) -> Vocabulary {
    let mut budget = LoadBudget::new(1 << 30);
    read(&Gguf::read(file, &mut budget).unwrap(), &mut budget).unwrap()
}
