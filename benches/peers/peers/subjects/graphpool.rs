//! The pool: under a guard that is kept, one that is re-pinned for each call, and one pinned for each call; and
//! behind a guest's table.

use std::sync::Arc;

use graphpool::{Guard, GuestHandle, Handle, HandleTable, Kind, Pool, pin};

use crate::subject::{Churn, Subject};

fn filled(count: usize) -> (Pool<u64>, Vec<Handle<u64>>) {
    let pool = Pool::new();
    let handles = (0..count as u64).map(|value| pool.insert(value).expect("there is room")).collect();
    (pool, handles)
}

/// One guard for a batch of calls.
pub struct Held(Pool<u64>);

impl Subject for Held {
    const NAME: &'static str = "graphpool-held";
    type Key = Handle<u64>;
    type Reader<'a> = Guard;

    fn filled(count: usize) -> (Self, Vec<Self::Key>) {
        let (pool, handles) = filled(count);
        (Self(pool), handles)
    }

    fn reader(&self) -> Guard {
        pin()
    }

    #[inline]
    fn get(&self, guard: &mut Guard, key: Self::Key) -> Option<u64> {
        self.0.get(key, guard).copied()
    }

    #[inline]
    fn acquire(&self, _: &mut Guard, key: Self::Key) -> Option<Arc<u64>> {
        self.0.acquire(key)
    }
}

impl Churn for Held {
    #[inline]
    fn insert(&self, _: &mut Guard, value: u64) -> Self::Key {
        self.0.insert(value).expect("there is room")
    }

    #[inline]
    fn remove(&self, _: &mut Guard, key: Self::Key) -> Option<Arc<u64>> {
        self.0.remove(key)
    }

    #[inline]
    fn rest(guard: &mut Guard) {
        guard.repin();
    }
}

/// One guard, re-pinned before each call.
pub struct Repinned(Pool<u64>);

impl Subject for Repinned {
    const NAME: &'static str = "graphpool-repin";
    type Key = Handle<u64>;
    type Reader<'a> = Guard;

    fn filled(count: usize) -> (Self, Vec<Self::Key>) {
        let (pool, handles) = filled(count);
        (Self(pool), handles)
    }

    fn reader(&self) -> Guard {
        pin()
    }

    #[inline]
    fn get(&self, guard: &mut Guard, key: Self::Key) -> Option<u64> {
        guard.repin();
        self.0.get(key, guard).copied()
    }

    #[inline]
    fn acquire(&self, guard: &mut Guard, key: Self::Key) -> Option<Arc<u64>> {
        guard.repin();
        self.0.acquire(key)
    }
}

impl Churn for Repinned {
    #[inline]
    fn insert(&self, guard: &mut Guard, value: u64) -> Self::Key {
        guard.repin();
        self.0.insert(value).expect("there is room")
    }

    #[inline]
    fn remove(&self, guard: &mut Guard, key: Self::Key) -> Option<Arc<u64>> {
        guard.repin();
        self.0.remove(key)
    }
}

/// No guard between calls.
pub struct Pinned(Pool<u64>);

impl Subject for Pinned {
    const NAME: &'static str = "graphpool-pin";
    type Key = Handle<u64>;
    type Reader<'a> = ();

    fn filled(count: usize) -> (Self, Vec<Self::Key>) {
        let (pool, handles) = filled(count);
        (Self(pool), handles)
    }

    fn reader(&self) {}

    #[inline]
    fn get(&self, (): &mut (), key: Self::Key) -> Option<u64> {
        self.0.get(key, &pin()).copied()
    }

    #[inline]
    fn acquire(&self, (): &mut (), key: Self::Key) -> Option<Arc<u64>> {
        self.0.acquire(key)
    }
}

impl Churn for Pinned {
    #[inline]
    fn insert(&self, (): &mut (), value: u64) -> Self::Key {
        self.0.insert(value).expect("there is room")
    }

    #[inline]
    fn remove(&self, (): &mut (), key: Self::Key) -> Option<Arc<u64>> {
        self.0.remove(key)
    }
}

/// By guest handle, under a guard that is kept: the way of a guest's call.
pub struct Table {
    pool: Pool<u64>,
    table: HandleTable<u64>,
}

impl Subject for Table {
    const NAME: &'static str = "graphpool-table";
    type Key = GuestHandle;
    type Reader<'a> = Guard;

    fn filled(count: usize) -> (Self, Vec<GuestHandle>) {
        let (pool, handles) = filled(count);
        let table = HandleTable::new(&pool, Kind::Zero);
        let guest_handles = handles.into_iter().map(|handle| table.bind(handle).expect("there is room")).collect();
        (Self { pool, table }, guest_handles)
    }

    fn reader(&self) -> Guard {
        pin()
    }

    #[inline]
    fn get(&self, guard: &mut Guard, key: GuestHandle) -> Option<u64> {
        self.pool.get(self.table.resolve(key)?, guard).copied()
    }

    #[inline]
    fn acquire(&self, _: &mut Guard, key: GuestHandle) -> Option<Arc<u64>> {
        self.pool.acquire(self.table.resolve(key)?)
    }
}

impl Churn for Table {
    #[inline]
    fn insert(&self, _: &mut Guard, value: u64) -> GuestHandle {
        let handle = self.pool.insert(value).expect("there is room");
        self.table.bind(handle).expect("there is room")
    }

    #[inline]
    fn remove(&self, _: &mut Guard, key: GuestHandle) -> Option<Arc<u64>> {
        self.pool.remove(self.table.unbind(key)?)
    }

    #[inline]
    fn rest(guard: &mut Guard) {
        guard.repin();
    }
}

/// As [`Table`], where there are more handles than one guest may have: several guests'.
pub struct Tables {
    pool: Pool<u64>,
    tables: Vec<HandleTable<u64>>,
}

/// What one table is given: half of what it has room for.
const BINDINGS: usize = 1 << 18;

impl Subject for Tables {
    const NAME: &'static str = Table::NAME;
    type Key = (u32, GuestHandle);
    type Reader<'a> = Guard;

    fn filled(count: usize) -> (Self, Vec<Self::Key>) {
        let (pool, handles) = filled(count);
        let mut tables = Vec::new();
        let mut keys = Vec::new();
        for handles in handles.chunks(BINDINGS) {
            let table = HandleTable::new(&pool, Kind::Zero);
            let number = tables.len() as u32;
            keys.extend(handles.iter().map(|handle| (number, table.bind(*handle).expect("there is room"))));
            tables.push(table);
        }
        (Self { pool, tables }, keys)
    }

    fn reader(&self) -> Guard {
        pin()
    }

    #[inline]
    fn get(&self, guard: &mut Guard, (guest, key): Self::Key) -> Option<u64> {
        self.pool.get(self.tables[guest as usize].resolve(key)?, guard).copied()
    }

    #[inline]
    fn acquire(&self, _: &mut Guard, (guest, key): Self::Key) -> Option<Arc<u64>> {
        self.pool.acquire(self.tables[guest as usize].resolve(key)?)
    }
}
