//! Calls that C may get wrong, each refused with a code and a message; and the whole interface once, in order.
#![allow(clippy::cast_ptr_alignment, reason = "addresses that are wrong are the subject")]

#[macro_use]
#[path = "common/calls.rs"]
mod calls;

use std::ffi::{CStr, CString, c_char, c_void};
use std::iter;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut, without_provenance, without_provenance_mut};

use calls::*;
use graphpool_c::*;

#[test]
fn a_pointer_that_names_nothing_is_closed_and_never_dereferenced() {
    let engine = new_engine();
    let guest = new_guest(engine);
    let mut stats = MaybeUninit::uninit();
    for bits in [0, 1, 7, 0x1000, usize::MAX, guest.addr(), engine.addr() ^ 1] {
        let made_up: *mut gp_engine = without_provenance_mut(bits);
        refused!(Closed, "engine was closed or never created", gp_engine_stats(made_up, stats.as_mut_ptr()));
        refused!(Closed, "engine", gp_engine_close(made_up));
        refused!(Closed, "job", gp_job_wait(bits as u64, 0));
        refused!(Closed, "job", gp_job_close(bits as u64));
    }
    for bits in [0, 1, usize::MAX, engine.addr()] {
        let made_up: *mut gp_guest = without_provenance_mut(bits);
        refused!(Closed, "compute: the guest was closed or never created", gp_compute(made_up, 1));
        refused!(Closed, "guest", gp_guest_close(made_up));
    }
    ok!(gp_guest_close(guest));
    refused!(Closed, "guest", gp_guest_close(guest));
    refused!(Closed, "guest", gp_compute(guest, 1));
    ok!(gp_engine_close(engine));
    refused!(Closed, "engine", gp_engine_close(engine));
    let mut guest = null_mut();
    refused!(Closed, "engine", gp_guest_create(engine, null(), &raw mut guest));
}

#[test]
fn a_guest_outlives_its_engine_pointer() {
    let engine = new_engine();
    let (guest, context) = opened(engine);
    ok!(gp_engine_close(engine));
    let data = floats([1.0, 2.0]);
    ok!(gp_set_input(guest, context, 0, &tensor(&[2], &data)));
    ok!(gp_compute(guest, context));
    ok!(gp_guest_close(guest));
}

