//! What a pool has done so far.

use super::shard::Owner;

/// Counts since the pool was made. Read one after the other: between two of them the pool goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PoolStats {
    /// Entries that are live.
    pub live: u64,
    /// Entries that were ever inserted.
    pub inserted: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// Removed entries of whose values the pool has yet to let go.
    pub awaiting_reclamation: u64,
    /// Slots that are used up: they have served every generation that a handle has room for.
    pub retired_slots: u64,
}

impl PoolStats {
    pub(super) fn sum<'a>(shards: impl Iterator<Item = &'a Owner> + Clone) -> Self {
        // Read before the removals, so that it is never more than those.
        let reclaimed = shards.clone().map(|owner| owner.reclaimed.get()).sum::<u64>();
        let mut stats = Self::default();
        for owner in shards {
            stats.removed += owner.removed.get();
            stats.inserted += owner.inserted.get();
            stats.retired_slots += owner.retired_slots.get();
        }
        stats.live = stats.inserted.saturating_sub(stats.removed);
        stats.awaiting_reclamation = stats.removed.saturating_sub(reclaimed);
        stats
    }
}
