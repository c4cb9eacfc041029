//! A guest's asynchronous loads, and their future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tracing::Span;

use crate::GuestHandle;
use crate::nn::graphs::bytes::ModelBytes;
use crate::nn::guest::account::Account;
use crate::nn::guest::check::{check_config, check_name};
use crate::nn::guest::closing::closed;
use crate::nn::guest::holdings::GuestInner;
use crate::nn::guest::load_state::{LoadState, Loaded};
use crate::nn::guest::loading::Task;
use crate::nn::guest::plan::{Asked, Finished, FromBytes, FromConfig, FromName, HASHED_AT_ONCE, Plan, Wanted};
use crate::nn::inner::no_parts;
use crate::nn::limits::usage::Reservation;
use crate::nn::telemetry::observe;
use crate::nn::telemetry::observe::Caller;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, ErrorKind, Guest, Target};

/// Asynchronous loads, for hosts whose threads must not block.
///
/// Each returns a [`Load`] at once. A graph that is in memory is there at the first poll. Any other is built on a
/// thread of the engine, and a load of a model that another load builds waits for it without a thread. One that a
/// backend or a resolver starts inside a load gives an error, unless its graph is in memory: it might need that load's
/// own turn.
impl Guest {
    /// As [`load`](Self::load), without blocking. The parts are `Vec<u8>`, `Arc<[u8]>`, `&'static [u8]` or what else
    /// becomes a [`ModelBytes`], and are not copied; a `Cow` that borrows is, after its bytes are reserved. The load
    /// keeps them until it ends.
    ///
    /// Whether the graph is in memory is decided by a hash of the bytes. Up to 64 KiB are hashed in this call, which
    /// takes some 50 µs; more than that on a thread of the engine, so that the load of a larger model is never complete
    /// at the first poll.
    ///
    /// The result is that of `load`, and [`Busy`](crate::nn::ErrorKind::Busy) past
    /// [`Limits::max_loads`](crate::nn::Limits::max_loads), if the engine's queue of loads is full
    /// ([`EngineLimits::max_queued_loads`](crate::nn::EngineLimits::max_queued_loads)), or if no thread can be started.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use graphpool::{GuestHandle, nn::{Encoding, Error, Guest, Target}};
    /// # async fn call(guest: &Guest, model: Arc<[u8]>) -> Result<GuestHandle, Error> {
    /// guest.load_async([model], Encoding::Onnx, Target::Cpu).await
    /// # }
    /// ```
    pub fn load_async(
        &self,
        parts: impl IntoIterator<Item = impl Into<ModelBytes> + AsRef<[u8]>>,
        encoding: Encoding,
        target: Target,
    ) -> Load {
        let (call, inner) = ("load", &self.inner);
        let parts: Vec<_> = parts.into_iter().collect();
        self.start(call, observe::load_span(&inner.account), || {
            if parts.is_empty() {
                return Err(no_parts());
            }
            let given = parts.iter().map(|part| part.as_ref().len()).fold(0, usize::saturating_add);
            let slot = inner.reserve_graph(call)?;
            if given > HASHED_AT_ONCE {
                // Such a load is not complete at once: refused before the bytes are copied if there are too many.
                drop(Reservation::of(&inner.usage, |usage| &usage.loads, 1)?);
            }
            let bytes = Reservation::new(&inner.usage, |usage| &usage.graph_bytes, call, given)?;
            let reserved = match inner.engine.reserve(|usage| &usage.graph_bytes, given) {
                // The thread of the engine waits for models that are being released.
                Err(error) if error.kind() == ErrorKind::Busy && inner.engine.reaper.is_behind() => None,
                reserved => Some(reserved?),
            };
            let parts = parts.into_iter().map(Into::into).collect();
            Ok((slot, bytes, FromBytes::new(parts, encoding, target, &inner.usage, reserved)))
        })
    }

    /// As [`load_by_name`](Self::load_by_name), without blocking. Complete at the first poll if the name has a version.
    /// The engine's resolver is asked on a thread of the engine, and loads that wait for its answer have none.
    /// Otherwise the result is that of `load_by_name`, with the further errors of [`load_async`](Self::load_async).
    pub fn load_by_name_async(&self, name: &str) -> Load {
        self.start_by_name("load_by_name", name, Ok(()), FromName)
    }

