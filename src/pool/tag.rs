//! The 12 bits that tell the handles of one pool from those of another.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::handle::{KEY_BITS, TAG_BITS};

const TAGS: usize = 1 << TAG_BITS;

const FIRST: NonZeroU64 = NonZeroU64::new(1 << KEY_BITS).expect("not 0");

/// One bit for each tag that a pool holds. std's atomics under loom too: a tag is a name, nothing is ordered by it.
static HELD: [AtomicU64; TAGS / 64] = [const { AtomicU64::new(0) }; TAGS / 64];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A pool's tag: never 0, and no other live pool's while there are 4,095 of them or fewer. Past that, tags are
/// shared. One that is let go of comes back as late as can be.
#[derive(Debug)]
pub(crate) struct PoolTag {
    /// Where a handle has it.
    bits: NonZeroU64,
    held: bool,
}

impl PoolTag {
    pub(super) fn new() -> Self {
        let mut shared = FIRST;
        for _ in 0..TAGS {
            let tag = NEXT.fetch_add(1, Ordering::Relaxed) % TAGS;
            let Some(bits) = NonZeroU64::new((tag as u64) << KEY_BITS) else { continue };
            let bit = 1 << (tag % 64);
            if HELD[tag / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                return Self { bits, held: true };
            }
            shared = bits;
        }
        Self { bits: shared, held: false }
    }

    /// The tag where a handle has it.
    #[inline]
    pub(crate) fn bits(&self) -> NonZeroU64 {
        self.bits
    }
}

impl Drop for PoolTag {
    fn drop(&mut self) {
        if self.held {
            let tag = self.bits.get() >> KEY_BITS;
            HELD[tag as usize / 64].fetch_and(!(1 << (tag % 64)), Ordering::Relaxed);
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
