//! The tokens of a vocabulary: their texts, what they are for, and which of them end an answer.

use super::index::TokenIndex;
use super::strings::StringList;
use super::vocabulary::{TokenKind, Vocabulary};

/// Texts of tokens that end an answer, whatever their kind is in the file: many files name only one of them in a key.
const ENDS: [&str; 33] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // A model for code goes on to the next file after these.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Texts of tokens that are marks for the model, whatever their kind is in the file: the parts of code around a gap.
const MARKS: [&str; 24] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// Texts of tokens that are part of an answer's text, whatever their kind is in the file.
const SHOWN: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// The tokens of a vocabulary.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) texts: StringList,
    index: TokenIndex,
    kinds: Vec<TokenKind>,
    /// In ascending order.
    ends: Vec<u32>,
}

impl Tokens {
    /// The tokens of a vocabulary. Its texts are moved, its other parts stay.
    pub(super) fn new(vocabulary: &mut Vocabulary) -> Self {
        let texts = std::mem::take(&mut vocabulary.tokens);
        let index = TokenIndex::new(&texts);
        let kind =
            |token| vocabulary.types.get(token).map_or(TokenKind::Normal, |&number| TokenKind::from_number(number));
        let mut kinds: Vec<TokenKind> = (0..texts.len()).map(kind).collect();
        let named = |text: &str| index.find(&texts, text.as_bytes());
        let mut ends = Vec::new();
        for token in ENDS.into_iter().filter_map(named) {
            kinds[token as usize] = TokenKind::Control;
            ends.push(token);
        }
        for token in MARKS.into_iter().filter_map(named) {
            kinds[token as usize] = TokenKind::Control;
        }
        for token in SHOWN.into_iter().filter_map(named) {
            kinds[token as usize] = TokenKind::UserDefined;
        }
        let keys = [vocabulary.eos, vocabulary.eot, vocabulary.eom];
        ends.extend(keys.into_iter().flatten().filter(|&token| (token as usize) < texts.len()));
        // Models with channels end a message with it, not the answer.
        let has = |text| named(text).is_some();
        let channels =
            has("<|return|>") && has("<|call|>") || has("<|flush|>") && (has("<|call|>") || has("<|calls|>"));
        if let Some(token) = named("<|end|>").filter(|_| channels) {
            kinds[token as usize] = TokenKind::UserDefined;
            ends.retain(|&end| end != token);
        }
        // A tag of HTML there.
        if let Some(token) = named("</s>").filter(|_| has("<|tool_response>")) {
            kinds[token as usize] = TokenKind::Normal;
            ends.retain(|&end| end != token);
        }
        ends.sort_unstable();
        ends.dedup();
        Self { texts, index, kinds, ends }
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The text of a token; none for a number that is no token.
    pub(super) fn text(&self, token: u32) -> &[u8] {
        self.texts.get(token as usize).unwrap_or_default()
    }

    /// The kind of a token; `Unused` for a number that is no token.
    pub(super) fn kind(&self, token: u32) -> TokenKind {
        self.kinds.get(token as usize).copied().unwrap_or(TokenKind::Unused)
    }

    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }

    pub(super) fn index(&self) -> &TokenIndex {
        &self.index
    }

    /// The token of a text that stands for text. Marks for the model are none, so that a prompt can't contain them
    /// unless its special tokens are parsed.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let token = self.index.find(&self.texts, text)?;
        matches!(self.kind(token), TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused).then_some(token)
    }

    /// For each byte the token `<0x00>` to `<0xFF>`, or that of the byte as a text.
    pub(super) fn of_bytes(&self) -> Box<[Option<u32>; 256]> {
        let token = |byte: usize| {
            let name = format!("<0x{byte:02X}>");
            let named = self.index.find(&self.texts, name.as_bytes());
            named.or_else(|| self.find(&[byte as u8]))
        };
        Box::new(std::array::from_fn(token))
    }
}

/// The byte of a token such as `<0x41>`.
pub(super) fn byte_of(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    match digits {
        [high, low] => {
            let digit = |byte: u8| (byte as char).to_digit(16);
            Some((digit(*high)? * 16 + digit(*low)?) as u8)
        }
        _ => None,
    }
}
