//! loom's and shuttle's threads are one thread to std and to the slab: here they have numbers of their own, in each
//! execution. A number is used again only in the models that are about it, for which [`used_again`] is called: in the
//! others that would be steps which show nothing.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bitmap::Bitmap;
use crate::sync::{lazy_static, thread_local};

std::thread_local! {
    static USED_AGAIN: Cell<bool> = const { Cell::new(false) };
}

lazy_static! {
    /// std's, as what the slab counts with is: handing out numbers is no part of what is modelled.
    static ref NEXT: AtomicUsize = AtomicUsize::new(0);
}

lazy_static! {
    /// Held by whoever has a number too: threads may outlive the static.
    static ref TAKEN: Arc<Bitmap> = Arc::new(Bitmap::new());
}

thread_local! {
    static NUMBER: Number = Number::default();
}

/// As the process's, but for the place where the bitmap is.
#[derive(Default)]
struct Number(OnceCell<(usize, Option<Arc<Bitmap>>)>);

impl Number {
    fn get(&self) -> usize {
        let take = || {
            if !USED_AGAIN.get() {
                return (NEXT.fetch_add(1, Ordering::Relaxed), None);
            }
            let taken = Arc::clone(&TAKEN);
            (taken.take().expect("there are fewer threads in a model"), Some(taken))
        };
        self.0.get_or_init(take).0
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Some((number, Some(taken))) = self.0.take() {
            taken.give_back(number);
        }
    }
}

pub fn number() -> Option<usize> {
    NUMBER.try_with(Number::get).ok()
}

pub fn number_if_any() -> Option<usize> {
    NUMBER.try_with(|number| number.0.get().map(|number| number.0)).ok().flatten()
}

/// Whether numbers are used again in the models that this thread of the system runs from here on.
#[cfg(loom)]
pub fn used_again(used_again: bool) {
    USED_AGAIN.set(used_again);
}

/// Whether every thread that had a number has given it back.
#[cfg(loom)]
#[must_use]
pub fn all_given_back() -> bool {
    TAKEN.is_empty()
}
