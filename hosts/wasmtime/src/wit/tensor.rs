//! The interface `tensor`: dimensions, an element type and data.
//!
//! The constructor of the resource has no way to report an error. A tensor that exceeds a limit therefore holds its
//! error in place of dimensions and data, and `compute` reports it. Lengths are compared with the limits, and counted,
//! before anything is copied.

use std::sync::Arc;

use graphpool::nn::{self, Guest, HostBytes};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTableError, ResourceType, WasmList};

use crate::limits::at_most;
use crate::span;
use crate::wit::bindings::TensorType;
use crate::wit::view::{Get, WasiNnView};

const INTERFACE: &str = "wasi:nn/tensor@0.2.0-rc-2024-10-28";

/// The resource `tensor`.
#[derive(Debug)]
pub struct Tensor {
    ty: TensorType,
    content: Result<Content, nn::Error>,
}

/// The dimensions and the data, which may not fit each other: a guest chose both.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) dimensions: Vec<u32>,
    /// Shared, so that `data` copies it once, into the guest's memory.
    pub(super) data: Arc<Vec<u8>>,
    /// Counts both against the limits of the guest and of the engine.
    _bytes: HostBytes,
}

/// The number of a tensor that has no entry because the table is full. A table never gives out this number: it would
/// have 2^32 entries.
const WITHOUT_ENTRY: u32 = u32::MAX;

/// An element type of the interface, as the engine names it.
fn type_of_engine(ty: TensorType) -> nn::TensorType {
    match ty {
        TensorType::Fp16 => nn::TensorType::F16,
        TensorType::Fp32 => nn::TensorType::F32,
        TensorType::Fp64 => nn::TensorType::F64,
        TensorType::Bf16 => nn::TensorType::Bf16,
        TensorType::U8 => nn::TensorType::U8,
        TensorType::I32 => nn::TensorType::I32,
        TensorType::I64 => nn::TensorType::I64,
    }
}

/// The element type's name in the interface; `None` for a type that the interface lacks.
fn type_of_interface(ty: nn::TensorType) -> Option<TensorType> {
    Some(match ty {
        nn::TensorType::F16 => TensorType::Fp16,
        nn::TensorType::F32 => TensorType::Fp32,
        nn::TensorType::F64 => TensorType::Fp64,
        nn::TensorType::Bf16 => TensorType::Bf16,
        nn::TensorType::U8 => TensorType::U8,
        nn::TensorType::I32 => TensorType::I32,
        nn::TensorType::I64 => TensorType::I64,
        _ => return None,
    })
}

impl WasiNnView<'_> {
    /// The resource for an output of a compute.
    pub(super) fn add_output(&mut self, output: nn::Tensor) -> Result<Resource<Tensor>, nn::Error> {
        let (dimensions, ty, data) = output.into_parts();
        let ty = type_of_interface(ty)
            .ok_or_else(|| nn::Error::unsupported(format!("the interface has no element type {ty}")))?;
        let bytes = reserve(self.ctx.guest(), dimensions.len(), data.len())?;
        let content = Content { dimensions, data: data.into(), _bytes: bytes };
        self.table.push(Tensor { ty, content: Ok(content) }).map_err(|_| full())
    }

    /// Drops an output that the guest will not get.
    pub(super) fn discard(&mut self, output: Resource<Tensor>) {
        // It is there: this call has added it.
        let _ = self.table.delete(output);
    }

    /// Takes a tensor out of the table; the inner error is the guest's.
    pub(super) fn take_tensor(
        &mut self,
        tensor: Resource<Tensor>,
    ) -> Result<Result<(nn::TensorType, Content), nn::Error>, ResourceTableError> {
        if tensor.rep() == WITHOUT_ENTRY {
            return Ok(Err(full()));
        }
        let Tensor { ty, content } = self.table.delete(tensor)?;
        Ok(content.map(|content| (type_of_engine(ty), content)))
    }

    fn get_tensor(&self, tensor: &Resource<Tensor>) -> Result<Option<&Tensor>, ResourceTableError> {
        if tensor.rep() == WITHOUT_ENTRY { Ok(None) } else { self.table.get(tensor).map(Some) }
    }

    fn dimensions(&self, tensor: &Resource<Tensor>) -> Result<Vec<u32>, ResourceTableError> {
        let content = self.get_tensor(tensor)?.and_then(|tensor| tensor.content.as_ref().ok());
        Ok(content.map(|content| content.dimensions.clone()).unwrap_or_default())
    }

    fn ty(&self, tensor: &Resource<Tensor>) -> Result<TensorType, ResourceTableError> {
        Ok(self.get_tensor(tensor)?.map_or(TensorType::U8, |tensor| tensor.ty))
    }

    fn data(&self, tensor: &Resource<Tensor>) -> Result<Arc<Vec<u8>>, ResourceTableError> {
        let content = self.get_tensor(tensor)?.and_then(|tensor| tensor.content.as_ref().ok());
        Ok(content.map(|content| Arc::clone(&content.data)).unwrap_or_default())
    }

    fn drop_tensor(&mut self, number: u32) -> Result<(), ResourceTableError> {
        if number != WITHOUT_ENTRY {
            self.table.delete(Resource::<Tensor>::new_own(number))?;
        }
        Ok(())
    }
}

