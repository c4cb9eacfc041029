//! The two kinds of number: [`Handle`], which a host keeps, and [`GuestHandle`], which a guest sees.
//!
//! ```text
//!            63        52 51 50 49         33 32       21 20                  0
//! Handle     │ pool tag │ 0    │ generation  │ thread    │ address             │
//!              12 bits    2      17            12          21
//!            31                 13 12           1 0
//! GuestHandle│ index              │ tag          │ kind │
//!              19                   12             1
//! ```
//!
//! The lower 52 bits of a handle are its key; how they divide is [`Layout`](crate::pool::Layout)'s affair.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU64;

/// Bits of the key in a handle, the highest two of them 0, and of the handle in a word of a
/// [`HandleTable`](crate::HandleTable).
pub(crate) const KEY_BITS: u32 = 52;
/// The key in a handle.
pub(crate) const KEY_MASK: u64 = (1 << KEY_BITS) - 1;
/// Bits above the key: a pool's tag in a handle, a slot's tag in a table's word.
pub(crate) const TAG_BITS: u32 = u64::BITS - KEY_BITS;

/// Names one entry of one [`Pool<T>`](crate::Pool), and never a later one.
///
/// 64 bits, `Copy`, never zero (so that `Option<Handle<T>>` is 64 bits too). A handle is a name and not a
/// capability: whoever can call the pool can also make numbers up, and a number that names nothing live in that
/// pool resolves to `None`.
///
/// ```
/// use graphpool::{Handle, Pool};
///
/// # graphpool::doctest(|| {
/// let pool = Pool::new();
/// let handle: Handle<&str> = pool.insert("graph").unwrap();
/// assert_eq!(Handle::from_bits(handle.to_bits()), Some(handle));
/// assert_eq!(size_of::<Option<Handle<&str>>>(), 8);
/// # });
/// ```
pub struct Handle<T> {
    bits: NonZeroU64,
    _names: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    /// The handle's number, for C and for logs.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.bits.get()
    }

    /// The handle that has this number. `None` for a number without a pool's tag, which no pool hands out.
    ///
    /// Any number may be asked for: one that was never handed out, or whose entry is gone, resolves to nothing.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits & !KEY_MASK == 0 {
            return None;
        }
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self { bits, _names: PhantomData }),
            None => None,
        }
    }

    /// The handle of a key in the pool whose tag, where a handle has it, is `tag`.
    #[inline]
    pub(crate) fn new(tag: NonZeroU64, key: u64) -> Self {
        debug_assert!(tag.get() & KEY_MASK == 0 && key & !KEY_MASK == 0);
        Self { bits: tag | key, _names: PhantomData }
    }

    /// The key: generation and place.
    #[inline]
    pub(crate) const fn key(self) -> u64 {
        self.to_bits() & KEY_MASK
    }
}

impl<T> Clone for Handle<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl<T> Eq for Handle<T> {}

impl<T> PartialOrd for Handle<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Handle<T> {
    /// By number; says nothing of age.
    fn cmp(&self, other: &Self) -> Ordering {
        self.bits.cmp(&other.bits)
    }
}

impl<T> Hash for Handle<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits.hash(state);
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:#018x})", self.bits)
    }
}

/// The number by which a wasm guest knows a graph or a context of its own.
///
/// 32 bits, any of which a guest may make up. It means something only in the
/// [`HandleTable`](crate::HandleTable) that bound it; 0 is never bound.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestHandle(u32);

/// What a guest handle names. One bit of the handle, so that a graph's never resolves where a context is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A loaded graph.
    Graph = 0,
    /// A graph execution context.
    Context = 1,
}

const INDEX_SHIFT: u32 = 1 + TAG_BITS;

impl GuestHandle {
    /// Bits of the index into the table.
    pub(crate) const INDEX_BITS: u32 = u32::BITS - INDEX_SHIFT;

    #[inline]
    pub(crate) const fn new(kind: Kind, tag: u64, index: u32) -> Self {
        Self(index << INDEX_SHIFT | (tag as u32) << 1 | kind as u32)
    }

    /// The number that the guest sees.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// The handle that a guest's number is. Every number is one; few resolve.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// What the handle claims to name.
    #[inline]
    #[must_use]
    pub const fn kind(self) -> Kind {
        if self.0 & 1 == 0 { Kind::Graph } else { Kind::Context }
    }

    #[inline]
    pub(crate) const fn tag(self) -> u64 {
        (self.0 >> 1) as u64 & ((1 << TAG_BITS) - 1)
    }

    /// The tag above a key's bits, and the kind in the highest of these, which no key has.
    #[inline]
    pub(crate) const fn tag_and_kind(self) -> u64 {
        (self.0 as u64) << (KEY_BITS - 1)
    }

    #[inline]
    pub(crate) const fn index(self) -> u32 {
        self.0 >> INDEX_SHIFT
    }
}

impl fmt::Debug for GuestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestHandle({})", self.0)
    }
}

impl fmt::Display for GuestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

const _: () = {
    assert!(size_of::<Option<Handle<()>>>() == 8);
    assert!(size_of::<GuestHandle>() == 4);
    assert!(GuestHandle::INDEX_BITS == 19);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_handle_keeps_its_parts() {
        for (kind, tag, index) in [(Kind::Graph, 1, 0), (Kind::Context, 4095, (1 << 19) - 1), (Kind::Context, 1, 77)] {
            let handle = GuestHandle::new(kind, tag, index);
            assert_eq!((handle.kind(), handle.tag(), handle.index()), (kind, tag, index));
        }
    }

    #[test]
    fn a_number_without_a_tag_is_no_handle() {
        assert_eq!(Handle::<()>::from_bits(0), None);
        assert_eq!(Handle::<()>::from_bits(KEY_MASK), None);
        assert!(Handle::<()>::from_bits(KEY_MASK + 1).is_some());
    }
}
