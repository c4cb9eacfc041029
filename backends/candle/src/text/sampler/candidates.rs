//! The tokens from which the next one is drawn, in the order of their logits as far as it is needed.

/// Tokens with their logits.
///
/// Each is one number, which orders as the logits do and after them as the tokens do, lower ones first, so that the
/// order is the same whatever made it.
#[derive(Debug)]
pub(super) struct Candidates {
    keys: Vec<u64>,
    /// So many of the first are the highest, in descending order.
    sorted: usize,
    /// For another order. Empty, with room if one was asked for.
    other: Vec<u64>,
}

impl Candidates {
    /// Bytes for `most` candidates, and for another order of them.
    pub(super) const fn memory(most: usize, other: bool) -> usize {
        most.saturating_mul(if other { 2 } else { 1 } * size_of::<u64>())
    }

    /// Room for `most` candidates, and for another order of them.
    pub(super) fn with_capacity(most: usize, other: bool) -> Self {
        Self { keys: Vec::with_capacity(most), sorted: 0, other: Vec::with_capacity(if other { most } else { 0 }) }
    }

    /// The candidates of the highest `most` logits, none of which is NaN.
    pub(super) fn fill(&mut self, logits: &[f32], most: usize) {
        self.keys.clear();
        self.sorted = 0;
        for (token, &logit) in logits.iter().enumerate() {
            let key = key(logit, token as u32);
            if self.keys.len() < most {
                self.keys.push(key);
                if self.keys.len() == most && most < logits.len() {
                    heapify(&mut self.keys);
                }
            } else if self.keys.first().is_some_and(|&lowest| lowest < key) {
                self.keys[0] = key;
                sift_down(&mut self.keys, 0);
            }
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.keys.len()
    }

    /// So many of the first are the highest, in descending order.
    pub(super) const fn sorted(&self) -> usize {
        self.sorted
    }

    /// The token and the logit of a candidate.
    pub(super) fn get(&self, at: usize) -> (u32, f32) {
        let key = self.keys[at];
        let ordered = (key >> 32) as u32;
        let bits = if ordered >> 31 == 1 { ordered ^ 1 << 31 } else { !ordered };
        (!(key as u32), f32::from_bits(bits))
    }

    /// Puts the highest `count` at the beginning, in descending order.
    pub(super) fn sort(&mut self, count: usize) {
        let count = count.min(self.keys.len());
        if count <= self.sorted {
            return;
        }
        let rest = &mut self.keys[self.sorted..];
        let take = count - self.sorted;
        // Not by selection, which leaves the others in an order that nobody promises, and sums depend on it.
        if count == 1 {
            let highest = (0..rest.len()).max_by_key(|&at| rest[at]).unwrap_or_default();
            rest.swap(0, highest);
            self.sorted = 1;
            return;
        }
        if take < rest.len() {
            rest.select_nth_unstable_by(take, |a, b| b.cmp(a));
        }
        rest[..take].sort_unstable_by(|a, b| b.cmp(a));
        self.sorted = count;
    }

    /// Keeps the first `count` of the order, of which there is at least one.
    pub(super) fn keep(&mut self, count: usize) {
        let count = count.max(1);
        self.sort(count);
        self.keys.truncate(count);
        self.sorted = self.sorted.min(count);
    }

    /// Puts all candidates in the order of `scores`, lowest first. A score is not negative and not NaN.
    pub(super) fn sort_by(&mut self, score: impl Fn(f32) -> f32) {
        self.other.clear();
        for at in 0..self.keys.len() {
            // Floats that are not negative order as their bits do.
            self.other.push(u64::from(score(self.get(at).1).to_bits()) << 32 | at as u64);
        }
        self.other.sort_unstable();
        for entry in &mut self.other {
            *entry = self.keys[*entry as u32 as usize];
        }
        std::mem::swap(&mut self.keys, &mut self.other);
        self.sorted = 0;
    }

    /// Keeps the first `count` as they are now, whatever their order, of which there is at least one.
    pub(super) fn truncate(&mut self, count: usize) {
        self.keys.truncate(count.max(1));
    }
}

fn key(logit: f32, token: u32) -> u64 {
    let bits = logit.to_bits();
    // Ordered as the floats are: negative ones reversed, and below the others.
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(!token)
}

/// Orders a list so that each number is at most those at twice its position and one or two more.
fn heapify(heap: &mut [u64]) {
    for at in (0..heap.len() / 2).rev() {
        sift_down(heap, at);
    }
}

fn sift_down(heap: &mut [u64], mut at: usize) {
    loop {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        let mut least = at;
        for child in [left, right] {
            if heap.get(child).is_some_and(|&key| key < heap[least]) {
                least = child;
            }
        }
        if least == at {
            return;
        }
        heap.swap(at, least);
        at = least;
    }
}
