//! The rules of each pre-tokenizer that a file can name in the key `tokenizer.ggml.pre`.
//!
//! The expressions are those of the models' own tokenizers (`tokenizer.json`), the names and groups are those of
//! llama.cpp, which invented the key. A name that is not here is refused: a model whose text is split in another way
//! than at its training gives worse answers, and nobody sees why.

use super::rule::Rule;
use super::words::{Cased, Contractions, Words, not_words};
use crate::text::characters::{Character, Classes};

/// How a text is split, and what goes with it.
#[derive(Debug, Clone, Copy)]
pub(in crate::text) struct PreTokenizer {
    pub(in crate::text) rules: &'static [Rule],
    /// Whether a word that is a token becomes that token, whatever merges would make of it.
    pub(in crate::text) whole_words: bool,
    /// Whether a sequence begins with the token for that, where the file does not say.
    pub(in crate::text) add_bos: bool,
    /// Whether tokens are made of characters, with U+2581 for a blank and tokens such as `<0x41>` for other bytes.
    /// Otherwise they are made of bytes, each of which is written as a character.
    pub(in crate::text) of_characters: bool,
}

const LETTERS: fn(Character) -> bool = |c| c.is(Classes::LETTER);
const NUMBERS: fn(Character) -> bool = |c| c.is(Classes::NUMBER);
const LINE_ENDS: fn(Character) -> bool = Character::is_line_end;
const NOTHING: fn(Character) -> bool = |_| false;

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
const GPT2: Words = Words {
    contractions: Contractions::LowerCase,
    signs: false,
    before: |c| c.code == ' ',
    letters: LETTERS,
    blank_numbers: true,
    numbers: usize::MAX,
    symbols: not_words,
    after: NOTHING,
    line_ends: false,
};

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|` and then
/// `\s*[\r\n]+|\s+(?!\S)|\s+`.
const LLAMA3: Words = Words {
    contractions: Contractions::AnyCase,
    before: |c| !c.is_line_end() && !c.is(Classes::LETTER.or(Classes::NUMBER)),
    blank_numbers: false,
    numbers: 3,
    after: LINE_ENDS,
    line_ends: true,
    ..GPT2
};

/// The same with `\p{N}`.
const QWEN2: Words = Words { numbers: 1, ..LLAMA3 };

/// The same with `[\p{L}\p{M}]+` for letters and `[^\s\p{L}\p{M}\p{N}]` for symbols.
const QWEN35: Words = Words {
    letters: |c| c.is(Classes::LETTER.or(Classes::MARK)),
    symbols: |c| not_words(c) && !c.is(Classes::MARK),
    ..QWEN2
};

/// `[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
const DEEPSEEK3: Words = Words {
    contractions: Contractions::No,
    signs: true,
    before: |c| !c.is_line_end() && !c.is(Classes::LETTER.or(Classes::PUNCTUATION).or(Classes::SYMBOL)),
    letters: |c| c.is(Classes::LETTER.or(Classes::MARK)),
    numbers: 0,
    symbols: |c| c.is(Classes::PUNCTUATION.or(Classes::SYMBOL)),
    ..LLAMA3
};

const fn plain(rules: &'static [Rule]) -> PreTokenizer {
    PreTokenizer { rules, whole_words: false, add_bos: false, of_characters: false }
}

/// The pre-tokenizer of a name; `None` for one that is not supported.
pub(in crate::text) fn named(name: &str) -> Option<PreTokenizer> {
    const NUMBER: Rule = Rule::Runs(NUMBERS, 1);
    Some(match name {
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => PreTokenizer { whole_words: true, add_bos: true, ..plain(&[Rule::Words(&LLAMA3)]) },
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => plain(&[Rule::Words(&LLAMA3)]),
        "glm4" | "glm5" => PreTokenizer { whole_words: true, ..plain(&[Rule::Words(&LLAMA3)]) },
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez" | "stablelm2" | "hunyuan" | "solar-open"
        | "grok-2" => plain(&[Rule::Words(&QWEN2)]),
        "qwen35" => plain(&[Rule::Words(&QWEN35)]),
        "gpt-2" | "phi-2" | "gigachat" | "a.x-4.0" | "mellum" | "mpt" | "olmo" | "jais" | "trillion"
        | "granite-docling" | "exaone4" => plain(&[Rule::Words(&GPT2)]),
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            plain(&[NUMBER, Rule::Words(&GPT2)])
        }
        "falcon" => plain(&[Rule::Runs(falcon_signs, usize::MAX), Rule::Words(&GPT2), Rule::ThreeDigits]),
        "default" => plain(&[
            Rule::Runs(|c| falcon_signs(c) && c.code != '`', usize::MAX),
            Rule::Words(&GPT2),
            Rule::Runs(NUMBERS, usize::MAX),
            Rule::ThreeDigits,
        ]),
        "deepseek-coder" => plain(&[
            Rule::Runs(LINE_ENDS, 1),
            Rule::Spaced(LETTERS),
            Rule::Spaced(|c| c.is(Classes::PUNCTUATION)),
            Rule::Runs(east_asian, usize::MAX),
            NUMBER,
        ]),
        "deepseek-llm" => plain(&[
            Rule::Runs(LINE_ENDS, 1),
            Rule::Spaced(deepseek_letters),
            Rule::Spaced(deepseek_signs),
            Rule::LastSpaces,
            Rule::Runs(east_asian, usize::MAX),
            Rule::Runs(NUMBERS, usize::MAX),
        ]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => plain(&[
            Rule::Runs(NUMBERS, 3),
            Rule::Runs(|c| matches!(c.code, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{30ff}'), usize::MAX),
            Rule::Words(&DEEPSEEK3),
        ]),
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => {
            plain(&[Rule::Cased(&Cased { contractions: Contractions::AnyCase, numbers: 3 })])
        }
        "tekken" => PreTokenizer {
            whole_words: true,
            add_bos: true,
            ..plain(&[Rule::Cased(&Cased { contractions: Contractions::No, numbers: 1 })])
        },
        "bloom" | "poro-chat" | "gpt3-finnish" => plain(&[Rule::AfterBlank(bloom)]),
        "viking" => plain(&[Rule::AfterBlank(bloom), NUMBER]),
        "gemma4" => PreTokenizer { add_bos: true, of_characters: true, ..plain(&[Rule::Lines]) },
        _ => return None,
    })
}

/// ``[\p{P}$+<=>^~|`]``.
fn falcon_signs(c: Character) -> bool {
    c.is(Classes::PUNCTUATION) || c.code.is_ascii_punctuation()
}

/// `[一-龥ࠀ-一가-퟿]`: from U+0800 to U+9FA5, and Hangul.
fn east_asian(c: Character) -> bool {
    matches!(c.code, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}')
}

/// ASCII but for blanks, digits and controls; the same signs in full width; quotation marks; and 、 and 。.
fn deepseek_signs(c: Character) -> bool {
    matches!(c.code, '!'..='/' | ':'..='~' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff5e}' | '\u{2018}'..='\u{201f}'
        | '\u{3001}'..='\u{3002}')
}

/// `[^(\s|.,!?…。，、।۔،)]`.
fn bloom(c: Character) -> bool {
    !c.is(Classes::SPACE) && !"(|.,!?…。，、।۔،)".contains(c.code)
}

/// The letters with case that the first tokenizer of `DeepSeek` lists one by one: not those of newer scripts, nor
/// mathematical ones.
fn deepseek_letters(c: Character) -> bool {
    c.is(Classes::UPPER.or(Classes::LOWER))
        && match c.code {
            '\u{10000}'.. => matches!(c.code, '\u{10400}'..='\u{1044f}' | '\u{104b0}'..='\u{104fb}'
                | '\u{10c80}'..='\u{10cf2}' | '\u{118a0}'..='\u{118df}' | '\u{1e900}'..='\u{1e943}'),
            _ => !matches!(c.code, '\u{560}'..='\u{588}' | '\u{10c7}'..='\u{10ff}' | '\u{1c80}'..='\u{1c8f}'
                | '\u{2d00}'..='\u{2d2d}' | '\u{a790}'..='\u{a7ff}' | '\u{ab30}'..='\u{ab68}'),
        }
}
