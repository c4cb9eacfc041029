//! A pool's counters.

use super::shard::Shard;

/// Counts since the pool was made. They are read one after the other, while other threads use the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PoolStats {
    /// Entries that are live.
    pub live: u64,
    /// Entries that were ever inserted.
    pub inserted: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// Removed entries whose values the pool has not released yet.
    pub awaiting_reclamation: u64,
    /// Slots that have served their last generation and are out of use.
    pub exhausted_slots: u64,
}

impl PoolStats {
    pub(super) fn sum<'a>(shards: impl Iterator<Item = &'a Shard> + Clone) -> Self {
        // Read before `removed`, so that it is never greater.
        let reclaimed = shards.clone().map(|shard| shard.reclaimed.get()).sum::<u64>();
        let mut stats = Self::default();
        for shard in shards {
            stats.removed += shard.removed.get();
            stats.inserted += shard.inserted.get();
            stats.exhausted_slots += shard.exhausted_slots.get();
        }
        stats.live = stats.inserted.saturating_sub(stats.removed);
        stats.awaiting_reclamation = stats.removed.saturating_sub(reclaimed);
        stats
    }
}
