//! Bytes that count against the context bytes of a guest and of its engine.

use std::sync::Arc;

use crate::nn::Error;
use crate::nn::limits::usage::{Reservation, Usage};

/// A reservation of context bytes: an amount of the guest's limit, and of the engine's the same amount without the
/// bytes that are counted elsewhere in the engine.
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

    /// The amount of the guest's limit.
    pub(crate) fn amount(&self) -> usize {
        self.of_guest.amount()
    }

    /// The amount of the engine's limit.
    pub(crate) fn engine_amount(&self) -> usize {
        self.of_engine.amount()
    }

    /// The amount to which [`resize`](Self::resize) could go now.
    pub(crate) fn limit(&self) -> usize {
        let shared = self.amount().saturating_sub(self.engine_amount());
        let of_guest = self.amount().saturating_add(self.of_guest.left());
        of_guest.min(self.engine_limit().saturating_add(shared))
    }

    /// The amount of the engine's limit to which [`resize_shared`](Self::resize_shared) could go now.
    pub(crate) fn engine_limit(&self) -> usize {
        self.engine_amount().saturating_add(self.of_engine.left())
    }

    /// Changes the amount, and counts none of it elsewhere. If more is refused, the amount stays as it was.
    pub(crate) fn resize(&mut self, amount: usize) -> Result<(), Error> {
        self.resize_shared(amount, 0)
    }

    /// Changes the amount, of which `shared` bytes are counted elsewhere in the engine. If more is refused, no amount
    /// is larger than it was.
    pub(crate) fn resize_shared(&mut self, amount: usize, shared: usize) -> Result<(), Error> {
        let (before, own) = (self.amount(), amount.saturating_sub(shared));
        if amount != before {
            self.of_guest.resize(amount)?;
        }
        if own != self.engine_amount()
            && let Err(error) = self.of_engine.resize(own)
        {
            // Less than now, so it cannot be refused.
            return self.of_guest.resize(before.min(amount)).and(Err(error));
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::nn::Limits;

    #[test]
    fn what_is_counted_elsewhere_is_not_of_the_engines_limit() {
        let [guest, engine] = [100, 50].map(|bytes| Usage::new(&Limits::default().with_max_context_bytes(bytes)));
        let mut bytes = ContextBytes::new(&guest, &engine).unwrap();
        assert_eq!((bytes.limit(), bytes.engine_limit()), (50, 50));
        bytes.resize_shared(80, 40).unwrap();
        assert_eq!((bytes.amount(), bytes.engine_amount()), (80, 40));
        // 10 more of the engine's, beside the 40 that are counted elsewhere.
        assert_eq!((bytes.limit(), bytes.engine_limit()), (90, 50));
        // Refused by the engine, and then by the guest.
        bytes.resize_shared(90, 0).unwrap_err();
        assert_eq!((bytes.amount(), bytes.engine_amount()), (80, 40));
        bytes.resize_shared(101, 90).unwrap_err();
        assert_eq!((bytes.amount(), bytes.engine_amount()), (80, 40));
        // Fewer of the guest's and more of the engine's.
        bytes.resize_shared(60, 0).unwrap_err();
        assert_eq!((bytes.amount(), bytes.engine_amount()), (60, 40));
        bytes.resize(50).unwrap();
        assert_eq!((bytes.amount(), bytes.engine_amount(), bytes.limit()), (50, 50, 50));
        drop(bytes);
        assert_eq!((guest.context_bytes.left(), engine.context_bytes.left()), (100, 50));
    }
}
