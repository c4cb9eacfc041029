//! `cargo bench --bench engine`: what the engine adds to an inference, what a future adds, how contexts of one graph
//! scale, the memory of a hundred guests of one model, the cost of the small calls, and what idle threads cost.

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() {
    bench::main();
}

#[cfg(not(loom))]
#[path = "engine"]
mod bench {
    mod idle;
    mod small;

    use std::future::Future;
    use std::hint::black_box;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context as Polling, Poll, Wake, Waker};
    use std::thread::{self, Thread};
    use std::time::{Duration, Instant};

    use graphpool::GuestHandle;
    use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
    use graphpool::nn::{
        Encoding, Engine, EngineLimits, Error, Guest, Target, TensorDescription, TensorType, TensorView,
    };

    /// The first byte of a model is how long a compute works, in milliseconds.
    struct Work;

    struct Graph {
        time: Duration,
        bytes: Vec<u8>,
        one: [TensorDescription; 1],
    }

    struct Context(Duration, [u8; 4]);

    impl Backend for Work {
        fn name(&self) -> &'static str {
            "work"
        }

        fn supports(&self, _: Encoding, _: Target) -> bool {
            true
        }

        fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
            let bytes = request.parts.concat();
            let time = Duration::from_millis(bytes.first().copied().unwrap_or_default().into());
            let one = TensorDescription::new("x", TensorType::F32, Some(vec![Some(1)]));
            Ok(Box::new(Graph { time, bytes, one: [one] }))
        }
    }

    impl BackendGraph for Graph {
        fn inputs(&self) -> &[TensorDescription] {
            &self.one
        }

        fn outputs(&self) -> &[TensorDescription] {
            &self.one
        }

        fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
            Ok(Box::new(Context(self.time, [0; 4])))
        }

        fn memory(&self) -> usize {
            self.bytes.len()
        }
    }

    impl BackendContext for Context {
        fn set_input(&mut self, _: usize, tensor: TensorView<'_>) -> Result<(), Error> {
            self.1.copy_from_slice(tensor.data());
            Ok(())
        }

        fn clear_inputs(&mut self) {
            self.1 = [0; 4];
        }

        fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
            work(self.0);
            Ok(())
        }

        fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
            TensorView::new(&[1], TensorType::F32, &self.1)
        }
    }

    /// Takes a fixed amount of the processor's time rather than of the wall's: somewhat less than it says.
    fn work(time: Duration) {
        let mut sum = 0_u64;
        for round in 0..1_000_000 * time.as_millis() as u64 {
            sum = black_box(sum.wrapping_add(round));
        }
    }

    fn open(guest: &Guest, bytes: &[u8]) -> GuestHandle {
        let graph = guest.load(&[bytes], Encoding::Onnx, Target::Cpu).unwrap();
        guest.init_execution_context(graph).unwrap()
    }

    fn infer(guest: &Guest, context: GuestHandle) {
        let mut buffer = [0; 4];
        guest.set_input(context, 0, TensorView::new(&[1], TensorType::F32, &[1; 4]).unwrap()).unwrap();
        guest.compute(context).unwrap();
        assert_eq!(guest.get_output(context, 0, &mut buffer), Ok(4));
    }

    /// Resident bytes of this process, where the system says.
    fn resident() -> Option<usize> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib << 10)
    }

    /// What was asked for, and whether it is so.
    fn verdict(goal: &str, holds: bool) {
        println!("    {goal}: {}", if holds { "holds" } else { "DOES NOT HOLD" });
    }

    /// What the engine adds to a compute.
    fn overhead(engine: &Engine) {
        let guest = engine.guest();
        let context = open(&guest, &[0]);
        let mut times: Vec<_> = (0..200_000)
            .map(|_| {
                let start = Instant::now();
                infer(&guest, context);
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let [median, late] = [times.len() / 2, times.len() * 99 / 100].map(|place| times[place].as_nanos());
        println!("set_input + compute + get_output of a model that does nothing: median {median} ns, 99 % {late} ns");
        verdict("at most 2 µs at the median", median <= 2_000);
    }

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<F: Future>(waker: &Waker, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Polling::from_waker(waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }

    /// An asynchronous compute that does nothing, on a thread of the engine and where it is polled.
    fn futures() {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        for (bound, rounds) in [(Duration::ZERO, 20_000), (Duration::from_micros(50), 200_000)] {
            let engine = Engine::builder(Work).with_inline_computes(bound).build();
            let guest = engine.guest();
            let context = open(&guest, &[0]);
            guest.set_input(context, 0, TensorView::new(&[1], TensorType::F32, &[1; 4]).unwrap()).unwrap();
            let mut times: Vec<_> = (0..rounds)
                .map(|_| {
                    let start = Instant::now();
                    block_on(&waker, guest.compute_async(context)).unwrap();
                    start.elapsed()
                })
                .collect();
            times.sort_unstable();
            let [median, late] = [times.len() / 2, times.len() * 99 / 100].map(|place| times[place].as_nanos());
            println!("compute_async, inline below {bound:?}: median {median} ns, 99 % {late} ns");
            if !bound.is_zero() {
                verdict("under 2 µs at the median", median < 2_000);
            }
        }
    }

    /// Two contexts of one graph, on two threads.
    fn parallel(engine: &Engine) {
        let throughput = |threads: usize, bare: bool| {
            let (start, rounds) = (Instant::now(), 100);
            thread::scope(|scope| {
                for _ in 0..threads {
                    let guest = engine.guest();
                    scope.spawn(move || {
                        let context = open(&guest, &[4]);
                        for _ in 0..rounds {
                            if bare { work(Duration::from_millis(4)) } else { infer(&guest, context) }
                        }
                    });
                }
            });
            (threads * rounds) as f64 / start.elapsed().as_secs_f64()
        };
        // In turn, and the best of many: others may use the machine.
        let mut best = [0.0_f64; 4];
        for _ in 0..15 {
            for (best, (threads, bare)) in best.iter_mut().zip([(1, true), (2, true), (1, false), (2, false)]) {
                *best = best.max(throughput(threads, bare));
            }
        }
        let [bare_one, bare_two, one, two] = best;
        let possible = bare_two / bare_one;
        println!("threads without the engine: one {bare_one:.0}/s, two {bare_two:.0}/s, {possible:.2} times");
        println!(
            "contexts of one graph, {:.2} ms each: one {one:.0}/s, two {two:.0}/s, {:.2} times",
            1e3 / one,
            two / one
        );
        verdict("a compute of 1 ms or more", one <= 1_000.0);
        verdict("two have at least 1.8 times the throughput of one", two / one >= 1.8);
        if possible < 1.8 {
            println!("    (this machine gives two threads no more than {possible:.2} times one's, now)");
        }
    }

    /// A hundred guests of one model.
    fn memory(engine: &Engine) {
        let model = vec![0_u8; 3 << 20];
        let before = resident();
        let mut guests = Vec::new();
        let mut sizes = Vec::new();
        for count in [1, 100] {
            while guests.len() < count {
                let guest = engine.guest();
                open(&guest, &model);
                guests.push(guest);
            }
            let grown = resident().zip(before).map_or(0, |(now, before)| now.saturating_sub(before));
            sizes.push(grown.max(1));
            println!("{count} guests of a model of 3 MiB: {} KiB resident more than before", grown >> 10);
        }
        let (bytes, times) = (engine.stats().graph_bytes >> 10, sizes[1] as f64 / sizes[0] as f64);
        println!("100 guests have {times:.2} times the memory of one; {bytes} KiB of graphs accounted");
        verdict("at most 1.3 times", times <= 1.3);
    }

    pub fn main() {
        let engine = Engine::builder(Work).with_engine_limits(EngineLimits::default().with_max_computing(2)).build();
        overhead(&engine);
        futures();
        parallel(&engine);
        memory(&engine);
        small::main(&engine);
        idle::main(&engine);
    }
}
