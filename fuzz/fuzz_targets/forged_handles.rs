//! Any number at all as a handle and as a guest handle, while slots and indexes are in every state there is: live,
//! vacant, removed and waiting, used up. What was never given out, or is gone, resolves to nothing.
#![no_main]

use graphpool::pool::for_tests::{Layout, LayoutPool, Standard, Tiny};
use graphpool::{BindError, GuestHandle, Handle, HandleTable, Kind, pin};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Attack {
    tiny: bool,
    /// Entries at first, and how often each of them is removed and another put in.
    reuses: [u8; 5],
    held: bool,
    handles: Vec<u64>,
    /// Numbers near one that is live or was.
    near: Vec<(u8, u64)>,
    guest_handles: Vec<u32>,
    guest_near: Vec<(u8, u32)>,
}

fn attack<L: Layout>(attack: &Attack) {
    let pool: LayoutPool<u64, L> = LayoutPool::new();
    let (graphs, contexts) =
        (HandleTable::for_layout_pool(&pool, Kind::Zero), HandleTable::for_layout_pool(&pool, Kind::One));
    let held = attack.held.then(pin);
    let (mut live, mut bound, mut known, mut guests_known) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (number, reuses) in attack.reuses.iter().enumerate() {
        for round in 0..=*reuses % 10 {
            let Ok(handle) = pool.insert(number as u64) else { break };
            let guest_handle = graphs.bind(handle).expect("there are 2^19");
            known.push(handle.to_bits());
            guests_known.push(guest_handle.to_bits());
            if round == *reuses % 10 && number % 2 == 0 {
                live.push((handle, number as u64));
                bound.push((guest_handle, handle));
            } else {
                assert_eq!(graphs.unbind(guest_handle), Some(handle));
                assert_eq!(pool.remove(handle).as_deref(), Some(&(number as u64)));
            }
        }
    }
    let guard = pin();
    let probe = |bits: u64| {
        let Some(handle) = Handle::from_bits(bits) else { return };
        let expected = live.iter().find(|(known, _)| *known == handle).map(|(_, value)| value);
        assert_eq!(pool.get(handle, &guard), expected);
        assert_eq!(pool.acquire(handle).as_deref(), expected);
        assert_eq!(pool.contains(handle), expected.is_some());
        if expected.is_none() {
            assert!(pool.remove(handle).is_none());
        }
        // A table refuses what another pool's tag is on, and holds on to the rest as it is.
        match contexts.bind(handle) {
            Ok(guest_handle) => {
                assert_eq!(contexts.resolve(guest_handle), Some(handle));
                assert_eq!(graphs.resolve(guest_handle), None);
                assert_eq!(contexts.unbind(guest_handle), Some(handle));
            }
            Err(error) => assert!(error == BindError::ForeignHandle && expected.is_none()),
        }
    };
    let probe_guest = |bits: u32| {
        let guest_handle = GuestHandle::from_bits(bits);
        let expected = bound.iter().find(|(known, _)| *known == guest_handle).map(|(_, handle)| *handle);
        assert_eq!(graphs.resolve(guest_handle), expected);
        assert_eq!(contexts.resolve(guest_handle), None);
        assert_eq!(contexts.unbind(guest_handle), None);
        if expected.is_none() {
            assert_eq!(graphs.unbind(guest_handle), None);
        }
    };
    attack.handles.iter().for_each(|bits| probe(*bits));
    attack.guest_handles.iter().for_each(|bits| probe_guest(*bits));
    for (which, bits) in &attack.near {
        if let Some(known) = known.get(usize::from(*which) % known.len().max(1)) {
            probe(known ^ bits);
            probe(known.wrapping_add(*bits));
        }
    }
    for (which, bits) in &attack.guest_near {
        if let Some(known) = guests_known.get(usize::from(*which) % guests_known.len().max(1)) {
            probe_guest(known ^ bits);
            probe_guest(known.wrapping_add(*bits));
        }
    }
    drop((guard, held));
    assert_eq!((pool.len(), graphs.len(), contexts.len()), (live.len(), bound.len(), 0));
}

fuzz_target!(|input: Attack| if input.tiny { attack::<Tiny>(&input) } else { attack::<Standard>(&input) });
