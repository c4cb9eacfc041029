//! Tensors at the boundary between guest and backend: dimensions, element type, little-endian bytes.

use std::borrow::Cow;

use crate::backend::{Element, Error, TensorType};

/// The number of elements of a tensor with these dimensions: 1 for a scalar, `None` past `usize::MAX`.
#[must_use]
pub fn element_count(dimensions: &[u32]) -> Option<usize> {
    // A zero makes the product zero even if the other factors alone would overflow.
    if dimensions.contains(&0) {
        return Some(0);
    }
    dimensions.iter().try_fold(1_usize, |count, &size| count.checked_mul(size as usize))
}

/// A borrowed tensor. The length of its data always matches its dimensions and type.
///
/// Data is row-major and little-endian, and need not be aligned. Equality compares dimensions, type and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorView<'a> {
    dimensions: &'a [u32],
    ty: TensorType,
    data: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// Creates a view of `data`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](super::ErrorKind::InvalidArgument) if the length of `data` does not match
    /// `dimensions` and `ty`.
    pub fn new(dimensions: &'a [u32], ty: TensorType, data: &'a [u8]) -> Result<Self, Error> {
        let bytes = element_count(dimensions).and_then(|count| count.checked_mul(ty.size()));
        if bytes != Some(data.len()) {
            return Err(Error::invalid_argument(format!(
                "the tensor data has {} bytes; {ty} {} needs {}",
                data.len(),
                Shape(dimensions),
                bytes.map_or_else(|| "more than can be addressed".into(), |bytes| bytes.to_string()),
            )));
        }
        Ok(Self { dimensions, ty, data })
    }

    /// The sizes, outermost first; empty for a scalar.
    #[must_use]
    pub const fn dimensions(&self) -> &'a [u32] {
        self.dimensions
    }

    /// The element type.
    #[must_use]
    pub const fn ty(&self) -> TensorType {
        self.ty
    }

    /// The elements, row-major and little-endian.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// A copy of the elements, or `None` if they have another type.
    #[must_use]
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        (self.ty == T::TYPE).then(|| T::from_data(self.data))
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(&self) -> Tensor {
        Tensor { dimensions: self.dimensions.to_vec(), ty: self.ty, data: self.data.to_vec() }
    }

    /// Copies the data of an output to the start of `buffer`, and returns its length; writes nothing if that is more
    /// than the buffer has.
    pub(crate) fn copy_to(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let (data, room) = (self.data, buffer.len());
        let start = buffer.get_mut(..data.len()).ok_or_else(|| Error::short_buffer(data.len(), room))?;
        start.copy_from_slice(data);
        Ok(data.len())
    }
}

impl<'a> From<&'a Tensor> for TensorView<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        tensor.view()
    }
}

impl From<TensorView<'_>> for Tensor {
    fn from(view: TensorView<'_>) -> Self {
        view.to_owned()
    }
}

/// An owned tensor. The length of its data always matches its dimensions and type. Equality is that of [`TensorView`].
///
/// ```
/// use graphpool::nn::{Tensor, TensorType};
///
/// let tensor = Tensor::from_slice([2, 1], &[7_i64, -1])?;
/// assert_eq!((tensor.ty(), tensor.data().len()), (TensorType::I64, 16));
/// assert_eq!(tensor.to_vec::<i64>(), Some(vec![7, -1]));
/// assert_eq!(tensor.to_vec::<f32>(), None);
/// # Ok::<(), graphpool::nn::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tensor {
    dimensions: Vec<u32>,
    ty: TensorType,
    data: Vec<u8>,
}

impl Tensor {
    /// Creates a tensor from `data`.
    ///
    /// # Errors
    ///
    /// As [`TensorView::new`].
    pub fn new(dimensions: Vec<u32>, ty: TensorType, data: Vec<u8>) -> Result<Self, Error> {
        TensorView::new(&dimensions, ty, &data)?;
        Ok(Self { dimensions, ty, data })
    }

    /// Creates a tensor from a copy of `elements`, in row-major order.
    ///
    /// # Errors
    ///
    /// As [`TensorView::new`].
    pub fn from_slice<T: Element>(dimensions: impl Into<Vec<u32>>, elements: &[T]) -> Result<Self, Error> {
        Self::new(dimensions.into(), T::TYPE, T::to_data(elements))
    }

    /// [`from_slice`](Self::from_slice) for f32, so that literals need no suffix: a bare `0.5` would be an f64 there.
    ///
    /// # Errors
    ///
    /// As [`TensorView::new`].
    pub fn from_f32(dimensions: impl Into<Vec<u32>>, elements: &[f32]) -> Result<Self, Error> {
        Self::from_slice(dimensions, elements)
    }

