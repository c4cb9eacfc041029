//! Chat templates: those of real files, with prompts that Python's Jinja made of them (3.1.6, in transformers'
//! environment), small ones in the formats of more models, and hostile ones.

mod formats;
mod hostile;
mod recorded;

use graphpool::backend::{Error, ErrorKind};
use graphpool_candle::{ChatMessage, ChatTemplate};

/// The prompt of a template for messages of these roles and contents, with the beginning of an answer.
fn render(source: &str, messages: &[(&str, &str)]) -> Result<String, Error> {
    ChatTemplate::from_source(source)?.with_tokens("<s>", "</s>").render(&conversation(messages), true)
}

fn conversation(messages: &[(&str, &str)]) -> Vec<ChatMessage> {
    messages.iter().map(|&(role, content)| ChatMessage::new(role, content)).collect()
}

/// Asserts that a template fails with this kind, and a message that has these words.
#[track_caller]
fn assert_fails(source: &str, messages: &[(&str, &str)], kind: ErrorKind, words: &[&str]) {
    let error = render(source, messages).expect_err(source);
    assert_eq!(error.kind(), kind, "{error}");
    for words in words {
        assert!(error.message().contains(words), "{error} has not {words:?}");
    }
}
