//! Numbers of the process's threads, which each takes at its first need and gives back at its end.

use std::cell::Cell;

use super::bitmap::Bitmap;

static TAKEN: Bitmap = Bitmap::new();

thread_local! {
    static NUMBER: Number = const { Number(Cell::new(None)) };
}

/// This thread's number. Once it is given back the thread-local is gone, and with it any way to use the number.
struct Number(Cell<Option<usize>>);

impl Number {
    #[cold]
    fn take(&self) -> Option<usize> {
        self.0.set(TAKEN.take());
        self.0.get()
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Some(number) = self.0.take() {
            TAKEN.give_back(number);
        }
    }
}

#[inline]
pub fn number() -> Option<usize> {
    NUMBER.try_with(|number| number.0.get().or_else(|| number.take())).ok().flatten()
}

#[inline]
pub fn number_if_any() -> Option<usize> {
    NUMBER.try_with(|number| number.0.get()).ok().flatten()
}
