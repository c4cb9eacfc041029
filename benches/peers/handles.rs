//! `cargo bench -p graphpool-peers --bench handles`: what each call costs, beside a bare `Vec` and what is used in its
//! place today.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use graphpool::{HandleTable, Kind, Pool, pin};
use parking_lot::RwLock;
use sharded_slab::Slab;
use slotmap::SlotMap;

const ENTRIES: u64 = 1024;

/// Visits the entries in an order that no prefetcher guesses.
struct Order(u32);

impl Order {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 22) as usize
    }
}

fn get(criterion: &mut Criterion) {
    let pool = Pool::new();
    let handles: Vec<_> = (0..ENTRIES).map(|value| pool.insert(value).unwrap()).collect();
    let slab = Slab::new();
    let keys: Vec<_> = (0..ENTRIES).map(|value| slab.insert(Arc::new(value)).unwrap()).collect();
    let map = RwLock::new(SlotMap::new());
    let map_keys: Vec<_> = (0..ENTRIES).map(|value| map.write().insert(Arc::new(value))).collect();
    let vec: Vec<_> = (0..ENTRIES).map(Arc::new).collect();
    let table = HandleTable::new(&pool, Kind::Zero);
    let guest_handles: Vec<_> = handles.iter().map(|handle| table.bind(*handle).unwrap()).collect();

    let mut group = criterion.benchmark_group("get");
    let mut order = Order(1);
    group.bench_function("graphpool, guard held", |bencher| {
        let guard = pin();
        bencher.iter(|| pool.get(handles[order.next()], &guard).copied());
    });
    group.bench_function("graphpool, re-pinned", |bencher| {
        let mut guard = pin();
        bencher.iter(|| {
            guard.repin();
            pool.get(handles[order.next()], &guard).copied()
        });
    });
    group.bench_function("graphpool, pinned", |bencher| {
        bencher.iter(|| pool.get(handles[order.next()], &pin()).copied());
    });
    group.bench_function("graphpool, by guest handle, guard held", |bencher| {
        let guard = pin();
        bencher.iter(|| {
            let handle = table.resolve(guest_handles[order.next()])?;
            pool.get(handle, &guard).copied()
        });
    });
    group.bench_function("sharded-slab", |bencher| {
        bencher.iter(|| slab.get(keys[order.next()]).map(|value| **value));
    });
    group.bench_function("RwLock<SlotMap>", |bencher| {
        bencher.iter(|| map.read().get(map_keys[order.next()]).map(|value| **value));
    });
    group.bench_function("Vec", |bencher| {
        bencher.iter(|| vec.get(black_box(order.next())).map(|value| **value));
    });
    group.finish();

    let mut group = criterion.benchmark_group("acquire");
    group.bench_function("graphpool", |bencher| {
        bencher.iter(|| pool.acquire(handles[order.next()]));
    });
    group.bench_function("sharded-slab", |bencher| {
        bencher.iter(|| slab.get(keys[order.next()]).map(|value| Arc::clone(&value)));
    });
    group.bench_function("RwLock<SlotMap>", |bencher| {
        bencher.iter(|| map.read().get(map_keys[order.next()]).cloned());
    });
    group.bench_function("Vec", |bencher| {
        bencher.iter(|| vec.get(black_box(order.next())).cloned());
    });
    group.finish();

    let mut group = criterion.benchmark_group("resolve");
    group.bench_function("graphpool", |bencher| {
        bencher.iter(|| table.resolve(guest_handles[order.next()]));
    });
    group.finish();
}

fn insert_and_remove(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("insert+remove");
    let pool = Pool::new();
    group.bench_function("graphpool", |bencher| {
        bencher.iter(|| {
            let handle = pool.insert(black_box(7_u64)).unwrap();
            pool.remove(handle)
        });
    });
    let slab = Slab::new();
    group.bench_function("sharded-slab", |bencher| {
        bencher.iter(|| {
            let key = slab.insert(Arc::new(black_box(7_u64))).unwrap();
            slab.take(key)
        });
    });
    let map = RwLock::new(SlotMap::new());
    group.bench_function("RwLock<SlotMap>", |bencher| {
        bencher.iter(|| {
            let key = map.write().insert(Arc::new(black_box(7_u64)));
            map.write().remove(key)
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("bind+unbind");
    let handle = pool.insert(1).unwrap();
    group.bench_function("graphpool", |bencher| {
        // A table serves 2^31 bindings, which a long run would use up.
        bencher.iter_batched_ref(
            || HandleTable::new(&pool, Kind::One),
            |table| {
                for _ in 0..1000 {
                    let bound = table.bind(handle).unwrap();
                    black_box(table.unbind(bound));
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// One handle, read by one thread and by two: a read that writes to shared memory gets slower.
fn hot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("get of one handle");
    let pool = Arc::new(Pool::new());
    let handle = pool.insert(7_u64).unwrap();
    let slab = Arc::new(Slab::new());
    let key = slab.insert(7_u64).unwrap();
    for threads in [1, 2] {
        let held = Arc::clone(&pool);
        let read = Arc::new(move |times: u64| {
            let guard = pin();
            for _ in 0..times {
                black_box(held.get(black_box(handle), &guard));
            }
        });
        group.bench_function(format!("graphpool, guard held, {threads} threads"), |bencher| {
            bencher.iter_custom(|times| on_threads(threads, times, &read));
        });
        let slab = Arc::clone(&slab);
        let read = Arc::new(move |times: u64| (0..times).for_each(|_| drop(black_box(slab.get(black_box(key))))));
        group.bench_function(format!("sharded-slab, {threads} threads"), |bencher| {
            bencher.iter_custom(|times| on_threads(threads, times, &read));
        });
    }
    group.finish();
}

/// How long `threads` of them take, each doing all of the work; the time to start them isn't in it.
fn on_threads(threads: usize, times: u64, work: &Arc<impl Fn(u64) + Send + Sync + 'static>) -> Duration {
    let barrier = Arc::new(Barrier::new(threads));
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (barrier, work) = (Arc::clone(&barrier), Arc::clone(work));
            thread::spawn(move || {
                barrier.wait();
                let start = Instant::now();
                work(times);
                start.elapsed()
            })
        })
        .collect();
    workers.into_iter().map(|worker| worker.join().unwrap()).max().unwrap_or_default()
}

criterion_group!(benches, get, insert_and_remove, hot);
criterion_main!(benches);
