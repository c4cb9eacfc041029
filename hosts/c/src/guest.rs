//! Guests: one for each wasm instance, and its graphs and contexts.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::Arc;

use graphpool::GuestHandle;
use graphpool::backend::wire::Dialect;
use graphpool::nn::{Encoding, Error, Guest, GuestPolicy, Target};
use graphpool_ffi::{Arguments, ModelCopies, ModelCopy, Plain, held};

use crate::call::{call, close, find, keep};
use crate::code::{Failure, gp_code, gp_error};
use crate::engine::{engine as find_engine, gp_engine};
use crate::limits::gp_limits;
use crate::numbers::{DialectNumber, dialect};

/// A guest: one wasm instance's view of an engine. A pointer to it is a name, and points nowhere.
pub struct gp_guest {
    _private: [u8; 0],
}

/// The settings of a guest. All zero are the defaults.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_guest_options {
    /// The guest's limits, below the engine's ceiling; null for the engine's.
    pub limits: *const gp_limits,
    /// The names that the guest may load, each ended by a zero; null for all.
    pub models: *const *const c_char,
    /// The engine's name for each of models, if it is another; null for the same names.
    pub engine_models: *const *const c_char,
    /// How many they are. 0 with models that are not null: none.
    pub model_count: usize,
    /// The guest's label in events, ended by a zero; may be null.
    pub label: *const c_char,
    /// The numbers in the guest's calls, a gp_dialect.
    pub dialect: DialectNumber,
    /// 0.
    pub reserved: u32,
}

/// Some bytes. data may be null if there are none.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_bytes {
    /// The first.
    pub data: *const c_void,
    /// How many.
    pub length: usize,
}

// SAFETY: integers and pointers.
unsafe impl Plain for gp_guest_options {}
// SAFETY: integers and pointers.
unsafe impl Plain for gp_bytes {}

/// What a `gp_guest *` stands for.
pub(crate) struct HeldGuest {
    pub(crate) guest: Guest,
    pub(crate) dialect: Dialect,
    copies: ModelCopies,
}

impl HeldGuest {
    /// Reads what the guest has given. An error counts among the guest's, like the engine's own.
    pub(crate) fn read<R>(
        &self,
        arguments: &mut Arguments,
        read: impl FnOnce(&mut Arguments) -> Result<R, Error>,
    ) -> Result<R, Error> {
        read(arguments).map_err(|error| self.guest.refuse(arguments.call(), error))
    }
}

held! {
    HeldGuest, "guest";
}

/// The guest of a pointer of C.
pub(crate) fn guest(arguments: &Arguments, guest: *const gp_guest) -> Result<Arc<HeldGuest>, Failure> {
    find(arguments, guest.addr())
}

/// The most names that a guest's options list.
const NAMES: usize = 1 << 20;

/// Creates a guest. `options` may be null, for the defaults.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_guest_create(
    engine: *mut gp_engine,
    options: *const gp_guest_options,
    guest: *mut *mut gp_guest,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        let options = arguments.read_if_any("options", options)?;
        let out = arguments.out("guest", guest)?;
        let mut builder = engine.guest_builder();
        let mut used = Dialect::Component;
        if let Some(options) = options {
            used = dialect(arguments, options.dialect)?;
            if let Some(limits) = arguments.read_if_any("limits", options.limits)? {
                builder = builder.with_limits(limits.into());
            }
            if !options.models.is_null() {
                builder = builder.with_policy(&policy(arguments, &options)?);
            }
            if !options.label.is_null() {
                builder = builder.with_label(arguments.c_text("label", options.label.cast())?);
            }
        }
        let held = HeldGuest { guest: builder.build(), dialect: used, copies: ModelCopies::default() };
        out.write(ptr::without_provenance_mut(keep(arguments, held)?));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("guest_create", error, run) }
}

/// The names that the options allow.
fn policy(arguments: &mut Arguments, options: &gp_guest_options) -> Result<GuestPolicy, Error> {
    let count = options.model_count;
    if count > NAMES {
        return Err(arguments.too_large(format_args!("{count} models are listed; the limit is {NAMES}")));
    }
    let names = arguments.values("models", options.models, count)?;
    let engine_names = if options.engine_models.is_null() {
        names.clone()
    } else {
        arguments.values("engine_models", options.engine_models, count)?
    };
    names.into_iter().zip(engine_names).try_fold(
        GuestPolicy::new().with_mapped_names_only(),
        |policy, (name, engine_name)| {
            let name = arguments.c_text("a name of models", name.cast())?;
            let engine_name = arguments.c_text("a name of engine_models", engine_name.cast())?;
            Ok(policy.with_name(name, engine_name))
        },
    )
}

