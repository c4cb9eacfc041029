//! How a key divides into generation, thread and address, and the bounds that follow.

use std::marker::PhantomData;
use std::ops::Range;

use crate::handle::TAG_BITS;

/// The division of a handle's 52 lower bits, and how removals are gathered.
///
/// [`Standard`] is the one to use; the others exist for models and tests that must reach a bound.
pub trait Layout: sharded_slab::Config + Send + Sync + 'static {
    /// Removals by one thread that wait for a grace period together.
    const BATCH: u64;
    /// Vacant slots in a magazine, of which a thread keeps two.
    const MAGAZINE: u64;
}

/// 4,096 threads, 2,097,120 entries for each, 131,072 generations of each entry's slot.
#[derive(Debug, Clone, Copy)]
pub struct Standard;

impl sharded_slab::Config for Standard {
    const MAX_THREADS: usize = 4096;
    const MAX_PAGES: usize = 16;
    const INITIAL_PAGE_SIZE: usize = 32;
    const RESERVED_BITS: usize = TAG_BITS as usize;
}

impl Layout for Standard {
    const BATCH: u64 = 64;
    const MAGAZINE: u64 = 128;
}

/// A few slots of a few generations each, for models and for tests that use a slot up. Every removal is a batch.
#[doc(hidden)]
pub type Tiny = TinyWith<1, 2>;

/// [`Tiny`] with batches and magazines of other sizes.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct TinyWith<const BATCH: u64, const MAGAZINE: u64>;

impl<const BATCH: u64, const MAGAZINE: u64> TinyWith<BATCH, MAGAZINE> {
    /// What a handle and the next one at its place differ by: what an attacker would add.
    pub const GENERATION: u64 = 1 << Shape::<Self>::PLACE_BITS;
}

impl<const BATCH: u64, const MAGAZINE: u64> sharded_slab::Config for TinyWith<BATCH, MAGAZINE> {
    // The slab numbers the threads of the whole process and takes a number back late.
    const MAX_THREADS: usize = 64;
    const MAX_PAGES: usize = 2;
    const INITIAL_PAGE_SIZE: usize = 2;
    // Three bits of generation: 8 of them.
    const RESERVED_BITS: usize = 50;
}

impl<const BATCH: u64, const MAGAZINE: u64> Layout for TinyWith<BATCH, MAGAZINE> {
    const BATCH: u64 = BATCH;
    const MAGAZINE: u64 = MAGAZINE;
}

/// What follows from a [`Layout`].
///
/// The lower bits of a key, thread and address, are a *place*: where a slot is, whatever it holds.
pub(super) struct Shape<L>(PhantomData<L>);

impl<L: Layout> Shape<L> {
    const FIRST_PAGE_BITS: u32 = L::INITIAL_PAGE_SIZE.trailing_zeros();
    const ADDRESS_BITS: u32 = L::MAX_PAGES as u32 + Self::FIRST_PAGE_BITS;
    const THREAD_BITS: u32 = L::MAX_THREADS.trailing_zeros();
    /// Where the generation begins.
    pub(super) const PLACE_BITS: u32 = Self::ADDRESS_BITS + Self::THREAD_BITS;
    const PLACE_MASK: u64 = (1 << Self::PLACE_BITS) - 1;
    /// The slab has one bit more than it needs for the address, and one for the thread. Those are above the generation,
    /// and 0.
    const GENERATION_BITS: u32 = u64::BITS - L::RESERVED_BITS as u32 - Self::PLACE_BITS - 2;

    /// Rows of the directory that belong to one thread: any page that the bits of an address can name, so that no
    /// address of one thread's is found among another's.
    pub(super) const PAGES_STRIDE: usize = (L::MAX_PAGES + 1).next_power_of_two();

    /// That the slab's keys have as many bits, and leave those that this type takes.
    pub(super) const AGREES: () = {
        assert!(usize::BITS == u64::BITS);
        assert!(L::MAX_THREADS.is_power_of_two() && L::INITIAL_PAGE_SIZE.is_power_of_two());
        assert!(L::RESERVED_BITS as u32 >= TAG_BITS);
        assert!(sharded_slab::Slab::<(), L>::USED_BITS == (Self::PLACE_BITS + 2 + Self::GENERATION_BITS) as usize);
    };

