//! A run of steps as a stream of its pieces.
//!
//! The stream keeps neither its guest nor its context alive between two steps, so that a stream that nobody polls holds
//! no more than a name: a guest or context that is closed meanwhile is an error of the next poll.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::{Arc as StdArc, Weak};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;

use crate::GuestHandle;
use crate::backend::Step;
use crate::nn::guest::check;
use crate::nn::guest::check::TensorId;
use crate::nn::guest::claimed::Claimed;
use crate::nn::guest::closing::closed;
use crate::nn::guest::compute::{Purpose, Run, Work};
use crate::nn::guest::holdings::GuestInner;
use crate::nn::guest::steps::{StepOf, StreamOwner};
use crate::nn::{Compute, Error, Guest};

const CALL: &str = "stream";

/// The pieces of an output of one run of steps, from [`Guest::stream`]: a [`Stream`](futures_core::Stream) for any
/// executor, whose [`next`](Self::next) needs no further crate.
///
/// The trait is that of `futures-core`, which is what servers and executors take (std has none that is stable), and a
/// crate without dependencies.
///
/// The run begins with the first poll, and each piece is made by a poll that finds none on its way: a stream that is
/// not polled computes nothing. The drop ends the run, and cancels a step that is on its way.
#[must_use = "a stream makes nothing until it is polled"]
pub struct Pieces {
    guest: Weak<GuestInner>,
    context: GuestHandle,
    output: usize,
    /// For each step.
    time: Option<Duration>,
    owner: StdArc<StreamOwner>,
    step: Option<Compute<Piece>>,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    New,
    Begun,
    Over,
}

/// The result of one step.
struct Piece {
    step: Step,
    data: Vec<u8>,
}

/// Streams.
impl Guest {
    /// The pieces of an output (`0` is a language model's text), as they are made from the context's inputs: the bytes
    /// of each, which may end inside of a character and may be none. After the last piece the stream ends, and the
    /// context's outputs can be read, as after [`compute`](Self::compute).
    ///
    /// An error ends the stream. [`ContextFull`](crate::nn::ErrorKind::ContextFull) and
    /// [`PromptTooLong`](crate::nn::ErrorKind::PromptTooLong) are such errors, besides those of
    /// [`compute_single`](Self::compute_single), and [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if
    /// another call has ended the stream's run.
    ///
    /// ```
    /// # use graphpool::{GuestHandle, nn::{Error, Guest}};
    /// # async fn print(guest: &Guest, context: GuestHandle) -> Result<(), Error> {
    /// let mut pieces = guest.stream(context, 0)?;
    /// while let Some(piece) = pieces.next().await {
    ///     print!("{}", String::from_utf8_lossy(&piece?));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if the guest has no such context, or the context no
    /// such output.
    pub fn stream<'a>(&self, context: GuestHandle, output: impl Into<TensorId<'a>>) -> Result<Pieces, Error> {
        self.pieces(context, output.into(), None)
    }

    /// [`stream`](Self::stream) with at most `time` for each step, as [`compute_within`](Self::compute_within).
    ///
    /// # Errors
    ///
    /// Those of [`stream`](Self::stream).
    pub fn stream_within<'a>(
        &self,
        context: GuestHandle,
        output: impl Into<TensorId<'a>>,
        time: Duration,
    ) -> Result<Pieces, Error> {
        self.pieces(context, output.into(), Some(time))
    }

    fn pieces(&self, context: GuestHandle, output: TensorId<'_>, time: Option<Duration>) -> Result<Pieces, Error> {
        let find = || {
            let found = self.inner.context(CALL, context)?;
            check::place(CALL, "output", output, found.outputs()).map(|(index, _)| index)
        };
        let output = self.inner.report(CALL, find())?;
        let (guest, owner) = (StdArc::downgrade(&self.inner), StreamOwner::new());
        Ok(Pieces { guest, context, output, time, owner, step: None, progress: Progress::New })
    }
}

impl Pieces {
    /// The next piece; `None` after the last, and after an error.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn start(&mut self) -> Result<Compute<Piece>, Error> {
        let guest = self.guest.upgrade().ok_or_else(|| closed(CALL))?;
        let of = match self.progress {
            Progress::New => StepOf::StreamBegin(StdArc::clone(&self.owner)),
            _ => StepOf::StreamNext(StdArc::clone(&self.owner)),
        };
        let purpose = Purpose { call: CALL, work: Work::Piece(of, self.output), read };
        let found = guest.context(CALL, self.context);
        let run = found.and_then(|found| Run::new(purpose, &guest, (found, self.context), self.time));
        let run = guest.report(CALL, run)?;
        self.progress = Progress::Begun;
        Ok(run.start())
    }

    /// Ends the stream, and its run if that is open.
    fn abandon(&mut self) {
        if self.progress == Progress::Begun {
            // Cancels the step, which may still succeed.
            self.step = None;
            let found = self.guest.upgrade().and_then(|guest| guest.find_context(self.context));
            if let Some(context) = found {
                Claimed::abandon(context, &self.owner);
            }
        }
        self.progress = Progress::Over;
    }
}

fn read(claimed: &mut Claimed<StdArc<super::context::Context>>, work: &Work, step: Step) -> Result<Piece, Error> {
    let data = match work {
        Work::Piece(_, output) if step == Step::More => {
            claimed.read_step(CALL, *output, |piece| Ok(piece.data().to_vec()))?
        }
        _ => Vec::new(),
    };
    Ok(Piece { step, data })
}

impl Stream for Pieces {
    type Item = Result<Vec<u8>, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.progress == Progress::Over {
            return Poll::Ready(None);
        }
        let step = match this.step.take() {
            Some(step) => Ok(step),
            None => this.start(),
        };
        let result = match step {
            Err(error) => Err(error),
            Ok(mut step) => match Pin::new(&mut step).poll(context) {
                Poll::Ready(result) => result,
                Poll::Pending => {
                    this.step = Some(step);
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(match result {
            Ok(Piece { step: Step::More, data }) => Some(Ok(data)),
            Ok(Piece { step, .. }) => {
                this.progress = Progress::Over;
                match step {
                    Step::EndOfSequence => None,
                    step => step.into_result().err().map(|error| Err(error.of(CALL))),
                }
            }
            Err(error) => {
                this.abandon();
                Some(Err(error))
            }
        })
    }
}

impl FusedStream for Pieces {
    fn is_terminated(&self) -> bool {
        self.progress == Progress::Over
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces")
            .field("context", &self.context)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
