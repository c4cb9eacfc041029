//! The nine functions that WAMR looks up by name.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::Arc;

use graphpool::GuestHandle;
use graphpool::backend::wire::Dialect;
use graphpool::nn::{Error, Guest};
use graphpool_ffi::{Arguments, Held, MOST, ModelCopies, held, shield};

use crate::engine;
use crate::layout::{Pair, Tensor};

/// What a context of `init_backend` stands for.
struct Context {
    guest: Guest,
    copies: ModelCopies,
}

held! {
    Context, "context";
}

impl Context {
    /// Reads what the guest has given. An error counts among the guest's, like the engine's own.
    fn read<R>(
        &self,
        arguments: &mut Arguments,
        read: impl FnOnce(&mut Arguments) -> Result<R, Error>,
    ) -> Result<R, Error> {
        read(arguments).map_err(|error| self.guest.refuse(arguments.call(), error))
    }
}

/// `wasi_nn_error`: 4 bytes, 0 for success.
type Errno = u32;

/// Runs one call of WAMR.
///
/// # Safety
///
/// The contract of [`Arguments::new`], for what `f` gives to its arguments.
unsafe fn call(name: &'static str, f: impl FnOnce(&mut Arguments) -> Result<(), Error>) -> Errno {
    // SAFETY: the caller's contract.
    let mut arguments = unsafe { Arguments::unaligned(name) };
    let error = match shield(|| f(&mut arguments)) {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(message) => Error::runtime_error(format!("{name}: panicked: {message}")),
    };
    engine::refused(&error);
    Dialect::Wamr.errno(error.kind()).into()
}

fn guest(arguments: &Arguments, context: *mut c_void) -> Result<Arc<Context>, Error> {
    Context::find(context.addr() as u64).ok_or_else(|| arguments.invalid("the backend's context is not open"))
}

/// Opens a context: a guest of the engine, which the first call of the process makes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn init_backend(context: *mut *mut c_void) -> Errno {
    let run = |arguments: &mut Arguments| {
        let out = arguments.out("context", context)?;
        let number = Context { guest: engine::engine()?.guest(), copies: ModelCopies::default() }.keep();
        let full = || Error::busy(format!("init_backend: {MOST} contexts are open, the most that there can be"));
        out.write(ptr::without_provenance_mut(number.ok_or_else(full)? as usize));
        Ok(())
    };
    // SAFETY: WAMR gives a place for the pointer.
    unsafe { call("init_backend", run) }
}

/// Closes a context. Computes inside it are cancelled, and what it holds is released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn deinit_backend(context: *mut c_void) -> Errno {
    let run = |arguments: &mut Arguments| match Context::take(context.addr() as u64) {
        Some(context) => {
            context.guest.close();
            Ok(())
        }
        None => Err(arguments.invalid("the backend's context is not open")),
    };
    // SAFETY: nothing is accessed.
    unsafe { call("deinit_backend", run) }
}

/// Loads a model from its bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn load(
    context: *mut c_void,
    builders: *const Pair<Pair<u8>>,
    encoding: u32,
    target: u32,
    graph: *mut u32,
) -> Errno {
    let run = |arguments: &mut Arguments| {
        let context = guest(arguments, context)?;
        let Context { guest, copies } = &*context;
        let out = arguments.out("graph", graph)?;
        let read = |arguments: &mut Arguments| {
            let (encoding, target) =
                (arguments.encoding(Dialect::Wamr, encoding)?, arguments.target(Dialect::Wamr, target)?);
            let (builders, count) = arguments.read("builders", builders)?.parts();
            let read = |arguments: &mut Arguments| arguments.values("builders' array", builders, count);
            let model = arguments.model(guest.limits(), copies, count, read, |builder| builder.parts())?;
            Ok((model, encoding, target))
        };
        let (model, encoding, target) = context.read(arguments, read)?;
        out.write(guest.load(&model.parts(), encoding, target)?.to_bits());
        Ok(())
    };
    // SAFETY: WAMR has checked that the pointers are of the host or inside the guest's memory.
    unsafe { call("load", run) }
}