#[test]
fn every_wrong_pointer_is_refused_by_its_name() {
    let engine = new_engine();
    let (guest, context) = opened(engine);
    let (data, mut buffer, mut length) = (floats([1.0, 2.0]), [0_u8; 64], 0_usize);
    let good = tensor(&[2], &data);
    ok!(gp_set_input(guest, context, 0, &raw const good));
    ok!(gp_compute(guest, context));

    refused!(InvalidArgument, "set_input: tensor is null", gp_set_input(guest, context, 0, null()));
    let odd = (&raw const good).wrapping_byte_add(1);
    refused!(InvalidArgument, "tensor is not aligned to 8 bytes", gp_set_input(guest, context, 0, odd));
    for (wrong, words) in [
        (gp_tensor { dimensions: null(), ..good }, "dimensions is null"),
        (gp_tensor { dimensions: without_provenance(2), ..good }, "dimensions is not aligned to 4 bytes"),
        (gp_tensor { data: null(), ..good }, "data is null"),
        (gp_tensor { data: without_provenance(usize::MAX), ..good }, "larger than the address space"),
        (gp_tensor { element_type: 7, ..good }, "7 is not a tensor type of WIT"),
        (gp_tensor { element_type: 257, ..good }, "257 is not a tensor type of WIT"),
        (gp_tensor { length: 4, ..good }, "the tensor data has 4 bytes; fp32 [2] needs 8"),
    ] {
        refused!(InvalidArgument, words, gp_set_input(guest, context, 0, &raw const wrong));
    }
    for (wrong, words) in [
        (gp_tensor { rank: 0x7FFF_FFFF, ..good }, "2147483647 dimensions; the limit is 16"),
        (gp_tensor { rank: usize::MAX, ..good }, "dimensions; the limit is 16"),
        (gp_tensor { length: usize::MAX, ..good }, "bytes; the limit is 268435456"),
    ] {
        refused!(TooLarge, words, gp_set_input(guest, context, 0, &raw const wrong));
    }

    let out = buffer.as_mut_ptr().cast::<c_void>();
    refused!(InvalidArgument, "buffer is null", gp_get_output(guest, context, 0, null_mut(), 8, &raw mut length));
    refused!(InvalidArgument, "length is null", gp_get_output(guest, context, 0, out, 64, null_mut()));
    let inside = buffer.as_mut_ptr().wrapping_add(buffer.as_ptr().align_offset(8) + 8).cast::<usize>();
    refused!(InvalidArgument, "length overlaps buffer", gp_get_output(guest, context, 0, out, 64, inside));
    let end = usize::MAX - 7;
    let wraps = without_provenance_mut(end);
    refused!(InvalidArgument, "larger than the address", gp_get_output(guest, context, 0, wraps, 64, &raw mut length));
    refused!(
        InvalidArgument,
        "larger than the address",
        gp_get_output(guest, context, 0, out, usize::MAX, &raw mut length)
    );

    let mut graph = 0_u32;
    let (name, long) = (c"\xFF", usize::MAX);
    refused!(InvalidArgument, "name is null", gp_load_by_name(guest, null(), 1, &raw mut graph));
    refused!(InvalidArgument, "name is not UTF-8", gp_load_by_name(guest, name.as_ptr(), 1, &raw mut graph));
    refused!(TooLarge, "bytes; the limit is 256", gp_load_by_name(guest, name.as_ptr(), long, &raw mut graph));
    refused!(InvalidArgument, "graph is null", gp_load_by_name(guest, name.as_ptr(), 1, null_mut()));
    refused!(NotFound, "no model is named \"\"", gp_load_by_name(guest, null(), 0, &raw mut graph));
    refused!(TooLarge, "parts; the limit is 64", gp_load(guest, null(), usize::MAX, 1, 0, &raw mut graph));
    refused!(InvalidArgument, "parts is null", gp_load(guest, null(), 1, 1, 0, &raw mut graph));
    refused!(InvalidArgument, "0 parts", gp_load(guest, null(), 0, 1, 0, &raw mut graph));
    refused!(InvalidEncoding, "9 is not an encoding of WIT", gp_load(guest, null(), 0, 9, 0, &raw mut graph));
    refused!(InvalidArgument, "3 is not a target of WIT", gp_load(guest, null(), 0, 1, 3, &raw mut graph));
    let huge = gp_bytes { data: without_provenance(1), length: usize::MAX };
    refused!(TooLarge, "the model has", gp_load(guest, &raw const huge, 1, 1, 0, &raw mut graph));

    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn an_error_that_overlaps_or_is_not_aligned_is_not_written() {
    let mut memory = MaybeUninit::<[gp_error; 2]>::zeroed();
    let error = memory.as_mut_ptr().cast::<gp_error>();
    // SAFETY: the tests of the pointers come before their use.
    unsafe {
        assert_eq!(gp_engine_close(null_mut(), error.wrapping_byte_add(1)), gp_code::InvalidArgument);
        assert_eq!(gp_engine_create(null(), error.cast(), error), gp_code::InvalidArgument);
        // The second has written its error, which names the overlap; the first nothing.
        let message = CStr::from_ptr((*error).message.as_ptr()).to_str().unwrap();
        assert_eq!(message, "engine_create: engine overlaps error");
    }
}

#[test]
fn a_short_buffer_gets_nothing_and_the_length_is_told() {
    let engine = new_engine();
    let (guest, context) = opened(engine);
    let data = floats([1.0, 41.0]);
    ok!(gp_set_input_by_name(guest, context, c"x".as_ptr(), 1, &tensor(&[2], &data)));
    ok!(gp_compute_within(guest, context, GP_NO_LIMIT));
    let (mut buffer, mut length) = ([0xEE_u8; 9], 0);
    let out = buffer.as_mut_ptr().cast::<c_void>();
    refused!(
        TooLarge,
        "the output has 8 bytes; the buffer has 7",
        gp_get_output(guest, context, 0, out, 7, &raw mut length)
    );
    assert_eq!((buffer, length), ([0xEE; 9], 8));
    let mut error = MaybeUninit::<gp_error>::uninit();
    // SAFETY: an error is written, as the buffer is too short.
    unsafe {
        gp_get_output(guest, context, 0, null_mut(), 0, &raw mut length, error.as_mut_ptr());
        assert_eq!(error.assume_init().needed, 8);
    }
    // To an odd address.
    let odd = out.wrapping_byte_add(1);
    ok!(gp_get_output_by_name(guest, context, c"y".as_ptr(), 1, odd, 8, &raw mut length));
    assert_eq!((&buffer[1..], length), (&floats([2.0, 42.0])[..], 8));

    ok!(gp_clear_inputs(guest, context));
    refused!(InvalidArgument, "compute: ", gp_compute(guest, context));
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn an_inference_is_one_call_and_tells_every_length() {
    let engine = new_engine();
    let (guest, context) = opened(engine);
    let data = floats([1.0, 2.0]);
    let input = gp_input { tensor: tensor(&[2], &data), index: 0, reserved: 0 };
    let (mut buffer, mut length) = ([0_u8; 8], 0_usize);
    let buffers = [buffer.as_mut_ptr().cast::<c_void>()];
    let infer = |inputs, capacity: usize, length: *mut usize, outputs, error| {
        // SAFETY: one element each; the refused counts are checked before they are used.
        unsafe {
            let capacities = [capacity];
            let input = &raw const input;
            gp_infer(guest, context, input, inputs, 1000, buffers.as_ptr(), capacities.as_ptr(), length, outputs, error)
        }
    };
    let length: *mut usize = &raw mut length;
    assert_eq!(told(|error| infer(1, 8, length, 1, error)).0, gp_code::Ok);
    // SAFETY: written by the call.
    assert_eq!((buffer, unsafe { *length }), (floats([2.0, 3.0]), 8));
    for (inputs, capacity, outputs, code, words) in [
        (1, 7, 1, gp_code::TooLarge, "infer: the output has 8 bytes; the buffer has 7"),
        (2, 8, 1, gp_code::InvalidArgument, "2 inputs are given; the graph has 1"),
        (usize::MAX, 8, 1, gp_code::InvalidArgument, "the graph has 1"),
        (1, 8, 0, gp_code::InvalidArgument, "0 outputs are expected; the graph has 1"),
        (1, 8, usize::MAX, gp_code::InvalidArgument, "the graph has 1"),
        (0, 8, 1, gp_code::InvalidArgument, "infer: "),
    ] {
        let (is, message) = told(|error| infer(inputs, capacity, length, outputs, error));
        assert!(is == code && message.contains(words), "{is:?} {message}");
    }
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

/// Names that a visitor has seen.
type Seen = Vec<(String, Vec<i64>, u32)>;

unsafe extern "C" fn see_description(data: *mut c_void, description: *const gp_description) {
    // SAFETY: the data is a `Seen`, and a description is valid during the call.
    unsafe {
        let description = *description;
        let sizes = (0..description.rank).map(|index| *description.dimensions.add(index)).collect();
        let name = CStr::from_ptr(description.name).to_str().unwrap().to_owned();
        (*data.cast::<Seen>()).push((name, sizes, description.element_type));
    }
}

unsafe extern "C" fn see_model(data: *mut c_void, model: *const gp_model) {
    // SAFETY: as above.
    unsafe {
        let name = CStr::from_ptr((*model).name).to_str().unwrap().to_owned();
        (*data.cast::<Seen>()).push((name, vec![(*model).version as i64], (*model).encoding));
    }
}

unsafe extern "C" fn see_graph(data: *mut c_void, graph: *const gp_graph) {
    // SAFETY: as above.
    unsafe {
        let digest = CStr::from_ptr((*graph).digest).to_str().unwrap().to_owned();
        (*data.cast::<Seen>()).push((digest, vec![(*graph).contexts as i64], (*graph).encoding));
    }
}

#[test]
fn the_lists_tell_what_there_is() {
    let engine = new_engine();
    let (guest, context) = opened(engine);
    let model = add_one();
    let options = gp_model_options { build_now: 1, ..onnx() };
    ok!(gp_register_bytes(engine, c"one".as_ptr(), &part(&model), 1, &raw const options));
    refused!(
        InvalidArgument,
        "taken",
        gp_register_bytes(engine, c"one".as_ptr(), &part(&model), 1, &raw const options)
    );
    let seen = |list: &dyn Fn(*mut c_void)| {
        let mut seen = Seen::new();
        list((&raw mut seen).cast());
        seen
    };
    assert_eq!(seen(&|data| ok!(gp_inputs(guest, context, Some(see_description), data))), [("x".into(), vec![2], 1)]);
    assert_eq!(seen(&|data| ok!(gp_outputs(guest, context, Some(see_description), data))), [("y".into(), vec![2], 1)]);
    assert_eq!(seen(&|data| ok!(gp_list_models(engine, Some(see_model), data))), [("one".into(), vec![1], 1)]);
    // The guest's model is of the same bytes, and the same graph.
    let graphs = seen(&|data| ok!(gp_list_graphs(engine, Some(see_graph), data)));
    assert!(graphs.len() == 1 && graphs[0].0.len() == 64 && graphs[0].1 == [1], "{graphs:?}");
    refused!(InvalidArgument, "visit is null", gp_list_models(engine, None, null_mut()));

    let mut version = 0;
    refused!(InvalidArgument, "replace_model", gp_reload(engine, c"one".as_ptr(), &raw mut version));
    ok!(gp_replace_bytes(engine, c"one".as_ptr(), &part(&model), 1, &raw mut version));
    ok!(gp_remove(engine, c"one".as_ptr()));
    refused!(NotFound, "no model is named \"one\"", gp_remove(engine, c"one".as_ptr()));
    let endless: Vec<u8> = iter::repeat_n(b'a', 1 << 16).collect();
    refused!(InvalidArgument, "no zero in 65536 bytes", gp_remove(engine, endless.as_ptr().cast::<c_char>()));
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn a_guest_has_its_own_names_dialect_and_limits() {
    let engine = new_engine();
    let model = add_one();
    let options = onnx();
    for name in [c"tenant/a", c"b"] {
        ok!(gp_register_bytes(engine, name.as_ptr(), &part(&model), 1, &raw const options));
    }
    let limits = gp_limits { max_contexts: 1, ..default_options().guest };
    let (names, engine_names) = ([c"a".as_ptr()], [c"tenant/a".as_ptr()]);
    let label = CString::new("tenant").unwrap();
    let options = gp_guest_options {
        limits: &raw const limits,
        models: names.as_ptr(),
        engine_models: engine_names.as_ptr(),
        model_count: 1,
        label: label.as_ptr(),
        dialect: gp_dialect::WamrLegacy as u32,
        reserved: 0,
    };
    let (mut guest, mut graph, mut context) = (null_mut(), 0, 0);
    let wrong = gp_guest_options { dialect: 5, ..options };
    refused!(InvalidArgument, "5 is not a gp_dialect", gp_guest_create(engine, &raw const wrong, &raw mut guest));
    ok!(gp_guest_create(engine, &raw const options, &raw mut guest));
    for name in [c"tenant/a", c"b"] {
        let length = name.to_bytes().len();
        refused!(NotFound, "no model is named", gp_load_by_name(guest, name.as_ptr(), length, &raw mut graph));
    }
    ok!(gp_load_by_name(guest, c"a".as_ptr(), 1, &raw mut graph));
    ok!(gp_init_execution_context(guest, graph, &raw mut context));
    refused!(TooLarge, "1 of 1 contexts in use", gp_init_execution_context(guest, graph, &raw mut context));
    refused!(
        InvalidEncoding,
        "7 is not an encoding of WAMR's wasi_nn",
        gp_load(guest, null(), 0, 7, 0, &raw mut graph)
    );
    // u8 is 2 there.
    let bytes = gp_tensor { element_type: 2, ..tensor(&[8], &[0; 8]) };
    refused!(
        InvalidArgument,
        "takes fp32 [2]; the tensor is u8 [8]",
        gp_set_input(guest, context, 0, &raw const bytes)
    );
    let usage = usage(guest);
    assert_eq!((usage.graphs, usage.contexts, usage.computes), (1, 1, 0));
    let mut cancelled = 7;
    ok!(gp_cancel(guest, context, &raw mut cancelled));
    assert_eq!(cancelled, 0);
    let mut count = 7_usize;
    ok!(gp_cancel_all(guest, &raw mut count));
    assert_eq!(count, 0);
    ok!(gp_unload(guest, graph));
    refused!(InvalidArgument, "unload", gp_unload(guest, graph));
    ok!(gp_drop_context(guest, context));
    refused!(InvalidArgument, "drop_context", gp_drop_context(guest, context));
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

/// Knows a model by the path in its data; refuses "secret", and answers "broken" without a path.
unsafe extern "C" fn resolve(data: *mut c_void, name: *const c_char, model: *mut gp_resolved) -> u32 {
    // SAFETY: the data is a `CString`, the name ends with a zero, and the model may be written.
    unsafe {
        let path = (*data.cast::<CString>()).as_bytes_with_nul();
        (*model).encoding = gp_encoding::Onnx as u32;
        match CStr::from_ptr(name).to_bytes() {
            b"known" => {
                for (to, byte) in (*model).path.iter_mut().zip(path) {
                    *to = *byte as c_char;
                }
                gp_code::Ok as u32
            }
            b"broken" => gp_code::Ok as u32,
            b"secret" => gp_code::Security as u32,
            b"odd" => 77,
            _ => gp_code::NotFound as u32,
        }
    }
}

#[test]
#[cfg(not(miri))]
fn a_resolver_is_asked_for_names_that_are_not_registered() {
    let digits = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/models/digits/digits.onnx");
    let mut path = CString::new(digits).unwrap();
    let mut options = default_options();
    options.resolve = Some(resolve);
    options.resolve_data = (&raw mut path).cast();
    let (mut engine, mut graph) = (null_mut(), 0);
    ok!(gp_engine_create(&raw const options, &raw mut engine));
    let guest = new_guest(engine);
    ok!(gp_load_by_name(guest, c"known".as_ptr(), 5, &raw mut graph));
    refused!(Security, "the host's resolver refused", gp_load_by_name(guest, c"secret".as_ptr(), 6, &raw mut graph));
    refused!(RuntimeError, "the host's resolver refused", gp_load_by_name(guest, c"odd".as_ptr(), 3, &raw mut graph));
    refused!(RuntimeError, "not valid", gp_load_by_name(guest, c"broken".as_ptr(), 6, &raw mut graph));
    refused!(NotFound, "no model is named", gp_load_by_name(guest, c"known".as_ptr(), 6, &raw mut graph));
    refused!(NotFound, "no model is named", gp_load_by_name(guest, c"other".as_ptr(), 5, &raw mut graph));
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn the_version_is_the_packages() {
    // SAFETY: a text of the library's.
    let version = unsafe { CStr::from_ptr(gp_version()) };
    assert_eq!((version.to_str(), gp_abi()), (Ok(env!("CARGO_PKG_VERSION")), GP_ABI));
}
