//! loom's atomics, each with a companion that makes loom explore every order of its accesses.
//!
//! loom's partial-order reduction remembers one access of an object, the last. If thread A loads and then thread B
//! loads, A's load is forgotten, and is never tried after B's next store. So a load and compare-exchange against a
//! load, the most common pair, runs in one order only (loom 0.7.3: `last_access` in its `rt/atomic.rs`). Therefore a
//! *tick* precedes every load here: a compare-exchange on the companion that always fails. loom takes it to depend on
//! every other tick. It is relaxed and stores nothing, so it adds no edge, and the memory model alone decides what a
//! load may see. Stores and read-modify-writes need no tick, since loom remembers those.
//!
//! With crossbeam-epoch there are no ticks: its own atomics have none, and the models would take too long.

pub use loom::sync::atomic::{Ordering, fence};

macro_rules! atomics {
    ($($(#[$doc:meta])* $name:ident $(<$generic:ident>)? of $value:ty),* $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name $(<$generic>)? {
                atomic: loom::sync::atomic::$name $(<$generic>)?,
                companion: loom::sync::atomic::AtomicBool,
            }

            impl $(<$generic>)? $name $(<$generic>)? {
                #[track_caller]
                pub fn new(value: $value) -> Self {
                    Self {
                        atomic: loom::sync::atomic::$name::new(value),
                        companion: loom::sync::atomic::AtomicBool::new(false),
                    }
                }

                fn tick(&self) {
                    if cfg!(crossbeam_loom) {
                        return;
                    }
                    let _ = self.companion.compare_exchange(true, true, Ordering::Relaxed, Ordering::Relaxed);
                }

                #[track_caller]
                pub fn load(&self, order: Ordering) -> $value {
                    self.tick();
                    self.atomic.load(order)
                }

                #[track_caller]
                pub fn store(&self, value: $value, order: Ordering) {
                    self.atomic.store(value, order);
                }

                #[track_caller]
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.atomic.swap(value, order)
                }

                #[track_caller]
                pub fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.atomic.compare_exchange(current, new, success, failure)
                }

                /// Never fails spuriously: a retry is another compare-exchange, which loom explores anyway.
                #[track_caller]
                pub fn compare_exchange_weak(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.compare_exchange(current, new, success, failure)
                }

                #[track_caller]
                pub fn try_update(
                    &self,
                    set_order: Ordering,
                    fetch_order: Ordering,
                    mut update: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let mut current = self.load(fetch_order);
                    while let Some(new) = update(current) {
                        match self.compare_exchange(current, new, set_order, fetch_order) {
                            Ok(old) => return Ok(old),
                            Err(now) => current = now,
                        }
                    }
                    Err(current)
                }
            }
        )*
    };
}

macro_rules! arithmetic {
    ($($name:ident of $value:ty),*) => {
        $(
            impl $name {
                #[track_caller]
                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    self.atomic.fetch_add(value, order)
                }

                #[track_caller]
                pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    self.atomic.fetch_sub(value, order)
                }

                #[track_caller]
                pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    self.atomic.fetch_and(value, order)
                }

                #[track_caller]
                pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                    self.atomic.fetch_or(value, order)
                }

                #[track_caller]
                pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                    self.atomic.fetch_max(value, order)
                }
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::new(0)
                }
            }
        )*
    };
}

atomics! {
    /// A `bool`.
    AtomicBool of bool,
    /// A `u32`.
    AtomicU32 of u32,
    /// A `u64`.
    AtomicU64 of u64,
    /// A `usize`.
    AtomicUsize of usize,
    /// A raw pointer.
    AtomicPtr<T> of *mut T,
}

arithmetic! { AtomicU32 of u32, AtomicU64 of u64, AtomicUsize of usize }

impl Default for AtomicBool {
    fn default() -> Self {
        Self::new(false)
    }
}
