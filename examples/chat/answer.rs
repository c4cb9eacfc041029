//! One answer: a prompt goes in, and pieces of text come out as they are made.

use std::time::{Duration, Instant};

use graphpool::GuestHandle;
use graphpool::nn::{Error, Guest, Step, TensorType};

/// An answer, with what it took.
pub struct Answer {
    /// The text.
    pub text: String,
    /// How it ended.
    pub end: Step,
    /// Tokens of prompt and text.
    pub tokens: Tokens,
    /// The time to the first token. The prompt is passed in it, except for what the session knows from before.
    pub first: Duration,
    /// The time of the tokens after the first.
    pub rest: Duration,
    /// Bytes of the session at the end of the text.
    pub session: usize,
}

impl Answer {
    /// Tokens a second, after the first one.
    pub fn speed(&self) -> f64 {
        self.tokens.text.saturating_sub(1) as f64 / self.rest.as_secs_f64().max(1e-9)
    }
}

/// Numbers of tokens.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    /// Of the prompt.
    pub prompt: usize,
    /// Of the text.
    pub text: usize,
}

/// Sets an input of a session to a text.
pub fn set(guest: &Guest, context: GuestHandle, index: u32, text: &str) -> Result<(), Error> {
    let length = u32::try_from(text.len()).map_err(|_| Error::too_large("the text has 4 GiB or more"))?;
    guest.set_input_given(context, index, &[length], TensorType::U8, text.as_bytes())
}

/// The counts of output 1.
pub fn count(guest: &Guest, context: GuestHandle) -> Result<Tokens, Error> {
    guest.with_output(context, 1, |counts| {
        let counts = serde_json::from_slice::<serde_json::Value>(counts.data())
            .map_err(|error| Error::runtime_error(error.to_string()))?;
        let number = |key: &str| counts[key].as_u64().unwrap_or_default() as usize;
        Ok(Tokens { prompt: number("input_tokens"), text: number("output_tokens") })
    })
}

/// Has a session answer, and calls `show` with each piece of the text.
pub fn answer(guest: &Guest, context: GuestHandle, prompt: &str, mut show: impl FnMut(&str)) -> Result<Answer, Error> {
    let start = Instant::now();
    set(guest, context, 0, prompt)?;
    let (mut text, mut held, mut first) = (String::new(), Vec::new(), None);
    let end = loop {
        let step = guest.compute_single(context)?;
        first.get_or_insert_with(|| start.elapsed());
        if step != Step::More {
            break step;
        }
        guest.with_output_single(context, 0, |piece| {
            held.extend_from_slice(piece.data());
            Ok(())
        })?;
        let piece = characters(&mut held);
        show(&piece);
        text.push_str(&piece);
    };
    if !held.is_empty() {
        show("\u{fffd}");
        text.push('\u{fffd}');
    }
    let first = first.unwrap_or_default();
    let (tokens, session) = (count(guest, context)?, guest.usage().context_bytes);
    guest.fini_single(context)?;
    Ok(Answer { text, end, tokens, first, rest: start.elapsed().saturating_sub(first), session })
}

/// Takes the whole characters out of `held`. The beginning of one stays there until its end comes; bytes that are in no
/// character become U+FFFD.
fn characters(held: &mut Vec<u8>) -> String {
    let mut text = String::new();
    while let Some(chunk) = held.utf8_chunks().next() {
        let (valid, invalid) = (chunk.valid().len(), chunk.invalid().len());
        let is_end = valid + invalid == held.len();
        text.push_str(chunk.valid());
        if invalid > 0 {
            // One that is cut by the end of the bytes has no length of an error.
            let is_cut = is_end && str::from_utf8(&held[valid..]).is_err_and(|error| error.error_len().is_none());
            if is_cut {
                held.drain(..valid);
                break;
            }
            text.push('\u{fffd}');
        }
        held.drain(..valid + invalid);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::characters;

    #[test]
    fn characters_come_whole_however_their_bytes_are_cut() {
        let text = "a\u{e9}\u{20ac}\u{1f600}b";
        for size in 1..=text.len() {
            let (mut held, mut found) = (Vec::new(), String::new());
            for piece in text.as_bytes().chunks(size) {
                held.extend_from_slice(piece);
                let piece = characters(&mut held);
                assert!(!piece.contains('\u{fffd}'));
                found.push_str(&piece);
            }
            assert_eq!((found.as_str(), held.len()), (text, 0));
        }
        let mut held = b"a\xff\xffb\xe2\x82".to_vec();
        assert_eq!(characters(&mut held), "a\u{fffd}\u{fffd}b");
        assert_eq!(held, b"\xe2\x82");
        held.push(b'c');
        assert_eq!((characters(&mut held).as_str(), held.len()), ("\u{fffd}c", 0));
    }
}
