//! The two kinds of number: [`Handle`], which a host keeps, and [`GuestHandle`], which a guest sees.
//!
//! ```text
//!             63          52 51 50 49                                     0
//! Handle      │ pool tag    │ 0  0 │ generation and place                 │
//!               12            2      50
//!             └─ TAG_BITS ──┘└─ KEY_BITS: the key ────────────────────────┘
//!
//!             31                   13 12            1 0
//! GuestHandle │ index               │ binding tag    │ kind │
//!               19                    12               1
//! ```
//!
//! How a pool divides a key is in `pool/layout.rs`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU64;

/// Bits of a key. Its two highest bits are always 0: a [`HandleTable`](crate::HandleTable) uses them in its words.
pub(crate) const KEY_BITS: u32 = 52;
/// The bits of a handle that are its key.
pub(crate) const KEY_MASK: u64 = (1 << KEY_BITS) - 1;
/// Bits above the key: the pool's tag in a handle, the binding's tag in a table's word.
pub(crate) const TAG_BITS: u32 = u64::BITS - KEY_BITS;

/// Names one entry of one [`Pool<T>`](crate::Pool), and never a later entry.
///
/// 64 bits, `Copy`, never zero (so that `Option<Handle<T>>` is 64 bits too). A handle is a name and not a
/// capability: any 64-bit number may be tried as a handle, and a number that names no live entry of the pool resolves
/// to `None`.
///
/// ```
/// use graphpool::{Handle, Pool};
///
/// # graphpool::doctest(|| {
/// let pool = Pool::new();
/// let handle: Handle<&str> = pool.insert("graph").unwrap();
/// assert_eq!(Handle::from_bits(handle.to_bits()), Some(handle));
/// assert_eq!(Handle::try_from(u64::from(handle)), Ok(handle));
/// assert_eq!(size_of::<Option<Handle<&str>>>(), 8);
/// # });
/// ```
pub struct Handle<T> {
    bits: NonZeroU64,
    _names: PhantomData<fn() -> T>,
}

/// A number that no pool gives out: its highest 12 bits, a handle's pool tag, are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0:#x} is no handle: its highest {TAG_BITS} bits, the pool's tag, are 0")]
pub struct InvalidHandle(pub u64);

impl<T> Handle<T> {
    /// The handle's number, for C and for logs.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.bits.get()
    }

    /// The handle that has this number. `None` for a number without a pool's tag, which no pool gives out.
    ///
    /// A number that was never given out, or whose entry was removed, makes a handle that resolves to nothing.
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

    /// The handle of a key in the pool with this tag, whose bits are where a handle has them.
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

impl<T> From<Handle<T>> for u64 {
    #[inline]
    fn from(handle: Handle<T>) -> Self {
        handle.to_bits()
    }
}

impl<T> TryFrom<u64> for Handle<T> {
    type Error = InvalidHandle;

    #[inline]
    fn try_from(bits: u64) -> Result<Self, InvalidHandle> {
        Self::from_bits(bits).ok_or(InvalidHandle(bits))
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
    /// By number, which says nothing about which entry is older.
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
        write!(f, "Handle({self})")
    }
}

impl<T> fmt::Display for Handle<T> {
    /// The number in hexadecimal, as `0x0010000000000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.bits)
    }
}

/// The number by which a guest knows an entry that was bound for it.
///
/// 32 bits, and a guest may make up any of them. A guest handle has a meaning only in the
/// [`HandleTable`](crate::HandleTable) that bound it; 0 is never bound.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestHandle(u32);

/// The lowest bit of a guest handle. A [`HandleTable`](crate::HandleTable) refuses guest handles of the other kind.
///
/// The owner of the tables decides what each kind names. A guest with a table of each kind then has no number that
/// resolves in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Even guest handles.
    Zero = 0,
    /// Odd guest handles.
    One = 1,
}

const TAG_SHIFT: u32 = 1;
const INDEX_SHIFT: u32 = TAG_SHIFT + TAG_BITS;

impl GuestHandle {
    /// Bits of the index into the table.
    pub(crate) const INDEX_BITS: u32 = u32::BITS - INDEX_SHIFT;

    #[inline]
    pub(crate) const fn new(kind: Kind, tag: u64, index: u32) -> Self {
        Self(index << INDEX_SHIFT | (tag as u32) << TAG_SHIFT | kind as u32)
    }

    /// The number that the guest sees.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// The guest handle with this number. Every number makes one; only those that are bound resolve.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The kind that the number claims.
    #[inline]
    #[must_use]
    pub const fn kind(self) -> Kind {
        if self.0 & 1 == 0 { Kind::Zero } else { Kind::One }
    }

    #[inline]
    pub(crate) const fn tag(self) -> u64 {
        (self.0 >> TAG_SHIFT) as u64 & ((1 << TAG_BITS) - 1)
    }

    /// The binding's tag and the kind, shifted to where a table's word has them: bits 63 to 52, and bit 51. The index
    /// is shifted out.
    #[inline]
    pub(crate) const fn tag_and_kind(self) -> u64 {
        (self.0 as u64) << (KEY_BITS - 1)
    }

    #[inline]
    pub(crate) const fn index(self) -> u32 {
        self.0 >> INDEX_SHIFT
    }
}

impl From<GuestHandle> for u32 {
    #[inline]
    fn from(handle: GuestHandle) -> Self {
        handle.to_bits()
    }
}

impl From<u32> for GuestHandle {
    #[inline]
    fn from(bits: u32) -> Self {
        Self::from_bits(bits)
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
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_where_the_drawing_has_them() {
        assert_eq!((TAG_BITS, KEY_BITS), (12, 52));
        let highest = NonZeroU64::new(0xFFF << 52).expect("not 0");
        assert_eq!(Handle::<()>::new(highest, 5).to_bits(), 0xFFF0_0000_0000_0005);

        assert_eq!((GuestHandle::INDEX_BITS, INDEX_SHIFT, TAG_SHIFT), (19, 13, 1));
        assert_eq!(GuestHandle::new(Kind::Zero, 0xFFF, 0).to_bits(), 0xFFF << 1);
        assert_eq!(GuestHandle::new(Kind::One, 0, (1 << 19) - 1).to_bits(), 0xFFFF_E001);
        assert_eq!(GuestHandle::from_bits(u32::MAX).tag_and_kind(), 0xFFF << 52 | 1 << 51);
    }

    #[test]
    fn a_guest_handle_keeps_its_parts() {
        for (kind, tag, index) in [(Kind::Zero, 1, 0), (Kind::One, 4095, (1 << 19) - 1), (Kind::One, 1, 77)] {
            let handle = GuestHandle::new(kind, tag, index);
            assert_eq!((handle.kind(), handle.tag(), handle.index()), (kind, tag, index));
            assert_eq!(GuestHandle::from(u32::from(handle)), handle);
        }
    }

    #[test]
    fn a_number_without_a_tag_is_no_handle() {
        assert_eq!(Handle::<()>::from_bits(0), None);
        assert_eq!(Handle::<()>::try_from(KEY_MASK), Err(InvalidHandle(KEY_MASK)));
        assert_eq!(InvalidHandle(5).to_string(), "0x5 is no handle: its highest 12 bits, the pool's tag, are 0");
        let first = Handle::<()>::try_from(KEY_MASK + 1).expect("it has a tag");
        assert_eq!((u64::from(first), first.to_string().as_str()), (1 << 52, "0x0010000000000000"));
    }
}
