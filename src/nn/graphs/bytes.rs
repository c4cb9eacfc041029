//! The bytes of a model that an asynchronous load takes over.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// One part of a model for [`Guest::load_async`](crate::nn::Guest::load_async): bytes that the load owns, shares, or
/// borrows for `'static`. Each `From` takes constant time and copies nothing, except that of a borrowed `Cow`, which is
/// for bytes that live too short, such as those of a guest's memory: the load copies them once it has reserved them.
///
/// ```
/// use std::sync::Arc;
///
/// use graphpool::nn::ModelBytes;
///
/// let shared: Arc<[u8]> = Arc::from([1, 2, 3]);
/// let (owned, part) = (ModelBytes::from(vec![1, 2, 3]), ModelBytes::from(Arc::clone(&shared)));
/// assert_eq!(*owned, *part);
/// assert_eq!(part.as_ptr(), shared.as_ptr());
/// ```
#[derive(Clone)]
pub struct ModelBytes(Bytes);

#[derive(Clone)]
enum Bytes {
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
}

impl Deref for ModelBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Owned(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
            Bytes::Static(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for ModelBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for ModelBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::Owned(bytes))
    }
}

impl From<Box<[u8]>> for ModelBytes {
    fn from(bytes: Box<[u8]>) -> Self {
        bytes.into_vec().into()
    }
}

impl From<Arc<[u8]>> for ModelBytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(Bytes::Shared(bytes))
    }
}

impl From<&'static [u8]> for ModelBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Bytes::Static(bytes))
    }
}

impl<const N: usize> From<&'static [u8; N]> for ModelBytes {
    fn from(bytes: &'static [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Cow<'_, [u8]>> for ModelBytes {
    fn from(bytes: Cow<'_, [u8]>) -> Self {
        match bytes {
            Cow::Owned(bytes) => bytes.into(),
            Cow::Borrowed(bytes) => bytes.to_vec().into(),
        }
    }
}

impl fmt::Debug for ModelBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
