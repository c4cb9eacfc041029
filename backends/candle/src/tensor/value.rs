//! The tensors that inputs, outputs, constants and operators use.
//!
//! A [`Value`] is immutable and cheap to clone, because clones share the elements. The elements are contiguous and
//! row-major. Three invariants hold for every value:
//!
//! * V1: it has exactly as many elements as its dimensions require.
//! * V2: the product of its dimensions, with each 0 counted as 1, is at most
//!   [`MAX_ELEMENTS`](crate::tensor::dims::MAX_ELEMENTS). So strides and offsets never overflow.
//! * V3: it has at most [`MAX_RANK`] dimensions.

mod bytes;

use crate::tensor::element::{Data, Element, ElementType};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::tensor::budget::{Charge, allocation};
use crate::tensor::dim_list::{DimList, IntVec};
pub use crate::tensor::dims::MAX_RANK;
pub(crate) use crate::tensor::dims::{Dims, count};
use graphpool::backend::Error;

/// The results of an operator, or the inputs of a graph. Up to three are stored in place.
pub(crate) type Values = SmallVec<[Value; 3]>;

/// The elements that the clones of a value share, and the dimensions that they were made with.
#[derive(Debug)]
struct Buffer {
    dims: DimList,
    data: Data,
    /// Releases the bytes when the buffer is dropped.
    charge: Charge,
}

/// A tensor: an element type, dimensions, and elements in row-major order.
///
/// A value is immutable. A clone shares the elements and copies nothing.
#[derive(Debug, Clone)]
pub struct Value {
    /// `None` only while the value is dropped.
    buffer: Option<Arc<Buffer>>,
    /// The dimensions, if they are not the buffer's. Clones share them.
    view: Option<Arc<DimList>>,
    /// The element type. It is the buffer's, or a narrow type whose codes are in a buffer of bytes.
    ty: ElementType,
}

impl Drop for Value {
    /// The budget that the value is charged to keeps the memory of the last clone. A clone that another thread drops at
    /// the same time may make this miss the last one: then the memory is freed.
    #[inline]
    fn drop(&mut self) {
        let Some(shared) = self.buffer.take() else { return };
        if !shared.charge.is_some() {
            return;
        }
        if let Some(view) = self.view.take() {
            keep_view(view, &shared);
        }
        if Arc::strong_count(&shared) == 1 {
            keep(shared);
        }
    }
}

/// Gives the memory of dimensions to the budget of their value.
fn keep_view(mut view: Arc<DimList>, buffer: &Buffer) {
    const BYTES: usize = allocation(2 * size_of::<usize>() + size_of::<DimList>());
    if let Some(dims) = Arc::get_mut(&mut view) {
        *dims = DimList::default();
        buffer.charge.give(view, BYTES);
    }
}

/// Gives the memory of a buffer to the budget that it is charged to.
fn keep(mut shared: Arc<Buffer>) {
    const BYTES: usize = allocation(2 * size_of::<usize>() + size_of::<Buffer>());
    let Some(buffer) = Arc::get_mut(&mut shared) else { return };
    let data = std::mem::replace(&mut buffer.data, Data::U8(Vec::new()));
    let charge = std::mem::replace(&mut buffer.charge, Charge::none());
    buffer.dims = DimList::default();
    charge.release(|recycler| {
        data.recycle(recycler);
        recycler.give(shared, 0, BYTES);
    });
}

impl Value {
    /// A value of `dims` with these elements, in row-major order. It takes the vector without a copy and is charged to
    /// no memory limit.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) for another number of elements than `dims`
    /// require, [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) for more than [`MAX_RANK`] dimensions or
    /// [`MAX_ELEMENTS`](crate::MAX_ELEMENTS) elements.
    pub fn new<T: Element>(dims: Vec<usize>, elements: Vec<T>) -> Result<Self, Error> {
        Self::charged(dims, elements, Charge::none())
    }

    /// As [`new`](Self::new), with a charge that is released when the last clone is dropped.
    pub(crate) fn charged<T: Element>(
        dims: impl Into<DimList>,
        elements: Vec<T>,
        charge: Charge,
    ) -> Result<Self, Error> {
        let dims = dims.into();
        let count = count(&dims)?;
        if count != elements.len() {
            return Err(Error::invalid_argument(format!(
                "a tensor of {} needs {count} elements, not {}",
                Dims(&dims),
                elements.len()
            )));
        }
        let buffer = Buffer { dims, data: T::wrap(elements), charge };
        let mut kept = if buffer.charge.is_some() { buffer.charge.take::<Arc<Buffer>>(0) } else { None };
        let shared = match kept.as_mut().and_then(Arc::get_mut) {
            Some(place) => {
                *place = buffer;
                kept
            }
            None => Some(Arc::new(buffer)),
        };
        Ok(Self { buffer: shared, view: None, ty: T::TYPE })
    }

    /// A value without dimensions, which has one element.
    ///
    /// # Errors
    ///
    /// It never fails; the result is that of [`new`](Self::new).
    pub fn scalar<T: Element>(element: T) -> Result<Self, Error> {
        Self::new(Vec::new(), vec![element])
    }

