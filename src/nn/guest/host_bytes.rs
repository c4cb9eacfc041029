//! Bytes that the host keeps for a guest.

use std::fmt;
use std::sync::Arc as StdArc;

use crate::nn::Error;
use crate::nn::guest::account::Account;
use crate::nn::guest::holdings::GuestInner;
use crate::nn::limits::context_bytes::ContextBytes;
use crate::nn::telemetry::observe;
use crate::nn::telemetry::stats::Counters;

/// Bytes that the host keeps for a guest between its calls, counted as [`Guest::reserve`](crate::nn::Guest::reserve)
/// says until the drop. It does not keep the guest alive, and still counts after the guest's end.
#[must_use = "the drop gives the bytes back"]
pub struct HostBytes {
    bytes: ContextBytes,
    account: StdArc<Account>,
    counters: StdArc<Counters>,
}

const CALL: &str = "reserve";

impl HostBytes {
    /// The caller reports the error.
    pub(crate) fn new(guest: &GuestInner, bytes: usize) -> Result<Self, Error> {
        let GuestInner { engine, usage, account, .. } = guest;
        guest.check_open(CALL)?;
        let mut reserved = ContextBytes::new(usage, &engine.usage)?;
        reserved.resize(bytes).map_err(|error| error.of(CALL))?;
        Counters::increment(&engine.counters.host_bytes, bytes);
        Ok(Self { bytes: reserved, account: StdArc::clone(account), counters: StdArc::clone(&engine.counters) })
    }

    /// The bytes that are reserved.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.amount()
    }

    /// Changes the number of bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::reserve`](crate::nn::Guest::reserve) if `bytes` is more than now; the number then stays as it
    /// was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Error> {
        let before = self.bytes();
        if let Err(error) = self.bytes.resize(bytes) {
            return Err(observe::refused(&self.counters, &self.account, CALL, error.of(CALL)));
        }
        if bytes > before {
            Counters::increment(&self.counters.host_bytes, bytes - before);
        } else {
            Counters::decrement(&self.counters.host_bytes, before - bytes);
        }
        Ok(())
    }
}

impl Drop for HostBytes {
    fn drop(&mut self) {
        Counters::decrement(&self.counters.host_bytes, self.bytes());
    }
}

impl fmt::Debug for HostBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostBytes").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}
