//! Handles that must not resolve, and the calls that would show if one did.

use std::sync::atomic::{AtomicU32, Ordering};

use graphpool::GuestHandle;
use graphpool::nn::{Error, ErrorKind, Guest};

use crate::random::Random;
use crate::record::Row;

/// What a handle names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Graph,
    Context,
}

/// Why a handle must not resolve.
#[derive(Clone, Copy)]
pub enum Origin {
    /// The guest had it and dropped it.
    Stale,
    /// Nobody gave it out: random bits.
    Forged,
    /// Another guest was given it; or it is this guest's, but of the other kind.
    Foreign,
}

/// Handles that guests have been given of late, for other guests to try. Shared by all threads.
pub struct Board {
    graphs: [AtomicU32; 256],
    contexts: [AtomicU32; 256],
}

impl Board {
    /// An empty board: until enough handles are made, some of what it shows was never given out.
    pub fn new() -> Self {
        Self { graphs: [const { AtomicU32::new(0) }; 256], contexts: [const { AtomicU32::new(0) }; 256] }
    }

    fn slot(&self, kind: Kind, random: &mut Random) -> &AtomicU32 {
        let slots = if kind == Kind::Graph { &self.graphs } else { &self.contexts };
        &slots[random.below(slots.len())]
    }

    /// Shows a handle in the place of some earlier one.
    pub fn post(&self, kind: Kind, handle: GuestHandle, random: &mut Random) {
        // Relaxed, here and below: the bits are all that is passed on.
        self.slot(kind, random).store(handle.to_bits(), Ordering::Relaxed);
    }

    /// One of the handles shown.
    pub fn pick(&self, kind: Kind, random: &mut Random) -> u32 {
        self.slot(kind, random).load(Ordering::Relaxed)
    }
}

/// Makes one call with a handle that must not resolve. True where it was refused as such.
///
/// The refusal must be an invalid argument: busy, for one, would tell that there is something to be busy.
pub fn refused(guest: &Guest, kind: Kind, handle: GuestHandle, row: &Row, random: &mut Random) -> bool {
    let result = match kind {
        Kind::Graph if random.one_in(2) => guest.unload(handle),
        Kind::Graph => guest.init_execution_context(handle).map(drop),
        Kind::Context => match random.below(4) {
            0 => guest.drop_context(handle),
            1 => guest.compute(handle),
            2 => guest.output(handle, row.outputs[0].0).map(drop),
            _ => guest.set_input(handle, row.inputs[0].0, row.inputs[0].1.view()),
        },
    };
    is_invalid(&result)
}

fn is_invalid(result: &Result<(), Error>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::InvalidArgument)
}
