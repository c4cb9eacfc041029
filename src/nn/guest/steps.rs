//! The run of steps of a context, and whose it is: which calls may come when.
//!
//! ```text
//!                step            a step that ends the run
//!   NONE ────────────────▶ OPEN ────────────────────────▶ OVER
//!    ▲                      │                              │
//!    └──────────────────────┴──────────────────────────────┘
//!          the end: fini_single, an input, the drop of a stream;
//!          of one that is over: the next step and the next compute, too
//! ```
//!
//! A run begins with the first step that succeeds. What a failed first step has left in the backend is ended at once.
//!
//! * R1: no compute begins while a run is open.
//! * R2: the backend learns of the end of each run once, before anything else but a read changes or uses the context.
//! * R3: a step continues a run of its own owner only: the guest's calls, or one stream. The stream of a run that
//!   another call has ended fails, rather than go on with another run.
//! * R4: a run whose stream was dropped is ended by the call that is inside the context, or else by the drop.
//!
//! Only the holder of the context's claim touches a run. A stream that is dropped marks the claim for R4.

use std::sync::Arc as StdArc;

use crate::backend::{BackendContext, Step};
use crate::nn::Error;
use crate::sync::atomic::{AtomicBool, Ordering};

/// A stream as the owner of a run, which knows whether the stream was dropped.
#[derive(Debug)]
pub(crate) struct StreamOwner {
    dropped: AtomicBool,
}

impl StreamOwner {
    pub(crate) fn new() -> StdArc<Self> {
        StdArc::new(Self { dropped: AtomicBool::new(false) })
    }

    /// Called before the claim is marked: by [`Claimed::abandon`](super::claimed::Claimed::abandon) alone.
    pub(crate) fn set_dropped(&self) {
        // Relaxed: the Release of the mark, and the Acquire of the release that finds it, order it.
        self.dropped.store(true, Ordering::Relaxed);
    }

    fn is_dropped(&self) -> bool {
        // Relaxed: as above.
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Which run a step may continue.
#[derive(Debug, Clone)]
pub(crate) enum StepOf {
    /// The run of the guest's calls, which it begins if there is none.
    Guest,
    /// The first of a stream: it begins a run.
    StreamBegin(StdArc<StreamOwner>),
    /// A later one of the stream.
    StreamNext(StdArc<StreamOwner>),
}

impl StepOf {
    fn stream(&self) -> Option<&StdArc<StreamOwner>> {
        match self {
            Self::Guest => None,
            Self::StreamBegin(stream) | Self::StreamNext(stream) => Some(stream),
        }
    }
}

/// The run of a context.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    progress: Progress,
    /// Whether the outputs of the last compute were moved out. Here, where it takes no room.
    pub(crate) taken: bool,
    /// The stream that the run belongs to; `None` for the guest's calls.
    stream: Option<StdArc<StreamOwner>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Progress {
    #[default]
    None,
    Open,
    Over,
}

impl Steps {
    /// R1.
    pub(crate) fn check_compute(&self) -> Result<(), Error> {
        if self.progress != Progress::Open {
            return Ok(());
        }
        Err(Error::invalid_argument("a run of single steps is open in the context, and fini_single ends it"))
    }

    /// R3.
    pub(crate) fn check_step(&self, of: &StepOf) -> Result<(), Error> {
        let open = self.progress == Progress::Open;
        let own = match (&self.stream, of.stream()) {
            (None, None) => true,
            (Some(own), Some(its)) => StdArc::ptr_eq(own, its),
            _ => false,
        };
        match of {
            StepOf::StreamNext(_) if !(open && own) => {
                Err(Error::invalid_argument("another call on the context has ended the run of the stream"))
            }
            StepOf::Guest if open && !own => {
                Err(Error::invalid_argument("a run of steps is open in the context, which belongs to a stream"))
            }
            StepOf::StreamBegin(_) if open && !own => self.check_compute(),
            _ => Ok(()),
        }
    }

    /// Whether there is a piece to be read.
    pub(crate) fn check_read(&self) -> Result<(), Error> {
        if self.progress != Progress::None {
            return Ok(());
        }
        Err(Error::invalid_argument("there is no piece of a single step; compute_single makes one"))
    }

    /// Makes the next step, which [`check_step`](Self::check_step) allows.
    pub(crate) fn step(
        &mut self,
        backend: &mut dyn BackendContext,
        of: &StepOf,
        step: impl FnOnce(&mut dyn BackendContext) -> Result<Step, Error>,
    ) -> Result<Step, Error> {
        if self.progress == Progress::Over {
            self.end(backend);
        }
        let result = step(backend);
        match &result {
            Ok(step) => {
                self.progress = if step.is_end() { Progress::Over } else { Progress::Open };
                self.stream = of.stream().cloned();
                self.taken = false;
            }
            // R2: for the backend the run has begun.
            Err(_) if self.progress == Progress::None => backend.end_steps(),
            Err(_) => {}
        }
        result
    }

    /// R2: ends the run, if there is one.
    pub(crate) fn end(&mut self, backend: &mut dyn BackendContext) {
        if self.progress != Progress::None {
            *self = Self { taken: self.taken, ..Self::default() };
            backend.end_steps();
        }
    }

    /// R4: whether the stream of the run was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_dropped())
    }
}
