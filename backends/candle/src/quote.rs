//! Names out of a model or from a guest, quoted for messages.

/// A name out of a model, fit for a message.
pub(crate) fn quote(name: &str) -> String {
    const LONGEST: usize = 40;
    let plain: String = name.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().nth(LONGEST).is_some() { format!("'{plain}…'") } else { format!("'{plain}'") }
}
