//! Quotes names for error messages: names come from a model or a guest and may be long or contain control characters.

/// A name in quotation marks, cut after 40 characters, with `?` for each control character.
pub(crate) fn quote(name: &str) -> String {
    const LONGEST: usize = 40;
    let plain: String = name.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().nth(LONGEST).is_some() { format!("'{plain}…'") } else { format!("'{plain}'") }
}
