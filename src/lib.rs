//! One process-wide, lock-free pool of graph handles, and a wasi-nn engine on top of it, for WebAssembly runtimes.
//!
//! * [`nn`](mod@nn) is the engine: an `Engine` for the process, a `Guest` for each wasm instance, named models with
//!   reload, limits, deadlines, cancellation, statistics. [`docs::guide`] puts it into a runtime, step by step.
//! * [`backend`] has the traits that a backend implements, and what engine and backends share: errors, tensors, and the
//!   numbers that each family of hosts has for them ([`backend::wire`]). The package `graphpool-candle` is the backend
//!   for ONNX models.
//! * [`Pool`] and [`HandleTable`] are what the engine is built on, for entries of any type: 64-bit handles that name
//!   one entry and never a later one, looked up without a lock or a write, and 32-bit handles for each guest.
//! * [`docs`] has the guide, the design, the evidence that it is correct, its limits and the threat model.
//!
//! ```
//! use graphpool::{HandleTable, Kind, Pool, pin};
//!
//! # graphpool::doctest(|| {
//! // One pool for the process, and a table for each guest.
//! let pool = Pool::new();
//! let table = HandleTable::new(&pool, Kind::Zero);
//! let number = table.bind(pool.insert("a graph").unwrap()).unwrap();
//!
//! // A call of the guest: from its number to the entry, with no lock and no write to shared memory.
//! let guard = pin();
//! assert_eq!(table.resolve(number).and_then(|handle| pool.get(handle, &guard)), Some(&"a graph"));
//!
//! // Removed for every thread at once. A thread that reads the entry under a guard may continue.
//! let handle = table.unbind(number).unwrap();
//! assert_eq!(pool.remove(handle).as_deref(), Some(&"a graph"));
//! assert!(table.resolve(number).is_none() && pool.get(handle, &guard).is_none());
//! # drop(guard);
//! # });
//! ```
//!
//! Features: `nn` (default) is the engine, `watch` reloads models whose files are replaced, `metrics` has numbers for
//! the `metrics` crate, `conformance` has checks for authors of backends. Without features the crate is the pool and
//! the handle table.

#![cfg_attr(not(feature = "nn"), allow(rustdoc::broken_intra_doc_links, reason = "the essays describe the engine too"))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("graphpool needs a 64-bit target: a handle has 64 bits, and so have the slab's keys");

pub mod docs;
mod epoch;
mod handle;
pub mod pool;
#[cfg(all(doctest, not(loom)))]
mod promises;
#[cfg(loom)]
#[doc(hidden)]
pub mod sync;
#[cfg(not(loom))]
mod sync;
mod table;

#[cfg(feature = "nn")]
pub mod backend;
#[cfg(feature = "nn")]
pub mod nn;

/// The models inside the crate use the support module of `loom-tests/`.
#[cfg(all(test, loom))]
extern crate self as graphpool;
#[cfg(all(test, loom))]
#[path = "../loom-tests/support.rs"]
#[expect(dead_code, reason = "they use a part of it")]
mod model_support;

pub use epoch::{Guard, pin};
pub use handle::{GuestHandle, Handle, InvalidHandle, Kind};
pub use pool::{InsertError, Pool, PoolStats};
pub use table::{BindError, HandleTable};

/// What the model checkers read and switch.
#[cfg(any(loom, shuttle))]
#[doc(hidden)]
pub mod verification {
    use std::cell::Cell;

    thread_local! {
        /// Entries that were released, over all executions of the models that this thread has run.
        pub static RECLAMATIONS: Cell<u64> = const { Cell::new(0) };
    }

    pub use crate::epoch::defer;
    #[cfg(loom)]
    pub use crate::epoch::lanes::borrow_for_each_call as threads_borrow_lanes;
    #[cfg(not(crossbeam_loom))]
    pub use crate::epoch::run_last_first as deferrals_run_last_first;
}

/// Runs an example of the documentation. Under `--cfg loom` it runs as a model, since loom's types work only in one.
#[doc(hidden)]
pub fn doctest(example: impl Fn() + Send + Sync + 'static) {
    #[cfg(not(loom))]
    example();
    #[cfg(loom)]
    {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(1);
        model.max_branches = 100_000;
        model.check(example);
    }
}
