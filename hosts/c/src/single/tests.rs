//! Single steps as C makes them, with a small language model.

#[path = "../../tests/common/calls.rs"]
#[macro_use]
mod calls;
#[path = "../../../../tests/nn/speaker.rs"]
mod speaker;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::mpsc::{Sender, channel};

use calls::told;
use graphpool::nn::Engine;
use speaker::{Speaker, model};

use crate::engine::engine_for_tests;
use crate::*;

const GGML: u32 = gp_encoding::Ggml as u32;

/// A prompt, with the dimensions {1} that older programs give.
fn prompt(text: &str) -> gp_tensor {
    const ONE: &u32 = &1;
    let element_type = gp_type::U8 as u32;
    gp_tensor { dimensions: ONE, rank: 1, data: text.as_ptr().cast(), length: text.len(), element_type, reserved: 0 }
}

/// A guest with a context of the chain, whose prompt is set.
fn opened(speaker: &Speaker, chain: &[&str], text: &str) -> (*mut gp_engine, *mut gp_guest, u32) {
    let engine = engine_for_tests(Engine::new(speaker.clone()));
    let (mut guest, mut graph, mut context) = (null_mut(), 0, 0);
    ok!(gp_guest_create(engine, null(), &raw mut guest));
    let model = model(6, chain);
    let part = gp_bytes { data: model.as_ptr().cast(), length: model.len() };
    ok!(gp_load(guest, &raw const part, 1, GGML, 0, &raw mut graph));
    ok!(gp_init_execution_context(guest, graph, &raw mut context));
    ok!(gp_set_input(guest, context, 0, &prompt(text)));
    (engine, guest, context)
}

type GetOutput =
    unsafe extern "C" fn(*mut gp_guest, u32, u32, *mut c_void, usize, *mut usize, *mut gp_error) -> gp_code;

