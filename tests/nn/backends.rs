//! Two backends: one that computes, and one that misbehaves in every way that a backend can.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{env, mem, thread};

use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest, Placement};
use graphpool::nn::{
    Encoding, Engine, EngineBuilder, EngineLimits, Error, ErrorKind, Target, Tensor, TensorDescription, TensorType,
    TensorView,
};

/// What the tests see of the backends from outside.
#[derive(Clone, Default)]
pub struct Watch(Arc<Watched>);

#[derive(Default)]
struct Watched {
    loads: AtomicUsize,
    alive: AtomicUsize,
    memory_limit: AtomicUsize,
    gate: Gate,
    held: Held,
}

/// Computes of the first backend that stay inside until they are released one by one, or told to end.
#[derive(Default)]
struct Held {
    state: Mutex<HeldState>,
    changed: Condvar,
}

#[derive(Default)]
struct HeldState {
    /// The next compute is to stay.
    next: bool,
    entered: usize,
    released: BTreeSet<usize>,
}

/// How long anything waits for a test that has perhaps failed meanwhile: so that it fails, rather than hangs.
const LONG: Duration = Duration::from_secs(15);

/// Holds computes (or loads) up until the test opens it.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Watch {
    /// Models that were built.
    pub fn loads(&self) -> usize {
        self.0.loads.load(Ordering::SeqCst)
    }

    /// Graphs and contexts of the backends that are not destroyed yet.
    pub fn alive(&self) -> usize {
        self.0.alive.load(Ordering::SeqCst)
    }

    /// The bound on memory that came with the last load.
    pub fn memory_limit(&self) -> usize {
        self.0.memory_limit.load(Ordering::SeqCst)
    }

    /// Lets every call that waits at the gate go on, and every later one pass.
    pub fn open(&self) {
        self.0.gate.state.lock().unwrap().1 = true;
        self.0.gate.changed.notify_all();
    }

    /// Waits until `count` calls have come to the gate.
    pub fn wait_for(&self, count: usize) {
        let gate = &self.0.gate;
        let state = gate.state.lock().unwrap();
        let (state, waited) = gate.changed.wait_timeout_while(state, LONG, |(entered, _)| *entered < count).unwrap();
        drop(state);
        assert!(!waited.timed_out(), "no {count} calls have come to the gate");
    }

    /// The number that the next compute of the first backend is held by.
    pub fn hold_next(&self) -> usize {
        let mut state = self.0.held.state.lock().unwrap();
        state.next = true;
        state.entered
    }

    pub fn wait_for_held(&self, compute: usize) {
        let held = &self.0.held;
        let state = held.state.lock().unwrap();
        let (state, waited) = held.changed.wait_timeout_while(state, LONG, |state| state.entered <= compute).unwrap();
        drop(state);
        assert!(!waited.timed_out(), "no compute has come");
    }

    pub fn release(&self, compute: usize) {
        self.0.held.state.lock().unwrap().released.insert(compute);
        self.0.held.changed.notify_all();
    }

    fn hold(&self, control: &ComputeControl) -> Result<(), Error> {
        let held = &self.0.held;
        let mut state = held.state.lock().unwrap();
        if mem::take(&mut state.next) {
            let compute = state.entered;
            state.entered += 1;
            held.changed.notify_all();
            let late = Instant::now() + LONG;
            while !state.released.contains(&compute) && Instant::now() < late {
                control.check()?;
                state = held.changed.wait_timeout(state, Duration::from_millis(1)).unwrap().0;
            }
        }
        Ok(())
    }

    fn enter(&self) {
        self.0.gate.state.lock().unwrap().0 += 1;
        self.0.gate.changed.notify_all();
    }

    fn is_open(&self) -> bool {
        self.0.gate.state.lock().unwrap().1
    }

    fn pass(&self) {
        let gate = &self.0.gate;
        let mut state = gate.state.lock().unwrap();
        state.0 += 1;
        gate.changed.notify_all();
        drop(gate.changed.wait_timeout_while(state, LONG, |(_, open)| !*open).unwrap());
    }

    /// An engine with both backends.
    pub fn engine(&self) -> Engine {
        // However few processors the machine has.
        self.engine_within(EngineLimits::default().with_max_computing(16))
    }

    /// An engine with both backends and these limits.
    pub fn engine_within(&self, limits: EngineLimits) -> Engine {
        self.builder().with_engine_limits(limits).build()
    }

    pub fn affine(&self) -> impl Backend {
        Affine(self.clone())
    }

    #[cfg(feature = "conformance")]
    pub fn trouble(&self) -> impl Backend {
        Trouble(self.clone())
    }

    /// An engine to be, with both backends.
    pub fn builder(&self) -> EngineBuilder {
        Engine::builder(Affine(self.clone())).with_backend(Trouble(self.clone()))
    }

    /// Waits until nothing of the backends is left.
    pub fn all_gone(&self) {
        eventually(|| self.alive() == 0);
    }
}

