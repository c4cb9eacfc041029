//! Vacant slots: two magazines for each thread, and a depot that all threads share.
//!
//! Insertions take from the thread's own magazine and reclamation fills it, last in first out, with plain loads
//! and stores; what overflows goes to the depot, and from there to a thread that has none. (Bonwick and Adams,
//! *Magazines and Vmem*, 2001, with the slab below: [`places`](super::places).) So slots that one thread vacates and
//! another fills don't pile up, and no thread keeps more than two magazines.

use super::chain::{Chain, link};
use super::directory::Directory;
use super::layout::{Layout, Shape};
use super::slot::Slot;
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Vacant slots, by place; the last one is known, so that the whole can be linked to something.
#[derive(Clone, Copy)]
pub(super) struct Magazine {
    slots: Chain,
    last: u64,
}

impl Magazine {
    pub(super) const EMPTY: Self = Self { slots: Chain::EMPTY, last: 0 };

    /// Puts a vacant slot of the caller's in, whose next generation is that of `key`.
    #[inline]
    pub(super) fn put<T, L: Layout>(&mut self, key: u64, directory: &Directory<T, L>) {
        let place = Shape::<L>::place(key);
        let Some(slot) = directory.slot(place) else { return };
        slot.set_vacant_word(link::<L>(key, self.slots.first::<L>()));
        if self.slots == Chain::EMPTY {
            self.last = place;
        }
        self.slots = Chain::new::<L>(self.slots.count::<L>() + 1, place);
    }
}

/// A thread's magazines.
pub(super) struct Magazines(UnsafeCell<Pair>);

struct Pair {
    loaded: Magazine,
    /// Empty, or full.
    previous: Magazine,
}

impl Default for Magazines {
    fn default() -> Self {
        Self(UnsafeCell::new(Pair { loaded: Magazine::EMPTY, previous: Magazine::EMPTY }))
    }
}

impl Magazines {
    /// A vacant slot, and the key of its next entry.
    ///
    /// # Safety
    ///
    /// The caller is the thread that the magazines belong to (I7).
    #[inline]
    pub(super) unsafe fn take<'a, T, L: Layout>(
        &self,
        directory: &'a Directory<T, L>,
        depot: &Depot,
    ) -> Option<(&'a Slot<T>, u64)> {
        self.0.with_mut(|pair| {
            // SAFETY: the thread's own, and nothing here comes back to it.
            let Pair { loaded, previous } = unsafe { &mut *pair };
            if loaded.slots == Chain::EMPTY {
                std::mem::swap(loaded, previous);
                if loaded.slots == Chain::EMPTY {
                    *loaded = depot.take(directory)?;
                }
            }
            let place = loaded.slots.first::<L>();
            let slot = directory.slot(place)?;
            let word = slot.vacant_word();
            loaded.slots = match loaded.slots.count::<L>() {
                1 => Chain::EMPTY,
                count => Chain::new::<L>(count - 1, link_of::<L>(word)),
            };
            Some((slot, Shape::<L>::generation_bits(word) | place))
        })
    }

    /// Puts a vacant slot in, whose next generation is that of `key`.
    ///
    /// # Safety
    ///
    /// As [`take`](Self::take); and the slot is the caller's alone.
    #[inline]
    pub(super) unsafe fn give<T, L: Layout>(&self, key: u64, directory: &Directory<T, L>, depot: &Depot) {
        self.0.with_mut(|pair| {
            // SAFETY: as in `take`.
            let Pair { loaded, previous } = unsafe { &mut *pair };
            if loaded.slots.count::<L>() == L::MAGAZINE {
                depot.give(*previous, directory);
                *previous = std::mem::replace(loaded, Magazine::EMPTY);
            }
            loaded.put(key, directory);
        });
    }
}

/// The place of the next slot, in a vacant slot's word.
#[inline]
fn link_of<L: Layout>(word: u64) -> u64 {
    Shape::<L>::place(word)
}

/// The vacant slots that no thread keeps: a stack, to which any thread adds chains, and from which one takes all.
#[derive(Default)]
pub(super) struct Depot(AtomicU64);

impl Depot {
    /// Adds a magazine, if there is anything in it.
    #[cold]
    pub(super) fn give<T, L: Layout>(&self, magazine: Magazine, directory: &Directory<T, L>) {
        if magazine.slots == Chain::EMPTY {
            return;
        }
        let Some(last) = directory.slot(magazine.last) else { return };
        let mut top = Chain(self.0.load(Ordering::Relaxed));
        loop {
            last.set_vacant_word(link::<L>(last.vacant_word(), top.first::<L>()));
            let all = Chain::new::<L>(top.count::<L>() + magazine.slots.count::<L>(), magazine.slots.first::<L>());
            // Release: pairs with the Acquire in `take`; whoever takes the slots sees their words.
            match self.0.compare_exchange_weak(top.0, all.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = Chain(now),
            }
        }
    }

    /// A magazine's worth of what is there. What is more goes back.
    #[cold]
    fn take<T, L: Layout>(&self, directory: &Directory<T, L>) -> Option<Magazine> {
        // Acquire: pairs with the Release of every `give` that built the stack, through its release sequence.
        let all = Chain(self.0.swap(Chain::EMPTY.0, Ordering::Acquire));
        let count = all.count::<L>();
        if count == 0 {
            return None;
        }
        let kept = count.min(L::MAGAZINE);
        let last = nth(directory, all.first::<L>(), kept - 1)?;
        let mut rest = Chain::EMPTY;
        if count > kept {
            rest = Chain::new::<L>(count - kept, nth(directory, last, 1)?);
        }
        while rest != Chain::EMPTY {
            // Release: as in `give`. Into an empty depot the rest goes as it is, its last slot unknown.
            if self.0.compare_exchange(Chain::EMPTY.0, rest.0, Ordering::Release, Ordering::Relaxed).is_ok() {
                break;
            }
            // Put what others gave meanwhile on top of the rest.
            let others = Chain(self.0.swap(Chain::EMPTY.0, Ordering::Acquire));
            if let Some(before) = others.count::<L>().checked_sub(1) {
                let bottom = directory.slot(nth(directory, others.first::<L>(), before)?)?;
                bottom.set_vacant_word(link::<L>(bottom.vacant_word(), rest.first::<L>()));
                rest = Chain::new::<L>(rest.count::<L>() + others.count::<L>(), others.first::<L>());
            }
        }
        Some(Magazine { slots: Chain::new::<L>(kept, all.first::<L>()), last })
    }
}

/// The place of the slot `steps` after the one at `place`, in a chain of the caller's.
fn nth<T, L: Layout>(directory: &Directory<T, L>, mut place: u64, steps: u64) -> Option<u64> {
    for _ in 0..steps {
        place = link_of::<L>(directory.slot(place)?.vacant_word());
    }
    Some(place)
}
