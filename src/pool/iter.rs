//! The iterator over a pool's live entries.

use std::fmt;
use std::marker::PhantomData;

use super::slot::Slot;
use crate::handle::Handle;

/// The live entries of a pool, from [`Pool::iter`](super::Pool::iter).
#[must_use = "iterators are lazy"]
pub struct Iter<'a, T> {
    slots: Box<dyn Iterator<Item = &'a Slot> + 'a>,
    tag: u64,
    _values: PhantomData<&'a T>,
}

impl<'a, T> Iter<'a, T> {
    /// `slots` are those of a pool of `T` with this tag. The caller's guard is held for `'a`.
    pub(super) fn new(slots: impl Iterator<Item = &'a Slot> + 'a, tag: u64) -> Self {
        Self { slots: Box::new(slots), tag, _values: PhantomData }
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (Handle<T>, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.tag;
        self.slots.find_map(|slot| {
            let (bits, value) = slot.read_live(tag)?;
            // SAFETY: the value was live when it was read (I1), and the guard that is held for `'a` keeps it (I3).
            Some((Handle::from_bits(bits)?, unsafe { &*value.cast() }))
        })
    }
}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}
