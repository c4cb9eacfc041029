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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    static DROPPED: AtomicUsize = AtomicUsize::new(0);

    struct Value(u32);

    struct Other;

    held! {
        Value, "value";
        Other, "other";
    }

    impl Drop for Value {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "a pool of full size, which takes miri minutes")]
    fn a_value_is_taken_once_and_dropped_with_its_last_use() {
        let number = Value(7).keep().unwrap();
        let other = Other.keep().unwrap();
        assert!(Value::find(other).is_none() && Other::find(number).is_none(), "of another kind");
        assert!([0, 1, u64::MAX, number ^ 1].into_iter().all(|wrong| Value::find(wrong).is_none()));
        let used = Value::find(number).unwrap();
        assert_eq!(used.0, 7);
        let taken = thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| Value::take(number).is_some()));
            threads.map(|thread| thread.join().unwrap()).into_iter().filter(|taken| *taken).count()
        });
        assert_eq!(taken, 1);
        assert!(Value::find(number).is_none() && Value::take(number).is_none());
        assert_eq!((used.0, DROPPED.load(Ordering::SeqCst)), (7, 0));
        drop(used);
        assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
    }
}
