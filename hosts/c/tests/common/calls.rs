//! Calls of the interface from Rust, as C makes them.
#![allow(dead_code, unused_macros, reason = "not every test uses all of it")]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use graphpool_c::*;

/// Calls a function, and returns its code and message.
pub fn told(call: impl FnOnce(*mut gp_error) -> gp_code) -> (gp_code, String) {
    let mut error = MaybeUninit::uninit();
    let code = call(error.as_mut_ptr());
    if code == gp_code::Ok {
        return (code, String::new());
    }
    // SAFETY: written, as the call has failed.
    let error = unsafe { error.assume_init() };
    assert_eq!(error.code, code);
    // SAFETY: ends with a zero.
    let message = unsafe { CStr::from_ptr(error.message.as_ptr()) };
    (code, message.to_str().unwrap().to_owned())
}

macro_rules! ok {
    ($function:ident($($argument:expr),*)) => {
        // SAFETY: valid arguments, or those that the test is about.
        assert_eq!(told(|error| unsafe { $function($($argument,)* error) }), (gp_code::Ok, String::new()))
    };
}

macro_rules! refused {
    ($code:ident, $words:expr, $function:ident($($argument:expr),*)) => {{
        // SAFETY: valid arguments, or those that the test is about.
        let (code, message) = told(|error| unsafe { $function($($argument,)* error) });
        assert!(code == gp_code::$code && message.contains($words), "{code:?}: {message}");
        // SAFETY: as above. Without a place for the error, the code alone.
        assert_eq!(unsafe { $function($($argument,)* null_mut()) }, code);
    }};
}

pub fn new_engine() -> *mut gp_engine {
    let mut engine = null_mut();
    ok!(gp_engine_create(null(), &raw mut engine));
    engine
}

pub fn new_guest(engine: *mut gp_engine) -> *mut gp_guest {
    let mut guest = null_mut();
    ok!(gp_guest_create(engine, null(), &raw mut guest));
    guest
}

/// A model that adds 1 to each of some floats: ONNX, written by hand.
pub fn add_one() -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }
    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }
    fn value(name: &[u8], dimensions: &[u8]) -> Vec<u8> {
        let shape = dimensions.iter().flat_map(|size| field(1, &number(1, *size))).collect::<Vec<_>>();
        let tensor = [number(1, 1), field(2, &shape)].concat();
        [field(1, name), field(2, &field(1, &tensor))].concat()
    }
    let one = [number(1, 1), number(2, 1), field(8, b"one"), field(9, &1_f32.to_le_bytes())].concat();
    let node = [field(1, b"x"), field(1, b"one"), field(2, b"y"), field(4, b"Add")].concat();
    let graph =
        [field(1, &node), field(2, b"g"), field(5, &one), field(11, &value(b"x", &[2])), field(12, &value(b"y", &[2]))];
    [number(1, 8), field(7, &graph.concat()), field(8, &number(2, 17))].concat()
}

pub fn part(bytes: &[u8]) -> gp_bytes {
    gp_bytes { data: bytes.as_ptr().cast(), length: bytes.len() }
}

pub fn tensor(dimensions: &[u32], data: &[u8]) -> gp_tensor {
    gp_tensor {
        dimensions: dimensions.as_ptr(),
        rank: dimensions.len(),
        data: data.as_ptr().cast(),
        length: data.len(),
        element_type: gp_type::F32 as u32,
        reserved: 0,
    }
}

pub fn floats(floats: [f32; 2]) -> [u8; 8] {
    let [a, b] = floats.map(f32::to_le_bytes);
    [a, b].concat().try_into().unwrap()
}

/// A guest with a context of `add_one`.
pub fn opened(engine: *mut gp_engine) -> (*mut gp_guest, u32) {
    let (guest, model) = (new_guest(engine), add_one());
    let (mut graph, mut context) = (0, 0);
    ok!(gp_load(guest, &part(&model), 1, 1, 0, &raw mut graph));
    ok!(gp_init_execution_context(guest, graph, &raw mut context));
    (guest, context)
}

/// The limits and other settings of an engine, to be changed.
pub fn default_options() -> gp_engine_options {
    let mut options = MaybeUninit::uninit();
    ok!(gp_engine_options_default(options.as_mut_ptr()));
    // SAFETY: written.
    unsafe { options.assume_init() }
}

/// The settings of a model that is built when it is first loaded.
pub fn onnx() -> gp_model_options {
    gp_model_options {
        encoding: gp_encoding::Onnx as u32,
        target: gp_target::Cpu as u32,
        config: null(),
        guest_configs: 0,
        build_now: 0,
        reserved: 0,
    }
}

/// The statistics of an engine.
pub fn stats(engine: *mut gp_engine) -> gp_stats {
    let mut stats = MaybeUninit::uninit();
    ok!(gp_engine_stats(engine, stats.as_mut_ptr()));
    // SAFETY: written.
    unsafe { stats.assume_init() }
}

/// What a guest holds.
pub fn usage(guest: *mut gp_guest) -> gp_usage {
    let mut usage = MaybeUninit::uninit();
    ok!(gp_guest_usage(guest, usage.as_mut_ptr()));
    // SAFETY: written.
    unsafe { usage.assume_init() }
}
