//! The list under loom (M1, M2), with slots whose use by two at once is a report.

use super::{List, Marks};
use crate::model_support::{explore, explore_bounded};
use crate::sync::{Arc, UnsafeCell};

const CHUNKS: usize = 3;
const SLOTS: usize = 2;

/// A list, and what its slots hold: written by whoever has taken the slot's mark.
struct Slots {
    list: List,
    marks: [Marks; CHUNKS],
    turns: [[UnsafeCell<u32>; SLOTS]; CHUNKS],
}

// SAFETY: loom reports every race on a cell.
unsafe impl Sync for Slots {}
// SAFETY: as above.
unsafe impl Send for Slots {}

impl Slots {
    /// `marked` are the slots of each chunk that are marked at the start; chunk 0 is listed last.
    fn new(marked: [u64; CHUNKS]) -> Arc<Self> {
        let slots = Self {
            list: List::default(),
            marks: std::array::from_fn(|_| Marks::default()),
            turns: std::array::from_fn(|_| std::array::from_fn(|_| UnsafeCell::new(0))),
        };
        for (chunk, marked) in marked.into_iter().enumerate().rev().filter(|(_, marked)| *marked != 0) {
            slots.mark(chunk, marked);
        }
        Arc::new(slots)
    }

    /// Uses slots, and marks them.
    fn mark(&self, chunk: usize, slots: u64) {
        self.each(chunk, slots);
        self.list.mark(chunk, slots, |chunk| &self.marks[chunk]);
    }

    /// Takes what the first chunk of the list has, and uses it.
    fn take(&self) -> Option<(usize, u64)> {
        let (chunk, slots) = self.list.take(|chunk| Some(&self.marks[chunk]))?;
        assert_ne!(slots, 0, "a listed chunk has marks");
        self.each(chunk, slots);
        Some((chunk, slots))
    }

    fn each(&self, chunk: usize, slots: u64) {
        for slot in (0..SLOTS).filter(|slot| slots >> slot & 1 == 1) {
            // SAFETY: the slot is the caller's until it is marked (M1); loom reports where it isn't.
            self.turns[chunk][slot].with_mut(|turns| unsafe { *turns += 1 });
        }
    }

    /// Takes all that is listed: each chunk once, with the slots that are expected of it.
    fn assert_left(&self, expected: [u64; CHUNKS]) {
        let mut left = [0; CHUNKS];
        while let Some((chunk, slots)) = self.take() {
            assert_eq!(left[chunk], 0, "a chunk was listed twice");
            left[chunk] = slots;
        }
        assert_eq!(left, expected, "slots were lost, or are there twice");
    }
}

fn after<T: Send + 'static>(
    slots: &Arc<Slots>,
    run: impl FnOnce(&Slots) -> T + Send + 'static,
) -> loom::thread::JoinHandle<T> {
    let slots = Arc::clone(slots);
    loom::thread::spawn(move || run(&slots))
}

fn add(left: &mut [u64; CHUNKS], taken: Option<(usize, u64)>) {
    if let Some((chunk, slots)) = taken {
        assert_eq!(left[chunk] & slots, 0, "two took one slot");
        left[chunk] |= slots;
    }
}

/// M2: two that mark slots of one chunk list it once, and both slots are there.
#[test]
fn mark_against_mark_of_the_same_chunk() {
    explore("list: mark against mark of the same chunk", || {
        let slots = Slots::new([0, 0, 0b01]);
        let other = after(&slots, |slots| slots.mark(0, 0b10));
        slots.mark(0, 0b01);
        other.join().expect("no panic");
        slots.assert_left([0b11, 0, 0b01]);
    });
}

/// M2: two that list chunks both do.
#[test]
fn mark_against_mark_of_another_chunk() {
    explore("list: mark against mark of another chunk", || {
        let slots = Slots::new([0, 0, 0b01]);
        let other = after(&slots, |slots| slots.mark(1, 0b10));
        slots.mark(0, 0b01);
        other.join().expect("no panic");
        slots.assert_left([0b01, 0b10, 0b01]);
    });
}

