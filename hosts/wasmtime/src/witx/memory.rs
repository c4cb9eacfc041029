//! The memory of the instance that calls, in which every range is checked.
//!
//! * A range that is not wholly in the memory, whatever its length, is `missing_memory`, and nothing is allocated for
//!   it.
//! * No alignment is asked for.
//! * A shared memory is never borrowed, because other threads may write to it at any time. Each read copies a range
//!   once, and the copy is what is checked and used; each write writes a range once, and nothing reads it back.

use std::borrow::Cow;

use graphpool::nn::Error;
use wasmtime::{Caller, Extern, Memory, ModuleExport, SharedMemory};
use wiggle::{GuestMemory, GuestPtr};

/// The name under which core modules export their memory.
const MEMORY: &str = "memory";

/// The memory that the instance of a call exports.
pub(super) enum Linear {
    Unshared(Memory),
    Shared(SharedMemory),
}

impl Linear {
    /// The memory of the instance that calls: `export` if that is of its module, else what it exports as `memory`.
    pub(super) fn of<T>(caller: &mut Caller<'_, T>, export: Option<ModuleExport>) -> Result<Self, Error> {
        let known = export.and_then(|export| caller.get_module_export(&export));
        let (linear, is_64) = match known.or_else(|| caller.get_export(MEMORY)) {
            Some(Extern::Memory(memory)) => (Self::Unshared(memory), memory.ty(&*caller).is_64()),
            Some(Extern::SharedMemory(memory)) => {
                let is_64 = memory.ty().is_64();
                (Self::Shared(memory), is_64)
            }
            Some(_) => return Err(Error::missing_memory("what the instance exports as its memory is no memory")),
            None => return Err(Error::missing_memory("the instance exports no memory named \"memory\"")),
        };
        if is_64 {
            return Err(Error::missing_memory(
                "the instance's memory has 64-bit addresses; the calls have 32-bit ones",
            ));
        }
        Ok(linear)
    }

    /// Calls `f` with the memory's bytes and the store's data.
    pub(super) fn with<T: 'static, R>(&self, caller: &mut Caller<'_, T>, f: impl FnOnce(Bytes<'_>, &mut T) -> R) -> R {
        match self {
            Self::Unshared(memory) => {
                let (bytes, data) = memory.data_and_store_mut(caller);
                f(Bytes(GuestMemory::Unshared(bytes)), data)
            }
            Self::Shared(memory) => f(Bytes(GuestMemory::Shared(memory.data())), caller.data_mut()),
        }
    }
}

/// The bytes of a memory during one call.
pub(super) struct Bytes<'a>(GuestMemory<'a>);

/// The address of a word that is in the memory.
#[derive(Clone, Copy)]
pub(super) struct Place(u32);

impl Bytes<'_> {
    /// The range: borrowed from an unshared memory, a copy from a shared one.
    pub(super) fn range(&self, at: u32, length: u32) -> Result<Cow<'_, [u8]>, Error> {
        self.0.as_cow(GuestPtr::new((at, length))).map_err(|_| outside(at, length))
    }

    /// Checks that the range is in the memory.
    pub(super) fn check(&self, at: u32, length: u32) -> Result<(), Error> {
        self.0.as_slice(GuestPtr::new((at, length))).map(|_| ()).map_err(|_| outside(at, length))
    }

    /// `COUNT` little-endian words.
    pub(super) fn words<const COUNT: usize>(&self, at: u32) -> Result<[u32; COUNT], Error> {
        let bytes = self.range(at, 4 * COUNT as u32)?;
        let mut words = [0; COUNT];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Ok(words)
    }

    /// `count` little-endian words. The caller has bounded the count.
    pub(super) fn list(&self, at: u32, count: u32) -> Result<Vec<u32>, Error> {
        let length = count.checked_mul(4).ok_or_else(|| outside(at, u32::MAX))?;
        let bytes = self.range(at, length)?;
        Ok(bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// The place of a word that a call writes when it succeeds.
    pub(super) fn place(&self, at: u32) -> Result<Place, Error> {
        self.check(at, 4).map(|()| Place(at))
    }

    /// Writes a word.
    pub(super) fn put(&mut self, Place(at): Place, word: u32) -> Result<(), Error> {
        self.write(at, &word.to_le_bytes())
    }

    pub(super) fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Error> {
        let length = bytes.len() as u32;
        self.0.copy_from_slice(bytes, GuestPtr::new((at, length))).map_err(|_| outside(at, length))
    }
}

fn outside(at: u32, length: u32) -> Error {
    Error::missing_memory(format!("{length} bytes at {at:#x} are not all in the guest's memory"))
}
