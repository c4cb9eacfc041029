//! Counts the blocks that are as large as what is copied.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The bytes of a tensor or a model.
pub const BYTES: u32 = 1 << 20;

/// The blocks of that size that `f` allocates. What else it allocates is a fraction of one.
pub fn blocks(f: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    f();
    region.change().bytes_allocated / BYTES as usize
}
