//! The subjects, by kind.

mod arrays;
mod graphpool;
mod maps;
mod slabs;

pub use arrays::{Cells, Plain};
pub use graphpool::{Held, Pinned, Repinned, Table, Tables};
pub use maps::{Dash, Papaya, Scc};
pub use slabs::{Concurrent, MutexSlots, RwLockSlots, Sharded};
