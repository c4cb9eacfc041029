//! wasi-nn for hosts: an [`Engine`] for the process, a [`Guest`] for each wasm instance.
//!
//! The engine owns the models, the backends that run them and the names under which the host offers them. A guest is
//! one instance's view of it: 32-bit handles that are valid in that guest only, counted against [`Limits`]. Guest input
//! (bytes, handles, indexes, sizes) is untrusted: a call gives a result or an [`Error`]. A guest cannot make the host
//! panic, make it wait for another guest's compute, or keep memory after its own end.
//!
//! ```
//! use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
//! use graphpool::nn::{
//!     Encoding, Engine, Error, ErrorKind, ModelSource, Target, Tensor, TensorDescription, TensorType, TensorView,
//! };
//!
//! /// A backend whose models are the four bytes of an f32, and multiply their input by it.
//! struct Scale;
//! # struct Graph(f32, [TensorDescription; 1]);
//! # struct Context(f32, Option<f32>, Option<Tensor>);
//! # impl Backend for Scale {
//! #     fn name(&self) -> &str {
//! #         "scale"
//! #     }
//! #     fn supports(&self, encoding: Encoding, _: Target) -> bool {
//! #         encoding == Encoding::Onnx
//! #     }
//! #     fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
//! #         let bytes = request.parts.concat().try_into().map_err(|_| Error::invalid_encoding("not an f32"))?;
//! #         let one = TensorDescription::new("x", TensorType::F32, Some(vec![]));
//! #         Ok(Box::new(Graph(f32::from_le_bytes(bytes), [one])))
//! #     }
//! # }
//! # impl BackendGraph for Graph {
//! #     fn inputs(&self) -> &[TensorDescription] {
//! #         &self.1
//! #     }
//! #     fn outputs(&self) -> &[TensorDescription] {
//! #         &self.1
//! #     }
//! #     fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
//! #         Ok(Box::new(Context(self.0, None, None)))
//! #     }
//! #     fn memory(&self) -> usize {
//! #         4
//! #     }
//! # }
//! # impl BackendContext for Context {
//! #     fn set_input(&mut self, _: usize, tensor: TensorView<'_>) -> Result<(), Error> {
//! #         self.1 = tensor.to_owned().to_f32().and_then(|elements| elements.first().copied());
//! #         Ok(())
//! #     }
//! #     fn clear_inputs(&mut self) {
//! #         self.1 = None;
//! #     }
//! #     fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
//! #         let x = self.1.ok_or_else(|| Error::invalid_argument("no input"))?;
//! #         self.2 = Some(Tensor::from_f32([], &[x * self.0])?);
//! #         Ok(())
//! #     }
//! #     fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
//! #         self.2.as_ref().map(Tensor::view).ok_or_else(|| Error::invalid_argument("nothing computed"))
//! #     }
//! # }
//! # graphpool::doctest(|| {
//! # fn example() -> Result<(), Error> {
//!
//! // The host: once for the process.
//! let engine = Engine::builder(Scale).build();
//! let half = 0.5_f32.to_le_bytes().to_vec();
//! engine.register_model("half", ModelSource::bytes(half), Encoding::Onnx, Target::Cpu)?;
//!
//! // Once for each wasm instance; its calls go here.
//! let guest = engine.guest();
//! let graph = guest.load_by_name("half")?;
//! let context = guest.init_execution_context(graph)?;
//! guest.set_input(context, 0, &Tensor::from_f32([], &[42.0])?)?;
//! guest.compute(context)?;
//! assert_eq!(guest.output(context, "x")?.to_f32(), Some(vec![21.0]));
//!
//! // A handle is invalid in another guest, and as the wrong kind.
//! assert_eq!(engine.guest().compute(context).unwrap_err().kind(), ErrorKind::InvalidArgument);
//! assert_eq!(guest.compute(graph).unwrap_err().kind(), ErrorKind::InvalidArgument);
//!
//! // When the instance ends, everything that it held is released.
//! drop(guest);
//! assert_eq!(engine.stats().contexts, 0);
//! # Ok(())
//! # }
//! # example().unwrap();
//! # });
//! ```
//!
//! # Statistics and events
//!
//! [`Engine::stats`], [`Engine::list_graphs`] and [`Engine::list_models`] return the current state. `tracing` gets the
//! spans `load`, `resolve`, `build` and `compute` and the events `resolved`, `built`, `loaded`, `computed`, `reloaded`,
//! `reload failed`, `refused`, `backend registered`, `backend replaced` and `backend removed`, with the numbers of the
//! guest and the graph and the guest's label as fields, and the target [`TRACING_TARGET`]. With the feature `metrics`,
//! the numbers of [`Stats`] go to the recorder of the `metrics` crate as the gauges `graphpool_graphs`,
//! `graphpool_graph_bytes`, `graphpool_contexts`, `graphpool_context_bytes`, `graphpool_host_bytes`,
//! `graphpool_guests`, `graphpool_loads`, `graphpool_computing` (here with those that sleep), `graphpool_suspended` and
//! `graphpool_queued`, and as counters such as `graphpool_builds_total`, `graphpool_reloads_total`,
//! `graphpool_computes_total` and `graphpool_panics_total`. There are also the counter `graphpool_errors_total` by
//! `call` and `kind`, and the histograms `graphpool_build_seconds`, `graphpool_wait_seconds` (of computes that were
//! queued) and `graphpool_compute_seconds`.
//!
//! # Scheduling
//!
//! At most [`EngineLimits::max_computing`] computes run at one time; others wait in the admission queue, and guests
//! take turns: between two computes of one guest, each other waiting guest has one. If the queue is full, a guest with
//! more waiting computes makes room for a guest with fewer, down to equal shares; its newest computes end with
//! [`Busy`](ErrorKind::Busy). So a guest with an empty queue gets a place if the queue has more places than there are
//! waiting guests, and its first turn comes after at most one turn of each. A turn lasts as long as its compute:
//! [`Limits::max_compute_time`] and [`Limits::max_computes`] bound the share of one guest.
//!
//! A compute that [sleeps](crate::backend::ComputeControl::suspend) in its backend until another has worked for it does
//! not count as running. It goes on before all computes that wait for their turns. At most
//! [`EngineLimits::max_suspended`] sleep beside those that run.
//!
//! Concurrent loads of one model share one build. If that build fails because its own guest's limit is too low, the
//! waiting load with the most room builds next, and loads with more room than the failed build keep waiting. So a load
//! waits for at most one build of a guest with less room. Likewise, concurrent loads of a name that is not registered
//! share one call of the [resolver](EngineBuilder::with_resolver).
//!
//! # Lifetimes
//!
//! A graph lives as long as a handle, a name, a context or a running call holds it; guests that load equal bytes share
//! one graph. A handle of a named model holds the name, so a version that a reload has replaced is released with its
//! last context. A context lives as long as its handle or the call that is inside it. The memory of a context is freed
//! on the thread that closes it, that of a graph on a thread of the engine. Neither waits for epoch guards of other
//! threads.
//!
//! # Panics of backends
//!
//! A backend that panics gives [`RuntimeError`](ErrorKind::RuntimeError). If it was inside a context, every later call
//! on that context gives the same error. Nothing else is affected. (With `panic = "abort"` a panic cannot be caught: a
//! host that needs this must unwind.)

