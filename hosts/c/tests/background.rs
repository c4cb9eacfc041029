//! Calls in the background, and what a host asks beside wasi-nn's calls.

#[macro_use]
#[path = "common/calls.rs"]
mod calls;

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::{null, null_mut, without_provenance_mut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use calls::*;
use graphpool_c::*;

static DONE: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn done(data: *mut c_void) {
    DONE.fetch_add(data.addr(), Ordering::SeqCst);
}

#[test]
fn a_job_is_waited_for_called_back_and_closed_once() {
    let engine = new_engine();
    let (guest, context) = opened(engine);
    let (data, mut job) = (floats([1.0, 2.0]), 0_u64);
    ok!(gp_set_input(guest, context, 0, &tensor(&[2], &data)));
    ok!(gp_compute_start(guest, context, 1000, Some(done), without_provenance_mut(1), &raw mut job));
    ok!(gp_job_wait(job, GP_NO_LIMIT));
    ok!(gp_job_wait(job, 0));
    while DONE.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    ok!(gp_job_close(job));
    refused!(Closed, "job", gp_job_wait(job, 0));
    refused!(Closed, "job", gp_job_close(job));
    assert_eq!(DONE.load(Ordering::SeqCst), 1);

    // Refused at once, without a job.
    refused!(InvalidArgument, "compute: ", gp_compute_start(guest, 7, 1000, None, null_mut(), &raw mut job));
    ok!(gp_clear_inputs(guest, context));
    // Refused by the backend: by the call, or by the wait.
    // SAFETY: valid arguments.
    let (code, _) =
        told(|error| unsafe { gp_compute_start(guest, context, 1000, None, null_mut(), &raw mut job, error) });
    if code == gp_code::Ok {
        refused!(InvalidArgument, "compute: ", gp_job_wait(job, GP_NO_LIMIT));
        ok!(gp_job_close(job));
    }
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn a_load_in_the_background_gives_its_graph() {
    let engine = new_engine();
    let (guest, model) = (new_guest(engine), add_one());
    let (mut job, mut graph, mut context) = (0, 0, 0);
    ok!(gp_register_bytes(engine, c"one".as_ptr(), &part(&model), 1, &onnx()));
    ok!(gp_load_start(guest, &part(&model), 1, 1, 0, None, null_mut(), &raw mut job));
    ok!(gp_job_wait(job, GP_NO_LIMIT));
    ok!(gp_job_graph(job, &raw mut graph));
    let first = graph;
    ok!(gp_job_graph(job, &raw mut graph));
    assert_eq!(graph, first, "asked again");
    ok!(gp_job_close(job));
    ok!(gp_init_execution_context(guest, graph, &raw mut context));
    // A graph that nobody has asked for goes with its job.
    let (name, config) = (c"one".as_ptr(), c"{}".as_ptr());
    ok!(gp_load_by_name_start(guest, name, 3, null(), 0, None, null_mut(), &raw mut job));
    ok!(gp_job_wait(job, GP_NO_LIMIT));
    assert_eq!(usage(guest).graphs, 2);
    let mut length = 0;
    refused!(InvalidArgument, "of another call", gp_job_output(job, 0, null_mut(), 0, &raw mut length));
    ok!(gp_job_close(job));
    assert_eq!(usage(guest).graphs, 1);

    let start = |name: &CStr, config: *const c_char, job| {
        let (length, config_length) = (name.to_bytes().len(), if config.is_null() { 0 } else { 2 });
        told(|error| unsafe {
            // SAFETY: texts of these lengths.
            gp_load_by_name_start(guest, name.as_ptr(), length, config, config_length, None, null_mut(), job, error)
        })
    };
    // What is refused at once has no job; else the job has the error.
    for (name, config, code, words) in [
        (c"other", null(), gp_code::NotFound, "no model is named \"other\""),
        (c"one", config, gp_code::Security, "load_by_name_with_config: the host does not let guests configure"),
    ] {
        let (is, message) = match start(name, config, &raw mut job) {
            (gp_code::Ok, _) => {
                // SAFETY: a job.
                let result = told(|error| unsafe { gp_job_wait(job, GP_NO_LIMIT, error) });
                // SAFETY: as above.
                assert_eq!(told(|error| unsafe { gp_job_graph(job, &raw mut graph, error) }), result);
                ok!(gp_job_close(job));
                result
            }
            refused => refused,
        };
        assert!(is == code && message.contains(words), "{is:?}: {message}");
    }
    refused!(InvalidArgument, "parts is null", gp_load_start(guest, null(), 1, 1, 0, None, null_mut(), &raw mut job));
    refused!(
        InvalidArgument,
        "job is null",
        gp_load_start(guest, &part(&model), 1, 1, 0, None, null_mut(), null_mut())
    );
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn a_load_that_is_not_done_is_busy_and_ends_with_its_guest() {
    // The resolver waits for this lock.
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    unsafe extern "C" fn resolve(_: *mut c_void, _: *const c_char, _: *mut gp_resolved) -> u32 {
        drop(LOCK.lock());
        gp_code::NotFound as u32
    }
    static FREED: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn freed(data: *mut c_void) {
        FREED.fetch_add(data.addr(), Ordering::SeqCst);
    }
    let mut options = default_options();
    options.guest.max_loads = 1;
    options.resolve = Some(resolve);
    options.resolve_data = without_provenance_mut(5);
    options.resolve_free = Some(freed);
    let (mut engine, mut job, mut second, mut graph) = (null_mut(), 0, 0, 0);
    ok!(gp_engine_create(&raw const options, &raw mut engine));
    let guest = new_guest(engine);
    let held = LOCK.lock().unwrap();
    let name = c"slow".as_ptr();
    ok!(gp_load_by_name_start(guest, name, 4, null(), 0, None, null_mut(), &raw mut job));
    refused!(NotDone, "job_wait: the job is not done", gp_job_wait(job, 1));
    refused!(NotDone, "job_graph: the job is not done", gp_job_graph(job, &raw mut graph));
    refused!(Busy, "1 of 1", gp_load_by_name_start(guest, name, 4, null(), 0, None, null_mut(), &raw mut second));
    ok!(gp_guest_close(guest));
    refused!(RuntimeError, "load_by_name: ", gp_job_wait(job, GP_NO_LIMIT));
    refused!(RuntimeError, "load_by_name: ", gp_job_graph(job, &raw mut graph));
    ok!(gp_job_close(job));
    ok!(gp_engine_close(engine));
    // The resolver is still inside, with its data.
    assert_eq!(FREED.load(Ordering::SeqCst), 0);
    drop(held);
    until("the resolver's data is freed", || FREED.load(Ordering::SeqCst) == 5);
}

/// The number in the job's place when it is done.
static NUMBER: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn frees_its_place(data: *mut c_void) {
    // SAFETY: the place of the job's number, which this call owns now.
    let number = unsafe { Box::from_raw(data.cast::<u64>()) };
    NUMBER.store(*number, Ordering::SeqCst);
}

#[test]
fn a_job_that_is_done_knows_its_number_and_owns_its_place() {
    for inline_compute_us in [0, 1_000_000] {
        let options = gp_engine_options { inline_compute_us, ..default_options() };
        let mut engine = null_mut();
        ok!(gp_engine_create(&raw const options, &raw mut engine));
        let (guest, context) = opened(engine);
        let data = floats([1.0, 2.0]);
        ok!(gp_set_input(guest, context, 0, &tensor(&[2], &data)));
        for _ in 0..20 {
            NUMBER.store(0, Ordering::SeqCst);
            let place = Box::into_raw(Box::new(0_u64));
            ok!(gp_compute_start(guest, context, 1000, Some(frees_its_place), place.cast(), place));
            until("the job is done", || NUMBER.load(Ordering::SeqCst) != 0);
            ok!(gp_job_wait(NUMBER.load(Ordering::SeqCst), 0));
            ok!(gp_job_close(NUMBER.load(Ordering::SeqCst)));
        }
        ok!(gp_guest_close(guest));
        ok!(gp_engine_close(engine));
    }
}

#[test]
fn an_inference_in_the_background_keeps_its_outputs_until_it_is_closed() {
    let engine = new_engine();
    let (guest, context) = opened(engine);
    let data = floats([1.0, 2.0]);
    let input = gp_input { tensor: tensor(&[2], &data), index: 0, reserved: 0 };
    let (mut job, mut buffer, mut length) = (0, [0xEE_u8; 8], 0);
    let out = buffer.as_mut_ptr().cast::<c_void>();
    ok!(gp_infer_start(guest, context, &raw const input, 1, 1000, None, null_mut(), &raw mut job));
    ok!(gp_job_wait(job, GP_NO_LIMIT));
    let before = usage(guest).context_bytes;
    refused!(TooLarge, "the output has 8 bytes; the buffer has 7", gp_job_output(job, 0, out, 7, &raw mut length));
    assert_eq!((buffer, length), ([0xEE; 8], 8));
    refused!(InvalidArgument, "no output 1; the graph has 1", gp_job_output(job, 1, out, 8, &raw mut length));
    refused!(InvalidArgument, "length is null", gp_job_output(job, 0, out, 8, null_mut()));
    let mut graph = 0;
    refused!(InvalidArgument, "of another call", gp_job_graph(job, &raw mut graph));
    // The context takes the next inference meanwhile.
    let other = floats([5.0, 6.0]);
    ok!(gp_set_input(guest, context, 0, &tensor(&[2], &other)));
    ok!(gp_compute(guest, context));
    let with_outputs = usage(guest).context_bytes;
    ok!(gp_job_output(job, 0, out, 8, &raw mut length));
    assert_eq!(buffer, floats([2.0, 3.0]));
    ok!(gp_job_close(job));
    refused!(Closed, "job", gp_job_output(job, 0, out, 8, &raw mut length));
    assert!(before >= 8 && usage(guest).context_bytes == with_outputs - 8);

    let two = [input, input];
    let twice = two.as_ptr();
    refused!(
        InvalidArgument,
        "graph has 1",
        gp_infer_start(guest, context, twice, 2, 9, None, null_mut(), &raw mut job)
    );
    // SAFETY: valid arguments. Refused by the call, or by the job.
    let started =
        told(|error| unsafe { gp_infer_start(guest, context, null(), 0, 1000, None, null_mut(), &raw mut job, error) });
    if started.0 == gp_code::Ok {
        refused!(InvalidArgument, "infer: ", gp_job_wait(job, GP_NO_LIMIT));
        refused!(InvalidArgument, "infer: ", gp_job_output(job, 0, out, 8, &raw mut length));
        ok!(gp_job_close(job));
    }
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn computes_may_run_inside_of_the_call_that_starts_them() {
    let options = gp_engine_options { inline_compute_us: 1_000_000, ..default_options() };
    let mut engine = null_mut();
    ok!(gp_engine_create(&raw const options, &raw mut engine));
    let (guest, context) = opened(engine);
    let data = floats([1.0, 2.0]);
    ok!(gp_set_input(guest, context, 0, &tensor(&[2], &data)));
    for _ in 0..3 {
        let mut job = 0;
        ok!(gp_compute_start(guest, context, 1000, None, null_mut(), &raw mut job));
        // Done, or on a thread because the first ones have not been timed.
        ok!(gp_job_wait(job, GP_NO_LIMIT));
        ok!(gp_job_close(job));
    }
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn a_reservation_counts_until_it_is_closed() {
    let mut options = default_options();
    options.guest.max_context_bytes = 100;
    let (mut engine, mut reservation, mut second) = (null_mut(), 0, 0);
    ok!(gp_engine_create(&raw const options, &raw mut engine));
    let guest = new_guest(engine);
    let mut limits = options.guest;
    ok!(gp_guest_limits(guest, &raw mut limits));
    assert_eq!((limits.max_context_bytes, limits.max_loads), (100, options.guest.max_loads));
    ok!(gp_reserve(guest, 60, &raw mut reservation));
    assert_eq!((usage(guest).context_bytes, stats(engine).host_bytes), (60, 60));
    refused!(TooLarge, "reserve: ", gp_reserve(guest, 41, &raw mut second));
    ok!(gp_reservation_resize(reservation, 100));
    refused!(TooLarge, "reserve: ", gp_reservation_resize(reservation, 101));
    assert_eq!(usage(guest).context_bytes, 100);
    // Also after its guest.
    ok!(gp_guest_close(guest));
    refused!(Closed, "guest", gp_reserve(guest, 1, &raw mut second));
    ok!(gp_reservation_close(reservation));
    assert_eq!(stats(engine).host_bytes, 0);
    refused!(Closed, "reservation was closed", gp_reservation_close(reservation));
    refused!(Closed, "reservation", gp_reservation_resize(reservation, 0));
    ok!(gp_engine_close(engine));
}

#[test]
fn a_refusal_of_the_host_counts_as_the_guests() {
    let engine = new_engine();
    let guest = new_guest(engine);
    let message = c"the pointer is outside of the memory".as_ptr();
    ok!(gp_refuse(guest, gp_code::MissingMemory as u32, message));
    ok!(gp_refuse(guest, gp_code::TooLarge as u32, message));
    assert_eq!((stats(engine).errors, stats(engine).limited), (2, 1));
    for code in [0, 12, 13, 14, 99, u32::MAX] {
        refused!(InvalidArgument, "is not the gp_code of a refused call", gp_refuse(guest, code, message));
    }
    let mut supported = 7;
    ok!(gp_supports(guest, gp_encoding::Onnx as u32, gp_target::Cpu as u32, &raw mut supported));
    assert_eq!(supported, 1);
    ok!(gp_supports(guest, gp_encoding::Pytorch as u32, gp_target::Cpu as u32, &raw mut supported));
    assert_eq!(supported, 0);
    refused!(InvalidEncoding, "9 is not an encoding", gp_supports(guest, 9, 0, &raw mut supported));
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

unsafe extern "C" fn see(data: *mut c_void, name: *const c_char) {
    // SAFETY: the data is the list, and the name a text.
    unsafe { (*data.cast::<Vec<String>>()).push(CStr::from_ptr(name).to_str().unwrap().to_owned()) }
}

fn backends(engine: *mut gp_engine) -> Vec<String> {
    let mut seen = Vec::new();
    ok!(gp_list_backends(engine, Some(see), (&raw mut seen).cast()));
    seen
}

fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_plug_in_is_a_backend_like_any_other() {
    // Cargo puts the library of a dev-dependency beside the tests.
    let library = c_path(&std::env::current_exe().unwrap().with_file_name("libwasi_nn_onnx.so"));
    let digits = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/models/digits/digits.onnx")).unwrap();
    let encodings = [gp_encoding::Tensorflow as u32, gp_encoding::Onnx as u32];
    // SAFETY: integers and pointers, for which zero is valid.
    let none: gp_plugin_options = unsafe { std::mem::zeroed() };
    let options = gp_plugin_options { encodings: encodings.as_ptr(), encoding_count: 2, max_outputs: 3, ..none };
    let engine = new_engine();
    refused!(InvalidArgument, "encoding_count is 0", gp_register_plugin(engine, library.as_ptr(), &raw const none));
    let long = gp_plugin_options { encoding_count: usize::MAX, ..options };
    refused!(InvalidArgument, "the limit is 64", gp_register_plugin(engine, library.as_ptr(), &raw const long));
    let wrong = gp_plugin_options { targets: [7].as_ptr(), target_count: 1, ..options };
    let no_target = gp_plugin_options { target_count: 0, ..wrong };
    refused!(InvalidArgument, "target_count is 0", gp_register_plugin(engine, library.as_ptr(), &raw const no_target));
    refused!(InvalidArgument, "7 is not a target", gp_register_plugin(engine, library.as_ptr(), &raw const wrong));
    refused!(RuntimeError, "libno.so", gp_register_plugin(engine, c"/libno.so".as_ptr(), &raw const options));
    refused!(NotFound, "no backend named", gp_replace_plugin(engine, library.as_ptr(), &raw const options));
    ok!(gp_register_plugin(engine, library.as_ptr(), &raw const options));
    refused!(InvalidArgument, "has a backend named", gp_register_plugin(engine, library.as_ptr(), &raw const options));
    let names = backends(engine);
    assert!(names.len() == 2 && names[1] == "wasi_nn_onnx", "{names:?}");
    ok!(gp_remove_backend(engine, CString::new(&*names[0]).unwrap().as_ptr()));

    let (guest, mut graph, mut context) = (new_guest(engine), 0, 0);
    ok!(gp_load(guest, &part(&digits), 1, gp_encoding::Onnx as u32, 0, &raw mut graph));
    ok!(gp_init_execution_context(guest, graph, &raw mut context));
    let serial = gp_plugin_options { one_call_at_a_time: 1, contexts_per_load: 2, max_wait_ms: 9, ..options };
    ok!(gp_replace_plugin(engine, library.as_ptr(), &raw const serial));
    // The context stays on the backend of its graph.
    let image = [0_u8; 256];
    ok!(gp_set_input(guest, context, 0, &tensor(&[1, 1, 8, 8], &image)));
    ok!(gp_compute(guest, context));
    let (mut buffer, mut length) = ([0_u8; 40], 0);
    ok!(gp_get_output(guest, context, 0, buffer.as_mut_ptr().cast(), 40, &raw mut length));
    assert_eq!(length, 40);
    // The plug-in does not tell how many outputs a model has.
    let input = gp_input { tensor: tensor(&[1, 1, 8, 8], &image), index: 0, reserved: 0 };
    let buffers = [buffer.as_mut_ptr().cast::<c_void>(), null_mut(), null_mut()];
    let (capacities, mut lengths) = ([40, 0, 0], [7_usize; 3]);
    ok!(gp_infer(
        guest,
        context,
        &raw const input,
        1,
        GP_NO_LIMIT,
        buffers.as_ptr(),
        capacities.as_ptr(),
        lengths.as_mut_ptr(),
        3
    ));
    assert_eq!(lengths, [40, GP_NO_OUTPUT, GP_NO_OUTPUT]);
    // A name of the library's own registry, which has none.
    ok!(gp_register_of_backend(engine, c"own".as_ptr(), c"digits".as_ptr(), &onnx()));
    refused!(NotFound, "", gp_load_by_name(guest, c"own".as_ptr(), 3, &raw mut graph));
    ok!(gp_remove_backend(engine, c"wasi_nn_onnx".as_ptr()));
    refused!(NotFound, "no backend named", gp_remove_backend(engine, c"wasi_nn_onnx".as_ptr()));
    assert!(backends(engine).is_empty());
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

/// Waits until the condition holds.
fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[cfg(not(miri))]
fn a_watched_directory_has_its_models_registered_and_reloaded() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("watched-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let place = |file: &str, bytes: &[u8]| {
        fs::write(directory.join("new"), bytes).unwrap();
        fs::rename(directory.join("new"), directory.join(file)).unwrap();
    };
    let model = add_one();
    place("one.onnx", &model);
    let (engine, mut watch) = (new_engine(), 0);
    refused!(InvalidArgument, "3 is not a target", gp_watch_directory(engine, c"/".as_ptr(), 3, &raw mut watch));
    refused!(
        RuntimeError,
        "/no/such cannot be read",
        gp_watch_directory(engine, c"/no/such".as_ptr(), 0, &raw mut watch)
    );
    ok!(gp_watch_directory(engine, c_path(&directory).as_ptr(), 0, &raw mut watch));
    let guest = new_guest(engine);
    let load = |name: &str| {
        let mut graph = 0;
        // SAFETY: a text of this length.
        told(|error| unsafe { gp_load_by_name(guest, name.as_ptr().cast(), name.len(), &raw mut graph, error) }).0
    };
    assert_eq!(load("one"), gp_code::Ok);
    place("two.onnx", &model);
    until("the new file is registered", || load("two") == gp_code::Ok);
    let reloads = stats(engine).reloads;
    place("one.onnx", &[&model[..], &[0x12, 1, b'p']].concat());
    until("the replaced file is reloaded", || stats(engine).reloads > reloads);
    ok!(gp_watch_close(watch));
    refused!(Closed, "watch was closed", gp_watch_close(watch));
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
    fs::remove_dir_all(&directory).unwrap();
}
