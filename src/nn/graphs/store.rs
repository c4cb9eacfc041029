//! Content-addressed graph store: models with equal bytes, encoding, target and configuration share one graph.
//!
//! The store holds weak references only; it does not keep a graph alive.
//!
//! * S1: a [`Key`] has at most one graph that the store returns, and its builds never overlap.
//! * S2: an entry is in the map exactly as long as a [`Listed`] of its key exists: during a build, and in a graph until
//!   its memory is released.
//! * S3: no lock is held while a backend builds.
//!
//! A load of a model that another guest has loaded is faster than a first load, so a guest can detect it by time.
//! Guests that must not learn this need separate engines.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, Weak};

use crate::backend::LoadRequest;
use crate::nn::graphs::flight::{Entered, Failed, Resume, SingleFlight};
use crate::nn::{Error, ErrorKind, ModelError};
use crate::sync::{Mutex, MutexGuard};

/// What tells graphs apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// A cryptographic digest of everything that determines the graph that a backend builds.
    digest: [u8; 32],
    /// The backends that may build it, so that no load gets a graph of a backend that was removed before.
    backends: u64,
}

impl Key {
    /// The key of `request` to `backends`, whose model also reads `files`; these may have at most `limit` bytes
    /// together.
    pub(crate) fn of(
        request: &LoadRequest<'_>,
        backends: u64,
        files: &[PathBuf],
        limit: usize,
    ) -> Result<Self, ModelError> {
        let mut hasher = blake3::Hasher::new_derive_key("graphpool 2026 one copy of a model");
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(&[request.encoding as u8, request.target as u8]);
        for text in [request.config, request.name] {
            field(&[u8::from(text.is_some())]);
            field(text.unwrap_or_default().as_bytes());
        }
        // Their number, so that no part is taken for a file.
        let parts = request.parts.len() + usize::from(request.file.is_some());
        field(&(parts as u64).to_le_bytes());
        request.parts.iter().for_each(|part| field(part));
        if let Some(file) = request.file {
            // As a part with the bytes of the file.
            hasher.update(&(file.len() as u64).to_le_bytes());
            let read = hasher.update_reader(file.reader());
            read.map_err(|error| Error::runtime_error(format!("the model's file cannot be read: {error}")))?;
        }
        let mut left = limit as u64;
        for path in files {
            let unreadable = |source| ModelError::ReadFile { path: path.clone(), source };
            let file = File::open(path).map_err(unreadable)?;
            let length = file.metadata().map_err(unreadable)?.len();
            left = left.checked_sub(length).ok_or_else(|| {
                Error::too_large(format!("the model's further files take more than the {limit} bytes that are left"))
            })?;
            hasher.update(&length.to_le_bytes());
            // Reads at most the counted bytes, in case the file grows meanwhile.
            hasher.update_reader(file.take(length)).map_err(unreadable)?;
        }
        Ok(Self { digest: *hasher.finalize().as_bytes(), backends })
    }
}

impl Key {
    /// The key of a guest's configuration for a named model whose source has that generation.
    pub(crate) fn of_config(config: &str, generation: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("graphpool 2026 a configuration of a named model");
        hasher.update(&generation.to_le_bytes());
        hasher.update(config.as_bytes());
        Self { digest: *hasher.finalize().as_bytes(), backends: 0 }
    }
}

impl Key {
    /// The key of the graph that is made from the one of this key with another configuration.
    pub(crate) fn reconfigured(&self, config: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("graphpool 2026 another configuration of a graph");
        hasher.update(&self.digest);
        hasher.update(config.as_bytes());
        Self { digest: *hasher.finalize().as_bytes(), backends: self.backends }
    }

    /// The [`id`](crate::nn::graphs::backends::Candidates::id) of the backends that the key is for.
    pub(crate) fn backends(&self) -> u64 {
        self.backends
    }
}

