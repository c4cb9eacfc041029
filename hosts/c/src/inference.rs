//! A context's inputs, computes and outputs.

use std::ffi::{c_char, c_void};

use graphpool::GuestHandle;
use graphpool::nn::{Error, Tensor, TensorId, TensorView};
use graphpool_ffi::{Arguments, GivenTensor, Out, OutBytes, Plain};

use crate::call::call;
use crate::code::{Failure, gp_code, gp_error};
use crate::guest::{HeldGuest, gp_guest, guest as find_guest};
use crate::limits::time;

/// An input tensor.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_tensor {
    /// The sizes, outermost first; may be null for a scalar.
    pub dimensions: *const u32,
    /// How many they are.
    pub rank: usize,
    /// The elements, row-major and little-endian, of any alignment.
    pub data: *const c_void,
    /// The length of data in bytes.
    pub length: usize,
    /// The type of the elements, a number of the guest's dialect.
    pub element_type: u32,
    /// 0.
    pub reserved: u32,
}

/// An input tensor and its index.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_input {
    /// The tensor.
    pub tensor: gp_tensor,
    /// The input's index.
    pub index: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers and pointers.
unsafe impl Plain for gp_tensor {}
// SAFETY: integers and pointers.
unsafe impl Plain for gp_input {}

/// The length of an output that a model lacks. `cbindgen.toml` defines it for C, as cbindgen does not know
/// `usize::MAX`.
///
/// cbindgen:ignore
pub const GP_NO_OUTPUT: usize = usize::MAX;

fn copy(arguments: &mut Arguments, held: &HeldGuest, tensor: gp_tensor) -> Result<GivenTensor, Error> {
    held.read(arguments, |arguments| {
        let ty = arguments.tensor_type(held.dialect, tensor.element_type)?;
        let (dimensions, data) = ((tensor.dimensions, tensor.rank), (tensor.data.cast(), tensor.length));
        arguments.tensor(held.guest.limits(), dimensions, ty, data)
    })
}

fn set(held: &HeldGuest, context: u32, input: TensorId<'_>, tensor: &GivenTensor) -> Result<(), Error> {
    let GivenTensor { dimensions, ty, data } = tensor;
    held.guest.set_input_given(GuestHandle::from_bits(context), input, dimensions, *ty, data)
}

/// Copies the inputs of an inference.
pub(crate) fn inputs(
    arguments: &mut Arguments,
    held: &HeldGuest,
    context: GuestHandle,
    (inputs, count): (*const gp_input, usize),
) -> Result<Vec<(u32, Tensor)>, Error> {
    let described = held.guest.inputs(context)?;
    let takes = described.len();
    if count > takes {
        return Err(arguments.invalid(format_args!("{count} inputs are given; the graph has {takes}")));
    }
    let inputs = arguments.values("inputs", inputs, count)?;
    let copy = |input: gp_input| {
        let given = copy(arguments, held, input.tensor)?;
        let tensor = given.tensor(described.get(input.index as usize));
        Ok((input.index, tensor.map_err(|error| held.guest.refuse(arguments.call(), error))?))
    };
    inputs.into_iter().map(copy).collect()
}

/// Copies a tensor as the input `index` of a context. A string of bytes, such as a language model's prompt, may have
/// the dimensions {1} and any length. A run of gp_compute_single ends.
///
/// Threads: any, at any time. GP_CODE_BUSY while another call uses the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_set_input(
    guest: *mut gp_guest,
    context: u32,
    index: u32,
    tensor: *const gp_tensor,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let tensor = arguments.read("tensor", tensor)?;
        let tensor = copy(arguments, &held, tensor)?;
        Ok(set(&held, context, TensorId::Index(index), &tensor)?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("set_input", error, run) }
}

/// As gp_set_input, for the input of that name.
///
/// Threads: as gp_set_input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_set_input_by_name(
    guest: *mut gp_guest,
    context: u32,
    name: *const c_char,
    name_length: usize,
    tensor: *const gp_tensor,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let name = held.read(arguments, |arguments| arguments.name(held.guest.limits(), name.cast(), name_length))?;
        let tensor = arguments.read("tensor", tensor)?;
        let tensor = copy(arguments, &held, tensor)?;
        Ok(set(&held, context, TensorId::Name(&name), &tensor)?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("set_input_by_name", error, run) }
}

/// Unsets every input of a context, and frees their memory.
///
/// Threads: as gp_set_input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_clear_inputs(guest: *mut gp_guest, context: u32, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        Ok(find_guest(arguments, guest)?.guest.clear_inputs(GuestHandle::from_bits(context))?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("clear_inputs", error, run) }
}

/// Computes every output of a context from its inputs, which stay. Returns when it is done. Waits for its turn first,
/// if the engine runs its maximum of computes.
///
/// Threads: any, at any time. GP_CODE_BUSY while another call uses the context. gp_cancel, gp_drop_context and
/// gp_guest_close on other threads end it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_compute(guest: *mut gp_guest, context: u32, error: *mut gp_error) -> gp_code {
    let run =
        |arguments: &mut Arguments| Ok(find_guest(arguments, guest)?.guest.compute(GuestHandle::from_bits(context))?);
    // SAFETY: the rules of the header.
    unsafe { call("compute", error, run) }
}

/// As gp_compute, with at most `time_ms` milliseconds for the wait and the compute together. The guest's own limit
/// still applies.
///
/// Threads: as gp_compute.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_compute_within(
    guest: *mut gp_guest,
    context: u32,
    time_ms: u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let context = GuestHandle::from_bits(context);
        Ok(match time(time_ms) {
            Some(time) => held.guest.compute_within(context, time),
            None => held.guest.compute(context),
        }?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("compute_within", error, run) }
}

