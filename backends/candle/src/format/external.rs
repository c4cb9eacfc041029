//! Reads tensor data that a model keeps in other files of its directory.
//!
//! Only a model that the host has named by its path has a directory. A location must be a relative path without `..`,
//! and must be inside the directory after symbolic links are resolved. Offset and length are checked against the file's
//! length, and the sum of all lengths against the load's limit, before the data is read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use crate::format::messages::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::format::scan::{take, varint};
use crate::quote::quote;
use graphpool::backend::Error;

/// The most data files that a model can have.
const MAX_FILES: usize = 4096;

/// The path of a location's file.
fn resolve(directory: &Path, location: &str) -> Result<PathBuf, Error> {
    let path = Path::new(location);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || location.is_empty() {
        let why = format!("location {} is not a relative path without '..'", quote(location));
        return Err(Error::invalid_argument(why));
    }
    let failed =
        |error: io::Error| Error::runtime_error(format!("file {} can't be read: {}", quote(location), error.kind()));
    let directory = fs::canonicalize(directory).map_err(failed)?;
    let file = fs::canonicalize(directory.join(path)).map_err(failed)?;
    if !file.starts_with(&directory) {
        let why = format!("location {} is outside of the model's directory", quote(location));
        return Err(Error::invalid_argument(why));
    }
    // A pipe or a device could block the load or be endless.
    if !fs::metadata(&file).map_err(failed)?.is_file() {
        return Err(Error::invalid_argument(format!("location {} is not a regular file", quote(location))));
    }
    Ok(file)
}

/// The data files that a model names, found by a pass over its bytes without decoding it.
pub(crate) fn files(model: &[u8], directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut locations = BTreeSet::new();
    // The load reports malformed bytes.
    if walk(model, Message::Model, &mut locations, 128).is_none() {
        return Ok(Vec::new());
    }
    if locations.len() > MAX_FILES {
        return Err(Error::too_large(format!(
            "the model names more than {MAX_FILES} data files, the most that are allowed"
        )));
    }
    locations.into_iter().map(|location| resolve(directory, location)).collect()
}

/// The messages on the way from a model to a location.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Entry,
}

impl Message {
    /// The kind of message that a field holds.
    fn field(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph | Self::Attribute, 5) => Self::Tensor,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Tensor, 13) => Self::Entry,
            _ => return None,
        })
    }
}

/// Collects the locations in a message; `None` where the bytes are malformed or nested too deeply.
fn walk<'a>(mut bytes: &'a [u8], message: Message, locations: &mut BTreeSet<&'a str>, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let (mut is_location, mut value) = (false, None);
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => drop(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let content = take(&mut bytes, length)?;
                match (message, key >> 3) {
                    (Message::Entry, 1) => is_location = content == b"location",
                    (Message::Entry, 2) => value = str::from_utf8(content).ok(),
                    (message, field) => {
                        if let Some(inner) = message.field(field) {
                            walk(content, inner, locations, depth)?;
                        }
                    }
                }
            }
            5 => drop(take(&mut bytes, 4)?),
            _ => return None,
        }
    }
    // One more than the limit is collected, so that the caller sees the limit exceeded.
    if is_location && locations.len() <= MAX_FILES {
        locations.extend(value);
    }
    Some(())
}

/// Reads all external data into the model's tensors. Returns the number of bytes read, at most `limit`.
pub(crate) fn embed(model: &mut ModelProto, directory: Option<&Path>, limit: usize) -> Result<usize, Error> {
    let mut reader = Reader { directory, last: None, remaining: limit, limit };
    if let Some(graph) = &mut model.graph {
        reader.graph(graph)?;
    }
    for function in &mut model.functions {
        reader.nodes(&mut function.node)?;
        reader.attributes(&mut function.attribute_proto)?;
    }
    Ok(limit - reader.remaining)
}

struct Reader<'a> {
    directory: Option<&'a Path>,
    /// The file that was opened last, with its location and length.
    last: Option<(String, File, u64)>,
    /// Bytes that can still be read.
    remaining: usize,
    limit: usize,
}

impl Reader<'_> {
    fn graph(&mut self, graph: &mut GraphProto) -> Result<(), Error> {
        graph.initializer.iter_mut().try_for_each(|tensor| self.tensor(tensor))?;
        self.nodes(&mut graph.node)
    }

    fn nodes(&mut self, nodes: &mut [NodeProto]) -> Result<(), Error> {
        nodes.iter_mut().try_for_each(|node| self.attributes(&mut node.attribute))
    }

    fn attributes(&mut self, attributes: &mut [AttributeProto]) -> Result<(), Error> {
        for attribute in attributes {
            if let Some(tensor) = &mut attribute.t {
                self.tensor(tensor)?;
            }
            if let Some(graph) = &mut attribute.g {
                self.graph(graph)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &mut TensorProto) -> Result<(), Error> {
        if tensor.data_location.unwrap_or(0) == 0 && tensor.external_data.is_empty() {
            return Ok(());
        }
        let name = quote(tensor.name.as_deref().unwrap_or(""));
        let explain = |error: Error| Error::new(error.kind(), format!("tensor {name}: {}", error.message()));
        let Some(directory) = self.directory else {
            let why =
                "its data is in another file, which is allowed only for a model that the host registered by its path";
            return Err(explain(Error::unsupported(why)));
        };
        let entry = |key: &str| {
            let found = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(key))?;
            found.value.as_deref()
        };
        let number = |key: &str| {
            let number = entry(key).map(str::parse::<u64>).transpose();
            number.map_err(|_| explain(Error::invalid_encoding(format!("its {key} is not a number"))))
        };
        let location = entry("location").unwrap_or("");
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let limit = self.limit;
        let remaining = self.remaining;
        let (file, size) = self.open(directory, location).map_err(explain)?;
        let rest = size.checked_sub(offset);
        let length = length.or(rest).filter(|&length| rest.is_some_and(|rest| length <= rest));
        let Some(length) = length else {
            let why = format!("its data ends after the end of file {}, which has {size} bytes", quote(location));
            return Err(explain(Error::invalid_encoding(why)));
        };
        let too_large =
            || explain(Error::too_large(format!("the model's external data exceeds the remaining {limit} bytes")));
        let bytes = usize::try_from(length).map_err(|_| too_large())?;
        let remaining = remaining.checked_sub(bytes).ok_or_else(too_large)?;
        let mut data = Vec::new();
        data.try_reserve_exact(bytes).map_err(|_| too_large())?;
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.take(length).read_to_end(&mut data));
        self.remaining = remaining;
        match read {
            Ok(read) if read == bytes => {}
            Ok(_) => return Err(explain(Error::runtime_error("its file was truncated while it was read"))),
            Err(error) => {
                return Err(explain(Error::runtime_error(format!("its file can't be read: {}", error.kind()))));
            }
        }
        tensor.raw_data = Some(data);
        tensor.data_location = None;
        tensor.external_data.clear();
        Ok(())
    }

    /// The file of a location and its length. The last file stays open, as most models have one file for all tensors.
    fn open(&mut self, directory: &Path, location: &str) -> Result<(&mut File, u64), Error> {
        let failed = |error: io::Error| {
            Error::runtime_error(format!("file {} can't be read: {}", quote(location), error.kind()))
        };
        if self.last.as_ref().is_none_or(|(last, ..)| last != location) {
            let file = File::open(resolve(directory, location)?).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            self.last = Some((location.to_owned(), file, size));
        }
        let (_, file, size) = self.last.as_mut().ok_or_else(|| Error::runtime_error("no data file is open"))?;
        Ok((file, *size))
    }
}
