//! CUDA's libraries, which are loaded when they are first needed.
//!
//! cudarc, through which candle calls CUDA, is compiled here to link with its libraries. A program that is linked with
//! them does not start where they are missing, so the functions that cudarc calls are defined here instead, one short
//! piece of assembly for each (`build.rs` writes them). Each jumps to the address in its slot:
//!
//! ```text
//!  cudarc ── call cuInit ──▶ cuInit (here) ── jump ──▶ SLOTS[i] ──▶ cuInit in libcuda.so.1
//!                                                         │ at first
//!                                                         └──▶ resolver ──▶ load, which fills the slots
//! ```
//!
//! [`load`] tells what is missing, so a backend calls it before anything of candle's. A host that opens a device of
//! candle's itself comes to it by the resolver, which can only end the process where a library is missing: the caller
//! of a function of CUDA's expects a result.

#![allow(unsafe_code, reason = "shared libraries are loaded, and called from assembly")]

use std::arch::global_asm;
use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

/// A shared library, and the functions that may be called in it.
struct Library {
    file: &'static CStr,
    functions: &'static [&'static CStr],
}

/// None needs one that is after it.
static LIBRARIES: [Library; 5] = include!(concat!(env!("OUT_DIR"), "/libraries.rs"));

/// The number of functions of all libraries.
const FUNCTIONS: usize = {
    let (mut count, mut library) = (0, 0);
    while library < LIBRARIES.len() {
        count += LIBRARIES[library].functions.len();
        library += 1;
    }
    count
};

/// The address that each function jumps to.
static SLOTS: [AtomicPtr<c_void>; FUNCTIONS] =
    [const { AtomicPtr::new(graphpool_cuda_resolver as unsafe extern "C" fn() as *mut c_void) }; FUNCTIONS];

global_asm!(".text", include_str!(concat!(env!("OUT_DIR"), "/forwarders.s")), slots = sym SLOTS);

unsafe extern "C" {
    /// Gets the index of a slot in a scratch register, calls [`resolve`] and jumps to the address that it returns, with
    /// all registers as they were. It is code to jump to and must not be called.
    fn graphpool_cuda_resolver();
}

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl graphpool_cuda_resolver",
    ".hidden graphpool_cuda_resolver",
    "graphpool_cuda_resolver:",
    // The stack is aligned to 16 bytes after this push, and after each pair of pushes.
    "push rbp",
    "mov rbp, rsp",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push r8",
    "push r9",
    "push rax",
    "push r11",
    "sub rsp, 128",
    "movups [rsp], xmm0",
    "movups [rsp + 16], xmm1",
    "movups [rsp + 32], xmm2",
    "movups [rsp + 48], xmm3",
    "movups [rsp + 64], xmm4",
    "movups [rsp + 80], xmm5",
    "movups [rsp + 96], xmm6",
    "movups [rsp + 112], xmm7",
    "mov edi, r11d",
    "call {resolve}",
    "movups xmm0, [rsp]",
    "movups xmm1, [rsp + 16]",
    "movups xmm2, [rsp + 32]",
    "movups xmm3, [rsp + 48]",
    "movups xmm4, [rsp + 64]",
    "movups xmm5, [rsp + 80]",
    "movups xmm6, [rsp + 96]",
    "movups xmm7, [rsp + 112]",
    "add rsp, 128",
    "pop r11",
    "mov r11, rax",
    "pop rax",
    "pop r9",
    "pop r8",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rbp",
    "jmp r11",
    resolve = sym resolve,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl graphpool_cuda_resolver",
    ".hidden graphpool_cuda_resolver",
    "graphpool_cuda_resolver:",
    "stp x29, x30, [sp, #-224]!",
    "mov x29, sp",
    "stp x0, x1, [sp, #16]",
    "stp x2, x3, [sp, #32]",
    "stp x4, x5, [sp, #48]",
    "stp x6, x7, [sp, #64]",
    "str x8, [sp, #80]",
    "stp q0, q1, [sp, #96]",
    "stp q2, q3, [sp, #128]",
    "stp q4, q5, [sp, #160]",
    "stp q6, q7, [sp, #192]",
    "mov w0, w17",
    "bl {resolve}",
    "mov x16, x0",
    "ldp q6, q7, [sp, #192]",
    "ldp q4, q5, [sp, #160]",
    "ldp q2, q3, [sp, #128]",
    "ldp q0, q1, [sp, #96]",
    "ldr x8, [sp, #80]",
    "ldp x6, x7, [sp, #64]",
    "ldp x4, x5, [sp, #48]",
    "ldp x2, x3, [sp, #32]",
    "ldp x0, x1, [sp, #16]",
    "ldp x29, x30, [sp], #224",
    "br x16",
    resolve = sym resolve,
);

/// Keeps the assembly in programs that don't call [`load`].
#[used]
static RESOLVER: unsafe extern "C" fn() = graphpool_cuda_resolver;

/// The address for a slot. Ends the process, with a message, if there is none.
extern "C" fn resolve(index: u32) -> *const c_void {
    let resolver = graphpool_cuda_resolver as *const () as *mut c_void;
    let why = match load() {
        Ok(()) => {
            // Acquire: pairs with the store in `load`, before which the library has set itself up.
            let found = SLOTS[index as usize].load(Ordering::Acquire);
            if found != resolver {
                return found;
            }
            "the library does not have it".to_owned()
        }
        Err(why) => why,
    };
    let name = LIBRARIES.iter().flat_map(|library| library.functions).nth(index as usize);
    eprintln!("CUDA's function {} can't be called: {why}", name.map_or("", |name| name.to_str().unwrap_or_default()));
    std::process::abort()
}

/// Loads the libraries, unless they are loaded. They stay loaded.
///
/// # Errors
///
/// The reason, with the name of the library that can't be loaded. The next call tries again.
pub(crate) fn load() -> Result<(), String> {
    static LOADED: Mutex<bool> = Mutex::new(false);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if *loaded {
        return Ok(());
    }
    let mut handles = [ptr::null_mut(); LIBRARIES.len()];
    for (handle, library) in handles.iter_mut().zip(&LIBRARIES) {
        *handle = open(library.file)?;
    }
    let functions = LIBRARIES
        .iter()
        .zip(handles)
        .flat_map(|(library, handle)| library.functions.iter().map(move |name| (name, handle)));
    for (slot, (name, handle)) in SLOTS.iter().zip(functions) {
        // SAFETY: the handle is of a library that is loaded, and the name ends with a zero.
        let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
        // The list has functions of other versions of CUDA too.
        if !address.is_null() {
            // Release: pairs with the loads of the forwarders and of `resolve`. Who finds the address finds the library
            // set up.
            slot.store(address, Ordering::Release);
        }
    }
    *loaded = true;
    Ok(())
}

/// The handle of a library.
fn open(file: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: the name ends with a zero. What the library runs when it is loaded is trusted, like all of CUDA.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: the text is null or ends with a zero, and is valid until this thread's next call of these functions.
    let why = unsafe {
        let text = libc::dlerror();
        if text.is_null() { "for no known reason".into() } else { CStr::from_ptr(text).to_string_lossy() }
    };
    Err(format!("CUDA's library {} can't be loaded ({why})", file.to_string_lossy()))
}
