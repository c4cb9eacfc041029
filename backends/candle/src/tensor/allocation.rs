//! What the allocator takes for a block.

/// Bytes that the allocator takes for a block of `bytes`: 8 more, rounded up to a multiple of 16, at least 32; 0 for 0.
pub(crate) const fn allocation(bytes: usize) -> usize {
    match bytes.saturating_add(8).checked_next_multiple_of(16) {
        _ if bytes == 0 => 0,
        Some(whole) if whole > 32 => whole,
        Some(_) => 32,
        None => usize::MAX,
    }
}
