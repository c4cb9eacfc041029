//! The lanes of an execution under loom or shuttle. Each thread keeps one, but in the models that are about borrowing,
//! for which [`lent`] is called: in the others that would be steps which show nothing.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Lane, Lanes};
use crate::sync::{lazy_static, thread_local};

std::thread_local! {
    static LENT: Cell<bool> = const { Cell::new(false) };
}

lazy_static! {
    /// std's: which thread has which number is no part of what is modelled.
    static ref NEXT: AtomicUsize = AtomicUsize::new(0);
}

lazy_static! {
    /// Held by whoever has a lane too: threads may outlive the static.
    static ref LANES: Arc<Lanes<()>> = Arc::new(Lanes::new());
}

thread_local! {
    static OWN: Own = Own::default();
}

#[derive(Default)]
struct Own {
    kept: Cell<Option<usize>>,
    /// The number of the lane that is borrowed, and by how many seats.
    borrowed: Cell<Option<usize>>,
    uses: Cell<usize>,
}

pub(crate) struct Seat {
    number: usize,
    /// Where the seat gives its lane back.
    lane: Option<(Arc<Lanes<()>>, *const Lane<()>)>,
}

impl Seat {
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    fn borrow() -> Self {
        let lanes = Arc::clone(&LANES);
        let lane = lanes.take(None);
        // SAFETY: it lives as long as `lanes`.
        let number = unsafe { &*lane }.number();
        Self { number, lane: Some((lanes, lane)) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let last = |own: &Own| {
            let uses = own.uses.get().saturating_sub(1);
            own.uses.set(uses);
            if uses == 0 {
                own.borrowed.set(None);
            }
        };
        let _ = OWN.try_with(last);
        if let Some((_lanes, lane)) = &self.lane {
            // SAFETY: it lives as long as `_lanes`.
            unsafe { &**lane }.give_back();
        }
    }
}

pub(crate) fn enter() -> Seat {
    let enter = |own: &Own| {
        if !LENT.get() {
            let number = own.kept.get().unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
            own.kept.set(Some(number));
            return Seat { number, lane: None };
        }
        own.uses.set(own.uses.get() + 1);
        if let Some(number) = own.borrowed.get() {
            return Seat { number, lane: None };
        }
        let seat = Seat::borrow();
        own.borrowed.set(Some(seat.number));
        seat
    };
    OWN.try_with(enter).unwrap_or_else(|_| Seat::borrow())
}

/// Whether threads borrow a lane for each call, in the models that this thread of the system runs from here on.
#[cfg(loom)]
pub fn lent(lent: bool) {
    LENT.set(lent);
}
