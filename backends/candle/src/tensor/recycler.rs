//! Memory that computes have freed, kept for the next ones.
//!
//! * K1: an item is found again by its type and its key, such as the exact capacity of a vector. So a compute takes
//!   exactly the bytes that it would allocate.
//! * K2: an item that is kept holds nothing: a vector is empty.
//! * K3: a bin has at most [`MOST`] items, so that a search in it is short. Further ones are freed.
//! * K4: what no compute has used since [`begin`](Recycler::begin) is stale, and is freed first.

use std::any::{Any, TypeId};

use crate::tensor::allocation::allocation;

/// The most items of one type.
const MOST: usize = 1 << 10;

/// An item that is kept.
struct Kept<T> {
    key: usize,
    /// Bytes that it takes.
    bytes: usize,
    /// The compute that has used it last.
    used: u64,
    item: T,
}

/// The items of one type, sorted by their keys. Of those with one key, the last was used last.
struct Bin<T>(Vec<Kept<T>>);

trait AnyBin: Any + Send {
    /// Frees the items for which `frees` says so of their bytes and of the compute that has used them.
    fn free(&mut self, frees: &mut dyn FnMut(usize, u64) -> bool);

    /// Bytes of the largest item.
    fn largest(&self) -> usize;

    /// Bytes of the list of items.
    fn own_bytes(&self) -> usize;
}

impl<T: Send + 'static> AnyBin for Bin<T> {
    fn free(&mut self, frees: &mut dyn FnMut(usize, u64) -> bool) {
        self.0.retain(|kept| !frees(kept.bytes, kept.used));
    }

    fn largest(&self) -> usize {
        self.0.iter().map(|kept| kept.bytes).max().unwrap_or(0)
    }

    fn own_bytes(&self) -> usize {
        allocation(self.0.capacity() * size_of::<Kept<T>>())
    }
}

/// What is kept, by type.
#[derive(Default)]
pub(crate) struct Recycler {
    bins: Vec<(TypeId, Box<dyn AnyBin>)>,
    /// Bytes of all items.
    bytes: usize,
    /// The number of the compute.
    compute: u64,
}

impl std::fmt::Debug for Recycler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recycler").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Recycler {
    /// Bytes of the items.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the items and of the lists of them.
    pub(crate) fn total_bytes(&self) -> usize {
        self.bytes + self.bins.iter().map(|(_, bin)| bin.own_bytes()).sum::<usize>()
    }

    fn bin<T: Send + 'static>(&mut self) -> Option<&mut Vec<Kept<T>>> {
        let id = TypeId::of::<T>();
        let (_, bin) = self.bins.iter_mut().find(|(known, _)| *known == id)?;
        let bin: &mut dyn Any = &mut **bin;
        bin.downcast_mut::<Bin<T>>().map(|bin| &mut bin.0)
    }

    /// Takes an item with this key.
    pub(crate) fn take<T: Send + 'static>(&mut self, key: usize) -> Option<T> {
        let bin = self.bin::<T>()?;
        let place = bin.partition_point(|kept| kept.key <= key).checked_sub(1)?;
        if bin.get(place)?.key != key {
            return None;
        }
        let kept = bin.remove(place);
        self.bytes -= kept.bytes;
        Some(kept.item)
    }

    /// Keeps an item, which takes `bytes`, unless there are many of its type.
    pub(crate) fn give<T: Send + 'static>(&mut self, item: T, key: usize, bytes: usize) {
        let kept = Kept { key, bytes, used: self.compute, item };
        match self.bin::<T>() {
            Some(bin) if bin.len() >= MOST => return,
            Some(bin) => {
                let place = bin.partition_point(|kept| kept.key <= key);
                bin.insert(place, kept);
            }
            None => self.bins.push((TypeId::of::<T>(), Box::new(Bin(vec![kept])))),
        }
        self.bytes += bytes;
    }

    /// Takes a vector of this capacity.
    pub(crate) fn take_vec<T: Send + 'static>(&mut self, capacity: usize) -> Option<Vec<T>> {
        self.take(capacity)
    }

    /// Keeps the memory of an empty vector.
    pub(crate) fn give_vec<T: Send + 'static>(&mut self, vec: Vec<T>) {
        let capacity = vec.capacity();
        if capacity > 0 && size_of::<T>() > 0 {
            self.give(vec, capacity, allocation(capacity * size_of::<T>()));
        }
    }

    /// Begins a compute: what it does not use is stale.
    pub(crate) fn begin(&mut self) {
        self.compute += 1;
    }

    /// Frees what is stale.
    pub(crate) fn free_stale(&mut self) {
        let Self { bins, bytes, compute } = self;
        for (_, bin) in bins {
            bin.free(&mut |freed, used| {
                let is_stale = used < *compute;
                *bytes -= if is_stale { freed } else { 0 };
                is_stale
            });
        }
    }

    /// Frees items until at most `most` bytes are kept: stale ones first, then the largest ones.
    pub(crate) fn shrink_to(&mut self, most: usize) {
        if self.bytes > most {
            self.free_stale();
        }
        while self.bytes > most {
            let Self { bins, bytes, .. } = self;
            // At least half as large as the largest, so that there are few rounds.
            let large = bins.iter().map(|(_, bin)| bin.largest()).max().unwrap_or(0) / 2;
            if large == 0 {
                return;
            }
            for (_, bin) in bins {
                bin.free(&mut |freed, _| {
                    let frees = *bytes > most && freed >= large;
                    *bytes -= if frees { freed } else { 0 };
                    frees
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_found_by_its_type_and_its_key() {
        let mut recycler = Recycler::default();
        for capacity in [3, 8, 5, 8] {
            recycler.give_vec::<u32>(Vec::with_capacity(capacity));
        }
        recycler.give_vec::<u8>(Vec::with_capacity(4));
        recycler.give_vec::<u8>(Vec::new());
        assert_eq!(recycler.bytes(), 32 + 48 + 32 + 48 + 32);
        assert!(recycler.take_vec::<u32>(4).is_none() && recycler.take_vec::<i32>(3).is_none());
        for capacity in [8, 3, 8, 5] {
            assert_eq!(recycler.take_vec::<u32>(capacity).unwrap().capacity(), capacity);
        }
        assert!(recycler.take_vec::<u32>(8).is_none());
        assert_eq!(recycler.bytes(), 32);
    }

    #[test]
    fn stale_items_are_freed_first_and_then_large_ones() {
        let mut recycler = Recycler::default();
        recycler.give_vec::<u8>(Vec::with_capacity(1000));
        recycler.begin();
        recycler.give_vec::<u64>(Vec::with_capacity(500));
        recycler.give_vec::<u8>(Vec::with_capacity(100));
        recycler.shrink_to(5000);
        assert_eq!(recycler.bytes(), allocation(4000) + allocation(100));
        recycler.shrink_to(4000);
        assert_eq!(recycler.bytes(), allocation(100));
        recycler.shrink_to(0);
        assert_eq!(recycler.bytes(), 0);
    }

    #[test]
    fn a_bin_has_few_items() {
        let mut recycler = Recycler::default();
        for index in 0..2 * MOST {
            recycler.give_vec::<u8>(Vec::with_capacity(1 + index));
        }
        assert!(recycler.take_vec::<u8>(MOST).is_some() && recycler.take_vec::<u8>(MOST + 1).is_none());
    }
}
