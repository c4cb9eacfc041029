//! Pages of prompts that the sessions of a graph share.
//!
//! A session offers the full pages of its prompt, and a session whose prompt begins with the same tokens takes them
//! instead of passing those tokens again. What a page has depends on the model and on the tokens up to its last one
//! alone, and not on how they were passed, so a text is the same with pages of another session as without them.
//!
//! * P1, equality: a page is found by the number of the sequence before it and by its own tokens, all of which are
//!   compared. Numbers are not used again. So a session gets a page exactly for the tokens that made it, whatever their
//!   hashes are.
//! * P2, immutability: a page that is here is full, and never written again.
//! * P3, bound: the pages that are kept take at most the bytes that the graph was charged when it was loaded. The one
//!   that was used the longest ago makes room for a new one. One that a session has stays; if all are such, the new
//!   page stays the session's own.
//! * P4, order: a page goes before the pages in front of it. They were used at least as late, and a session that has a
//!   page has those in front of it, too.
//! * P5, accounts: a session counts all pages that it has, and checks its limits in the same order, as if none was
//!   shared. So no limit fails or holds because of another session's prompt. The bytes of kept pages are those of the
//!   graph as well, so a session says which of its bytes these are ([`Cache::shared_bytes`]).
//!
//! What is left to see is the time: a session whose prompt begins with whole pages of another one's is faster. A guest
//! can guess another's prompt in this way, [`PAGE`] tokens at once. A host whose guests must not learn this switches
//! sharing off, for all models of a backend or for one.
//!
//! All of it is behind one mutex, which is held for a look-up of each page and for the choice of what makes room. Pages
//! are cloned under this lock only, so the count of one that nobody else has does not rise meanwhile.

use super::cache::{Cache, CacheType, PAGE, SharedPage};
use crate::tensor::budget::allocation;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most pages, so that the search for the one to remove is short.
const MOST_PAGES: usize = 4096;

/// Bytes of the table for each page, also while it grows.
const TABLE_BYTES: usize = 768;

/// The pages of a graph, and of those that were made from it with other options.
#[derive(Debug)]
pub(crate) struct PrefixPages {
    state: Mutex<State>,
    /// The most bytes.
    limit: usize,
}

#[derive(Debug)]
struct State {
    /// By the number of the sequence before a page, and the page's tokens.
    nodes: HashMap<(u64, [u32; PAGE]), Node>,
    bytes: usize,
    /// The time of the last use.
    now: u64,
    /// The last number of a sequence.
    last: u64,
}

#[derive(Debug)]
struct Node {
    shared: Arc<SharedPage>,
    used: u64,
    depth: usize,
    bytes: usize,
}

/// The number of the empty sequence, for caches of a type: their pages differ.
const fn root(ty: CacheType) -> u64 {
    match ty {
        CacheType::F16 => 0,
        CacheType::F32 => 1,
    }
}

impl PrefixPages {
    /// Keeps at most `limit` bytes of pages; 0 keeps none, and nothing is shared.
    pub(crate) fn new(limit: usize) -> Self {
        Self { state: Mutex::new(State { nodes: HashMap::new(), bytes: 0, now: 0, last: 1 }), limit }
    }

    /// The most bytes of pages.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// The pages with which `tokens` begin.
    pub(crate) fn find(&self, ty: CacheType, tokens: &[u32]) -> Vec<Arc<SharedPage>> {
        if self.limit == 0 {
            return Vec::new();
        }
        let mut state = self.lock();
        state.now += 1;
        let (now, mut before) = (state.now, root(ty));
        let found = tokens.as_chunks::<PAGE>().0.iter().map_while(|tokens| {
            let node = state.nodes.get_mut(&(before, *tokens))?;
            node.used = now;
            before = node.shared.id;
            Some(Arc::clone(&node.shared))
        });
        found.collect()
    }

    /// Shares the full pages of `cache` that have `tokens`, its first ones. Where another session has shared an equal
    /// page before, the cache has that one afterwards.
    pub(crate) fn share(&self, cache: &mut Cache, tokens: &[u32]) {
        let bytes = cache.page_bytes() + allocation(size_of::<SharedPage>() + 2 * size_of::<usize>()) + TABLE_BYTES;
        if bytes > self.limit {
            return;
        }
        let mut state = self.lock();
        state.now += 1;
        let (now, mut before) = (state.now, root(cache.ty()));
        let own = cache.shared_pages();
        for (depth, tokens) in tokens.as_chunks::<PAGE>().0.iter().enumerate() {
            if let Some(node) = state.nodes.get_mut(&(before, *tokens)) {
                node.used = now;
                before = node.shared.id;
                if depth >= own {
                    cache.set_shared(depth, Arc::clone(&node.shared));
                }
                continue;
            }
            // P4: the shared ones are found.
            if depth < own || !state.make_room(bytes, self.limit) {
                return;
            }
            state.last += 1;
            let id = state.last;
            cache.share(depth, |page| {
                let shared = Arc::new(SharedPage { id, page });
                let node = Node { shared: Arc::clone(&shared), used: now, depth, bytes };
                state.nodes.insert((before, *tokens), node);
                state.bytes += bytes;
                shared
            });
            before = id;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl PrefixPages {
    /// The number of pages, and their bytes.
    pub(crate) fn kept(&self) -> (usize, usize) {
        let state = self.lock();
        assert_eq!(state.bytes, state.nodes.values().map(|node| node.bytes).sum::<usize>());
        (state.nodes.len(), state.bytes)
    }
}

impl State {
    /// P3: whether there is room for `bytes` more, after pages that no session has were removed.
    fn make_room(&mut self, bytes: usize, limit: usize) -> bool {
        while self.bytes + bytes > limit || self.nodes.len() >= MOST_PAGES {
            let free = self.nodes.iter().filter(|(_, node)| Arc::strong_count(&node.shared) == 1);
            let Some((&key, _)) = free.min_by_key(|(_, node)| (node.used, Reverse(node.depth))) else { return false };
            if let Some(node) = self.nodes.remove(&key) {
                self.bytes -= node.bytes;
            }
        }
        true
    }
}
