//! Plug-in backends for [graphpool]'s wasi-nn engine: any shared library with WAMR's backend interface.
//!
//! WAMR, the WebAssembly Micro Runtime, computes models in libraries such as `libwasi_nn_tflite.so` or
//! `libwasi_nn_llamacpp.so`. Each exports nine functions in C: `init_backend`, `deinit_backend`, `load`,
//! `load_by_name`, `load_by_name_with_config`, `init_execution_context`, `set_input`, `compute` and `get_output`. A
//! [`DylibBackend`] opens such a library as a backend of an engine:
//!
//! ```no_run
//! use graphpool::nn::{Encoding, Engine};
//! use graphpool_dylib::{DylibBackend, DylibSettings, Serialized};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = "/usr/lib/libwasi_nn_tflite.so";
//! let settings = DylibSettings::new([Encoding::TensorFlowLite]).with_serialized(Serialized::Library);
//! // SAFETY: this library keeps to WAMR's interface, and nobody else can replace the file.
//! let engine = Engine::new(unsafe { DylibBackend::open(path, settings.clone())? });
//!
//! // Later, while guests load and compute: the file is another now.
//! // SAFETY: as above.
//! engine.replace_backend(unsafe { DylibBackend::open(path, settings)? })?;
//! # Ok(())
//! # }
//! ```
//!
//! # The life of a library
//!
//! A library is opened by [`DylibBackend::open`] or by the first load, once for all calls that need it. What keeps it
//! from opening is the error of these calls, and the next one tries again: a file that cannot be read, a function that
//! is missing, an initialiser that fails. `load_by_name` and `load_by_name_with_config` may be missing; a model that
//! needs them is then refused. `deinit_backend` may be missing if [that is declared](DylibSettings::without_deinit).
//!
//! On Linux and Android the library is mapped from a [private copy](Mapping::Copy) of the file. So the file can be
//! replaced, or overwritten, while the library is in use, and a library that is opened again is a new one beside the
//! old. The backend, each graph and each context keep it mapped. It is unmapped when the last of them is gone, unless
//! the C library keeps it: musl never unmaps a library, and glibc keeps one that is linked with `-z nodelete`, has
//! unique symbols (most in C++), or has destructors of thread-locals that wait for a thread's end. Such a library is
//! never taken for one that is opened later, but each copy takes its memory until the process ends: also one that lacks
//! a function, at each load that tries it. [`DylibBackend::open`] finds that out before guests load.
//!
//! A library that leaves threads, destructors of threads' values or callbacks behind must not be unmapped: the host
//! declares [that it stays mapped](DylibSettings::with_kept_mapped).
//!
//! # Graphs and contexts
//!
//! In WAMR's interface a context that `init_backend` has made holds graphs, and these hold execution contexts. WAMR
//! makes one for each module instance. `deinit_backend` is the only function that frees anything, and libraries have
//! room for 4 to 10 graphs and execution contexts in each. A backend of graphpool is not told which guest a call is
//! for. Therefore each context of a guest has an `init_backend` context, with the model loaded and one execution
//! context, and ends it with `deinit_backend`: no guest shares one with another, everything that a guest releases is
//! freed at once, and the number of contexts is what the host allows. The price is a load of the model for each
//! context. For large models [`with_contexts_per_load`](DylibSettings::with_contexts_per_load) has several contexts
//! share one.
//!
//! A graph keeps a copy of the model's bytes, and has it loaded once in advance, so that a bad model is refused at its
//! load. It counts as twice the bytes of the model, and each context as once these, its inputs and its outputs: what
//! the library itself takes is unknown.
//!
//! The interface has no function that clears an input. If a guest computes without an input that it has cleared
//! ([`infer`](graphpool::nn::Guest::infer) clears those that it does not set), the context continues in a new
//! `init_backend` context, with one more load of the model inside of that compute. Cleared inputs are freed at once.
//! The library may still have pointers to them, and is not asked to compute as long as it has.
//!
//! # What the host declares
//!
//! The interface says nothing of encodings, targets, thread safety, and the types and shapes of tensors:
//! [`DylibSettings`] does. By default a model may have up to 16 inputs and outputs, each of any type and shape. The
//! library checks inputs when they are set. Outputs are bytes (u8 vectors) unless they are declared, which serves the
//! core-module form of wasi-nn: there a guest only gets bytes.
//!
//! A model that the library finds by a name of its own, such as a path for llama.cpp, is registered by the host:
//! [`ModelSource::of_backend`](graphpool::nn::ModelSource::of_backend). Guests never choose that name. Such a model
//! counts as 0 bytes. A configuration goes to `load_by_name_with_config`; the interface has none for models from bytes.
//!
//! # Faults of a library
//!
//! A library is code in the process of the host, and is trusted like the host: it can write anywhere and end the
//! process. Some faults are noticed, and become an error of the call: error numbers that do not exist, outputs longer
//! than their buffers, and writes up to 64 bytes past a buffer. After the last two the context continues in a new
//! `init_backend` context. An exception in C++ that leaves a function ends the process.
//!
//! A library's function cannot be interrupted, and nothing bounds how long it takes. The deadline and the cancellation
//! of a compute are looked at before each function that is called for it, and at its end.
//!
//! # Waits
//!
//! Calls wait for each other where one `init_backend` context is [shared](DylibSettings::with_contexts_per_load), and
//! under [`Serialized::Library`] in the whole library. Each waits for at most
//! [`max_wait`](DylibSettings::with_max_wait), 10 seconds by default, and then fails with `Busy`.
//!
//! A compute that waits has been admitted by the engine, and holds one of its
//! [`max_computing`](graphpool::nn::EngineLimits::max_computing) places until it has its turn. So a guest with a slow
//! model and enough contexts can hold every place, and delay the computes of other backends by `max_wait`, and again
//! when these have taken their turns. The other calls wait on the thread that makes them. An asynchronous host that
//! cannot have that takes a short `max_wait`, an engine of its own for the library, or opens contexts and sets inputs
//! on other threads.
//!
//! The end of a context never waits: `deinit_backend` is called by the thread that uses the library, when it has done.
#![cfg(unix)]

mod abi;
mod backend;
mod context;
mod graph;
mod instance;
mod library;
mod loaded;
mod output;
mod session;
mod settings;
mod turn;

pub use backend::DylibBackend;
pub use settings::{DylibSettings, Mapping, Serialized};
