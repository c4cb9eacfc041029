//! A whole GGUF file: its header, metadata and table of tensors, checked.

use super::cursor::Cursor;
use super::kind::TensorKind;
use super::value::{Array, Value};
use crate::quote::quote;
use crate::tensor::budget::{LoadBudget, allocation};
use graphpool::backend::Error;
use std::ops::Range;

/// The most keys, and the most tensors, of a file. The largest models have a few thousand tensors.
const MAX_ENTRIES: u64 = 1 << 16;

/// The most bytes of a key, as the format has it.
const MAX_KEY: usize = 65_535;

/// The most bytes of a tensor's name, as the format has it.
const MAX_NAME: usize = 64;

/// The most dimensions of a tensor, as the format has it.
const MAX_DIMS: usize = 4;

/// The alignment of tensors in files that don't state one.
const ALIGNMENT: usize = 32;

/// The largest alignment. Files have 32, and pages of memory are smaller.
const MAX_ALIGNMENT: usize = 1 << 20;

/// The fewest bytes of a key with its value: the length of the key, a type, and a value of one byte.
const LEAST_KEY: usize = 8 + 4 + 1;

/// The fewest bytes of a tensor in the table: the length of its name, the number of dimensions, a type and an offset.
const LEAST_TENSOR: usize = 8 + 4 + 4 + 8;

/// A tensor of a file: its shape and its place there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileTensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: TensorKind,
    dims: [usize; MAX_DIMS],
    rank: usize,
    /// The tensor's place behind the table.
    offset: u64,
    /// Its place in the file, and its bytes.
    start: usize,
    len: usize,
}

impl FileTensor<'_> {
    /// The sizes as the file has them: first that of a row, whose elements are contiguous.
    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Where its bytes are in the file, within the file's length.
    pub(crate) const fn place(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// The header of a GGUF file. It borrows the bytes.
#[derive(Debug)]
pub(crate) struct Gguf<'a> {
    /// In the order of the keys.
    metadata: Vec<(&'a str, Value<'a>)>,
    /// In the order of the names.
    tensors: Vec<FileTensor<'a>>,
}

impl<'a> Gguf<'a> {
    /// Reads a file and checks it. What it allocates is charged to `budget`.
    ///
    /// # Errors
    ///
    /// * `InvalidEncoding` for bytes that are no GGUF file, with the key or the tensor.
    /// * `UnsupportedOperation` for a version other than 2 and 3, and for a type of tensor that is not known.
    /// * `TooLarge` for more keys or tensors than 65,536, and past the budget.
    #[cfg(test)]
    pub(crate) fn read(bytes: &'a [u8], budget: &mut LoadBudget) -> Result<Self, Error> {
        Self::read_with(&mut Cursor::new(bytes), budget)
    }