impl Key {
    /// The key of a name.
    pub(crate) fn of_name(name: &str) -> Self {
        Self { digest: blake3::derive_key("graphpool 2026 the name of a model", name.as_bytes()), backends: 0 }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The graphs of an engine, by the digests of their models.
pub(crate) struct Store<G> {
    entries: Mutex<HashMap<Key, Arc<Entry<G>>>>,
}

struct Entry<G> {
    graph: Mutex<Weak<G>>,
    flight: SingleFlight<Arc<G>>,
}

/// Keeps an entry in the map.
pub(crate) struct Listed<G> {
    store: Arc<Store<G>>,
    key: Key,
    /// `None` only during the drop.
    entry: Option<Arc<Entry<G>>>,
}

impl<G> Default for Store<G> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<G> Store<G> {
    /// Returns the graph of `key`: one that is alive, or one that `build` makes in this call or in a concurrent one
    /// that it waits for. If another build failed because of its memory limit, a call with more `room` builds again;
    /// see [`SingleFlight`].
    pub(crate) fn get_or_build(
        self: &Arc<Self>,
        key: Key,
        room: usize,
        build: impl FnOnce(Listed<G>) -> Result<G, Failed>,
    ) -> Result<Arc<G>, Error> {
        let listed = self.list(key);
        let entry = listed.entry()?;
        let outcome = entry.flight.join(room, || entry.find(), || listed.make(build));
        outcome.result(|| short_of(room))
    }

    /// The graph of `key`, if it is alive. Does not wait for builds.
    pub(crate) fn find(&self, key: Key) -> Option<Arc<G>> {
        // S2: takes no further reference to the entry.
        self.lock().get(&key)?.find()
    }

    /// Returns what `find` finds, or what `make` makes, in this call or in a concurrent one of the same key that it
    /// waits for. `make` stores its value where `find` looks, and not in the store; see [`SingleFlight`].
    pub(crate) fn share(
        self: &Arc<Self>,
        key: Key,
        find: impl Fn() -> Option<Arc<G>>,
        make: impl FnOnce() -> Result<Arc<G>, Failed>,
    ) -> Result<Arc<G>, Error> {
        let listed = self.list(key);
        // Each call has the same room, so none is short of it.
        listed.entry()?.flight.join(usize::MAX, find, make).result(|| Error::too_large("the model is too large"))
    }

    /// The graphs that are alive, in no particular order.
    pub(crate) fn graphs(&self) -> Vec<Arc<G>> {
        // S2: takes no further reference to an entry.
        self.lock().values().filter_map(|entry| entry.lock().upgrade()).collect()
    }

    #[cfg(all(test, loom))]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The entry of `key`, for a build of it.
    pub(crate) fn list(self: &Arc<Self>, key: Key) -> Listed<G> {
        let fresh = || Arc::new(Entry { graph: Mutex::new(Weak::new()), flight: SingleFlight::new() });
        let entry = Arc::clone(self.lock().entry(key).or_insert_with(fresh));
        Listed { store: Arc::clone(self), key, entry: Some(entry) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Entry<G>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a call that waited for another call's build, which had as little room. A message of its own, because
/// the other call's error contains that call's limit.
pub(crate) fn short_of(room: usize) -> Error {
    let error = format!("the model needs more than the {room} bytes that are left for it");
    Error::limit(ErrorKind::TooLarge, error)
}

impl<G> Entry<G> {
    fn find(&self) -> Option<Arc<G>> {
        self.lock().upgrade()
    }

    fn lock(&self) -> MutexGuard<'_, Weak<G>> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<G> Listed<G> {
    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// Another reference to the same entry.
    pub(crate) fn again(&self) -> Self {
        self.store.list(self.key)
    }

    /// Enters the entry's [`SingleFlight`], whose leader must call [`make`](Self::make).
    pub(crate) fn enter(&self, room: usize, resume: Resume<Arc<G>>) -> Result<Entered<Arc<G>>, Error> {
        let entry = self.entry()?;
        self.enter_with(room, || entry.find(), resume)
    }

    /// As [`enter`](Self::enter), for a value that is not stored in the entry: the counterpart of [`Store::share`].
    pub(crate) fn enter_with(
        &self,
        room: usize,
        find: impl Fn() -> Option<Arc<G>>,
        resume: Resume<Arc<G>>,
    ) -> Result<Entered<Arc<G>>, Error> {
        Ok(self.entry()?.flight.enter(room, find, resume))
    }

    /// The run of the entry's leader: builds the graph and enters it.
    pub(crate) fn make(&self, build: impl FnOnce(Self) -> Result<G, Failed>) -> Result<Arc<G>, Failed> {
        let graph = Arc::new(build(self.again())?);
        *self.entry().map_err(Failed::ForAll)?.lock() = Arc::downgrade(&graph);
        Ok(graph)
    }

    fn entry(&self) -> Result<&Arc<Entry<G>>, Error> {
        self.entry.as_ref().ok_or_else(|| Error::runtime_error("the model is gone"))
    }
}

impl<G> Drop for Listed<G> {
    fn drop(&mut self) {
        let removed = {
            let mut entries = self.store.lock();
            // S2: under the lock, so that of two concurrent drops the later one finds itself the last.
            self.entry = None;
            let last = entries.get(&self.key).is_some_and(|entry| Arc::strong_count(entry) == 1);
            last.then(|| entries.remove(&self.key))
        };
        drop(removed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::nn::{Encoding, Target};

    fn key(request: &LoadRequest<'_>) -> Key {
        Key::of(request, 0, &[], usize::MAX).unwrap()
    }

    #[test]
    fn what_is_in_further_files_is_in_the_key() {
        let path = std::env::temp_dir().join(format!("graphpool-key-{}", std::process::id()));
        let request = LoadRequest::new(&[b"m"], Encoding::Onnx, Target::Cpu);
        let of = |content: &[u8], limit| {
            std::fs::write(&path, content).unwrap();
            Key::of(&request, 0, std::slice::from_ref(&path), limit)
        };
        let (one, two) = (of(b"one", 3).unwrap(), of(b"two", 3).unwrap());
        assert!(one != two && one == of(b"one", 9).unwrap() && one != key(&request));
        assert_eq!(of(b"four", 3).unwrap_err().kind(), ErrorKind::TooLarge);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Key::of(&request, 0, &[path], 9).unwrap_err().kind(), ErrorKind::RuntimeError);
    }

    #[test]
    fn whatever_decides_what_is_built_is_in_the_key() {
        let parts: [&[&[u8]]; 4] = [&[b"ab"], &[b"a", b"b"], &[b"ab", b""], &[b"b"]];
        let mut keys = std::collections::HashSet::new();
        for parts in parts {
            for encoding in [Encoding::Onnx, Encoding::Autodetect] {
                for target in [Target::Cpu, Target::Gpu] {
                    for config in [None, Some(""), Some("x")] {
                        for name in [None, Some(""), Some("x")] {
                            let request = LoadRequest { name, config, ..LoadRequest::new(parts, encoding, target) };
                            assert!(keys.insert(key(&request)), "{request:?}");
                            let other_limit = LoadRequest { memory_limit: 7, ..request };
                            assert!(!keys.insert(key(&other_limit)));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_that_a_backend_reads_has_the_key_of_its_bytes() {
        let path = std::env::temp_dir().join(format!("graphpool-store-file-{}", std::process::id()));
        std::fs::write(&path, b"model").unwrap();
        let file = crate::backend::ModelFile::open(&path).unwrap();
        let none = LoadRequest::new(&[], Encoding::Ggml, Target::Cpu);
        let bytes: &[&[u8]] = &[b"model"];
        assert_eq!(key(&none.with_file(&file)), key(&LoadRequest { parts: bytes, ..none }));
        assert_ne!(key(&none.with_file(&file)), key(&LoadRequest { parts: &[b"modem"], ..none }));
        std::fs::write(&path, b"m").unwrap();
        let request = none.with_file(&file);
        assert_eq!(Key::of(&request, 0, &[], usize::MAX).unwrap_err().kind(), ErrorKind::RuntimeError);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_part_is_not_taken_for_a_further_file_of_the_same_bytes() {
        let file = std::env::temp_dir().join(format!("graphpool-store-{}", std::process::id()));
        std::fs::write(&file, b"more").unwrap();
        let files = std::slice::from_ref(&file);
        let parts: [&[u8]; 2] = [b"m", b"more"];
        let [one, two] = [1, 2].map(|count| LoadRequest::new(&parts[..count], Encoding::Onnx, Target::Cpu));
        let with_file = Key::of(&one, 0, files, usize::MAX).unwrap();
        assert_ne!(with_file, key(&two));
        assert_eq!(with_file, Key::of(&one, 0, files, usize::MAX).unwrap());
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn an_entry_goes_with_the_last_that_is_listed() {
        let store = Arc::new(Store::<()>::default());
        let key = key(&LoadRequest::new(&[b"m"], Encoding::Onnx, Target::Cpu));
        let (one, two) = (store.list(key), store.list(key));
        drop(one);
        assert_eq!(store.lock().len(), 1);
        drop(two);
        assert_eq!(store.lock().len(), 0);
        assert!(store.get_or_build(key, usize::MAX, |_| Err(Failed::ForAll(Error::busy("no")))).is_err());
        assert_eq!(store.lock().len(), 0);
    }
}
