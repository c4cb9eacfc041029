//! The times of many runs in bounded memory: their number, sum, extremes and median.

use std::time::Duration;

/// Buckets for each doubling of the time. A median is within a sixteenth of the right one.
const PER_DOUBLING: usize = 8;

/// Times below this number of nanoseconds share one bucket.
const SHORTEST: u64 = 64;

/// The number of buckets. Times of more than four and a half minutes share the last one.
const BUCKETS: usize = 32 * PER_DOUBLING;

/// How long the runs of a step or of a model took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// How many runs there were, including those that failed.
    pub runs: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The time of all runs together.
    pub total: Duration,
    /// The median time of a run, up to a sixteenth more or less.
    pub median: Duration,
    /// The longest time of a run.
    pub longest: Duration,
}

/// Collects times. It takes at most 1 KiB.
#[derive(Default)]
pub(crate) struct Times {
    runs: u64,
    failed: u64,
    total: Duration,
    shortest: Option<Duration>,
    longest: Duration,
    /// How many runs there were in each bucket. It grows up to the longest run, to at most [`BUCKETS`].
    buckets: Vec<u32>,
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration, failed: bool) {
        self.runs = self.runs.saturating_add(1);
        self.failed = self.failed.saturating_add(u64::from(failed));
        self.total = self.total.saturating_add(time);
        self.shortest = Some(self.shortest.map_or(time, |shortest| shortest.min(time)));
        self.longest = self.longest.max(time);
        let bucket = bucket(nanoseconds(time));
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
    }

    pub(crate) fn timing(&self) -> Timing {
        let Self { runs, failed, total, longest, .. } = *self;
        Timing { runs, failed, total, median: self.median(), longest }
    }

    /// Bytes of the buckets.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<u32>()
    }

    fn median(&self) -> Duration {
        let all: u64 = self.buckets.iter().copied().map(u64::from).sum();
        let mut seen = 0;
        let found = self.buckets.iter().position(|&count| {
            seen += u64::from(count);
            seen * 2 >= all
        });
        let middle = found.map_or(0, |bucket| u64::midpoint(lower_end(bucket), lower_end(bucket + 1)));
        Duration::from_nanos(middle).max(self.shortest.unwrap_or_default()).min(self.longest)
    }
}

/// A time in nanoseconds.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The bucket of a number of nanoseconds: the doubling, and the part of the doubling.
fn bucket(nanoseconds: u64) -> usize {
    let Some(log) = nanoseconds.checked_ilog2().filter(|_| nanoseconds >= SHORTEST) else { return 0 };
    let part = (nanoseconds >> (log - PER_DOUBLING.ilog2())) as usize % PER_DOUBLING;
    let doubling = (log - SHORTEST.ilog2()) as usize;
    (1 + doubling * PER_DOUBLING + part).min(BUCKETS - 1)
}

/// The least number of nanoseconds in a bucket.
fn lower_end(bucket: usize) -> u64 {
    let Some(index) = bucket.checked_sub(1) else { return 0 };
    let (doubling, part) = (index / PER_DOUBLING, index % PER_DOUBLING);
    (SHORTEST / PER_DOUBLING as u64 * (PER_DOUBLING + part) as u64) << doubling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_that_its_ends_say() {
        for nanoseconds in (0..100_000).chain([1 << 30, (1 << 37) + 12_345, (1 << 37) - 1]) {
            let bucket = bucket(nanoseconds);
            assert!(lower_end(bucket) <= nanoseconds, "{nanoseconds} is below bucket {bucket}");
            assert!(nanoseconds < lower_end(bucket + 1), "{nanoseconds} is above bucket {bucket}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn sums_and_extremes_are_exact_and_the_median_is_near() {
        let mut times = Times::default();
        assert_eq!(times.timing(), Timing::default());
        for micros in 1..=101 {
            times.add(Duration::from_micros(micros), micros % 50 == 0);
        }
        let timing = times.timing();
        assert_eq!((timing.runs, timing.failed), (101, 2));
        assert_eq!(timing.total, Duration::from_micros(101 * 102 / 2));
        assert_eq!(timing.longest, Duration::from_micros(101));
        let (median, right) = (timing.median.as_nanos(), 51_000);
        assert!(median.abs_diff(right) * 16 <= right, "{median}");
    }

    #[test]
    fn the_median_of_one_run_is_its_time() {
        for time in [0, 3, 1_001, 123_456_789, u64::MAX].map(Duration::from_nanos) {
            let mut times = Times::default();
            times.add(time, false);
            assert_eq!((times.timing().median, times.timing().longest), (time, time));
        }
    }
}
