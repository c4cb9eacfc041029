//! Random sequences of calls against a plain map that says what each must answer.
#![cfg(not(loom))]

use std::collections::{BTreeMap, HashSet};

use graphpool::{GuestHandle, Handle, HandleTable, Kind, Pool, pin};
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Debug, Clone)]
enum Call {
    Insert(u32),
    InsertKnowing,
    /// Of any handle that was ever made, live or not.
    Get(Index),
    Acquire(Index),
    Remove(Index),
    /// Of a number near one that was made.
    Forge(Index, u64),
    RetainEven,
    Clear,
    Flush,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        8 => any::<u32>().prop_map(Call::Insert),
        2 => Just(Call::InsertKnowing),
        6 => any::<Index>().prop_map(Call::Get),
        2 => any::<Index>().prop_map(Call::Acquire),
        6 => any::<Index>().prop_map(Call::Remove),
        4 => (any::<Index>(), any::<u64>()).prop_map(|(index, bits)| Call::Forge(index, bits)),
        1 => Just(Call::RetainEven),
        1 => Just(Call::Clear),
        2 => Just(Call::Flush),
    ];
    prop::collection::vec(call, 0..200)
}

fn some(made: &[Handle<u32>], index: Index) -> Option<Handle<u32>> {
    (!made.is_empty()).then(|| *index.get(made))
}

proptest! {
    #[test]
    fn the_pool_answers_as_a_map_does(calls in calls()) {
        let pool = Pool::new();
        let mut live = BTreeMap::new();
        let mut made = Vec::new();
        for call in calls {
            match call {
                Call::Insert(value) => {
                    let handle = pool.insert(value).unwrap();
                    prop_assert!(!made.contains(&handle), "a handle came twice");
                    made.push(handle);
                    live.insert(handle, value);
                }
                Call::InsertKnowing => {
                    let handle = pool.insert_with(|handle| handle.to_bits() as u32).unwrap();
                    made.push(handle);
                    live.insert(handle, handle.to_bits() as u32);
                }
                Call::Get(index) => if let Some(handle) = some(&made, index) {
                    prop_assert_eq!(pool.get(handle, &pin()).copied(), live.get(&handle).copied());
                    prop_assert_eq!(pool.contains(handle), live.contains_key(&handle));
                },
                Call::Acquire(index) => if let Some(handle) = some(&made, index) {
                    prop_assert_eq!(pool.acquire(handle).as_deref().copied(), live.get(&handle).copied());
                },
                Call::Remove(index) => if let Some(handle) = some(&made, index) {
                    prop_assert_eq!(pool.remove(handle).as_deref().copied(), live.remove(&handle));
                },
                Call::Forge(index, bits) => {
                    let near = some(&made, index).map_or(bits, |handle| handle.to_bits() ^ bits & bits >> 7);
                    if let Some(forged) = Handle::from_bits(near) {
                        prop_assert_eq!(pool.get(forged, &pin()).copied(), live.get(&forged).copied());
                    }
                }
                Call::RetainEven => {
                    let odd = live.values().filter(|value| *value % 2 == 1).count();
                    live.retain(|_, value| *value % 2 == 0);
                    prop_assert_eq!(pool.retain(|_, value| value % 2 == 0), odd);
                }
                Call::Clear => {
                    prop_assert_eq!(pool.clear(), live.len());
                    live.clear();
                }
                Call::Flush => pool.flush(),
            }
            prop_assert_eq!(pool.len(), live.len());
        }
        let guard = pin();
        let walked: BTreeMap<_, _> = pool.iter(&guard).map(|(handle, value)| (handle, *value)).collect();
        prop_assert_eq!(walked, live);
    }

    #[test]
    fn the_table_answers_as_a_map_does(
        calls in prop::collection::vec((0..5_u8, any::<Index>(), any::<u32>()), 0..300),
    ) {
        let pool = Pool::new();
        let handles: Vec<Handle<usize>> = (0..8).map(|value| pool.insert(value).unwrap()).collect();
        let table = HandleTable::new(&pool, Kind::Context);
        let mut live = BTreeMap::new();
        let mut made: Vec<GuestHandle> = Vec::new();
        let mut seen = HashSet::new();
        for (call, index, bits) in calls {
            let known = if made.is_empty() { GuestHandle::from_bits(bits) } else { *index.get(&made) };
            match call {
                0 | 1 => {
                    let handle = *index.get(&handles);
                    let bound = table.bind(handle).unwrap();
                    prop_assert!(seen.insert(bound), "a guest handle came twice");
                    made.push(bound);
                    live.insert(bound, handle);
                }
                2 => prop_assert_eq!(table.unbind(known), live.remove(&known)),
                3 => prop_assert_eq!(table.resolve(known), live.get(&known).copied()),
                _ => {
                    let forged = GuestHandle::from_bits(known.to_bits() ^ bits & bits >> 5 & bits >> 9);
                    prop_assert_eq!(table.resolve(forged), live.get(&forged).copied());
                }
            }
        }
        prop_assert_eq!(table.len(), live.len());
        let mut drained: Vec<_> = table.drain().collect();
        drained.sort_unstable();
        let mut left: Vec<_> = live.into_values().collect();
        left.sort_unstable();
        prop_assert_eq!(drained, left);
    }
}
