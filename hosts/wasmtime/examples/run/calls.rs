//! How long the wasi-nn calls of all instances took, by the spans of the host's functions.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The target of the spans, and the field with the call's name.
const TARGET: &str = "graphpool_wasmtime::call";
const NAME: &str = "call";

/// The times of each call, over all threads.
#[derive(Clone, Default)]
pub struct Calls {
    threads: Arc<Mutex<Vec<Arc<Mutex<Tally>>>>>,
}

/// The times of one thread's calls.
#[derive(Default)]
struct Tally {
    calls: Vec<(String, Times)>,
    /// The starts of the spans that are open.
    open: Vec<Instant>,
}

thread_local! {
    /// This thread's tally: no other thread writes to it.
    static TALLY: OnceCell<Arc<Mutex<Tally>>> = const { OnceCell::new() };
}

impl Calls {
    /// Records the calls of this process from now on.
    pub fn install() -> Self {
        let calls = Self::default();
        tracing::subscriber::set_global_default(calls.clone()).expect("no other subscriber is set");
        calls
    }

    /// Each call's name and times.
    pub fn by_name(&self) -> BTreeMap<String, Times> {
        let mut all = BTreeMap::<String, Times>::new();
        for tally in &*lock(&self.threads) {
            for (name, times) in &lock(tally).calls {
                all.entry(name.clone()).or_default().add(times);
            }
        }
        all
    }

    fn with_tally<R>(&self, f: impl FnOnce(&mut Tally) -> R) -> R {
        TALLY.with(|tally| {
            let tally = tally.get_or_init(|| {
                let tally = Arc::<Mutex<Tally>>::default();
                lock(&self.threads).push(Arc::clone(&tally));
                tally
            });
            f(&mut lock(tally))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A span's number is the place of its call in the thread's tally: the synchronous functions, which the runner links,
/// are on one thread throughout.
impl Subscriber for Calls {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target() == TARGET
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut name = Name(String::new());
        span.record(&mut name);
        self.with_tally(|tally| {
            let place = tally.calls.iter().position(|(call, _)| *call == name.0).unwrap_or_else(|| {
                tally.calls.push((name.0, Times::default()));
                tally.calls.len() - 1
            });
            Id::from_u64(place as u64 + 1)
        })
    }

    fn enter(&self, _: &Id) {
        self.with_tally(|tally| tally.open.push(Instant::now()));
    }

    fn exit(&self, span: &Id) {
        let end = Instant::now();
        self.with_tally(|tally| {
            if let Some(start) = tally.open.pop() {
                tally.calls[span.into_u64() as usize - 1].1.record(end - start);
            }
        });
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}
}

/// The call's name, out of a span's fields.
struct Name(String);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == NAME {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// How many buckets there are for each doubling of the time: percentiles are right within 1/32.
const PER_DOUBLING: u64 = 32;

/// How many calls took how long.
#[derive(Clone, Default)]
pub struct Times {
    buckets: Vec<u64>,
    count: u64,
}

impl Times {
    /// How many calls there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The time that this share of the calls did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        let place = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        Duration::from_nanos(upper_end(place.unwrap_or_default() as u64))
    }

    fn record(&mut self, time: Duration) {
        let place = bucket(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)) as usize;
        if self.buckets.len() <= place {
            self.buckets.resize(place + 1, 0);
        }
        self.buckets[place] += 1;
        self.count += 1;
    }

    fn add(&mut self, other: &Self) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.count += other.count;
    }
}

/// The bucket of a number of nanoseconds: the number itself below `PER_DOUBLING`, then by its highest bits.
fn bucket(nanoseconds: u64) -> u64 {
    match nanoseconds.checked_ilog2() {
        Some(log) if nanoseconds >= PER_DOUBLING => {
            let shift = log - PER_DOUBLING.ilog2();
            PER_DOUBLING * u64::from(shift) + (nanoseconds >> shift)
        }
        _ => nanoseconds,
    }
}

/// The largest number of nanoseconds in a bucket.
fn upper_end(bucket: u64) -> u64 {
    if bucket < PER_DOUBLING {
        return bucket;
    }
    let shift = bucket / PER_DOUBLING - 1;
    ((bucket % PER_DOUBLING + PER_DOUBLING + 1) << shift) - 1
}