    /// A view of the whole tensor.
    #[must_use]
    pub fn view(&self) -> TensorView<'_> {
        TensorView { dimensions: &self.dimensions, ty: self.ty, data: &self.data }
    }

    /// The sizes, outermost first; empty for a scalar.
    #[must_use]
    pub fn dimensions(&self) -> &[u32] {
        &self.dimensions
    }

    /// The element type.
    #[must_use]
    pub const fn ty(&self) -> TensorType {
        self.ty
    }

    /// The elements, row-major and little-endian.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The elements' bytes, row-major and little-endian, without a copy.
    #[must_use]
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Dimensions, element type and data, without a copy.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u32>, TensorType, Vec<u8>) {
        (self.dimensions, self.ty, self.data)
    }

    /// A copy of the elements, or `None` if they have another type.
    #[must_use]
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        self.view().to_vec()
    }

    /// [`to_vec`](Self::to_vec) for f32.
    #[must_use]
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        self.to_vec()
    }
}

/// The description of one input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TensorDescription {
    /// The name in the model; empty if the model gives none.
    pub name: String,
    /// The element type; `None` if the backend does not know it, or if it may vary.
    pub ty: Option<TensorType>,
    /// The sizes, outermost first; `None` for a size that may vary between calls. `None` for the whole if the rank may
    /// vary, too.
    pub dimensions: Option<Vec<Option<u32>>>,
    /// Whether the model may lack this tensor, as far as the backend knows: a backend that cannot tell a model's inputs
    /// and outputs lists as many as there may be. It refuses an input that the model lacks. An inference returns the
    /// outputs up to the first optional one that the backend refuses with
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument).
    pub optional: bool,
    /// For an input: whether it is a string of bytes, such as a prompt: of type u8 and rank 1. Guests may give a string
    /// with the dimensions `[1]` for any length, as programs for older hosts do:
    /// [`given_dimensions`](Self::given_dimensions).
    pub byte_string: bool,
    /// For an output: whether it follows from the inputs alone and can be read as soon as they are set, such as the
    /// number of a prompt's tokens. Every other output belongs to a compute.
    pub before_compute: bool,
}

impl TensorDescription {
    /// Creates a description of a tensor that every model of its backend has.
    pub fn new(
        name: impl Into<String>,
        ty: impl Into<Option<TensorType>>,
        dimensions: Option<Vec<Option<u32>>>,
    ) -> Self {
        let (name, ty) = (name.into(), ty.into());
        Self { name, ty, dimensions, optional: false, byte_string: false, before_compute: false }
    }

    /// The description of a [string of bytes](Self::byte_string) of any length.
    pub fn bytes(name: impl Into<String>) -> Self {
        Self { byte_string: true, ..Self::new(name, TensorType::U8, Some(vec![None])) }
    }

    /// Sets whether the model may lack this tensor.
    #[must_use]
    pub fn with_optional(self, optional: bool) -> Self {
        Self { optional, ..self }
    }

    /// Sets whether the output can be read before a compute.
    #[must_use]
    pub fn with_before_compute(self, before_compute: bool) -> Self {
        Self { before_compute, ..self }
    }

    /// The dimensions of a tensor of `length` bytes that a guest has given with these: `[length]` for the `[1]` of a
    /// [string of bytes](Self::byte_string), and `dimensions` in every other case.
    #[must_use]
    pub fn given_dimensions<'a>(&self, dimensions: &'a [u32], ty: TensorType, length: usize) -> Cow<'a, [u32]> {
        match u32::try_from(length) {
            Ok(length) if self.byte_string && ty == TensorType::U8 && dimensions == [1] => Cow::Owned(vec![length]),
            _ => Cow::Borrowed(dimensions),
        }
    }

    /// Whether a tensor has this type and these sizes, as far as they are known.
    #[must_use]
    pub fn accepts(&self, tensor: TensorView<'_>) -> bool {
        self.ty.is_none_or(|ty| ty == tensor.ty)
            && self.dimensions.as_ref().is_none_or(|sizes| {
                sizes.len() == tensor.dimensions.len()
                    && sizes.iter().zip(tensor.dimensions).all(|(size, given)| size.is_none_or(|size| size == *given))
            })
    }
}

/// Displays dimensions as `[2×3]`: at most eight sizes and then their number, because a guest chooses the rank.
#[derive(Debug)]
pub struct Shape<'a, T>(pub &'a [T]);