/// Closes a guest: cancels its computes, and releases its graphs and contexts. Calls that are inside end soon, with
/// what they have done or an error; the close does not wait for them.
///
/// Threads: any, at any time. Of several calls with one guest, one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_guest_close(guest: *mut gp_guest, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| close::<HeldGuest>(arguments, guest.addr()).map(|held| held.guest.close());
    // SAFETY: the rules of the header.
    unsafe { call("guest_close", error, run) }
}

/// A model that a guest has given.
pub(crate) struct GivenModel<'a> {
    pub(crate) copy: ModelCopy<'a>,
    pub(crate) encoding: Encoding,
    pub(crate) target: Target,
}

/// Copies a model that the guest has given.
pub(crate) fn given_model<'a>(
    arguments: &mut Arguments,
    held: &'a HeldGuest,
    (parts, count): (*const gp_bytes, usize),
    (encoding, target): (u32, u32),
) -> Result<GivenModel<'a>, Error> {
    let HeldGuest { guest, dialect, copies } = held;
    held.read(arguments, |arguments| {
        let (encoding, target) = (arguments.encoding(*dialect, encoding)?, arguments.target(*dialect, target)?);
        let read = |arguments: &mut Arguments| arguments.values("parts", parts, count);
        let copy =
            arguments.model(guest.limits(), copies, count, read, |part: gp_bytes| (part.data.cast(), part.length))?;
        Ok(GivenModel { copy, encoding, target })
    })
}

/// Loads a model from its bytes, in as many parts as its encoding has, which may be hostile. `encoding` and `target`
/// are numbers of the guest's dialect.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_load(
    guest: *mut gp_guest,
    parts: *const gp_bytes,
    part_count: usize,
    encoding: u32,
    target: u32,
    graph: *mut u32,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = self::guest(arguments, guest)?;
        let out = arguments.out("graph", graph)?;
        let given = given_model(arguments, &held, (parts, part_count), (encoding, target))?;
        out.write(held.guest.load(&given.copy.parts(), given.encoding, given.target)?.to_bits());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("load", error, run) }
}

/// Loads a model that the host has registered, by its name of `name_length` bytes. Builds it if it has no version yet.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_load_by_name(
    guest: *mut gp_guest,
    name: *const c_char,
    name_length: usize,
    graph: *mut u32,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = self::guest(arguments, guest)?;
        let out = arguments.out("graph", graph)?;
        let name = held.read(arguments, |arguments| arguments.name(held.guest.limits(), name.cast(), name_length))?;
        out.write(held.guest.load_by_name(&name)?.to_bits());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("load_by_name", error, run) }
}

/// As gp_load_by_name, with the guest's own configuration, if the host allows that for the name.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_load_by_name_with_config(
    guest: *mut gp_guest,
    name: *const c_char,
    name_length: usize,
    config: *const c_char,
    config_length: usize,
    graph: *mut u32,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = self::guest(arguments, guest)?;
        let limits = held.guest.limits();
        let out = arguments.out("graph", graph)?;
        let read = |arguments: &mut Arguments| {
            let name = arguments.name(limits, name.cast(), name_length)?;
            Ok((name, arguments.config(limits, config.cast(), config_length)?))
        };
        let (name, config) = held.read(arguments, read)?;
        out.write(held.guest.load_by_name_with_config(&name, &config)?.to_bits());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("load_by_name_with_config", error, run) }
}

/// Releases a graph. Its contexts stay usable.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_unload(guest: *mut gp_guest, graph: u32, error: *mut gp_error) -> gp_code {
    let run =
        |arguments: &mut Arguments| Ok(self::guest(arguments, guest)?.guest.unload(GuestHandle::from_bits(graph))?);
    // SAFETY: the rules of the header.
    unsafe { call("unload", error, run) }
}

/// Opens a context of a graph. It keeps the model alive.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_init_execution_context(
    guest: *mut gp_guest,
    graph: u32,
    context: *mut u32,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = self::guest(arguments, guest)?;
        let out = arguments.out("context", context)?;
        out.write(held.guest.init_execution_context(GuestHandle::from_bits(graph))?.to_bits());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("init_execution_context", error, run) }
}

/// Closes a context. A compute of it that waits for its turn is cancelled; a call that is inside completes.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_drop_context(guest: *mut gp_guest, context: u32, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        Ok(self::guest(arguments, guest)?.guest.drop_context(GuestHandle::from_bits(context))?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("drop_context", error, run) }
}

/// Cancels every compute of a guest. `cancelled`, which may be null, gets how many there were.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_cancel_all(guest: *mut gp_guest, cancelled: *mut usize, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = self::guest(arguments, guest)?;
        let out = arguments.out_if_any("cancelled", cancelled)?;
        let count = held.guest.cancel_all();
        if let Some(out) = out {
            out.write(count);
        }
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("cancel_all", error, run) }
}
