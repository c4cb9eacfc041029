//! What a host says about prompts that sessions share.

use crate::CandleBackend;

impl CandleBackend {
    /// Sets whether the sessions of a language model share what it has computed for equal beginnings of their prompts.
    /// The default is `true`.
    ///
    /// A session whose prompt begins with the same tokens as another one's, in whole pages of 32, then answers sooner.
    /// Its text is the same, bit for bit, and so are its limits and errors. But a guest can tell by the time whether
    /// somebody has used such a prompt, and can guess a prompt in this way, 32 tokens at once. A host whose guests must
    /// not learn this about each other passes `false`. For a single named model, `{"cache-ram": 0}` in its
    /// configuration has the same effect.
    ///
    /// Pages are kept for sessions to come, too: at most as many bytes as the configuration's `cache-ram` has MiB, by
    /// default an eighth of the weights', and never more than the limit of the load leaves. They count as memory of the
    /// graph. Where guests bring configurations of their own for a named model, their sessions share the pages of that
    /// model, and a `cache-ram` of theirs gives them pages of their own, of at most as many bytes as the model's.
    #[must_use]
    pub fn with_shared_prompts(self, shares: bool) -> Self {
        Self { shares_prompts: shares, ..self }
    }
}
