//! What C's pointers and numbers stand for.
//!
//! C gets no address: what it holds is a [`Handle`] of a pool, as a number or in place of a pointer, which is looked up
//! and never dereferenced. So one that was closed, that is of another kind, or that C made up is refused, also while
//! another thread closes it.
//!
//! * H1: a call holds a reference of its own to what it has looked up, until it returns.
//! * H2: a close takes the value out of its entry, for exactly one caller, and its destructor runs with the last
//!   reference. The empty entry is freed by the pool, some time later.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use graphpool::{Handle, Pool};

/// The most values of one kind: those of a pool.
pub const MOST: usize = 1 << 24;

/// The place of one value.
pub struct Entry<T>(ArcSwapOption<T>);

/// A kind of value that C holds by its number; [`held!`](crate::held) implements it.
pub trait Held: Send + Sync + Sized + 'static {
    /// Its name in error messages.
    const NAME: &'static str;

    /// All values of the kind.
    fn pool() -> &'static Pool<Entry<Self>>;

    /// Keeps the value, and returns its number, which is not 0. `None` if [`MOST`] of the kind are open.
    #[must_use]
    fn keep(self) -> Option<u64> {
        let entry = Entry(ArcSwapOption::from_pointee(self));
        Self::pool().insert(entry).ok().map(Handle::to_bits)
    }

    /// The value of a number. Takes no lock.
    #[must_use]
    fn find(number: u64) -> Option<Arc<Self>> {
        Self::pool().acquire(Handle::from_bits(number)?)?.0.load_full()
    }

    /// Takes the value of a number, which names nothing from now on. Of several calls, one gets it.
    #[must_use]
    fn take(number: u64) -> Option<Arc<Self>> {
        Self::pool().remove(Handle::from_bits(number)?)?.0.swap(None)
    }
}

/// Makes types [`Held`], each with its name in error messages.
#[macro_export]
macro_rules! held {
    ($($value:ty, $name:literal;)*) => {
        $(
            impl $crate::Held for $value {
                const NAME: &'static str = $name;

                fn pool() -> &'static graphpool::Pool<$crate::Entry<Self>> {
                    static POOL: std::sync::LazyLock<graphpool::Pool<$crate::Entry<$value>>> =
                        std::sync::LazyLock::new(graphpool::Pool::new);
                    &POOL
                }
            }
        )*
    };
}
