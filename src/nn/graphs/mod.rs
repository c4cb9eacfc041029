//! Graphs: their sources, their builds (one for concurrent loads of equal models), and the names that hosts give them.

pub(crate) mod backend_calls;
pub(crate) mod backend_error;
pub(crate) mod backends;
pub(crate) mod build;
pub(crate) mod bytes;
pub(crate) mod configured;
pub(crate) mod entry;
pub(crate) mod flight;
pub(crate) mod graph;
pub(crate) mod listing;
pub(crate) mod loaded;
pub(crate) mod model;
pub(crate) mod model_error;
pub(crate) mod name_map;
pub(crate) mod names;
pub(crate) mod pace;
pub(crate) mod registry;
pub(crate) mod resolved;
pub(crate) mod resolver;
pub(crate) mod source;
pub(crate) mod store;
#[cfg(feature = "watch")]
pub(crate) mod watch;