    /// The dimensions, outermost first; empty for a scalar.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        match (&self.view, &self.buffer) {
            (Some(dims), _) => dims,
            (None, Some(buffer)) => &buffer.dims,
            (None, None) => &[],
        }
    }

    /// The number of dimensions.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.dims().len()
    }

    /// The number of elements: the product of the dimensions, 1 for a scalar.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// Whether the value has no elements, because a dimension is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dims().contains(&0)
    }

    /// The element type.
    #[must_use]
    pub fn ty(&self) -> ElementType {
        self.ty
    }

    /// The size of the elements in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * self.ty().size()
    }

    /// The elements in row-major order, without a copy.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) if the element type is not `T`'s.
    pub fn elements<T: Element>(&self) -> Result<&[T], Error> {
        let own = if self.ty == T::TYPE { self.data().and_then(T::slice) } else { None };
        own.ok_or_else(|| Error::invalid_argument(format!("the elements are {:?}, not {:?}", self.ty(), T::TYPE)))
    }

    /// The elements for an operator to overwrite. `None` if a clone shares them or their type is another.
    pub(crate) fn elements_mut<T: Element>(&mut self) -> Option<&mut [T]> {
        if self.ty != T::TYPE {
            return None;
        }
        T::slice_mut(&mut Arc::get_mut(self.buffer.as_mut()?)?.data)
    }

    fn data(&self) -> Option<&Data> {
        self.buffer.as_deref().map(|buffer| &buffer.data)
    }

    /// The address and the size in bytes of the two heap allocations that clones share: dimensions that are not the
    /// buffer's (0 for none), and elements.
    pub(crate) fn blocks(&self) -> [(usize, usize); 2] {
        const COUNTS: usize = 2 * size_of::<usize>();
        let list = |dims: &DimList| dims.shared().map_or(0, |dims| allocation(COUNTS + size_of_val(dims)));
        let view = self
            .view
            .as_ref()
            .map_or((0, 0), |dims| (Arc::as_ptr(dims).addr(), allocation(COUNTS + size_of::<DimList>()) + list(dims)));
        let buffer = self.buffer.as_ref().map_or((0, 0), |buffer| {
            let fixed = allocation(COUNTS + size_of::<Buffer>()) + list(&buffer.dims);
            (Arc::as_ptr(buffer).addr(), fixed.saturating_add(allocation(self.bytes())))
        });
        [view, buffer]
    }

    /// The value, charged to a budget, which it was not before. Nothing happens if a clone shares the elements.
    pub(crate) fn with_charge(mut self, charge: Charge) -> Self {
        if let Some(buffer) = self.buffer.as_mut().and_then(Arc::get_mut) {
            buffer.charge = charge;
        }
        self
    }

    /// The codes of a value of a narrow type.
    pub(crate) fn codes(&self) -> Result<&[u8], Error> {
        let codes = if self.ty.is_narrow() { self.data().and_then(u8::slice) } else { None };
        codes.ok_or_else(|| {
            Error::invalid_argument(format!("the elements are {:?}, which is not a narrow type", self.ty))
        })
    }

    /// The value for an operator that only moves elements: a narrow type's codes as U8, any other type unchanged.
    pub(crate) fn plain(&self) -> Self {
        self.clone().into_plain()
    }

    /// As [`plain`](Self::plain), without a further clone.
    pub(crate) fn into_plain(mut self) -> Self {
        if self.ty.is_narrow() {
            self.ty = ElementType::U8;
        }
        self
    }

    /// The inverse of [`plain`](Self::plain): gives a moving operator's result the type of its input.
    pub(crate) fn retyped(mut self, ty: ElementType) -> Self {
        if ty.is_narrow() && self.ty == ElementType::U8 {
            self.ty = ty;
        }
        self
    }

    /// Turns a value of U8 into codes of a narrow type, after a check that each byte is a code.
    pub(crate) fn of_codes(mut self, ty: ElementType) -> Result<Self, Error> {
        let bits = ty.bits();
        let codes = self.elements::<u8>()?;
        if !ty.is_narrow() || (bits < 8 && codes.iter().any(|code| code >> bits != 0)) {
            return Err(Error::invalid_argument(format!("an element is out of range for {ty:?}")));
        }
        self.ty = ty;
        Ok(self)
    }

    /// The same elements with other dimensions.
    pub(crate) fn reshaped(mut self, dims: impl Into<DimList>) -> Result<Self, Error> {
        let dims = dims.into();
        let wanted = count(&dims)?;
        if wanted != self.len() {
            return Err(Error::invalid_argument(format!("{} can't be reshaped to {}", Dims(self.dims()), Dims(&dims))));
        }
        let Some(shared) = &mut self.buffer else { return Ok(self) };
        if let Some(buffer) = Arc::get_mut(shared) {
            buffer.dims = dims;
            if let Some(view) = self.view.take() {
                keep_view(view, buffer);
            }
            return Ok(self);
        }
        let mut kept = shared.charge.take::<Arc<DimList>>(0);
        match kept.as_mut().and_then(Arc::get_mut) {
            Some(place) => *place = dims,
            None => kept = Some(Arc::new(dims)),
        }
        if let Some(view) = std::mem::replace(&mut self.view, kept) {
            keep_view(view, shared);
        }
        Ok(self)
    }

    /// The elements of a short list such as a shape, axes or pads, of type I64 or I32. A list has at most two elements
    /// for each of [`MAX_RANK`] dimensions.
    pub(crate) fn to_i64s(&self) -> Result<IntVec, Error> {
        if self.len() > 2 * MAX_RANK {
            return Err(Error::invalid_argument(format!(
                "a list of {} integers is too long; at most {} are supported",
                self.len(),
                2 * MAX_RANK
            )));
        }
        match self.ty() {
            ElementType::I64 => Ok(self.elements::<i64>()?.into()),
            ElementType::I32 => Ok(self.elements::<i32>()?.iter().map(|&element| i64::from(element)).collect()),
            other => Err(Error::invalid_argument(format!("a list of integers has the type {other:?}, not I64 or I32"))),
        }
    }
}

/// The error of an operator that does not support the value's element type.
pub(crate) fn no_type(value: &Value) -> Error {
    Error::unsupported(format!("elements of type {:?} are not supported", value.ty()))
}
