//! The calls: their arguments out of the guest's memory, the engine's call, the results into the memory.
//!
//! The arguments are read first, and refused before the engine works or anything is allocated for them: each length is
//! compared with the guest's limit, and each place for a result is looked at.

use std::borrow::Cow;

use graphpool::GuestHandle;
use graphpool::backend::wire::Dialect;
use graphpool::nn::{Encoding, Error, Guest, Target, TensorType, TensorView};

#[cfg(feature = "async")]
use graphpool::nn::Load;

use crate::WasiNnCtx;
use crate::limits::{MAX_PARTS, at_most};
use crate::witx::memory::{Bytes, Place};

/// An address and a length.
pub(super) type Range = (u32, u32);

/// The arguments of `load`.
pub(super) struct Model<'a> {
    parts: Vec<Cow<'a, [u8]>>,
    encoding: Encoding,
    target: Target,
    graph: Place,
}

impl<'a> Model<'a> {
    pub(super) fn read(
        ctx: &WasiNnCtx,
        bytes: &'a Bytes<'_>,
        (builders, count): Range,
        (encoding, target): (u32, u32),
        graph: u32,
    ) -> Result<Self, Error> {
        let (encoding, target) = (ctx.dialect().encoding(encoding)?, ctx.dialect().target(target)?);
        let graph = bytes.place(graph)?;
        at_most(MAX_PARTS, count as usize, "the model", "parts")?;
        let builders = bytes.list(builders, 2 * count)?;
        let builders = || builders.as_chunks().0.iter().map(|[at, length]| (*at, *length));
        let total = builders().map(|(_, length)| length as usize).sum();
        at_most(ctx.guest().limits().max_graph_bytes(), total, "the model", "bytes")?;
        let parts = builders().map(|(at, length)| bytes.range(at, length)).collect::<Result<_, _>>()?;
        Ok(Self { parts, encoding, target: ctx.target(encoding, target), graph })
    }

    /// Begins to load a copy of the parts. Those of a shared memory are copies already.
    #[cfg(feature = "async")]
    pub(super) fn load_async(self, guest: &Guest) -> (Load, Place) {
        (guest.load_async(self.parts, self.encoding, self.target), self.graph)
    }
}

pub(super) fn load(
    ctx: &WasiNnCtx,
    bytes: &mut Bytes<'_>,
    builders: Range,
    numbers: (u32, u32),
    graph: u32,
) -> Result<(), Error> {
    let guest = ctx.guest();
    let model = Model::read(ctx, bytes, builders, numbers, graph);
    let Model { parts, encoding, target, graph } = model.map_err(|error| guest.refuse("load", error))?;
    let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
    let handle = guest.load(&parts, encoding, target)?;
    bytes.put(graph, handle.to_bits())
}

/// The arguments of `load_by_name` and `load_by_name_with_config`.
pub(super) struct Named<'a> {
    pub(super) name: Cow<'a, str>,
    /// Empty for `load_by_name`.
    pub(super) config: Cow<'a, str>,
    pub(super) graph: Place,
}

impl<'a> Named<'a> {
    pub(super) fn read(
        guest: &Guest,
        bytes: &'a Bytes<'_>,
        name: Range,
        config: Range,
        graph: u32,
    ) -> Result<Self, Error> {
        let graph = bytes.place(graph)?;
        let name = text(bytes, "the name", name, guest.limits().max_name_bytes())?;
        let config = text(bytes, "the configuration", config, guest.limits().max_config_bytes())?;
        Ok(Self { name, config, graph })
    }
}

pub(super) fn load_by_name(guest: &Guest, bytes: &mut Bytes<'_>, name: Range, graph: u32) -> Result<(), Error> {
    let named = Named::read(guest, bytes, name, (0, 0), graph);
    let Named { name, graph, .. } = named.map_err(|error| guest.refuse("load_by_name", error))?;
    let handle = guest.load_by_name(&name)?;
    bytes.put(graph, handle.to_bits())
}

pub(super) fn load_by_name_with_config(
    guest: &Guest,
    bytes: &mut Bytes<'_>,
    name: Range,
    config: Range,
    graph: u32,
) -> Result<(), Error> {
    let named = Named::read(guest, bytes, name, config, graph);
    let named = named.map_err(|error| guest.refuse("load_by_name_with_config", error));
    let Named { name, config, graph } = named?;
    let handle = guest.load_by_name_with_config(&name, &config)?;
    bytes.put(graph, handle.to_bits())
}

