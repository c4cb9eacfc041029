//! The primitives of [`queue`](super::queue): std's. The models of the queue include its file beside loom's instead.

pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
