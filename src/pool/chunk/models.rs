//! Two threads that exhaust the last slots of a chunk, under loom.

use super::Chunk;
use crate::model_support::explore;
use crate::pool::layout::Tiny;
use crate::sync::Arc;

/// I4: of two threads that exhaust the last two slots of a chunk, one learns that all slots are exhausted.
#[test]
fn the_last_slot_against_the_other() {
    explore("chunk: the last slot against the other", || {
        let chunk = Arc::new(Chunk::default());
        let others = Arc::clone(&chunk);
        let other = loom::thread::spawn(move || others.mark_exhausted::<Tiny>(0b01));
        let mine = chunk.mark_exhausted::<Tiny>(0b10);
        assert_ne!(mine, other.join().expect("no panic"));
    });
}