mod engine;
mod graphs;
mod guest;
mod ids;
mod inner;
mod limits;
#[cfg(all(test, loom))]
mod models;
mod panics;
mod schedule;
mod telemetry;

#[cfg(feature = "conformance")]
pub use crate::backend::conformance;
pub use crate::backend::{
    Bf16Bits, Element, Encoding, Error, ErrorCode, ErrorKind, F16Bits, MESSAGE_BYTES, Placement, Step, Target, Tensor,
    TensorDescription, TensorType, TensorView, element_count,
};
pub use guest::check::TensorId;

pub use engine::{Engine, EngineBuilder};
pub use graphs::backend_error::BackendError;
pub use graphs::bytes::ModelBytes;
pub use graphs::listing::{GraphInfo, ModelInfo};
pub use graphs::model_error::ModelError;
pub use graphs::resolved::ResolvedModel;
pub use graphs::source::ModelSource;
#[cfg(feature = "watch")]
pub use graphs::watch::DirectoryWatch;
pub use guest::Guest;
pub use guest::builder::GuestBuilder;
pub use guest::host_bytes::HostBytes;
pub use guest::host_calls::GuestUsage;
pub use guest::load::Load;
pub use guest::policy::GuestPolicy;
pub use guest::stream::Pieces;
pub use limits::{EngineLimits, Limits};
pub use schedule::future::Compute;
pub use telemetry::observe::TRACING_TARGET;
pub use telemetry::stats::Stats;
