//! The keys and values of one sequence, in pages of [`PAGE`] positions.
//!
//! A page has the keys and values of all layers for its positions. It is allocated when the sequence comes to its first
//! position, so a cache grows with its sequence, and none of it is copied when it grows. What a page takes is charged
//! before it is allocated.
//!
//! A cache owns its pages, or shares full ones with caches of sequences that begin in the same way
//! ([`prefix`](super::prefix)). A shared page is never written: a sequence that goes on otherwise within it gets a copy
//! ([`Cache::reserve`]). A cache counts a shared page as one of its own.

use super::hyper::Hyperparameters;
use crate::quant::{fetch, widen};
use crate::tensor::budget::allocation;
use graphpool::backend::Error;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use std::mem;
use std::sync::Arc;

/// Positions of a page.
pub(crate) const PAGE: usize = 32;

/// The type of a cache's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CacheType {
    #[default]
    F16,
    F32,
}

/// The elements of a page: for each layer and each head of keys a tile of keys and a tile of values.
///
/// A tile of keys has for each element of a head the [`PAGE`] positions, so that scores of several positions are
/// computed at once. A tile of values has the head's elements for each position.
#[derive(Debug, PartialEq)]
pub(crate) enum Page {
    F16(Box<[f16]>),
    F32(Box<[f32]>),
}

impl Page {
    fn zeros(ty: CacheType, len: usize) -> Result<Self, Error> {
        fn zeros<T: Clone>(zero: T, len: usize) -> Result<Box<[T]>, Error> {
            let mut elements = Vec::new();
            elements
                .try_reserve_exact(len)
                .map_err(|_| Error::too_large(format!("the allocation of a cache page of {len} elements failed")))?;
            elements.resize(len, zero);
            Ok(elements.into_boxed_slice())
        }
        Ok(match ty {
            CacheType::F16 => Self::F16(zeros(f16::ZERO, len)?),
            CacheType::F32 => Self::F32(zeros(0.0, len)?),
        })
    }
}

/// A full page that several caches have.
#[derive(Debug)]
pub(crate) struct SharedPage {
    /// The number of the sequence that ends with this page; no other sequence of the graph has it.
    pub(crate) id: u64,
    pub(crate) page: Page,
}

#[derive(Debug)]
enum Held {
    Own(Page),
    Shared(Arc<SharedPage>),
}

impl Held {
    fn page(&self) -> &Page {
        match self {
            Self::Own(page) => page,
            Self::Shared(shared) => &shared.page,
        }
    }
}

/// The keys and values of one sequence.
#[derive(Debug)]
pub(crate) struct Cache {
    ty: CacheType,
    kv_heads: usize,
    head_dim: usize,
    /// Elements of a page.
    page_len: usize,
    pages: Vec<Held>,
    /// Positions whose keys and values are complete.
    len: usize,
}

impl Cache {
    /// An empty cache.
    pub(crate) const fn new(hyper: &Hyperparameters, ty: CacheType) -> Self {
        let (kv_heads, head_dim) = (hyper.kv_heads, hyper.head_dim);
        // No overflow: the hyperparameters have bounds.
        let page_len = hyper.layers * kv_heads * head_dim * 2 * PAGE;
        Self { ty, kv_heads, head_dim, page_len, pages: Vec::new(), len: 0 }
    }

    /// Positions whose keys and values are in the cache.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The type of the elements.
    pub(crate) const fn ty(&self) -> CacheType {
        self.ty
    }