impl<T: std::fmt::Display> std::fmt::Display for Shape<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[")?;
        for (place, size) in self.0.iter().take(8).enumerate() {
            if place > 0 {
                f.write_str("×")?;
            }
            write!(f, "{size}")?;
        }
        if self.0.len() > 8 {
            write!(f, "×… {} in all", self.0.len())?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Bf16Bits, ErrorKind, F16Bits};

    #[test]
    fn data_must_be_exactly_as_long_as_the_shape_says() {
        assert!(TensorView::new(&[2, 3], TensorType::F32, &[0; 24]).is_ok());
        for wrong in [0, 23, 25] {
            let error = TensorView::new(&[2, 3], TensorType::F32, &vec![0; wrong]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn sizes_that_overflow_are_refused_and_zeros_are_not() {
        assert!(TensorView::new(&[u32::MAX; 3], TensorType::U8, &[]).is_err());
        assert!(TensorView::new(&[1 << 31, 1 << 31, 4], TensorType::U8, &[]).is_err());
        assert!(TensorView::new(&[u32::MAX, u32::MAX, u32::MAX, 0], TensorType::F64, &[]).is_ok());
    }

    #[test]
    fn elements_of_every_type_come_back_and_are_of_no_other() {
        fn check<T: Element + PartialEq + std::fmt::Debug>(elements: [T; 2], data: &[u8]) {
            let tensor = Tensor::from_slice([1, 2], &elements).unwrap();
            assert_eq!((tensor.ty(), tensor.data()), (T::TYPE, data));
            assert_eq!(tensor.to_vec::<T>(), Some(elements.to_vec()));
            let others = TensorType::ALL.into_iter().filter(|ty| *ty != T::TYPE);
            for other in others {
                let other = Tensor::new(vec![1], other, vec![0; other.size()]).unwrap();
                assert_eq!(other.to_vec::<T>(), None);
            }
            assert!(Tensor::from_slice([3], &elements).is_err());
            assert_eq!(Tensor::from(TensorView::from(&tensor)), tensor);
            assert_eq!(tensor.clone().into_parts(), (vec![1, 2], T::TYPE, data.to_vec()));
            assert_eq!(tensor.into_data(), data);
        }
        check([1.0_f32, -2.5], &[0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
        check([1.0_f64, -2.0], &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0]);
        check([0_u8, 255], &[0, 255]);
        check([1_i32, -2], &[1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
        check([1_i64, -2], &[1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        check([F16Bits(0x3c00), F16Bits(1)], &[0, 0x3c, 1, 0]);
        check([Bf16Bits(0x3f80), Bf16Bits(1)], &[0x80, 0x3f, 1, 0]);
    }

    #[test]
    fn a_scalar_has_one_element() {
        assert!(TensorView::new(&[], TensorType::I64, &[0; 8]).is_ok());
        assert!(TensorView::new(&[], TensorType::I64, &[]).is_err());
    }

    #[test]
    fn a_string_of_bytes_may_be_given_as_one_element_and_nothing_else_may() {
        let (text, other) =
            (TensorDescription::bytes("prompt"), TensorDescription::new("x", TensorType::U8, Some(vec![None])));
        let given = |description: &TensorDescription, dimensions: &[u32], ty| {
            description.given_dimensions(dimensions, ty, 5).into_owned()
        };
        assert_eq!(given(&text, &[1], TensorType::U8), [5]);
        assert_eq!(text.given_dimensions(&[1], TensorType::U8, 0), [0_u32; 1].as_slice());
        assert_eq!(given(&other, &[1], TensorType::U8), [1]);
        for (dimensions, ty) in
            [(&[1][..], TensorType::I32), (&[5], TensorType::U8), (&[4], TensorType::U8), (&[1, 1], TensorType::U8)]
        {
            assert_eq!(given(&text, dimensions, ty), dimensions);
        }
        assert_eq!(given(&text, &[], TensorType::U8), [0_u32; 0]);
        assert!(text.accepts(TensorView::new(&[5], TensorType::U8, b"hello").unwrap()));
        #[cfg(target_pointer_width = "64")]
        assert_eq!(text.given_dimensions(&[1], TensorType::U8, 1 << 32), [1].as_slice());
    }

    #[test]
    fn a_shape_of_any_rank_is_displayed_in_a_few_words() {
        let error = TensorView::new(&[u32::MAX; 1000], TensorType::U8, &[]).unwrap_err();
        assert!(error.message().contains("1000 in all"), "{error}");
    }
}
