//! What a GGUF file says about its tokens, as plain data: the keys `tokenizer.ggml.*`, and `general.name`.

use super::strings::StringList;

/// The kind of a token, as the key `tokenizer.ggml.token_type` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Text.
    Normal,
    /// What stands for text that no token covers.
    Unknown,
    /// A mark for the model, such as the end of a turn. It is written into a text only where special tokens are asked
    /// for.
    Control,
    /// Text that is one token wherever it appears.
    UserDefined,
    /// A number without a meaning.
    Unused,
    /// One byte, written `<0x41>`.
    Byte,
}

impl TokenKind {
    /// The kind of a number of the file. A number that is none is taken as normal, as llama.cpp takes it.
    pub(crate) const fn from_number(number: i32) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// A vocabulary as its file has it. `None` and empty lists stand for keys that the file does not have.
///
/// Nothing in it is checked: [`Tokenizer::new`](super::tokenizer::Tokenizer::new) does that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vocabulary {
    /// `general.name`: llama.cpp tells some models' rules by it.
    pub(crate) name: Option<String>,
    /// `model`: how a text becomes tokens, such as `llama` or `gpt2`.
    pub(crate) model: String,
    /// `pre`: how a text is split into words before that.
    pub(crate) pre: Option<String>,
    /// `tokens`.
    pub(crate) tokens: StringList,
    /// `scores`.
    pub(crate) scores: Vec<f32>,
    /// `token_type`: numbers for [`TokenKind::from_number`].
    pub(crate) types: Vec<i32>,
    /// `merges`: pairs of strings with a space between them.
    pub(crate) merges: StringList,
    /// `bos_token_id`: the beginning of a sequence.
    pub(crate) bos: Option<u32>,
    /// `eos_token_id`: the end of a sequence.
    pub(crate) eos: Option<u32>,
    /// `eot_token_id`: the end of a turn.
    pub(crate) eot: Option<u32>,
    /// `eom_token_id`: the end of a message.
    pub(crate) eom: Option<u32>,
    /// `unknown_token_id`.
    pub(crate) unk: Option<u32>,
    /// `add_bos_token`.
    pub(crate) add_bos: Option<bool>,
    /// `add_space_prefix`.
    pub(crate) add_space_prefix: Option<bool>,
}