    /// As [`read`](Self::read), for a file of `length` bytes of which `head` are the first. `None` if the header does
    /// not end within them; nothing is charged then.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub(crate) fn read_head(head: &'a [u8], length: usize, budget: &mut LoadBudget) -> Result<Option<Self>, Error> {
        let (before, mut cursor) = (budget.remaining(), Cursor::of_file(head, length));
        match Self::read_with(&mut cursor, budget) {
            Err(_) if cursor.has_ended() => {
                budget.release(before - budget.remaining());
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    fn read_with(cursor: &mut Cursor<'a>, budget: &mut LoadBudget) -> Result<Self, Error> {
        let magic = cursor.take(4, || "its first word".into())?;
        if magic != b"GGUF" {
            return Err(Error::invalid_encoding("the bytes are no GGUF file: they don't begin with GGUF"));
        }
        let version = cursor.u32(|| "its version".into())?;
        if !(2..=3).contains(&version) {
            let swapped = if (2..=3).contains(&version.swap_bytes()) { ", which is a big-endian file's" } else { "" };
            let why = format!("the GGUF file has the version {version}{swapped}; 2 and 3 are supported");
            return Err(Error::unsupported(why));
        }
        let tensors = cursor.u64(|| "its number of tensors".into())?;
        let keys = cursor.u64(|| "its number of keys".into())?;
        for (count, what) in [(tensors, "tensors"), (keys, "keys")] {
            if count > MAX_ENTRIES {
                let why = format!("the GGUF file declares {count} {what}, and the limit is {MAX_ENTRIES}");
                return Err(Error::too_large(why));
            }
        }
        let keys = cursor.fits(keys, LEAST_KEY, || "keys".into())?;
        let metadata = read_metadata(cursor, keys, budget)?;
        let mut file = Self { metadata, tensors: Vec::new() };
        let tensors = cursor.fits(tensors, LEAST_TENSOR, || "tensors".into())?;
        file.tensors = list(tensors, budget)?;
        for _ in 0..tensors {
            file.tensors.push(read_tensor(cursor)?);
        }
        let alignment = file.alignment()?;
        // A file without tensors may end before the padding.
        let length = cursor.position() + cursor.left();
        let start = cursor.position().next_multiple_of(alignment).min(length);
        file.place(start, length - start, alignment)?;
        Ok(file)
    }

    /// Finds the bytes of each tensor in the `length` bytes from `data` on, and refuses tensors that overlap or have the
    /// same name.
    fn place(&mut self, data: usize, length: usize, alignment: usize) -> Result<(), Error> {
        for tensor in &mut self.tensors {
            let (name, offset) = (quote(tensor.name), tensor.offset);
            if !offset.is_multiple_of(alignment as u64) {
                let why =
                    format!("the tensor {name} is at the offset {offset}, no multiple of the alignment {alignment}");
                return Err(Error::invalid_encoding(why));
            }
            let cols = tensor.dims[0];
            // No overflow: the product of all sizes was checked.
            let rows = tensor.dims[1..].iter().product();
            let block = tensor.kind.block_len;
            if !cols.is_multiple_of(block) {
                let why = format!(
                    "the tensor {name} has rows of {cols} elements, no multiple of the {block} of a block of {}",
                    tensor.kind.name
                );
                return Err(Error::invalid_encoding(why));
            }
            let place = tensor.kind.bytes(rows, cols).and_then(|bytes| {
                let start = usize::try_from(offset).ok()?;
                (start.checked_add(bytes)? <= length).then(|| (data + start, bytes))
            });
            (tensor.start, tensor.len) = place.ok_or_else(|| {
                Error::invalid_encoding(format!(
                    "the tensor {name} of {rows} rows of {cols} elements of {} at the offset {offset} is not within the \
                     {} bytes of tensors",
                    tensor.kind.name,
                    length
                ))
            })?;
        }
        self.tensors.sort_unstable_by_key(|tensor| tensor.offset);
        for pair in self.tensors.windows(2) {
            if pair[0].place().end > pair[1].start {
                let (one, other) = (quote(pair[0].name), quote(pair[1].name));
                return Err(Error::invalid_encoding(format!("the tensors {one} and {other} overlap")));
            }
        }
        self.tensors.sort_unstable_by_key(|tensor| tensor.name);
        match self.tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => {
                let why = format!("the GGUF file has two tensors of the name {}", quote(pair[0].name));
                Err(Error::invalid_encoding(why))
            }
            None => Ok(()),
        }
    }

    fn alignment(&self) -> Result<usize, Error> {
        let Some(alignment) = self.integer("general.alignment")? else { return Ok(ALIGNMENT) };
        let alignment = usize::try_from(alignment).ok();
        alignment.filter(|alignment| alignment.is_power_of_two() && *alignment <= MAX_ALIGNMENT).ok_or_else(|| {
            Error::invalid_encoding(format!(
                "the key 'general.alignment' is {alignment:?}, and must be a power of two up to {MAX_ALIGNMENT}"
            ))
        })
    }

    /// Bytes that the reader's tables take, which the load was charged.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        allocation(size_of_val(self.metadata.as_slice())) + allocation(size_of_val(self.tensors.as_slice()))
    }

    /// The tensors in the order of their names.
    pub(crate) fn tensors(&self) -> &[FileTensor<'a>] {
        &self.tensors
    }