pub(super) fn init_execution_context(
    guest: &Guest,
    bytes: &mut Bytes<'_>,
    graph: u32,
    context: u32,
) -> Result<(), Error> {
    let place = bytes.place(context).map_err(|error| guest.refuse("init_execution_context", error))?;
    let handle = guest.init_execution_context(GuestHandle::from_bits(graph))?;
    bytes.put(place, handle.to_bits())
}

/// A tensor in the guest's memory.
struct Input<'a> {
    dimensions: Vec<u32>,
    ty: TensorType,
    data: Cow<'a, [u8]>,
}

impl<'a> Input<'a> {
    /// Reads the record at `tensor`: the address and number of the dimensions, the type as one byte with three of
    /// padding, the address and length of the data.
    fn read(ctx: &WasiNnCtx, bytes: &'a Bytes<'_>, tensor: u32) -> Result<Self, Error> {
        let limits = ctx.guest().limits();
        let [at, rank, ty, data, length] = bytes.words(tensor)?;
        let ty = ctx.dialect().tensor_type(ty.to_le_bytes()[0])?;
        at_most(limits.max_tensor_rank(), rank as usize, "the tensor", "dimensions")?;
        at_most(limits.max_tensor_bytes(), length as usize, "the tensor", "bytes")?;
        let dimensions = bytes.list(at, rank)?;
        let data = bytes.range(data, length)?;
        Ok(Self { dimensions, ty, data })
    }
}

pub(super) fn set_input(
    ctx: &WasiNnCtx,
    bytes: &Bytes<'_>,
    context: u32,
    index: u32,
    tensor: u32,
) -> Result<(), Error> {
    let (guest, call) = (ctx.guest(), "set_input");
    let input = Input::read(ctx, bytes, tensor).map_err(|error| guest.refuse(call, error))?;
    guest.set_input_given(GuestHandle::from_bits(context), index, &input.dimensions, input.ty, &input.data)
}

pub(super) fn get_output(
    ctx: &WasiNnCtx,
    bytes: &mut Bytes<'_>,
    context: u32,
    index: u32,
    buffer: Range,
    size: u32,
) -> Result<(), Error> {
    let context = GuestHandle::from_bits(context);
    copy_output(ctx, bytes, "get_output", buffer, size, |guest, read| guest.with_output(context, index, read))
}

pub(super) fn get_output_single(
    ctx: &WasiNnCtx,
    bytes: &mut Bytes<'_>,
    context: u32,
    index: u32,
    buffer: Range,
    size: u32,
) -> Result<(), Error> {
    let context = GuestHandle::from_bits(context);
    let with_output = |guest: &Guest, read: ReadOutput<'_>| guest.with_output_single(context, index, read);
    copy_output(ctx, bytes, "get_output_single", buffer, size, with_output)
}

/// Copies an output, and gives its length.
type ReadOutput<'a> = &'a mut dyn FnMut(TensorView<'_>) -> Result<usize, Error>;

/// Copies an output that `with_output` shows to a buffer, and writes its length to `size`.
fn copy_output(
    ctx: &WasiNnCtx,
    bytes: &mut Bytes<'_>,
    call: &'static str,
    buffer: Range,
    size: u32,
    with_output: impl FnOnce(&Guest, ReadOutput<'_>) -> Result<usize, Error>,
) -> Result<(), Error> {
    let guest = ctx.guest();
    let places = bytes.check(buffer.0, buffer.1).and_then(|()| bytes.place(size));
    let size = places.map_err(|error| guest.refuse(call, error))?;
    let copied = with_output(guest, &mut |tensor| {
        let (data, room) = (tensor.data(), buffer.1 as usize);
        if data.len() > room {
            return Err(Error::short_buffer(data.len(), room));
        }
        bytes.write(buffer.0, data)?;
        Ok(data.len())
    });
    match copied {
        Ok(length) => bytes.put(size, length as u32),
        Err(error) => {
            if let Some(needed) = error.needed_bytes()
                && ctx.dialect() == Dialect::WasmEdge
            {
                bytes.put(size, u32::try_from(needed).unwrap_or(u32::MAX))?;
            }
            Err(error)
        }
    }
}

/// The text of a range.
fn text<'a>(bytes: &'a Bytes<'_>, what: &str, (at, length): Range, limit: usize) -> Result<Cow<'a, str>, Error> {
    at_most(limit, length as usize, what, "bytes")?;
    let text = match bytes.range(at, length)? {
        Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    };
    text.ok_or_else(|| Error::invalid_argument(format!("{what} is not UTF-8")))
}
