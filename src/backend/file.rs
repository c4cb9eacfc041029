//! A model's file that a backend reads itself.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::Error;

/// A regular file with a model, open, for a backend that reads it piece by piece
/// ([`Backend::reads_file`](super::Backend::reads_file)).
///
/// It is never mapped: if another process shortens the file, a read fails, where an access to a mapping would end the
/// process.
#[derive(Debug)]
pub struct ModelFile {
    file: Mutex<File>,
    length: usize,
    modified: Option<SystemTime>,
}

impl ModelFile {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// Those of the system, and [`InvalidInput`](io::ErrorKind::InvalidInput) for what is no regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Checked first, because opening a pipe blocks until it has a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Self::new(File::open(path)?)
    }

    /// An open file, as long as it is now.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        // Not every file system has times.
        Ok(Self { file: Mutex::new(file), length, modified: metadata.modified().ok() })
    }

    /// The bytes that the file had when it was opened.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether the file has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Fills `buffer` with the bytes from `offset` on. Several threads may read at once, and take turns.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`](super::ErrorKind::RuntimeError) if the system refuses, or the file does not have so many bytes
    /// any more. The contents of `buffer` are unspecified then.
    pub fn read_at(&self, offset: usize, buffer: &mut [u8]) -> Result<(), Error> {
        let mut file = self.lock();
        let read = file.seek(SeekFrom::Start(offset as u64)).and_then(|_| file.read_exact(buffer));
        read.map_err(|error| Error::runtime_error(format!("the model's file cannot be read: {error}")))
    }

    /// Checks that nobody has written to the file since it was opened, as far as its length and time tell.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`](super::ErrorKind::RuntimeError) if somebody has, or the system refuses.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        let metadata = self.lock().metadata();
        let metadata = metadata.map_err(|error| {
            Error::runtime_error(format!("the metadata of the model's file can't be read: {error}"))
        })?;
        if metadata.len() == self.length as u64 && metadata.modified().ok() == self.modified {
            return Ok(());
        }
        Err(Error::runtime_error("the model's file was changed while it was read"))
    }

    /// Reads the file from its beginning to the length that it had.
    pub(crate) fn reader(&self) -> impl Read + '_ {
        Reader { file: self, at: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reader<'a> {
    file: &'a ModelFile,
    at: usize,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.file.length - self.at);
        let mut file = self.file.lock();
        file.seek(SeekFrom::Start(self.at as u64))?;
        file.read_exact(&mut buffer[..len])?;
        self.at += len;
        Ok(len)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_at_any_place_and_its_changes_are_noticed() {
        let path = std::env::temp_dir().join(format!("graphpool-model-file-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let file = ModelFile::open(&path).unwrap();
        assert_eq!((file.len(), file.is_empty()), (10, false));
        let mut buffer = [0; 4];
        for (offset, wanted) in [(6, b"6789"), (0, b"0123"), (3, b"3456")] {
            file.read_at(offset, &mut buffer).unwrap();
            assert_eq!(&buffer, wanted);
        }
        file.read_at(7, &mut buffer).unwrap_err();
        let mut all = Vec::new();
        file.reader().read_to_end(&mut all).unwrap();
        assert_eq!(all, b"0123456789");
        file.check_unchanged().unwrap();
        // Shorter: no signal, and an error.
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5).unwrap();
        let error = file.read_at(2, &mut buffer).unwrap_err();
        assert!(error.message().starts_with("the model's file cannot be read: "), "{error}");
        file.reader().read_to_end(&mut all).unwrap_err();
        let error = file.check_unchanged().unwrap_err();
        assert_eq!(error.message(), "the model's file was changed while it was read");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ModelFile::open(&std::env::temp_dir()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