/// Sets its flag when it is dropped, be it by a failure: for threads that go on until then.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits for something that other threads bring about.
pub fn eventually(done: impl FnMut() -> bool) {
    assert!(comes_about(done), "it did not come about in 60 s");
}

/// Whether it does in 60 s.
pub fn comes_about(mut done: impl FnMut() -> bool) -> bool {
    for _ in 0..12_000 {
        if done() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Whether this is a process of the test's own, in which no other test collects what it has removed. Where it is not,
/// runs the test in one.
pub fn is_alone(test: &str) -> bool {
    is_alone_with(test, &[])
}

/// As [`is_alone`], with these variables in the environment.
pub fn is_alone_with(test: &str, variables: &[(&str, &str)]) -> bool {
    const ALONE: &str = "GRAPHPOOL_TEST_ALONE";
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--test-threads=1"]).env(ALONE, "1").envs(variables.iter().copied());
    assert!(command.status().unwrap().success());
    false
}

struct Alive(Watch);

impl Alive {
    fn new(watch: &Watch) -> Self {
        watch.0.alive.fetch_add(1, Ordering::SeqCst);
        Self(watch.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Computes `y = a·x + b` for vectors of a fixed length. Takes ONNX, by which it means [`Model::bytes`].
struct Affine(Watch);

/// A model of [`Affine`].
#[derive(Clone, Copy)]
pub struct Model {
    pub length: u32,
    pub a: f32,
    pub b: f32,
    /// What the graph says of its memory. One of an odd number of bytes says that it is on a device.
    pub memory: u32,
}

impl Default for Model {
    fn default() -> Self {
        Self { length: 2, a: 2.0, b: 1.0, memory: 100 }
    }
}

impl Model {
    pub fn bytes(self) -> Vec<u8> {
        [*b"AFF1", self.length.to_le_bytes(), self.a.to_le_bytes(), self.b.to_le_bytes(), self.memory.to_le_bytes()]
            .concat()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<4>() else { return None };
        let [magic, length, a, b, memory] = *words else { return None };
        (magic == *b"AFF1").then(|| Self {
            length: u32::from_le_bytes(length),
            a: f32::from_le_bytes(a),
            b: f32::from_le_bytes(b),
            memory: u32::from_le_bytes(memory),
        })
    }
}

impl Backend for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        matches!(encoding, Encoding::Onnx | Encoding::Autodetect) && target == Target::Cpu
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let model = Model::parse(&request.parts.concat()).ok_or_else(|| Error::invalid_encoding("not affine"))?;
        if request.memory_limit == 0 {
            return Err(Error::too_large("no room for it").by_limit());
        }
        self.0.0.loads.fetch_add(1, Ordering::SeqCst);
        self.0.0.memory_limit.store(request.memory_limit, Ordering::SeqCst);
        Ok(Box::new(AffineGraph::new(model, &self.0)))
    }
}

struct AffineGraph {
    model: Model,
    x: [TensorDescription; 1],
    y: [TensorDescription; 1],
    alive: Alive,
}

impl AffineGraph {
    fn new(model: Model, watch: &Watch) -> Self {
        let [x, y] =
            ["x", "y"].map(|name| [TensorDescription::new(name, TensorType::F32, Some(vec![Some(model.length)]))]);
        Self { model, x, y, alive: Alive::new(watch) }
    }
}

impl BackendGraph for AffineGraph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.x
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.y
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(AffineContext { model: self.model, x: None, y: None, alive: Alive::new(&self.alive.0) }))
    }

    fn memory(&self) -> usize {
        self.model.memory as usize
    }

    fn placement(&self) -> Option<Placement> {
        (self.model.memory % 2 == 1).then(|| Placement::new(5, 2, 3))
    }
}

struct AffineContext {
    model: Model,
    x: Option<Vec<f32>>,
    y: Option<Tensor>,
    alive: Alive,
}

impl BackendContext for AffineContext {
    fn set_input(&mut self, _: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        self.x = tensor.to_owned().to_f32();
        Ok(())
    }

    fn clear_inputs(&mut self) {
        self.x = None;
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        control.check()?;
        let x = self.x.as_ref().ok_or_else(|| Error::invalid_argument("no input"))?;
        if size_of_val(&**x) > control.memory_limit {
            return Err(Error::too_large("no room for the output"));
        }
        self.alive.0.hold(control)?;
        let y: Vec<f32> = x.iter().map(|x| self.model.a * x + self.model.b).collect();
        self.y = Some(Tensor::from_f32(vec![self.model.length], &y)?);
        Ok(())
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        self.y.as_ref().map(Tensor::view).ok_or_else(|| Error::invalid_argument("nothing computed"))
    }
}

