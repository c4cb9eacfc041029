//! Tests of tokenizers and samplers: on vocabularies that are written here, and on those that
//! `scripts/fetch_vocabularies.sh` fetches.

mod byte_pairs;
mod fetched;
mod gguf;
mod hostile;
mod reference;
mod sampler;
mod scored_pairs;
mod special;
mod splits;
mod stop;

use super::strings::StringList;
use super::tokenizer::Tokenizer;
use super::vocabulary::Vocabulary;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The 256 bytes as GPT-2 writes them.
fn bytes_as_characters() -> Vec<String> {
    let printed = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = (0x100..).filter_map(char::from_u32);
    (0..=255).map(|byte| if printed(&byte) { byte as char } else { others.next().unwrap() }.to_string()).collect()
}

/// A vocabulary of bytes: token n is the byte n, and the results of `merges` follow in their order, then `special`.
fn byte_pairs(pre: &str, merges: &[&str], special: &[(&str, i32)]) -> Vocabulary {
    let mut tokens = bytes_as_characters();
    tokens.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1)));
    let mut types = vec![NORMAL; tokens.len()];
    tokens.extend(special.iter().map(|(text, _)| (*text).to_owned()));
    types.extend(special.iter().map(|(_, kind)| kind));
    Vocabulary {
        model: "gpt2".to_owned(),
        pre: Some(pre.to_owned()),
        tokens: list(&tokens),
        types,
        merges: merges.iter().map(|merge| merge.as_bytes()).collect(),
        ..Vocabulary::default()
    }
}

/// A vocabulary with scores: `<unk>`, `<s>`, `</s>`, the 256 bytes from token 3, then `pieces` from token 259.
fn scored_pairs(pieces: &[(&str, f32)]) -> Vocabulary {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let mut types = vec![UNKNOWN, CONTROL, CONTROL];
    types.extend([BYTE; 256]);
    let mut scores = vec![0.0; tokens.len()];
    tokens.extend(pieces.iter().map(|(text, _)| (*text).to_owned()));
    scores.extend(pieces.iter().map(|(_, score)| score));
    types.resize(tokens.len(), NORMAL);
    Vocabulary { model: "llama".to_owned(), tokens: list(&tokens), scores, types, ..Vocabulary::default() }
}

fn list(texts: &[String]) -> StringList {
    texts.iter().map(String::as_bytes).collect()
}

fn tokenizer(vocabulary: Vocabulary) -> Tokenizer {
    Tokenizer::new(vocabulary).unwrap()
}

fn encode(tokenizer: &Tokenizer, text: impl AsRef<[u8]>, parse_special: bool) -> Vec<u32> {
    tokenizer.encode(text.as_ref(), parse_special, usize::MAX, &mut || Ok(())).unwrap()
}

fn decode(tokenizer: &Tokenizer, tokens: &[u32], special: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for &token in tokens {
        tokenizer.decode(token, special, &mut out);
    }
    out
}