    /// As [`load_by_name_with_config`](Self::load_by_name_with_config), without blocking. Complete at the first poll if
    /// the name has a graph with that configuration. Otherwise the result is that of `load_by_name_with_config`, with
    /// the further errors of [`load_async`](Self::load_async).
    pub fn load_by_name_with_config_async(&self, name: &str, config: &str) -> Load {
        let call = "load_by_name_with_config";
        let check = check_config(call, config, &self.inner.limits);
        // Whitespace alone is no configuration, as in the host's own.
        if check.is_ok() && config.trim().is_empty() {
            return self.start_by_name(call, name, check, FromName);
        }
        let config = config.to_owned();
        self.start_by_name(call, name, check, |wanted| FromConfig::new(wanted, config))
    }

    fn start_by_name<P: Plan>(
        &self,
        call: &'static str,
        name: &str,
        check: Result<(), Error>,
        plan: impl FnOnce(Wanted) -> P + Send + 'static,
    ) -> Load {
        let inner = &self.inner;
        self.start(call, observe::load_by_name_span(&inner.account, name), || {
            check?;
            check_name(call, name, &inner.limits)?;
            let slot = inner.reserve_graph(call)?;
            // The model belongs to the host, and counts for no guest.
            let bytes = Reservation::new(&inner.usage, |usage| &usage.graph_bytes, call, 0)?;
            Ok((slot, bytes, Asked::new(inner.wanted(name)?, plan)))
        })
    }

    fn start<P: Plan>(
        &self,
        call: &'static str,
        span: Span,
        prepare: impl FnOnce() -> Result<(Reservation, Reservation, P), Error>,
    ) -> Load {
        let Self { inner } = self;
        let (caller, state) = (Caller::new(span), LoadState::new(call));
        let start = || {
            let (slot, bytes, plan) = prepare()?;
            inner.loads.add(&state)?;
            inner.begin(plan, slot, bytes, &caller, &state)
        };
        if let Err(error) = caller.run(start) {
            state.outcome.complete(Err(error));
        }
        let counters = Arc::clone(&inner.engine.counters);
        Load { state, caller, guest: Arc::downgrade(inner), account: Arc::clone(&inner.account), counters }
    }
}

impl GuestInner {
    /// Completes the load if its graph is there, or gives it a task.
    fn begin<P: Plan>(
        &self,
        mut plan: P,
        slot: Reservation,
        mut bytes: Reservation,
        caller: &Caller,
        state: &Arc<LoadState>,
    ) -> Result<(), Error> {
        let Some(value) = plan.find(&self.engine) else {
            let shared = (&self.engine, &self.usage);
            return Task::new(plan, (slot, bytes), shared, self.account.id(), caller, state).map(Task::start);
        };
        match plan.finish(value, &mut bytes)? {
            Finished::There(named, graph) => {
                state.outcome.complete(Ok(Loaded { named, graph, slot, bytes }));
                Ok(())
            }
            Finished::Then(next) => self.begin(next, slot, bytes, caller, state),
        }
    }
}

/// The future of a load, from [`Guest::load_async`], [`Guest::load_by_name_async`] or
/// [`Guest::load_by_name_with_config_async`].
///
/// It works with any executor. The load goes on whether it is polled or not, and the poll that returns the handle makes
/// it. The load is cancelled when the future or the guest is dropped: the future does not keep the guest alive. A load
/// that waits then ends at once, and a build that runs goes on for the loads that wait for it; without any, its graph
/// is released at its end.
#[must_use = "a load that is dropped is cancelled"]
pub struct Load {
    state: Arc<LoadState>,
    caller: Caller,
    guest: Weak<GuestInner>,
    account: Arc<Account>,
    counters: Arc<Counters>,
}

impl Load {
    fn finish(&self, result: Result<Loaded, Error>) -> Result<GuestHandle, Error> {
        let Self { state, account, counters, .. } = self;
        let call = state.call;
        let bind = |Loaded { named, graph, slot, bytes }: Loaded| {
            let guest = self.guest.upgrade().ok_or_else(|| closed(call))?;
            observe::loaded(account, graph);
            guest.add_graph(call, named, slot, bytes)
        };
        self.caller
            .run(|| result.and_then(bind).map_err(|error| observe::refused(counters, account, call, error.of(call))))
    }
}

impl Future for Load {
    type Output = Result<GuestHandle, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.state.outcome.poll(self.state.call, context).map(|result| self.finish(result))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !self.state.outcome.has_ended() {
            self.state.cancel.cancel();
        }
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("ended", &self.state.outcome.has_ended()).finish_non_exhaustive()
    }
}
