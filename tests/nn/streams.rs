//! Streams of pieces, their drop, and the calls that come in between.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;
use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, ErrorKind, Guest, Pieces, Step, Target};

use crate::admission::block_on;
use crate::backends::eventually;
use crate::single::{opened, read, set, speaker};
use crate::speaker::{Speaker, model};

/// The next piece as text, or the error's kind.
fn next(pieces: &mut Pieces) -> Option<Result<String, ErrorKind>> {
    let piece = block_on(pieces.next())?;
    Some(piece.map(|piece| String::from_utf8(piece).unwrap()).map_err(|error| error.kind()))
}

fn all(mut pieces: Pieces) -> Vec<Result<String, ErrorKind>> {
    std::iter::from_fn(|| next(&mut pieces)).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "what a stream gives")]
fn said(text: &str) -> Option<Result<String, ErrorKind>> {
    Some(Ok(text.to_owned()))
}

/// Polls the stream once, which has no piece then.
fn poll_pending(pieces: &mut Pieces) {
    let poll = poll_fn(|context| {
        assert!(Pin::new(&mut *pieces).poll_next(context).is_pending());
        Poll::Ready(())
    });
    block_on(poll);
}

#[test]
fn a_stream_gives_the_pieces_of_a_run_and_then_the_outputs_can_be_read() {
    let (speaker, engine, guest, context) = speaker(&["one", "two", "three"], "say one");
    for pieces in [guest.stream(context, 0), guest.stream_within(context, "text", Duration::from_mins(1))] {
        let mut pieces = pieces.unwrap();
        assert_eq!(speaker.runs(), 0, "nothing begins before the first poll");
        assert_eq!((next(&mut pieces), next(&mut pieces)), (said(" two"), said(" three")));
        assert!(!pieces.is_terminated());
        assert_eq!((next(&mut pieces), next(&mut pieces), pieces.is_terminated()), (None, None, true));
        assert_eq!((read(&guest, context, 0), read(&guest, context, 1)), (" two three".into(), "2 2".into()));
        drop(pieces);
        assert_eq!((read(&guest, context, 0), speaker.runs()), (" two three".into(), 1));
        guest.fini_single(context).unwrap();
    }
    guest.compute(context).unwrap();
    assert_eq!((speaker.runs(), engine.stats().errors), (0, 0));
    assert_eq!(guest.stream(context, 2).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_stream_ends_with_an_error_where_its_run_does() {
    let (_, _, guest, context) = speaker(&["a", "b", "a"], "a b a b a b a");
    assert_eq!(all(guest.stream(context, 0).unwrap()), [Ok(" b".into()), Err(ErrorKind::ContextFull)]);
    assert_eq!(read(&guest, context, 0), " b");
    set(&guest, context, "1 2 3 4 5 6 7 8 9").unwrap();
    assert_eq!(all(guest.stream(context, 0).unwrap()), [Err(ErrorKind::PromptTooLong)]);
    guest.clear_inputs(context).unwrap();
    assert_eq!(all(guest.stream(context, 0).unwrap()), [Err(ErrorKind::InvalidArgument)]);
    let failing = opened(&guest, &["one", "fail", "two"]);
    set(&guest, failing, "one").unwrap();
    assert_eq!(all(guest.stream(failing, 0).unwrap()), [Ok(" fail".into()), Err(ErrorKind::RuntimeError)]);
    // An error has ended the run as well.
    guest.compute(failing).unwrap_err();
    set(&guest, failing, "fail now").unwrap();
    guest.compute(failing).unwrap();
}

#[test]
fn the_drop_of_a_stream_ends_its_run_and_the_context_is_free() {
    let (speaker, _, guest, context) = speaker(&["one", "two", "three"], "one");
    drop(guest.stream(context, 0).unwrap());
    let mut pieces = guest.stream(context, 0).unwrap();
    assert_eq!((next(&mut pieces), speaker.runs()), (said(" two"), 1));
    drop(pieces);
    assert_eq!(speaker.runs(), 0);
    guest.compute(context).unwrap();
    assert_eq!(guest.compute_single(context), Ok(Step::More));
    // A stream that was never polled ends nobody's run.
    drop(guest.stream(context, 0).unwrap());
    assert_eq!(speaker.runs(), 1);
    // Neither does one that could not begin.
    assert_eq!(all(guest.stream(context, 0).unwrap()), [Err(ErrorKind::InvalidArgument)]);
    assert_eq!((speaker.runs(), guest.compute_single(context)), (1, Ok(Step::More)));
}

#[test]
fn the_drop_of_a_stream_cancels_its_step_and_ends_its_run_when_that_has_ended() {
    let (speaker, engine, guest, context) = speaker(&["one", "hold", "two"], "one");
    let mut pieces = guest.stream(context, 0).unwrap();
    assert_eq!(next(&mut pieces), said(" hold"));
    poll_pending(&mut pieces);
    speaker.wait_for(1);
    assert_eq!(guest.fini_single(context).unwrap_err().kind(), ErrorKind::Busy);
    drop(pieces);
    // Without any further call on the context.
    eventually(|| speaker.runs() == 0);
    eventually(|| engine.stats().cancelled == 1);
    // As long as a call is inside, another meets busy.
    eventually(|| set(&guest, context, "one").is_ok());
    speaker.open();
    assert_eq!(all(guest.stream(context, 0).unwrap()), [Ok(" hold".into()), Ok(" two".into())]);
}

#[test]
fn a_stream_whose_run_another_call_has_ended_fails_and_leaves_the_next_run_alone() {
    let (speaker, _, guest, context) = speaker(&["one", "two", "three"], "one");
    let begin = || {
        let mut pieces = guest.stream(context, 0).unwrap();
        assert_eq!(next(&mut pieces), said(" two"));
        pieces
    };
    // R3: the guest's own step does not take a piece of the stream's.
    let mut pieces = begin();
    let refused = guest.compute_single(context).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.message()),
        (
            ErrorKind::InvalidArgument,
            "compute_single: a run of steps is open in the context, which belongs to a stream"
        )
    );
    assert_eq!(all(guest.stream(context, 0).unwrap()), [Err(ErrorKind::InvalidArgument)]);
    assert_eq!(next(&mut pieces), said(" three"));
    guest.fini_single(context).unwrap();
    assert_eq!(guest.compute_single(context), Ok(Step::More));
    let lost = block_on(pieces.next()).unwrap().unwrap_err();
    assert_eq!(lost.message(), "stream: another call on the context has ended the run of the stream");
    assert_eq!((next(&mut pieces), speaker.runs()), (None, 1));
    drop(pieces);
    assert_eq!(guest.compute_single(context), Ok(Step::More));
    guest.fini_single(context).unwrap();
    // The same by an input, and by another stream, which the drop of the first leaves alone.
    let first = begin();
    set(&guest, context, "one").unwrap();
    let mut second = begin();
    drop(first);
    assert_eq!((speaker.runs(), next(&mut second), next(&mut second)), (1, said(" three"), None));
}