/// M1, M2: a slot that is marked while its chunk is taken goes with it, or is there for the next.
#[test]
fn mark_against_take_of_the_same_chunk() {
    explore("list: mark against take of the same chunk", || {
        let slots = Slots::new([0b01, 0, 0b11]);
        let other = after(&slots, |slots| slots.mark(0, 0b10));
        let taken = slots.take();
        other.join().expect("no panic");
        let mut all = [0; CHUNKS];
        add(&mut all, taken);
        assert!(all == [0b01, 0, 0] || all == [0b11, 0, 0], "{all:?}");
        slots.assert_left([0b11 & !all[0], 0, 0b11]);
    });
}

/// M1: a taker that finds what was marked sees what the marker did.
#[test]
fn mark_against_take_of_nothing_else() {
    explore("list: mark against take of nothing else", || {
        let slots = Slots::new([0, 0, 0]);
        let other = after(&slots, |slots| slots.mark(0, 0b11));
        let mut all = [0; CHUNKS];
        add(&mut all, slots.take());
        other.join().expect("no panic");
        slots.assert_left([0b11 & !all[0], 0, 0]);
    });
}

/// M2: what follows a chunk on the list stays there when another is put before it and taken.
#[test]
fn mark_against_take_of_another_chunk() {
    explore("list: mark against take of another chunk", || {
        let slots = Slots::new([0, 0, 0b01]);
        let other = after(&slots, |slots| slots.mark(0, 0b10));
        let mut all = [0; CHUNKS];
        add(&mut all, slots.take());
        other.join().expect("no panic");
        slots.assert_left([0b10 & !all[0], 0, 0b01 & !all[2]]);
    });
}

/// M1: two takers take different chunks.
#[test]
fn take_against_take() {
    explore("list: take against take", || {
        let slots = Slots::new([0b11, 0b10, 0]);
        let other = after(&slots, Slots::take);
        let mut all = [0; CHUNKS];
        add(&mut all, slots.take());
        add(&mut all, other.join().expect("no panic"));
        assert_eq!(all, [0b11, 0b10, 0]);
        slots.assert_left([0, 0, 0]);
    });
}

/// M1, M2: the chunk at the top is the same again, but what follows it is not.
#[test]
fn take_against_a_top_that_comes_back_with_4_preemptions() {
    explore_bounded("list: take against a top that comes back", 4, || {
        let slots = Slots::new([0b01, 0b01, 0b01]);
        let other = after(&slots, Slots::take);
        let mut all = [0; CHUNKS];
        let (first, second) = (slots.take(), slots.take());
        // What was first on the list is so again, without the second.
        if let Some((chunk, marked)) = first {
            slots.mark(chunk, marked);
        }
        add(&mut all, second);
        add(&mut all, other.join().expect("no panic"));
        slots.assert_left(all.map(|taken| 0b01 & !taken));
    });
}

/// M1, M2: the chunk at the top is the same again after as many pushes as were there before, over another chunk.
#[test]
fn take_against_a_top_that_comes_back_over_another_with_4_preemptions() {
    explore_bounded("list: take against a top that comes back over another", 4, || {
        let slots = Slots::new([0b01, 0b01, 0]);
        let other = after(&slots, Slots::take);
        let mut all = [0; CHUNKS];
        let (first, second) = (slots.take(), slots.take());
        slots.mark(2, 0b01);
        if let Some((chunk, marked)) = first {
            slots.mark(chunk, marked);
        }
        add(&mut all, second);
        add(&mut all, other.join().expect("no panic"));
        slots.assert_left(all.map(|taken| 0b01 & !taken));
    });
}

/// M1, M2: one slot that is marked and taken round and round by two threads is one's at a time.
#[test]
fn a_slot_goes_round_between_two_with_4_preemptions() {
    explore_bounded("list: a slot goes round between two", 4, || {
        let slots = Slots::new([0b01, 0b10, 0]);
        let round = |slots: &Slots| {
            if let Some((chunk, marked)) = slots.take() {
                slots.mark(chunk, marked);
            }
        };
        let other = after(&slots, round);
        round(&slots);
        round(&slots);
        other.join().expect("no panic");
        slots.assert_left([0b01, 0b10, 0]);
    });
}
