//! Directories that an engine follows.

use std::ffi::c_char;

use graphpool::nn::DirectoryWatch;
use graphpool_ffi::{Arguments, held};

use crate::call::{call, close, keep};
use crate::code::{gp_code, gp_error};
use crate::engine::{engine as find_engine, gp_engine};
use crate::numbers::HOST;
use crate::paths::path as read_path;

/// Ends with the drop, which waits for a reload that is under way.
struct Watch(#[expect(dead_code, reason = "held for its drop")] DirectoryWatch);

held! {
    Watch, "watch";
}

/// Registers the models of a directory as gp_register_directory does, except names that are taken, and follows it until
/// the watch is closed: a new file is registered, and a file that another is renamed over is reloaded. A file that
/// can't be built leaves the version before in use. `watch` gets the number that gp_watch_close takes. A watch does not
/// keep the engine.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_watch_directory(
    engine: *mut gp_engine,
    path: *const c_char,
    target: u32,
    watch: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        let path = read_path(arguments, path)?;
        let out = arguments.out("watch", watch)?;
        let started = engine.watch_directory(path, arguments.target(HOST, target)?)?;
        out.write(keep(arguments, Watch(started))? as u64);
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("watch_directory", error, run) }
}

/// Ends a watch, and waits for a reload of it that is under way.
///
/// Threads: any, at any time. Of several calls with one watch, one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_watch_close(watch: u64, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| close::<Watch>(arguments, watch as usize).map(drop);
    // SAFETY: the rules of the header.
    unsafe { call("watch_close", error, run) }
}
