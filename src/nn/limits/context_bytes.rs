//! Bytes that count against the context bytes of a guest and of its engine.

use std::sync::Arc;

use crate::nn::Error;
use crate::nn::limits::usage::{Reservation, Usage};

/// A reservation of context bytes: the same amount of the guest's limit and of the engine's.
#[derive(Debug)]
pub(crate) struct ContextBytes {
    of_guest: Reservation,
    of_engine: Reservation,
}

impl ContextBytes {
    /// An empty reservation.
    pub(crate) fn new(guest: &Arc<Usage>, engine: &Arc<Usage>) -> Result<Self, Error> {
        let of = |usage| Reservation::of(usage, |usage| &usage.context_bytes, 0);
        Ok(Self { of_guest: of(guest)?, of_engine: of(engine)? })
    }

    pub(crate) fn amount(&self) -> usize {
        self.of_guest.amount()
    }

    /// Changes the amount. If more is refused, the amount stays as it was.
    pub(crate) fn resize(&mut self, amount: usize) -> Result<(), Error> {
        let before = self.amount();
        if amount != before {
            self.of_guest.resize(amount)?;
            if let Err(error) = self.of_engine.resize(amount) {
                // Less than now, so it cannot be refused.
                return self.of_guest.resize(before).and(Err(error));
            }
        }
        Ok(())
    }
}
