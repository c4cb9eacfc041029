//! The boundary between C and graphpool: checked pointers, copies of memory that other threads write, and panics.
//!
//! A C library of graphpool (`graphpool-c`, `graphpool-wamr`) wraps each of its functions in [`shield`] and reads and
//! writes its caller's memory through [`Arguments`] alone, so all unsafe memory accesses of these libraries are here.
//!
//! * A1: no reference to the caller's memory is made. It is copied in before it is checked, and results are copied out,
//!   each byte once: other threads, of a guest for instance, may write it meanwhile.
//! * A2: nothing is accessed before its pointer and length are checked.
//! * A3: memory that a call writes overlaps no other argument of the call.
//! * A4: no panic leaves [`shield`].

mod arguments;
mod copy;
mod guest;
mod handles;
mod shield;

pub use arguments::{Arguments, Out, OutBytes, Plain};
pub use guest::{GivenTensor, ModelCopies, ModelCopy};
pub use handles::{Entry, Held, MOST};
pub use shield::shield;