    /// The place of a slab's key of generation 0. `None` for a key that is divided in another way: then two keys might
    /// have one place.
    pub(super) const fn place_of_slab(key: u64) -> Option<u64> {
        let address_bits = Self::ADDRESS_BITS + 1;
        let (thread, address) = (key >> address_bits, key & ((1 << address_bits) - 1));
        if thread < L::MAX_THREADS as u64 && address < Self::addresses(L::MAX_PAGES - 1).end as u64 {
            Some(thread << Self::ADDRESS_BITS | address)
        } else {
            None
        }
    }

    #[inline]
    pub(super) const fn place(key: u64) -> u64 {
        key & Self::PLACE_MASK
    }

    /// The bits of a key above its place, where they are.
    #[inline]
    pub(super) const fn generation_bits(key: u64) -> u64 {
        key & !Self::PLACE_MASK
    }

    /// The key of the next entry at this place; `None` after the last (I4).
    #[inline]
    pub(super) const fn next_generation(key: u64) -> Option<u64> {
        let next = key + (1 << Self::PLACE_BITS);
        if next >> (Self::PLACE_BITS + Self::GENERATION_BITS) == 0 { Some(next) } else { None }
    }

    /// Any number is a place, and is of some thread.
    #[inline]
    pub(super) const fn thread(place: u64) -> usize {
        (place >> Self::ADDRESS_BITS) as usize % L::MAX_THREADS
    }

    /// The page and the address, which counts on from page to page. Page `p` has `INITIAL_PAGE_SIZE << p` slots.
    /// `first` is `INITIAL_PAGE_SIZE`, as [`Pages`](super::pages::Pages) hands it in.
    #[inline]
    pub(super) const fn page_and_address(place: u64, first: u64) -> (usize, usize) {
        let address = place & ((1 << Self::ADDRESS_BITS) - 1);
        let page = super::pages::log2(address + first).wrapping_sub(Self::FIRST_PAGE_BITS as usize);
        (page, address as usize)
    }

    /// The addresses of a page; none past the last page.
    pub(super) const fn addresses(page: usize) -> Range<usize> {
        if page >= L::MAX_PAGES {
            return 0..0;
        }
        let start = (L::INITIAL_PAGE_SIZE << page) - L::INITIAL_PAGE_SIZE;
        start..start + (L::INITIAL_PAGE_SIZE << page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Std = Shape<Standard>;

    #[test]
    fn the_standard_layout_leaves_the_tag_its_bits() {
        assert_eq!((Std::ADDRESS_BITS, Std::THREAD_BITS, Std::GENERATION_BITS), (21, 12, 17));
    }

    #[test]
    fn addresses_fall_into_pages_that_double() {
        assert_eq!((Std::addresses(0), Std::addresses(1), Std::addresses(2)), (0..32, 32..96, 96..224));
        for address in [0, 31, 32, 95, 96, 32 * ((1 << 16) - 1) - 1] {
            let (page, same) = Std::page_and_address(address, 32);
            assert_eq!(same as u64, address);
            assert!(Std::addresses(page).contains(&same), "{address} in page {page}");
        }
        let past_the_last = Std::page_and_address((1 << 21) - 1, 32).0;
        assert!(past_the_last < Std::PAGES_STRIDE);
        assert!(Std::addresses(past_the_last).is_empty());
    }

    #[test]
    fn generations_end_where_their_bits_do() {
        assert_eq!(Std::next_generation(5), Some(5 + (1 << 33)));
        assert_eq!(Std::next_generation((1 << 50) - 1), None);
        assert_eq!(Std::next_generation((1 << 50) - (1 << 33) - 1), Some((1 << 50) - 1));
    }

    #[test]
    fn the_slab_gives_places_as_the_layout_divides_them() {
        let slab: sharded_slab::Slab<(), Standard> = sharded_slab::Slab::new_with_config::<Standard>();
        for address in 0..100 {
            let key = slab.insert(()).expect("it is empty") as u64;
            let place = Std::place_of_slab(key).expect("it is divided as the layout says");
            assert_eq!(place & ((1 << Std::ADDRESS_BITS) - 1), address);
            assert_eq!(Std::thread(place) as u64, key >> 22);
            assert_eq!(Std::generation_bits(place), 0);
            assert!(Std::thread(place) < <Standard as sharded_slab::Config>::MAX_THREADS);
        }
    }
}