    /// The tensor with this name.
    pub(crate) fn tensor(&self, name: &str) -> Option<&FileTensor<'a>> {
        let found = self.tensors.binary_search_by(|tensor| tensor.name.cmp(name));
        found.ok().map(|index| &self.tensors[index])
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&Value<'a>> {
        let found = self.metadata.binary_search_by(|(name, _)| (*name).cmp(key));
        found.ok().map(|index| &self.metadata[index].1)
    }

    /// The integer of a key, if the file has the key.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i128>, Error> {
        self.get(key, "an integer", |value| if let Value::Integer(integer) = *value { Some(integer) } else { None })
    }

    /// The float of a key, if the file has the key. An integer counts as one.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, Error> {
        self.get(key, "a float", |value| match *value {
            Value::Float(float) => Some(float),
            Value::Integer(integer) => Some(integer as f64),
            _ => None,
        })
    }

    /// The boolean of a key, if the file has the key.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        self.get(key, "a boolean", |value| if let Value::Bool(boolean) = *value { Some(boolean) } else { None })
    }

    /// The bytes of the string of a key, if the file has the key. They may be no UTF-8.
    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a [u8]>, Error> {
        self.get(key, "a string", |value| if let Value::String(string) = *value { Some(string) } else { None })
    }

    /// The array of a key, if the file has the key.
    pub(crate) fn array(&self, key: &str) -> Result<Option<Array<'a>>, Error> {
        self.get(key, "an array", |value| if let Value::Array(array) = *value { Some(array) } else { None })
    }

    fn get<T>(&self, key: &str, what: &str, take: impl FnOnce(&Value<'a>) -> Option<T>) -> Result<Option<T>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match take(value) {
            Some(taken) => Ok(Some(taken)),
            None => Err(wrong_type(key, value.description(), what)),
        }
    }
}

/// The error for a key whose value has another type than the reader needs.
pub(crate) fn wrong_type(key: &str, is: &str, wanted: &str) -> Error {
    Error::invalid_encoding(format!("the key {} is {is}, and must be {wanted}", quote(key)))
}

/// An empty list for `count` items, which are charged.
fn list<T>(count: usize, budget: &mut LoadBudget) -> Result<Vec<T>, Error> {
    budget.charge(allocation(count.saturating_mul(size_of::<T>())))?;
    let mut list = Vec::new();
    list.try_reserve_exact(count)
        .map_err(|_| Error::too_large(format!("the allocation of a list of {count} items failed")))?;
    Ok(list)
}

/// The text of a key or a name of at most `limit` bytes.
fn text<'a>(bytes: &'a [u8], limit: usize, what: &str) -> Result<&'a str, Error> {
    if bytes.len() > limit {
        let why = format!("the GGUF file has {what} of {} bytes, and the limit is {limit}", bytes.len());
        return Err(Error::invalid_encoding(why));
    }
    str::from_utf8(bytes).map_err(|_| Error::invalid_encoding(format!("the GGUF file has {what} that is not UTF-8")))
}

fn read_metadata<'a>(
    cursor: &mut Cursor<'a>,
    count: usize,
    budget: &mut LoadBudget,
) -> Result<Vec<(&'a str, Value<'a>)>, Error> {
    let mut metadata = list(count, budget)?;
    for index in 0..count {
        let key = text(cursor.string(|| format!("key {index}"))?, MAX_KEY, "a key")?;
        metadata.push((key, Value::read(cursor, key)?));
    }
    metadata.sort_unstable_by_key(|(key, _)| *key);
    match metadata.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(Error::invalid_encoding(format!("the GGUF file has the key {} twice", quote(pair[0].0)))),
        None => Ok(metadata),
    }
}

/// Reads a row of the table of tensors, without the tensor's bytes.
fn read_tensor<'a>(cursor: &mut Cursor<'a>) -> Result<FileTensor<'a>, Error> {
    let name = text(cursor.string(|| "the name of a tensor".into())?, MAX_NAME, "a tensor's name")?;
    let what = || format!("the shape of the tensor {}", quote(name));
    let rank = cursor.u32(what)? as usize;
    if rank > MAX_DIMS {
        let why = format!("the tensor {} has {rank} dimensions, and the limit is {MAX_DIMS}", quote(name));
        return Err(Error::invalid_encoding(why));
    }
    let (mut dims, mut elements) = ([1; MAX_DIMS], 1_usize);
    for dim in &mut dims[..rank] {
        let size = cursor.u64(what)?;
        let next = usize::try_from(size).ok().filter(|&size| size > 0).and_then(|size| elements.checked_mul(size));
        elements = next.filter(|&elements| isize::try_from(elements).is_ok()).ok_or_else(|| {
            Error::invalid_encoding(format!(
                "the tensor {} has a dimension of {size}: sizes must be at least 1, and the elements at most {}",
                quote(name),
                isize::MAX
            ))
        })?;
        *dim = size as usize;
    }
    let kind = TensorKind::of(cursor.u32(|| format!("the type of the tensor {}", quote(name)))?)
        .map_err(|error| Error::new(error.kind(), format!("the tensor {}: {}", quote(name), error.message())))?;
    let offset = cursor.u64(|| format!("the offset of the tensor {}", quote(name)))?;
    Ok(FileTensor { name, kind, dims, rank, offset, start: 0, len: 0 })
}
