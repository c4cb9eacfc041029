//! What a host function of the component form works on: the store's table of resources and its wasi-nn state.

use std::fmt;

use wasmtime::component::ResourceTable;

use crate::WasiNnCtx;

/// A store's resources and its wasi-nn state, borrowed for one call.
///
/// Tensors and errors lie in the table, which the store may share with WASI. A graph or context takes no entry there:
/// its resource is the number of the guest's handle.
pub struct WasiNnView<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) ctx: &'a mut WasiNnCtx,
}

impl<'a> WasiNnView<'a> {
    /// Borrows both parts of a store's data.
    #[must_use]
    pub fn new(table: &'a mut ResourceTable, ctx: &'a mut WasiNnCtx) -> Self {
        Self { table, ctx }
    }
}

impl fmt::Debug for WasiNnView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasiNnView").field("ctx", &self.ctx).finish_non_exhaustive()
    }
}

/// How a host function gets the view from its store's data.
pub(super) type Get<T> = fn(&mut T) -> WasiNnView<'_>;