fn construct<T: 'static>(
    mut store: StoreContextMut<'_, T>,
    get: Get<T>,
    (dimensions, ty, data): (WasmList<u32>, TensorType, WasmList<u8>),
) -> Resource<Tensor> {
    let admitted = admit(get(store.data_mut()).ctx.guest(), dimensions.len(), data.len());
    let content = admitted.map(|bytes| Content {
        dimensions: dimensions.as_le_slice(&store).iter().copied().map(u32::from_le).collect(),
        data: Arc::new(data.as_le_slice(&store).to_vec()),
        _bytes: bytes,
    });
    let WasiNnView { table, .. } = get(store.data_mut());
    table.push(Tensor { ty, content }).unwrap_or_else(|_| Resource::new_own(WITHOUT_ENTRY))
}

/// Compares the lengths of a new tensor with the guest's limits, and counts them.
fn admit(guest: &Guest, rank: usize, length: usize) -> Result<HostBytes, nn::Error> {
    let limits = guest.limits();
    at_most(limits.max_tensor_rank(), rank, "the tensor", "dimensions")
        .and_then(|()| at_most(limits.max_tensor_bytes(), length, "the tensor", "bytes"))
        .map_err(|error| guest.refuse("tensor", error))?;
    reserve(guest, rank, length)
}

fn reserve(guest: &Guest, rank: usize, length: usize) -> Result<HostBytes, nn::Error> {
    guest.reserve(length.saturating_add(rank.saturating_mul(size_of::<u32>())))
}

fn full() -> nn::Error {
    nn::Error::too_large("the store's table of resources is full").by_limit()
}

pub(super) fn link<T: 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    let mut tensors = linker.instance(INTERFACE)?;
    tensors.resource("tensor", ResourceType::host::<Tensor>(), move |mut store, number| {
        Ok(get(store.data_mut()).drop_tensor(number)?)
    })?;
    tensors.func_wrap("[constructor]tensor", move |store, arguments| {
        let _span = span::call("tensor").entered();
        Ok((construct(store, get, arguments),))
    })?;
    tensors.func_wrap("[method]tensor.dimensions", move |mut store, (tensor,): (Resource<Tensor>,)| {
        Ok((get(store.data_mut()).dimensions(&tensor)?,))
    })?;
    tensors.func_wrap("[method]tensor.ty", move |mut store, (tensor,): (Resource<Tensor>,)| {
        Ok((get(store.data_mut()).ty(&tensor)?,))
    })?;
    tensors.func_wrap("[method]tensor.data", move |mut store, (tensor,): (Resource<Tensor>,)| {
        let _span = span::call("tensor.data").entered();
        Ok((get(store.data_mut()).data(&tensor)?,))
    })
}
