//! loom's atomics, each with a companion that makes loom go through every order of its accesses.
//!
//! loom's partial-order reduction remembers one access of an object, the last. A load by one thread that another
//! thread's load follows is forgotten, and so is never tried after what that other thread stores next: a
//! load and compare-exchange against a load, the commonest pair there is, runs in one order only (loom 0.7.3:
//! `last_access` in its `rt/atomic.rs`). So every load here comes after a *tick*: a compare-exchange on the
//! companion that always fails. It is one that loom takes for dependent on every other, and being relaxed and
//! without a store it adds no edge: what a load may see stays the memory model's affair. Stores and
//! read-modify-writes need none, since loom remembers those.
//!
//! With the real epoch there are no ticks: crossbeam's own atomics have none, and the models would not end.

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

                /// Never fails without cause: a retry is another compare-exchange, which loom tries anyway.
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
