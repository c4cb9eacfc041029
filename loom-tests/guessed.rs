//! Handles that are guessed or forged, so that only the call itself orders a thread after the insertion.

use graphpool::pool::for_tests::Tiny;
use graphpool::{BindError, GuestHandle, Handle, HandleTable, Kind, pin};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::support::{Payload, Pool, explore, explore_bounded, new_pool};

/// The handle that the next insertion by another thread gets. Its chunk exists already, so that only the slot's word
/// orders a look-up after the insertion.
fn next_of_another(pool: &Pool<Payload>) -> Handle<Payload> {
    let [_, last] = [0, 0].map(|value| pool.insert(Payload::new(value)).unwrap());
    drop(pool.remove(last));
    Handle::from_bits(last.to_bits() + Tiny::GENERATION).expect("the tag is the same")
}

/// I1, I2: a removal by a guessed handle gets the whole entry or none.
#[test]
fn remove_of_a_guessed_handle_against_its_insert() {
    explore("remove of a guessed handle against its insert", || {
        let pool = new_pool();
        let guess = next_of_another(&pool);
        let inserter = Arc::clone(&pool);
        let inserter = thread::spawn(move || inserter.insert(Payload::new(1)).unwrap());
        let removed = pool.remove(guess).map(|value| value.read());
        assert_eq!(inserter.join().unwrap(), guess);
        assert!(removed.is_none_or(|value| value == 1));
        assert_eq!(pool.contains(guess), removed.is_none());
    });
}

/// I1: a thread for which `contains` is true sees what came before the insertion.
#[test]
fn contains_of_a_guessed_handle_against_its_insert() {
    explore("contains of a guessed handle against its insert", || {
        struct Before(UnsafeCell<u64>);
        // SAFETY: loom reports every race on the cell.
        unsafe impl Sync for Before {}
        // SAFETY: as above.
        unsafe impl Send for Before {}

        let pool = new_pool();
        let guess = next_of_another(&pool);
        let before = Arc::new(Before(UnsafeCell::new(0)));
        let (inserter, written) = (Arc::clone(&pool), Arc::clone(&before));
        let inserter = thread::spawn(move || {
            // SAFETY: loom reports a concurrent read.
            written.0.with_mut(|cell| unsafe { *cell = 1 });
            assert!(inserter.insert(Payload::new(1)).is_ok());
        });
        if pool.contains(guess) {
            // SAFETY: loom reports a concurrent write.
            assert_eq!(before.0.with(|cell| unsafe { *cell }), 1);
        }
        inserter.join().unwrap();
    });
}

/// I1: a pool refuses the handle of another pool, although its place is in use in both.
#[test]
fn a_foreign_handle_is_refused() {
    explore("a foreign handle is refused", || {
        let (pool, other) = (new_pool(), new_pool());
        let mine = pool.insert(Payload::new(1)).unwrap();
        let foreign = other.insert(Payload::new(2)).unwrap();
        assert!(pool.get(foreign, &pin()).is_none() && pool.acquire(foreign).is_none());
        assert!(!pool.contains(foreign) && pool.remove(foreign).is_none());
        let table = HandleTable::for_layout_pool(&pool, Kind::Zero);
        assert_eq!(table.bind(foreign), Err(BindError::ForeignHandle));
        assert_eq!(pool.get(mine, &pin()).unwrap().read(), 1);
    });
}

/// T1: a thread that resolves a guessed guest handle finds the entry that was inserted before the binding.
#[test]
fn resolve_of_a_guessed_guest_handle_against_its_binding() {
    explore_bounded("resolve of a guessed guest handle against its binding", 3, || {
        look_up_a_guess(HandleTable::resolve);
    });
}

/// T1: a thread that unbinds a guessed guest handle finds the entry that was inserted before the binding.
#[test]
fn unbind_of_a_guessed_guest_handle_against_its_binding() {
    explore_bounded("unbind of a guessed guest handle against its binding", 3, || {
        look_up_a_guess(HandleTable::unbind);
    });
}

fn look_up_a_guess(look_up: impl Fn(&HandleTable<Payload>, GuestHandle) -> Option<Handle<Payload>>) {
    let pool = new_pool();
    let table = Arc::new(HandleTable::for_layout_pool(&pool, Kind::One));
    // All pages exist already, so that only the binding orders the look-up after the insertion.
    let [kept, last] = [0, 0].map(|value| pool.insert(Payload::new(value)).unwrap());
    drop(pool.remove(last));
    let first = table.bind(kept).unwrap();
    let guess = GuestHandle::from_bits(first.to_bits() + (1 << 13));
    let (binder, inserter) = (Arc::clone(&table), Arc::clone(&pool));
    let binder = thread::spawn(move || {
        let handle = inserter.insert(Payload::new(1)).unwrap();
        assert_eq!(binder.bind(handle).unwrap(), guess);
    });
    if let Some(handle) = look_up(&table, guess) {
        assert!(pool.contains(handle), "it was inserted before");
    }
    binder.join().unwrap();
}

/// T1, T2: a guest handle of another kind, with another tag, or that was unbound resolves to nothing.
#[test]
fn a_forged_guest_handle_is_refused() {
    explore("a forged guest handle is refused", || {
        let pool = new_pool();
        let handle = pool.insert(1).unwrap();
        let table = HandleTable::for_layout_pool(&pool, Kind::Zero);
        let bound = table.bind(handle).unwrap();
        for bit in 0..32 {
            let forged = GuestHandle::from_bits(bound.to_bits() ^ 1 << bit);
            assert_eq!((table.resolve(forged), table.unbind(forged)), (None, None), "{forged:?}");
        }
        assert_eq!(table.unbind(bound), Some(handle));
        assert_eq!((table.resolve(bound), table.unbind(bound)), (None, None));
        for bit in 0..32 {
            let forged = GuestHandle::from_bits(bound.to_bits() ^ 1 << bit);
            assert_eq!((table.resolve(forged), table.unbind(forged)), (None, None), "{forged:?} of a vacant index");
        }
        assert_eq!(table.len(), 0);
    });
}
