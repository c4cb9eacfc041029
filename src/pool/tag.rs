//! A pool's tag: the highest 12 bits of its handles, by which it refuses the handles of other pools.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::handle::{KEY_BITS, TAG_BITS};

const TAGS: usize = 1 << TAG_BITS;

const FIRST: NonZeroU64 = NonZeroU64::new(1 << KEY_BITS).expect("not 0");

/// One bit for each tag in use. std's atomics under loom too: nothing is ordered by them.
static IN_USE: [AtomicU64; TAGS / 64] = [const { AtomicU64::new(0) }; TAGS / 64];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A tag, which is in use until this is dropped. Tags are 1 to 4,095, given out in turn, so that a tag is reused as
/// late as possible. No two pools have the same tag while at most 4,095 tags are in use; further pools share tags.
#[derive(Debug)]
pub(crate) struct PoolTag {
    /// The tag in bits 63 to 52, where a handle has it.
    bits: NonZeroU64,
    shared: bool,
}

impl PoolTag {
    pub(super) fn new() -> Self {
        let mut last = FIRST;
        for _ in 0..TAGS {
            let tag = NEXT.fetch_add(1, Ordering::Relaxed) % TAGS;
            let Some(bits) = NonZeroU64::new((tag as u64) << KEY_BITS) else { continue };
            let bit = 1 << (tag % 64);
            if IN_USE[tag / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                return Self { bits, shared: false };
            }
            last = bits;
        }
        Self { bits: last, shared: true }
    }

    /// The tag in bits 63 to 52, where a handle has it.
    #[inline]
    pub(crate) fn bits(&self) -> NonZeroU64 {
        self.bits
    }
}

impl Drop for PoolTag {
    fn drop(&mut self) {
        if !self.shared {
            let tag = self.bits.get() >> KEY_BITS;
            IN_USE[tag as usize / 64].fetch_and(!(1 << (tag % 64)), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_tags_differ() {
        let tags: Vec<_> = (0..1000).map(|_| PoolTag::new()).collect();
        let distinct: std::collections::BTreeSet<_> = tags.iter().map(PoolTag::bits).collect();
        assert_eq!(distinct.len(), tags.len());
    }
}
