//! The span of each call of a guest's, by which a host times them.

use tracing::Span;

/// A span of level trace around one call: target `graphpool_wasmtime::call`, field `call` with the function's name.
pub(crate) fn call(call: &'static str) -> Span {
    tracing::trace_span!(target: "graphpool_wasmtime::call", "call", call)
}