    /// Keeps the first `len` positions, and frees the pages that have none of them.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE));
    }

    /// Bytes of the cache.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.len() * self.page_bytes() + allocation(self.pages.capacity() * size_of::<Held>())
    }

    /// Of [`bytes`](Self::bytes), those of pages that other caches have or may have.
    pub(crate) fn shared_bytes(&self) -> usize {
        self.shared_pages() * self.page_bytes()
    }

    /// Bytes of a page.
    pub(crate) const fn page_bytes(&self) -> usize {
        let element = match self.ty {
            CacheType::F16 => 2,
            CacheType::F32 => 4,
        };
        allocation(self.page_len * element)
    }

    /// Bytes that [`reserve`](Self::reserve) would add for sequences up to `len` positions.
    pub(crate) fn growth(&self, len: usize) -> usize {
        let pages = len.div_ceil(PAGE);
        let list =
            if pages > self.pages.capacity() { allocation(pages.next_power_of_two() * size_of::<Held>()) } else { 0 };
        pages.saturating_sub(self.pages.len()).saturating_mul(self.page_bytes()).saturating_add(list)
    }

    /// Allocates the pages for a sequence of `len` positions, and copies a shared page in which it goes on. The caller
    /// has charged [`growth`](Self::growth).
    ///
    /// # Errors
    ///
    /// `TooLarge` if the allocation fails.
    pub(crate) fn reserve(&mut self, len: usize) -> Result<(), Error> {
        if let Some(held) = self.pages.get_mut(self.len / PAGE).filter(|_| len > self.len)
            && let Held::Shared(shared) = held
        {
            let mut copy = Page::zeros(self.ty, self.page_len)?;
            match (&mut copy, &shared.page) {
                (Page::F16(to), Page::F16(from)) => to.copy_from_slice(from),
                (Page::F32(to), Page::F32(from)) => to.copy_from_slice(from),
                _ => return Err(Error::runtime_error("a shared page of a cache has another type")),
            }
            *held = Held::Own(copy);
        }
        let pages = len.div_ceil(PAGE);
        self.reserve_list(pages);
        while self.pages.len() < pages {
            self.pages.push(Held::Own(Page::zeros(self.ty, self.page_len)?));
        }
        Ok(())
    }

    fn reserve_list(&mut self, pages: usize) {
        if pages > self.pages.capacity() {
            self.pages.reserve_exact(pages.next_power_of_two() - self.pages.len());
        }
    }

    /// The pages at the beginning that are shared.
    pub(crate) fn shared_pages(&self) -> usize {
        self.pages.iter().take_while(|held| matches!(held, Held::Shared(_))).count()
    }

    /// Puts a shared page in the place `index`, which is that of one of its own or the next. The caller has charged it.
    pub(super) fn set_shared(&mut self, index: usize, shared: Arc<SharedPage>) {
        self.reserve_list(index + 1);
        if let Some(held) = self.pages.get_mut(index) {
            *held = Held::Shared(shared);
        } else if index == self.pages.len() {
            self.pages.push(Held::Shared(shared));
        }
    }

    /// Shares the page `index` of its own, which is full, as what `share` makes of it.
    pub(super) fn share(&mut self, index: usize, share: impl FnOnce(Page) -> Arc<SharedPage>) {
        if let Some(held) = self.pages.get_mut(index)
            && let Held::Own(page) = held
        {
            let page = mem::replace(page, Page::F32(Box::default()));
            *held = Held::Shared(share(page));
        }
    }

    /// Takes the positions up to `len`, which shared pages have, as complete.
    pub(super) fn set_len(&mut self, len: usize) {
        self.len = len.min(self.pages.len() * PAGE);
    }

    /// Elements of a tile.
    const fn tile_len(&self) -> usize {
        self.head_dim * PAGE
    }

    /// The first element of a head's tile of keys. Its tile of values comes after it.
    const fn tile(&self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * 2 * self.tile_len()
    }

    /// Writes the keys and values of all heads at a position, which a [`reserve`](Self::reserve) has covered.
    pub(crate) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (dim, slot) = (self.head_dim, position % PAGE);
        for head in 0..self.kv_heads {
            let keys = &keys[head * dim..(head + 1) * dim];
            let values = &values[head * dim..(head + 1) * dim];
            let (at, tile_len) = (self.tile(layer, head), self.tile_len());
            let Held::Own(page) = &mut self.pages[position / PAGE] else {
                unreachable!("`reserve` has copied it");
            };
            match page {
                Page::F16(elements) => {
                    let (key_tile, value_tile) = elements[at..at + 2 * tile_len].split_at_mut(tile_len);
                    let mut places = key_tile[slot..].iter_mut().step_by(PAGE);
                    for keys in keys.chunks(16) {
                        let mut halves = [f16::ZERO; 16];
                        halves[..keys.len()].convert_from_f32_slice(keys);
                        places.by_ref().zip(&halves[..keys.len()]).for_each(|(place, half)| *place = *half);
                    }
                    value_tile[slot * dim..(slot + 1) * dim].convert_from_f32_slice(values);
                }
                Page::F32(elements) => {
                    let (key_tile, value_tile) = elements[at..at + 2 * tile_len].split_at_mut(tile_len);
                    for (place, &key) in key_tile[slot..].iter_mut().step_by(PAGE).zip(keys) {
                        *place = key;
                    }
                    value_tile[slot * dim..(slot + 1) * dim].copy_from_slice(values);
                }
            }
        }
    }

    /// Copies the tiles of keys and values of a head to `tiles`, as f32.
    pub(crate) fn read(&self, page: usize, layer: usize, head: usize, tiles: &mut [f32]) {
        let at = self.tile(layer, head);
        match self.pages[page].page() {
            Page::F16(elements) => widen(&elements[at..at + tiles.len()], tiles),
            Page::F32(elements) => tiles.copy_from_slice(&elements[at..at + tiles.len()]),
        }
    }

    /// Begins to bring what [`read`](Self::read) would copy into the processor's cache, if there is such a page.
    pub(crate) fn fetch(&self, page: usize, layer: usize, head: usize) {
        let at = self.tile(layer, head);
        let range = at..at + 2 * self.tile_len();
        match self.pages.get(page).map(Held::page) {
            Some(Page::F16(elements)) => fetch(&elements[range]),
            Some(Page::F32(elements)) => fetch(&elements[range]),
            None => {}
        }
    }

    /// Takes the next `count` positions as complete.
    pub(crate) const fn advance(&mut self, count: usize) {
        self.len += count;
    }
}