#[test]
fn a_stream_keeps_neither_its_guest_nor_its_context() {
    let (speaker, engine, guest, context) = speaker(&["one", "two", "three"], "one");
    let mut pieces = guest.stream(context, 0).unwrap();
    assert_eq!(next(&mut pieces), said(" two"));
    guest.drop_context(context).unwrap();
    assert_eq!((speaker.runs(), engine.stats().contexts), (0, 0));
    let gone = block_on(pieces.next()).unwrap().unwrap_err();
    assert!(gone.message().starts_with("stream: the guest has no context"), "{gone}");
    let context = opened(&guest, &["one", "two", "three"]);
    set(&guest, context, "one").unwrap();
    let mut pieces = guest.stream(context, 0).unwrap();
    assert_eq!(next(&mut pieces), said(" two"));
    drop(guest);
    assert_eq!((speaker.runs(), engine.stats().contexts, engine.stats().guests), (0, 0, 0));
    assert_eq!(block_on(pieces.next()).unwrap().unwrap_err().message(), "stream: the guest is closed");
    assert_eq!(next(&mut pieces), None);
}

#[test]
fn streams_of_many_contexts_are_read_at_once_and_dropped_at_any_moment() {
    let speaker = Speaker::default();
    let engine = Engine::new(speaker.clone());
    let whole = |guest: &Guest, context: GuestHandle| {
        let pieces: Vec<_> = all(guest.stream(context, 0).unwrap()).into_iter().map(Result::unwrap).collect();
        pieces.concat()
    };
    thread::scope(|scope| {
        for number in 0..4_usize {
            let engine = &engine;
            scope.spawn(move || {
                let guest = engine.guest();
                let graph = guest.load(&[&model(64, &["a", "b", "c", "d", "e"])], Encoding::Ggml, Target::Cpu).unwrap();
                let context = guest.init_execution_context(graph).unwrap();
                set(&guest, context, "a").unwrap();
                for turn in 0..200 {
                    let mut pieces = guest.stream(context, 0).unwrap();
                    for _ in 0..(turn + number) % 4 {
                        assert!(next(&mut pieces).unwrap().is_ok());
                    }
                    {
                        // A step on its way, which may be done at the drop.
                        let mut step = pin!(pieces.next());
                        let poll = poll_fn(|context| Poll::Ready(step.as_mut().poll(context).is_ready()));
                        block_on(poll);
                    }
                    drop(pieces);
                    eventually(|| set(&guest, context, "a").is_ok());
                    assert_eq!(whole(&guest, context), " b c d e");
                }
            });
        }
    });
    assert_eq!((speaker.runs(), engine.stats().contexts, engine.stats().panics), (0, 0, 0));
}