/// Loads a model of the directory that the host has configured.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn load_by_name(
    context: *mut c_void,
    name: *const c_char,
    name_length: u32,
    graph: *mut u32,
) -> Errno {
    let run = |arguments: &mut Arguments| {
        let context = guest(arguments, context)?;
        let out = arguments.out("graph", graph)?;
        let read =
            |arguments: &mut Arguments| arguments.name(context.guest.limits(), name.cast(), name_length as usize);
        let name = context.read(arguments, read)?;
        out.write(context.guest.load_by_name(&name)?.to_bits());
        Ok(())
    };
    // SAFETY: as in `load`.
    unsafe { call("load_by_name", run) }
}

/// As `load_by_name`, with options for the sessions of a language model, where `GRAPHPOOL_CONFIGS` allows that. ONNX
/// models have none, so a configuration of one is refused if it is not blank.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn load_by_name_with_config(
    context: *mut c_void,
    name: *const c_char,
    name_length: u32,
    config: *const c_char,
    config_length: u32,
    graph: *mut u32,
) -> Errno {
    let run = |arguments: &mut Arguments| {
        let context = guest(arguments, context)?;
        let limits = context.guest.limits();
        let out = arguments.out("graph", graph)?;
        let read = |arguments: &mut Arguments| {
            let name = arguments.name(limits, name.cast(), name_length as usize)?;
            Ok((name, arguments.config(limits, config.cast(), config_length as usize)?))
        };
        let (name, config) = context.read(arguments, read)?;
        out.write(context.guest.load_by_name_with_config(&name, &config)?.to_bits());
        Ok(())
    };
    // SAFETY: as in `load`.
    unsafe { call("load_by_name_with_config", run) }
}

/// Opens an execution context of a graph.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn init_execution_context(context: *mut c_void, graph: u32, execution: *mut u32) -> Errno {
    let run = |arguments: &mut Arguments| {
        let context = guest(arguments, context)?;
        let out = arguments.out("execution context", execution)?;
        out.write(context.guest.init_execution_context(GuestHandle::from_bits(graph))?.to_bits());
        Ok(())
    };
    // SAFETY: as in `load`.
    unsafe { call("init_execution_context", run) }
}

/// Copies a tensor as an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn set_input(context: *mut c_void, execution: u32, index: u32, tensor: *const Tensor) -> Errno {
    let run = |arguments: &mut Arguments| {
        let context = guest(arguments, context)?;
        let Context { guest, .. } = &*context;
        let read = |arguments: &mut Arguments| {
            let tensor = arguments.read("tensor", tensor)?;
            let ty = arguments.tensor_type(Dialect::Wamr, tensor.ty.into())?;
            let dimensions = arguments.read("tensor's dimensions", tensor.dimensions)?;
            arguments.tensor(guest.limits(), dimensions.parts(), ty, tensor.data.parts())
        };
        let tensor = context.read(arguments, read)?;
        guest.set_input_given(GuestHandle::from_bits(execution), index, &tensor.dimensions, tensor.ty, &tensor.data)
    };
    // SAFETY: as in `load`.
    unsafe { call("set_input", run) }
}

/// Computes the outputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn compute(context: *mut c_void, execution: u32) -> Errno {
    let run = |arguments: &mut Arguments| guest(arguments, context)?.guest.compute(GuestHandle::from_bits(execution));
    // SAFETY: nothing is accessed.
    unsafe { call("compute", run) }
}

/// Copies an output to the buffer of `output`, and its length to `length`. If the buffer is too short, `length` gets
/// what is needed, and the buffer nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn get_output(
    context: *mut c_void,
    execution: u32,
    index: u32,
    output: *const Pair<u8>,
    length: *mut u32,
) -> Errno {
    let run = |arguments: &mut Arguments| {
        let context = guest(arguments, context)?;
        let Pair { buf, size } = arguments.read("output", output)?;
        let buffer = arguments.buffer("output's buffer", buf, size as usize)?;
        let out = arguments.out("length", length)?;
        context.guest.with_output(GuestHandle::from_bits(execution), index, |tensor| {
            let bytes = tensor.data().len();
            let Ok(needed) = u32::try_from(bytes) else {
                return Err(Error::too_large(format!("the output has {bytes} bytes, more than a length can be")));
            };
            out.write(needed);
            if buffer.write(tensor.data()) { Ok(()) } else { Err(Error::short_buffer(bytes, size as usize)) }
        })
    };
    // SAFETY: as in `load`.
    unsafe { call("get_output", run) }
}
