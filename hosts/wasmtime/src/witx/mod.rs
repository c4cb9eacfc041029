//! The core-module form: the functions of `wasi_ephemeral_nn`, for modules that import them.
//!
//! | function | parameters, each an `i32` |
//! | --- | --- |
//! | `load` | address and number of the parts, encoding, target, address for the graph |
//! | `load_by_name` | address and length of the name, address for the graph |
//! | `load_by_name_with_config` | address and length of the name and of the configuration, address for the graph |
//! | `init_execution_context` | graph, address for the context |
//! | `set_input` | context, index, address of the tensor |
//! | `compute` | context |
//! | `get_output` | context, index, address and length of the buffer, address for the size |
//! | `compute_single` | context |
//! | `get_output_single` | as `get_output` |
//! | `fini_single` | context |
//! | `unload` | graph |
//! | `finalize_execution_context` | context |
//!
//! Each returns an `i32`: 0, or the [errno](graphpool::backend::wire::Dialect::errno) of what was wrong. No argument
//! traps or panics. A refusal is an event of the engine's and counts in its statistics, because core modules cannot be
//! given the reason.
//!
//! `compute_single`, `get_output_single` and `fini_single` are `WasmEdge`'s, for a language model's text as it is made:
//! the first makes the next piece, and gives 100 where the text is complete, 101 where the context is full and 102
//! where the prompt is too long, in the dialects that have these numbers; the second reads the piece; the third ends
//! the run of pieces. A prompt's tensor may have the dimensions `[1]` and any length.
//!
//! # Memory
//!
//! The calls use the memory that the calling instance exports as `memory`, or that the host names by
//! [`WasiNnCtx::with_memory`](crate::WasiNnCtx::with_memory). An instance without one gets `missing_memory`, also for a
//! 64-bit memory. Pointers need no alignment. Lengths are compared with the guest's
//! [limits](graphpool::nn::Limits) before anything is copied, and the place of a result is checked before the work.
//!
//! A shared memory may be written to by other threads of the guest during a call: its bytes are copied once, and the
//! copy is checked and used.
//!
//! # Time
//!
//! With [`add_to_linker`], a load builds the model, and a compute and a single step compute, on the thread that runs
//! the guest. Epochs and fuel end a guest when it is back in its own code. To end a compute before, set
//! [`max_compute_time`](graphpool::nn::Limits::max_compute_time), or call
//! [`cancel_all`](graphpool::nn::Guest::cancel_all) on a clone of the guest from another thread. With
//! `add_to_linker_async`, they wait without blocking the thread, and the drop of the call's future cancels them.
//!
//! Either way `set_input` takes a language model's prompt apart into tokens on the thread that runs the guest, which
//! may take as long as a compute may. `max_compute_time` and `cancel_all` end it. For an executor that must not wait so
//! long, set a lower limit of the guest's time or [tensors](graphpool::nn::Limits::max_tensor_bytes).

#[cfg(feature = "async")]
mod asynchronous;
mod blocking;
mod calls;
mod memory;
mod short;

#[cfg(feature = "async")]
pub use asynchronous::add_to_linker_async;
pub use blocking::add_to_linker;