/// Cancels the compute of a context. It ends with GP_CODE_RUNTIME_ERROR, soon. `cancelled`, which may be null, gets 1,
/// or 0 if there was no compute.
///
/// Threads: any, at any time; meant for another one than the compute's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_cancel(
    guest: *mut gp_guest,
    context: u32,
    cancelled: *mut u32,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let out = arguments.out_if_any("cancelled", cancelled)?;
        let was = held.guest.cancel(GuestHandle::from_bits(context))?;
        if let Some(out) = out {
            out.write(was.into());
        }
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("cancel", error, run) }
}

/// Copies the output `index` of the last compute to `buffer`, which may have any alignment, and its length in bytes to
/// `length`. If the buffer is too short: GP_CODE_TOO_LARGE, nothing in `buffer`, and the length that is needed.
///
/// Threads: any, at any time. GP_CODE_BUSY while another call uses the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_get_output(
    guest: *mut gp_guest,
    context: u32,
    index: u32,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        output(arguments, guest, context, TensorId::Index(index), (buffer, capacity), length)
    };
    // SAFETY: the rules of the header.
    unsafe { call("get_output", error, run) }
}

/// As gp_get_output, for the output of that name.
///
/// Threads: as gp_get_output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_get_output_by_name(
    guest: *mut gp_guest,
    context: u32,
    name: *const c_char,
    name_length: usize,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let name = held.read(arguments, |arguments| arguments.name(held.guest.limits(), name.cast(), name_length))?;
        output(arguments, guest, context, TensorId::Name(&name), (buffer, capacity), length)
    };
    // SAFETY: the rules of the header.
    unsafe { call("get_output_by_name", error, run) }
}

/// Sets exactly these inputs, computes, and gives every output, as one call: no other call on the context comes in
/// between. gp_get_output does not find the outputs afterwards.
///
/// `buffers`, `capacities` and `lengths` have `output_count` elements each, one for each output of the graph. `lengths`
/// gets the lengths of all outputs, and GP_NO_OUTPUT for one that the model lacks. If one is longer than its buffer,
/// the call gives GP_CODE_TOO_LARGE and the outputs that fit, and that one is lost.
///
/// Threads: as gp_compute.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_infer(
    guest: *mut gp_guest,
    context: u32,
    inputs: *const gp_input,
    input_count: usize,
    time_ms: u64,
    buffers: *const *mut c_void,
    capacities: *const usize,
    lengths: *mut usize,
    output_count: usize,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let context = GuestHandle::from_bits(context);
        let gives = held.guest.outputs(context)?.len();
        if output_count != gives {
            let why = format_args!("{output_count} outputs are expected; the graph has {gives}");
            return Err(arguments.invalid(why).into());
        }
        let lengths = arguments.outs("lengths", lengths, output_count)?;
        let starts = arguments.values("buffers", buffers, output_count)?;
        let capacities = arguments.values("capacities", capacities, output_count)?;
        let mut buffers = Vec::with_capacity(output_count);
        for (start, capacity) in starts.into_iter().zip(capacities) {
            buffers.push(arguments.buffer("a buffer of buffers", start.cast(), capacity)?);
        }
        let tensors = self::inputs(arguments, &held, context, (inputs, input_count))?;
        let inputs = tensors.iter().map(|(index, tensor)| (*index, tensor));
        let outputs = match time(time_ms) {
            Some(time) => held.guest.infer_within(context, inputs, time),
            None => held.guest.infer(context, inputs),
        }?;
        for (index, length) in lengths.into_iter().enumerate() {
            length.write(outputs.get(index).map_or(GP_NO_OUTPUT, |output| output.data().len()));
        }
        let mut result = Ok(());
        for (output, buffer) in outputs.iter().zip(buffers) {
            result = result.and(deliver(output.data(), buffer));
        }
        Ok(result.map_err(|error| held.guest.refuse("infer", error))?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("infer", error, run) }
}

fn output(
    arguments: &mut Arguments,
    guest: *mut gp_guest,
    context: u32,
    output: TensorId<'_>,
    (buffer, capacity): (*mut c_void, usize),
    length: *mut usize,
) -> Result<(), Failure> {
    let held = find_guest(arguments, guest)?;
    let (buffer, length) = places(arguments, (buffer, capacity), length)?;
    Ok(held.guest.with_output(GuestHandle::from_bits(context), output, |tensor| copy_out(tensor, buffer, length))?)
}

/// The places of an output and of its length.
pub(crate) fn places(
    arguments: &mut Arguments,
    (buffer, capacity): (*mut c_void, usize),
    length: *mut usize,
) -> Result<(OutBytes, Out<usize>), Error> {
    Ok((arguments.buffer("buffer", buffer.cast(), capacity)?, arguments.out("length", length)?))
}

/// Writes an output and its length.
pub(crate) fn copy_out(tensor: TensorView<'_>, buffer: OutBytes, length: Out<usize>) -> Result<(), Error> {
    length.write(tensor.data().len());
    deliver(tensor.data(), buffer)
}

/// Writes an output to its buffer.
pub(crate) fn deliver(output: &[u8], buffer: OutBytes) -> Result<(), Error> {
    let room = buffer.length();
    if buffer.write(output) { Ok(()) } else { Err(Error::short_buffer(output.len(), room)) }
}