/// Misbehaves where its model's text says so. Takes `PyTorch`.
///
/// * `load`, `describe`, `outputs`, `graph memory`, `init`, `context memory`, `memory after compute`, `set_input`,
///   `clear_inputs`, `compute`, `output`, `drop graph`, `drop context` panic there, and `supports` does for a TPU.
/// * `gate`, `gate load`, `gate fail` and `gate drop` wait at the gate, in `compute`, `load` and a graph's destructor;
///   `sleep` does in `compute`, suspended.
/// * `fail load` fails, `refuses` takes no input, `answers 3` has `compute` give the third kind of error.
/// * `holds 7 then 9` has contexts of 7 bytes, and of 9 after a compute.
struct Trouble(Watch);

impl Backend for Trouble {
    fn name(&self) -> &'static str {
        "trouble"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        assert!(target != Target::Tpu, "supports");
        matches!(encoding, Encoding::PyTorch | Encoding::Autodetect)
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        self.0.0.loads.fetch_add(1, Ordering::SeqCst);
        let what = String::from_utf8(request.parts.concat()).map_err(|_| Error::invalid_encoding("not a text"))?;
        match &*what {
            "load" => panic!("load"),
            "fail load" => return Err(Error::runtime_error("as it was told")),
            "gate load" | "gate fail" | "gate needs 100" => self.0.pass(),
            _ => {}
        }
        if what == "gate needs 100" && request.memory_limit < 100 {
            return Err(Error::too_large("it needs 100").by_limit());
        }
        if what == "gate fail" {
            return Err(Error::runtime_error("as it was told"));
        }
        let byte = TensorDescription::new("byte", TensorType::U8, None);
        Ok(Box::new(TroubleGraph { what, byte: [byte], alive: Alive::new(&self.0) }))
    }
}

struct TroubleGraph {
    what: String,
    byte: [TensorDescription; 1],
    alive: Alive,
}

impl BackendGraph for TroubleGraph {
    fn inputs(&self) -> &[TensorDescription] {
        assert!(self.what != "describe", "describe");
        &self.byte
    }

    fn outputs(&self) -> &[TensorDescription] {
        assert!(self.what != "outputs", "outputs");
        &self.byte
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        assert!(self.what != "init", "init");
        Ok(Box::new(TroubleContext { what: self.what.clone(), byte: [0], alive: Alive::new(&self.alive.0) }))
    }

    fn memory(&self) -> usize {
        assert!(self.what != "graph memory", "graph memory");
        0
    }
}

impl Drop for TroubleGraph {
    fn drop(&mut self) {
        if self.what == "gate drop" {
            self.alive.0.pass();
        }
        assert!(self.what != "drop graph", "drop graph");
    }
}

struct TroubleContext {
    what: String,
    byte: [u8; 1],
    alive: Alive,
}

impl BackendContext for TroubleContext {
    fn set_input(&mut self, _: usize, _: TensorView<'_>) -> Result<(), Error> {
        assert!(self.what != "set_input", "set_input");
        if self.what == "refuses" { Err(Error::invalid_argument("as it was told")) } else { Ok(()) }
    }

    fn clear_inputs(&mut self) {
        assert!(self.what != "clear_inputs", "clear_inputs");
    }

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        match &*self.what {
            "compute" => panic!("compute"),
            "gate" => self.alive.0.pass(),
            "sleep" => {
                let _suspension = control.suspend();
                self.alive.0.pass();
            }
            // Until it is told to end, or the gate opens.
            "loop" => {
                self.alive.0.enter();
                let late = Instant::now() + LONG;
                while !self.alive.0.is_open() && Instant::now() < late {
                    control.check()?;
                    thread::sleep(Duration::from_millis(1));
                }
            }
            "slow" => thread::sleep(Duration::from_millis(2)),
            _ => {}
        }
        if let Some(kind) = self.what.strip_prefix("answers ") {
            return Err(Error::new(ErrorKind::ALL[kind.parse::<usize>().unwrap()], "as it was told, ".repeat(99)));
        }
        self.byte = [7];
        Ok(())
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        assert!(self.what != "output", "output");
        TensorView::new(&[], TensorType::U8, &self.byte)
    }

    fn memory(&self) -> usize {
        let computed = self.byte != [0];
        assert!(self.what != "context memory", "context memory");
        assert!(self.what != "memory after compute" || !computed, "memory after compute");
        let mut numbers = self.what.split(' ').filter_map(|word| word.parse::<usize>().ok());
        let (first, then) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if computed { then } else { first }
    }
}

impl Drop for TroubleContext {
    fn drop(&mut self) {
        assert!(self.what != "drop context", "drop context");
    }
}
