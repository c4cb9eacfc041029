//! A guest's graphs and contexts, and how its calls find, add and remove them.
//!
//! A call resolves a handle with a few atomic loads (the guest's table, then the engine's pool) to a reference of its
//! own. It takes no lock, and holds its epoch guard for the look-up only.

use std::sync::Arc as StdArc;

use crate::backend::LoadRequest;
use crate::nn::graphs::entry::Entry;
use crate::nn::graphs::loaded::{LoadedGraph, Named};
use crate::nn::graphs::model::NamedModel;
use crate::nn::graphs::registry::no_model;
use crate::nn::guest::account::Account;
use crate::nn::guest::check::{check_config, check_name};
use crate::nn::guest::closing::{Closing, closed};
use crate::nn::guest::context::{Context, ContextResources};
use crate::nn::guest::load_state::Loads;
use crate::nn::guest::memory_charge::MemoryCharge;
use crate::nn::guest::plan::Wanted;
use crate::nn::guest::policy::AllowedNames;
use crate::nn::inner::Inner;
use crate::nn::limits::context_bytes::ContextBytes;
use crate::nn::limits::usage::{Reservation, Usage};
use crate::nn::telemetry::observe;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, ErrorKind, Limits, Target};
use crate::sync::Arc;
use crate::{GuestHandle, Handle, HandleTable, InsertError, Pool, pin};

/// The state that the clones of a guest share.
pub(crate) struct GuestInner {
    pub(crate) engine: StdArc<Inner>,
    pub(crate) graphs: HandleTable<Entry<LoadedGraph>>,
    pub(crate) contexts: HandleTable<Entry<Context>>,
    pub(crate) usage: StdArc<Usage>,
    pub(crate) limits: Limits,
    pub(crate) names: AllowedNames,
    pub(crate) account: StdArc<Account>,
    pub(crate) closing: Closing,
    /// The guest's asynchronous loads.
    pub(crate) loads: Loads,
}

impl GuestInner {
    /// Records an error before the guest gets it: adds the name of the call, and reports it to the telemetry.
    pub(crate) fn report<R>(&self, call: &'static str, result: Result<R, Error>) -> Result<R, Error> {
        result.map_err(|error| self.refused(call, error))
    }

    /// [`report`](Self::report) of an error.
    pub(crate) fn refused(&self, call: &'static str, error: Error) -> Error {
        observe::refused(&self.engine.counters, &self.account, call, error.of(call))
    }

    pub(crate) fn load(
        &self,
        call: &'static str,
        parts: &[&[u8]],
        encoding: Encoding,
        target: Target,
    ) -> Result<GuestHandle, Error> {
        let slot = self.reserve_graph(call)?;
        let given = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        let mut bytes = Reservation::new(&self.usage, |usage| &usage.graph_bytes, call, given)?;
        let request = LoadRequest {
            memory_limit: self.usage.graph_bytes.left().saturating_add(given),
            ..LoadRequest::new(parts, encoding, target)
        };
        let graph = self.engine.build(&request)?;
        bytes.settle(graph.bytes())?;
        observe::loaded(&self.account, graph.origin().id);
        self.add_graph(call, Named::Graph(graph), slot, bytes)
    }

    pub(crate) fn load_by_name(&self, call: &'static str, name: &str) -> Result<GuestHandle, Error> {
        check_name(call, name, &self.limits)?;
        let slot = self.reserve_graph(call)?;
        let model = self.named_model(name)?;
        let version = model.get_or_build(&*self.engine)?;
        observe::loaded(&self.account, version.graph.origin().id);
        // The model belongs to the host, and counts for no guest.
        let bytes = Reservation::new(&self.usage, |usage| &usage.graph_bytes, call, 0)?;
        self.add_graph(call, Named::Model(model), slot, bytes)
    }

    pub(crate) fn load_by_name_with_config(
        &self,
        call: &'static str,
        name: &str,
        config: &str,
    ) -> Result<GuestHandle, Error> {
        check_config(call, config, &self.limits)?;
        // Whitespace alone is no configuration, as in the host's own.
        if config.trim().is_empty() {
            return self.load_by_name(call, name);
        }
        check_name(call, name, &self.limits)?;
        let slot = self.reserve_graph(call)?;
        let configured = self.named_model(name)?.get_or_build_configured(name, config, &*self.engine)?;
        observe::loaded(&self.account, configured.graph().origin().id);
        // The host limits the number of these graphs, and they count for no guest.
        let bytes = Reservation::new(&self.usage, |usage| &usage.graph_bytes, call, 0)?;
        self.add_graph(call, Named::Configured(configured), slot, bytes)
    }

    pub(crate) fn init_execution_context(&self, call: &'static str, graph: GuestHandle) -> Result<GuestHandle, Error> {
        let loaded = self.graph(call, graph)?;
        let slot = Reservation::new(&self.usage, |usage| &usage.contexts, call, 1)?;
        let engine_slot = self.engine.reserve(|usage| &usage.contexts, 1)?;
        let bytes = loaded.hold().ok_or_else(|| self.unknown_handle(call, "graph", graph))?;
        let graph = loaded.graph()?;
        let backend = graph.init_context()?;
        let resources = ContextResources {
            _graph: graph.in_use(),
            _configured: loaded.configured(),
            _resolved: loaded.resolved(),
            _slot: slot,
            _engine_slot: engine_slot,
            _bytes: bytes,
        };
        let bytes = ContextBytes::new(&self.usage, &self.engine.usage)?;
        let context = Context::new(&graph, backend, MemoryCharge::new(graph.inputs().len(), bytes), resources);
        context.open(call)?;
        self.add(call, &self.engine.pools.contexts, &self.contexts, context)
    }

