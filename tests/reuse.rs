//! A stale handle while its slot is reused. In a process of its own: in another one a thread of another test may be the
//! one that collects, and so have the slot.
#![cfg(not(loom))]

use graphpool::{Pool, pin};

#[test]
fn a_stale_handle_never_resolves_in_10_000_reuses_of_its_slot() {
    const PLACE: u64 = (1 << 24) - 1;
    let pool = Pool::new();
    let stale = pool.insert(0_u32).unwrap();
    pool.remove(stale);
    pool.flush();
    let mut reuses = 0;
    while reuses < 10_000 {
        let handle = pool.insert(1).unwrap();
        reuses += u32::from(handle.to_bits() & PLACE == stale.to_bits() & PLACE);
        assert!(!pool.contains(stale) && pool.get(stale, &pin()).is_none() && pool.remove(stale).is_none());
        assert!(pool.remove(handle).is_some());
        assert!(handle.to_bits() & PLACE < 1024, "vacant slots are reused before a chunk is made");
    }

    // The fault that the pool rules out.
    let slab = sharded_slab::Slab::new();
    let stale = slab.insert(0).unwrap();
    slab.remove(stale);
    let resolved_after = (1..100_000).find(|_| {
        let key = slab.insert(1).unwrap();
        let resolved = slab.get(stale).is_some();
        slab.remove(key);
        resolved
    });
    assert_eq!(resolved_after, Some(8191));
}
