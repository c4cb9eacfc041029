//! Whether the recent computes of a graph were quick.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The number of quick computes after the last slow one from which on a graph is quick.
const ENOUGH: u32 = 8;

/// Counts a graph's quick computes since its last slow one. Relaxed everywhere: the count carries no data, and one that
/// is lost only makes the graph quick a little later.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU32);

impl Pace {
    /// Whether the last [`ENOUGH`] computes were quick.
    pub(crate) fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= ENOUGH
    }

    /// Records the time of a compute. One that has failed within the bound says nothing. With a bound of zero no graph
    /// is quick.
    pub(crate) fn record(&self, time: Duration, succeeded: bool, bound: Duration) {
        let count = self.0.load(Ordering::Relaxed);
        if time >= bound {
            if count > 0 {
                self.0.store(0, Ordering::Relaxed);
            }
        } else if succeeded && count < ENOUGH {
            self.0.store(count + 1, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_micros(10);

    #[test]
    fn a_graph_is_quick_after_enough_quick_computes_in_a_row() {
        let pace = Pace::default();
        for round in 0..2 {
            for _ in 0..ENOUGH {
                assert!(!pace.is_quick(), "{round}");
                pace.record(Duration::ZERO, false, BOUND);
                pace.record(BOUND / 2, true, BOUND);
            }
            assert!(pace.is_quick());
            pace.record(BOUND, round == 0, BOUND);
        }
        assert!(!pace.is_quick());
    }

    #[test]
    fn without_a_bound_none_is_quick() {
        let pace = Pace::default();
        (0..2 * ENOUGH).for_each(|_| pace.record(Duration::ZERO, true, Duration::ZERO));
        assert!(!pace.is_quick());
    }
}
