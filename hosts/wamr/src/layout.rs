//! The structures of WAMR's interface for backend libraries, as its `wasi_nn_types.h` has them on 64-bit systems.

use std::mem::offset_of;

use graphpool_ffi::Plain;

/// A pointer and a length: `graph_builder` and `tensor_data` with a length in bytes, `tensor_dimensions` and
/// `graph_builder_array` with a length in elements.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Pair<T> {
    /// The first element.
    pub buf: *mut T,
    /// The number of elements.
    pub size: u32,
}

/// `tensor`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Tensor {
    /// The sizes.
    pub dimensions: *const Pair<u32>,
    /// The element type.
    pub ty: u8,
    /// Of any content.
    pub padding: [u8; 3],
    /// The elements.
    pub data: Pair<u8>,
}

// SAFETY: an integer and a pointer.
unsafe impl<T: Copy> Plain for Pair<T> {}
// SAFETY: integers and pointers.
unsafe impl Plain for Tensor {}

impl<T> Pair<T> {
    pub(crate) fn parts(&self) -> (*const T, usize) {
        (self.buf.cast_const(), self.size as usize)
    }
}

const _: () = {
    assert!(size_of::<Pair<u8>>() == 16 && align_of::<Pair<u8>>() == 8);
    assert!(offset_of!(Pair<u8>, buf) == 0 && offset_of!(Pair<u8>, size) == 8);
    assert!(size_of::<Pair<Pair<u8>>>() == 16 && size_of::<Pair<u32>>() == 16);
    assert!(size_of::<Tensor>() == 32 && align_of::<Tensor>() == 8);
    assert!(offset_of!(Tensor, dimensions) == 0);
    assert!(offset_of!(Tensor, ty) == 8);
    assert!(offset_of!(Tensor, data) == 16);
};
