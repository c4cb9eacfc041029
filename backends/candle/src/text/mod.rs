//! Text for language models: bytes to tokens and back, and the choice of the next token.
//!
//! * [`vocabulary`]: what a GGUF file says about its tokens, as plain data.
//! * [`tokenizer`]: a prompt's bytes to tokens, and a token to its bytes.
//! * [`sampler`]: the next token from a model's logits.
//! * [`stop`]: the end of a text at a string that its reader gave.
//!
//! A vocabulary and a prompt are a guest's. Nothing in them makes the process panic, and the time of each call is at
//! most n log n in the length of its input.

mod bpe;
mod characters;
mod index;
mod merge;
pub(crate) mod output;
pub(crate) mod sampler;
mod sentencepiece;
mod special;
mod split;
pub(crate) mod stop;
pub(crate) mod strings;
pub(crate) mod tokenizer;
mod tokens;
pub(crate) mod vocabulary;

#[cfg(test)]
mod tests;
