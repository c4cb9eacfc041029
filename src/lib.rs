//! One process-wide, lock-free pool of graph handles, and a wasi-nn engine on top of it.

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
