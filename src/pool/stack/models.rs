//! The stack under loom (M1, M2), with slots for which loom reports two users at once.

use super::{ChunkStack, SlotMarks};
use crate::model_support::{explore, explore_bounded};
use crate::sync::{Arc, UnsafeCell};

const CHUNKS: usize = 3;
const SLOTS: usize = 2;

/// A stack, and for each slot a cell that the thread which has taken the slot's mark writes.
struct Slots {
    stack: ChunkStack,
    marks: [SlotMarks; CHUNKS],
    turns: [[UnsafeCell<u32>; SLOTS]; CHUNKS],
}

// SAFETY: loom reports every race on a cell.
unsafe impl Sync for Slots {}
// SAFETY: as above.
unsafe impl Send for Slots {}

impl Slots {
    /// `marked` are the slots of each chunk that are marked at the start; chunk 0 is on top.
    fn new(marked: [u64; CHUNKS]) -> Arc<Self> {
        let slots = Self {
            stack: ChunkStack::default(),
            marks: std::array::from_fn(|_| SlotMarks::default()),
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
        self.stack.mark(chunk, slots, |chunk| &self.marks[chunk]);
    }

    /// Takes the marked slots of the top chunk, and uses them.
    fn take(&self) -> Option<(usize, u64)> {
        let (chunk, slots) = self.stack.take(|chunk| Some(&self.marks[chunk]))?;
        assert_ne!(slots, 0, "a chunk on the stack has marks");
        self.each(chunk, slots);
        Some((chunk, slots))
    }

    fn each(&self, chunk: usize, slots: u64) {
        for slot in (0..SLOTS).filter(|slot| slots >> slot & 1 == 1) {
            // SAFETY: the caller owns the slot until it is marked (M1); loom reports another user.
            self.turns[chunk][slot].with_mut(|turns| unsafe { *turns += 1 });
        }
    }

    /// Takes all chunks: each one once, with the expected slots.
    fn assert_left(&self, expected: [u64; CHUNKS]) {
        let mut left = [0; CHUNKS];
        while let Some((chunk, slots)) = self.take() {
            assert_eq!(left[chunk], 0, "a chunk was on the stack twice");
            left[chunk] = slots;
        }
        assert_eq!(left, expected, "slots were lost, or taken twice");
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
        assert_eq!(left[chunk] & slots, 0, "two threads took one slot");
        left[chunk] |= slots;
    }
}

/// M2: two threads that mark slots of one chunk push it once, and both slots are marked.
#[test]
fn mark_against_mark_of_the_same_chunk() {
    explore("stack: mark against mark of the same chunk", || {
        let slots = Slots::new([0, 0, 0b01]);
        let other = after(&slots, |slots| slots.mark(0, 0b10));
        slots.mark(0, 0b01);
        other.join().expect("no panic");
        slots.assert_left([0b11, 0, 0b01]);
    });
}

/// M2: two threads that push chunks both do.
#[test]
fn mark_against_mark_of_another_chunk() {
    explore("stack: mark against mark of another chunk", || {
        let slots = Slots::new([0, 0, 0b01]);
        let other = after(&slots, |slots| slots.mark(1, 0b10));
        slots.mark(0, 0b01);
        other.join().expect("no panic");
        slots.assert_left([0b01, 0b10, 0b01]);
    });
}

/// M1, M2: a slot that is marked while its chunk is popped is taken with it, or is left for the next take.
#[test]
fn mark_against_take_of_the_same_chunk() {
    explore("stack: mark against take of the same chunk", || {
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

/// M1: a thread that takes a mark sees what the thread that set it did before.
#[test]
fn mark_against_take_of_nothing_else() {
    explore("stack: mark against take of nothing else", || {
        let slots = Slots::new([0, 0, 0]);
        let other = after(&slots, |slots| slots.mark(0, 0b11));
        let mut all = [0; CHUNKS];
        add(&mut all, slots.take());
        other.join().expect("no panic");
        slots.assert_left([0b11 & !all[0], 0, 0]);
    });
}

/// M2: a chunk stays on the stack when another one is pushed on top of it and popped.
#[test]
fn mark_against_take_of_another_chunk() {
    explore("stack: mark against take of another chunk", || {
        let slots = Slots::new([0, 0, 0b01]);
        let other = after(&slots, |slots| slots.mark(0, 0b10));
        let mut all = [0; CHUNKS];
        add(&mut all, slots.take());
        other.join().expect("no panic");
        slots.assert_left([0b10 & !all[0], 0, 0b01 & !all[2]]);
    });
}

/// M1: two threads that take get different chunks.
#[test]
fn take_against_take() {
    explore("stack: take against take", || {
        let slots = Slots::new([0b11, 0b10, 0]);
        let other = after(&slots, Slots::take);
        let mut all = [0; CHUNKS];
        add(&mut all, slots.take());
        add(&mut all, other.join().expect("no panic"));
        assert_eq!(all, [0b11, 0b10, 0]);
        slots.assert_left([0, 0, 0]);
    });
}

/// M1, M2: the stack has the same top again, with another chunk below it.
#[test]
fn take_against_aba_of_the_top_with_4_preemptions() {
    explore_bounded("stack: take against ABA of the top", 4, || {
        let slots = Slots::new([0b01, 0b01, 0b01]);
        let other = after(&slots, Slots::take);
        let mut all = [0; CHUNKS];
        let (first, second) = (slots.take(), slots.take());
        // The first chunk is on top again, without the second one below it.
        if let Some((chunk, marked)) = first {
            slots.mark(chunk, marked);
        }
        add(&mut all, second);
        add(&mut all, other.join().expect("no panic"));
        slots.assert_left(all.map(|taken| 0b01 & !taken));
    });
}

/// M1, M2: the stack has the same top again, over a chunk that was pushed in the meantime.
#[test]
fn take_against_aba_of_the_top_over_another_chunk_with_4_preemptions() {
    explore_bounded("stack: take against ABA of the top over another chunk", 4, || {
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

/// M1, M2: a slot that two threads mark and take again and again has one owner at a time.
#[test]
fn a_slot_is_passed_between_two_threads_with_4_preemptions() {
    explore_bounded("stack: a slot is passed between two threads", 4, || {
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