    pub(crate) fn find_graph(&self, handle: GuestHandle) -> Option<StdArc<LoadedGraph>> {
        find(&self.engine.pools.graphs, &self.graphs, handle)
    }

    pub(crate) fn find_context(&self, handle: GuestHandle) -> Option<StdArc<Context>> {
        find(&self.engine.pools.contexts, &self.contexts, handle)
    }

    pub(crate) fn graph(&self, call: &str, handle: GuestHandle) -> Result<StdArc<LoadedGraph>, Error> {
        self.find_graph(handle).ok_or_else(|| self.unknown_handle(call, "graph", handle))
    }

    pub(crate) fn context(&self, call: &str, handle: GuestHandle) -> Result<StdArc<Context>, Error> {
        self.find_context(handle).ok_or_else(|| self.unknown_handle(call, "context", handle))
    }

    /// The model that the guest calls `name`. May ask the engine's resolver, which may take any time.
    fn named_model(&self, name: &str) -> Result<Arc<NamedModel>, Error> {
        self.wanted(name)?.get(&self.engine)
    }

    /// The name of a model that the guest calls `name`, if the guest may load it.
    pub(crate) fn wanted(&self, name: &str) -> Result<Wanted, Error> {
        let engine_name = self.names.engine_name(name).ok_or_else(|| no_model(name))?;
        Wanted::new(name, engine_name, &self.engine)
    }

    /// Refuses a call of a closed guest that has no handle to find this by.
    pub(crate) fn check_open(&self, call: &str) -> Result<(), Error> {
        if self.closing.is_closed() { Err(closed(call)) } else { Ok(()) }
    }

    pub(crate) fn reserve_graph(&self, call: &str) -> Result<Reservation, Error> {
        self.check_open(call)?;
        Reservation::new(&self.usage, |usage| &usage.graphs, call, 1)
    }

    pub(crate) fn add_graph(
        &self,
        call: &str,
        named: Named,
        slot: Reservation,
        bytes: Reservation,
    ) -> Result<GuestHandle, Error> {
        self.add(call, &self.engine.pools.graphs, &self.graphs, LoadedGraph::new(named, slot, bytes))
    }

    /// Puts `value` into the pool and its handle into the guest's table, or drops it.
    fn add<T: Send + Sync + 'static>(
        &self,
        call: &str,
        pool: &Pool<Entry<T>>,
        table: &HandleTable<Entry<T>>,
        value: T,
    ) -> Result<GuestHandle, Error> {
        let handle = pool.insert(Entry::new(value)).map_err(|_: InsertError<_>| {
            let live = pool.len();
            let why = format!("{call}: the engine has no slot for one more handle, with {live} in use");
            Error::limit(ErrorKind::Busy, why)
        })?;
        let refused = match self.closing.bind(|| table.bind(handle)) {
            Some(Ok(bound)) => return Ok(bound),
            Some(Err(error)) => Error::limit(ErrorKind::TooLarge, format!("{call}: {error}")),
            None => closed(call),
        };
        remove(pool, handle);
        Err(refused)
    }

    pub(crate) fn remove_graph(&self, handle: Handle<Entry<LoadedGraph>>) {
        if let Some(loaded) = remove(&self.engine.pools.graphs, handle) {
            loaded.unloaded();
        }
    }

    /// Takes the context from the guest and closes it; `None` if the guest has none of that handle.
    pub(crate) fn drop_context(&self, handle: GuestHandle) -> Option<()> {
        let context = self.find_context(handle)?;
        let unbind = || Some((self.contexts.unbind(handle)?, context.shut()));
        let (handle, teardown) = self.closing.leave(&context, unbind)?;
        drop(remove(&self.engine.pools.contexts, handle));
        context.release(teardown);
        self.engine.entries_removed();
        Some(())
    }

    /// Cancels every compute and asynchronous load, and returns their number.
    pub(crate) fn cancel_all(&self) -> usize {
        let bound = self.contexts.bindings().filter_map(|handle| self.find_context(handle));
        let computes = bound.chain(self.closing.leaving()).filter(|context| context.cancel()).count();
        computes + self.loads.cancel()
    }

    /// Cancels every compute and asynchronous load, releases every handle, and refuses new ones.
    pub(crate) fn close(&self) {
        let leaving = self.closing.close();
        self.loads.close();
        for context in leaving {
            context.cancel();
        }
        // Contexts first, so that the last reference of a graph ends with its handle.
        for handle in self.contexts.drain() {
            if let Some(context) = remove(&self.engine.pools.contexts, handle) {
                context.end();
            }
        }
        self.graphs.drain().for_each(|handle| self.remove_graph(handle));
        self.engine.entries_removed();
    }

    /// The error for a handle that the guest does not have.
    pub(crate) fn unknown_handle(&self, call: &str, what: &str, handle: GuestHandle) -> Error {
        let unknown = || Error::invalid_argument(format!("{call}: the guest has no {what} {:#010x}", handle.to_bits()));
        self.check_open(call).err().unwrap_or_else(unknown)
    }
}

impl Drop for GuestInner {
    fn drop(&mut self) {
        self.close();
        Counters::decrement(&self.engine.counters.guests, 1);
    }
}

/// Resolves a guest's handle. Takes no lock, and holds no guard afterwards.
fn find<T: Send + Sync + 'static>(
    pool: &Pool<Entry<T>>,
    table: &HandleTable<Entry<T>>,
    handle: GuestHandle,
) -> Option<StdArc<T>> {
    let handle = table.resolve(handle)?;
    pool.get(handle, &pin())?.get()
}

/// Removes the entry and takes its value, so that no guard keeps the value in memory.
fn remove<T: Send + Sync + 'static>(pool: &Pool<Entry<T>>, handle: Handle<Entry<T>>) -> Option<StdArc<T>> {
    pool.remove(handle)?.take()
}
