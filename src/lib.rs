//! One process-wide, lock-free pool of graph handles, and a wasi-nn engine on top of it, for those who write WebAssembly
//! runtimes.
//!
//! * [`nn`](mod@nn) is the engine: an `Engine` for the process, a `Guest` for each wasm instance, named models with reload,
//!   limits, deadlines, cancellation, statistics. Begin there to put wasi-nn into a runtime.
//! * [`backend`] is what a backend implements, and what engine and backends share: errors, tensors, and the numbers that
//!   each family of hosts has for them ([`backend::wire`]). The package `graphpool-candle` is the one for ONNX models.
//! * [`Pool`] and [`HandleTable`] are what the engine is built on, of use for entries of any kind: 64-bit handles that
//!   name one entry and never a later one, looked up without a lock or a write, and 32-bit handles for each guest.
//! * [`docs`] has the design, what shows that it is right, its limits and the threat model.
//!
//! ```
//! use graphpool::{HandleTable, Kind, Pool, pin};
//!
//! # graphpool::doctest(|| {
//! // One pool for the process, and a table for each guest.
//! let pool = Pool::new();
//! let table = HandleTable::new(&pool, Kind::Graph);
//! let number = table.bind(pool.insert("a graph").unwrap()).unwrap();
//!
//! // A call of the guest: its number, then the entry. No lock, no write to shared memory.
//! let guard = pin();
//! assert_eq!(table.resolve(number).and_then(|handle| pool.get(handle, &guard)), Some(&"a graph"));
//!
//! // Gone for every thread at once; whoever reads it under a guard may go on.
//! let handle = table.unbind(number).unwrap();
//! assert_eq!(pool.remove(handle).as_deref(), Some(&"a graph"));
//! assert!(table.resolve(number).is_none() && pool.get(handle, &guard).is_none());
//! # drop(guard);
//! # });
//! ```
//!
//! Features: `nn` (default) the engine, `watch` reloads of models whose files are replaced, `metrics` numbers for the
//! `metrics` crate, `conformance` checks for authors of backends. Without features the crate is the pool alone.

#![cfg_attr(not(feature = "nn"), allow(rustdoc::broken_intra_doc_links, reason = "the essays tell of the engine"))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("graphpool needs a 64-bit target: a handle is 64 bits, as the slab's keys must be");

pub mod docs;
mod epoch;
mod handle;
pub mod pool;
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

/// The models that are inside the crate use what those of `loom-tests/` do.
#[cfg(all(test, loom))]
extern crate self as graphpool;
#[cfg(all(test, loom))]
#[path = "../loom-tests/support.rs"]
#[expect(dead_code, reason = "they need less of it")]
mod model_support;

pub use epoch::{Guard, pin};
pub use handle::{GuestHandle, Handle, Kind};
pub use pool::{Insert, InsertError, Pool, PoolStats};
pub use table::{BindError, HandleTable};

/// What the models look at.
#[cfg(any(loom, shuttle))]
#[doc(hidden)]
pub mod verification {
    use std::cell::Cell;

    thread_local! {
        /// Entries whose values were let go of, over all executions of the models that this thread has run.
        pub static RECLAMATIONS: Cell<u64> = const { Cell::new(0) };
    }

    pub use crate::epoch::defer;
    #[cfg(loom)]
    pub use crate::epoch::lanes::lent as lanes_are_lent;
    #[cfg(not(crossbeam_loom))]
    pub use crate::epoch::last_first as deferrals_run_last_first;
}

/// Runs an example of the documentation: as it is, and under `--cfg loom` as a model, outside of which loom's types
/// don't work.
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