fn text(get: GetOutput, guest: *mut gp_guest, context: u32, index: u32) -> String {
    let (mut buffer, mut length) = ([0_u8; 64], usize::MAX);
    // SAFETY: valid arguments.
    let (code, message) =
        told(|error| unsafe { get(guest, context, index, buffer.as_mut_ptr().cast(), 64, &raw mut length, error) });
    assert_eq!((code, message), (gp_code::Ok, String::new()));
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// A step whose code is the subject. A second call would make another.
fn step(guest: *mut gp_guest, context: u32) -> (gp_code, String) {
    // SAFETY: valid arguments.
    told(|error| unsafe { gp_compute_single(guest, context, 60_000, error) })
}

#[test]
fn a_text_comes_in_pieces_and_its_end_is_a_code() {
    let speaker = Speaker::default();
    let (engine, guest, context) = opened(&speaker, &["one", "two", "three"], "say one");
    assert_eq!(text(gp_get_output, guest, context, 1), "2 0");
    for _ in 0..2 {
        for piece in [" two", " three"] {
            ok!(gp_compute_single(guest, context, GP_NO_LIMIT));
            assert_eq!(text(gp_get_output_single, guest, context, 0), piece);
        }
        let end = "compute_single: the sequence is complete";
        assert_eq!(step(guest, context), (gp_code::EndOfSequence, end.to_owned()));
        assert_eq!(text(gp_get_output_single, guest, context, 0), "");
        assert_eq!(text(gp_get_output, guest, context, 0), " two three");
        assert_eq!(text(gp_get_output, guest, context, 1), "2 2");
    }
    ok!(gp_fini_single(guest, context));
    ok!(gp_fini_single(guest, context));
    assert_eq!(speaker.runs(), 0);
    ok!(gp_compute(guest, context));
    assert_eq!(text(gp_get_output, guest, context, 0), " two three");
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn a_full_context_and_a_long_prompt_have_codes_of_their_own() {
    let speaker = Speaker::default();
    let (engine, guest, context) = opened(&speaker, &["a", "b", "a"], "a b a b a");
    ok!(gp_compute_single(guest, context, GP_NO_LIMIT));
    let full = "compute_single: the context has no room for more";
    assert_eq!(step(guest, context), (gp_code::ContextFull, full.to_owned()));
    ok!(gp_fini_single(guest, context));
    refused!(ContextFull, "compute: the context has no room", gp_compute(guest, context));
    assert_eq!(text(gp_get_output, guest, context, 0), " b");
    ok!(gp_set_input(guest, context, 0, &prompt("1 2 3 4 5 6 7")));
    refused!(PromptTooLong, "the prompt does not fit", gp_compute_single(guest, context, GP_NO_LIMIT));
    refused!(PromptTooLong, "the prompt does not fit", gp_compute(guest, context));
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

#[test]
fn wrong_arguments_and_orders_are_refused() {
    let speaker = Speaker::default();
    let (engine, guest, context) = opened(&speaker, &["one", "two", "three"], "one");
    let (mut buffer, mut length) = ([0xEE_u8; 8], 7);
    let out = buffer.as_mut_ptr().cast::<c_void>();
    let place = &raw mut length;
    refused!(InvalidArgument, "no piece of a single step", gp_get_output_single(guest, context, 0, out, 8, place));
    for wrong in [0, u32::MAX, context ^ 1, context + (1 << 20)] {
        refused!(InvalidArgument, "the guest has no context", gp_compute_single(guest, wrong, GP_NO_LIMIT));
        refused!(InvalidArgument, "the guest has no context", gp_get_output_single(guest, wrong, 0, out, 8, place));
        refused!(InvalidArgument, "the guest has no context", gp_fini_single(guest, wrong));
    }
    refused!(Closed, "the guest was closed or never created", gp_compute_single(null_mut(), context, 1));
    refused!(Closed, "the guest was closed or never created", gp_fini_single(null_mut(), context));
    refused!(Timeout, "exceeded the time limit", gp_compute_single(guest, context, 0));
    ok!(gp_compute_single(guest, context, GP_NO_LIMIT));
    refused!(InvalidArgument, "fini_single ends it", gp_compute(guest, context));
    refused!(InvalidArgument, "there is no output 2", gp_get_output_single(guest, context, 2, out, 8, place));
    refused!(InvalidArgument, "buffer is null", gp_get_output_single(guest, context, 0, null_mut(), 8, place));
    refused!(InvalidArgument, "length is null", gp_get_output_single(guest, context, 0, out, 8, null_mut()));
    refused!(InvalidArgument, "larger than the", gp_get_output_single(guest, context, 0, out, usize::MAX, place));
    refused!(TooLarge, "the output has 4 bytes", gp_get_output_single(guest, context, 0, out, 3, place));
    assert_eq!((buffer, length), ([0xEE; 8], 4));
    // An inference with a prompt of dimensions {1}, after the run.
    ok!(gp_fini_single(guest, context));
    let input = gp_input { tensor: prompt("say two"), index: 0, reserved: 0 };
    let mut counts = [0_u8; 8];
    let (buffers, capacities, mut lengths) = ([out, counts.as_mut_ptr().cast()], [8, 8], [0; 2]);
    let (buffers, capacities, lengths_out) = (buffers.as_ptr(), capacities.as_ptr(), lengths.as_mut_ptr());
    ok!(gp_infer(guest, context, &raw const input, 1, GP_NO_LIMIT, buffers, capacities, lengths_out, 2));
    assert_eq!((&buffer[..lengths[0]], &counts[..lengths[1]]), (&b" three"[..], &b"2 1"[..]));
    ok!(gp_guest_close(guest));
    ok!(gp_engine_close(engine));
}

unsafe extern "C" fn done(data: *mut c_void) {
    // SAFETY: the test's sender, which lives until then.
    let sender = unsafe { &*data.cast::<Sender<()>>() };
    let _ = sender.send(());
}

#[test]
fn a_step_in_the_background_gives_its_code_and_is_cancelled_by_the_close_of_its_job() {
    let speaker = Speaker::default();
    let (engine, guest, context) = opened(&speaker, &["one", "hold", "two"], "one");
    let (sender, receiver) = channel::<()>();
    let data = (&raw const sender).cast_mut().cast::<c_void>();
    let mut job = 0;
    ok!(gp_compute_single_start(guest, context, GP_NO_LIMIT, Some(done), data, &raw mut job));
    receiver.recv().unwrap();
    ok!(gp_job_wait(job, GP_NO_LIMIT));
    let mut graph = 0;
    refused!(InvalidArgument, "the job is of another call", gp_job_graph(job, &raw mut graph));
    ok!(gp_job_close(job));
    assert_eq!(text(gp_get_output_single, guest, context, 0), " hold");
    ok!(gp_compute_single_start(guest, context, GP_NO_LIMIT, Some(done), data, &raw mut job));
    speaker.wait_for(1);
    refused!(NotDone, "not done", gp_job_wait(job, 1));
    refused!(Busy, "another call uses the context", gp_fini_single(guest, context));
    ok!(gp_job_close(job));
    receiver.recv().unwrap();
    speaker.open();
    // The run goes on where it was.
    ok!(gp_compute_single_start(guest, context, GP_NO_LIMIT, None, null_mut(), &raw mut job));
    ok!(gp_job_wait(job, GP_NO_LIMIT));
    ok!(gp_job_close(job));
    assert_eq!(text(gp_get_output, guest, context, 0), " hold two");
    ok!(gp_compute_single_start(guest, context, GP_NO_LIMIT, None, null_mut(), &raw mut job));
    refused!(EndOfSequence, "compute_single: the sequence is complete", gp_job_wait(job, GP_NO_LIMIT));
    ok!(gp_job_close(job));
    assert_eq!(speaker.runs(), 1);
    ok!(gp_guest_close(guest));
    assert_eq!(speaker.runs(), 0);
    ok!(gp_engine_close(engine));
}
