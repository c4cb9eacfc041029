//! An execution context of the library.

use std::sync::Arc;

use graphpool::backend::wire::Dialect;
use graphpool::backend::{Error, Tensor};

use crate::abi::{self, Bytes, Dimensions};
use crate::instance::Instance;
use crate::turn::{Held, Patience};

/// An execution context of the library.
pub(crate) struct Session {
    instance: Arc<Instance>,
    context: u32,
}

impl Session {
    pub(crate) fn open(instance: Arc<Instance>, patience: &Patience<'_>) -> Result<Self, Error> {
        let context = instance.open_context(&instance.turn(patience)?)?;
        Ok(Self { instance, context })
    }

    pub(crate) fn turn(&self, patience: &Patience<'_>) -> Result<Held<'_>, Error> {
        self.instance.turn(patience)
    }

    /// The name of the library.
    pub(crate) fn library(&self) -> &str {
        &self.instance.library().name
    }

    /// Sets an input.
    ///
    /// # Safety
    ///
    /// `tensor` must live and stay unchanged in each later [`compute`](Self::compute) of the session, until another is
    /// set at `index`: there are libraries that keep the pointers to its dimensions and data, and read them there.
    pub(crate) unsafe fn set_input(&self, index: u32, tensor: &Tensor, turn: &Held<'_>) -> Result<(), Error> {
        let ty = Dialect::Wamr.tensor_type_number(tensor.ty()).ok_or_else(|| {
            Error::invalid_argument(format!("input {index} has the type {}, which WAMR does not have", tensor.ty()))
        })?;
        let length = |length: usize| {
            u32::try_from(length).map_err(|_| {
                Error::too_large(format!("input {index} has {length} bytes; {} takes {}", self.library(), u32::MAX))
            })
        };
        // The library only reads dimensions and data, by the interface's rules.
        let mut dimensions =
            Dimensions { pointer: tensor.dimensions().as_ptr().cast_mut(), length: length(tensor.dimensions().len())? };
        let data = Bytes { pointer: tensor.data().as_ptr().cast_mut(), length: length(tensor.data().len())? };
        let mut given = abi::Tensor { dimensions: &raw mut dimensions, ty, padding: [0; 7], data };
        // SAFETY: the caller's contract; a `Tensor` keeps dimensions and data in one place when it is moved.
        unsafe { self.instance.set_input(self.context, index, &mut given, turn) }
    }

    pub(crate) fn compute(&self, turn: &Held<'_>) -> Result<(), Error> {
        self.instance.compute(self.context, turn)
    }

    /// Has the library write an output into `buffer`; returns its error number, and the size that it has written.
    pub(crate) fn get_output(&self, index: u32, buffer: &mut [u8], turn: &Held<'_>) -> (u32, u32) {
        self.instance.get_output(self.context, index, buffer, turn)
    }
}
