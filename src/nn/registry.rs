//! Named models: registered by the host, built when a guest first asks for them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc as StdArc, Mutex, OnceLock, PoisonError};
use std::{fmt, fs};

use arc_swap::ArcSwap;

use super::check::Quoted;
use super::flight::Flight;
use super::graph::Graph;
use super::{Encoding, Error, Target};
use crate::backend::LoadRequest;

/// Where the bytes of a named model come from.
///
/// ```
/// use graphpool::nn::ModelSource;
///
/// let onnx = ModelSource::path("models/resnet50.onnx");
/// let openvino = ModelSource::path("net.xml").and(ModelSource::path("net.bin")).with_config("streams=1");
/// ```
#[derive(Clone)]
pub struct ModelSource {
    parts: Vec<Part>,
    config: Option<String>,
}

#[derive(Clone)]
enum Part {
    Bytes(Cow<'static, [u8]>),
    Path(PathBuf),
}

impl ModelSource {
    /// A model of one part, in memory. The engine lets go of the bytes once the model is built.
    #[must_use]
    pub fn bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { parts: vec![Part::Bytes(bytes.into())], config: None }
    }

    /// A model of one part, in a file, which is read when the model is built.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self { parts: vec![Part::Path(path.into())], config: None }
    }

    /// Adds the parts of `other` behind these, for encodings that have several. A configuration of `other` is taken
    /// over where there was none.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self.config = self.config.or(other.config);
        self
    }

    /// The configuration that the backend gets with the model.
    #[must_use]
    pub fn with_config(mut self, config: impl Into<String>) -> Self {
        self.config = Some(config.into());
        self
    }

    /// The bytes of every part.
    fn read(&self) -> Result<Vec<Cow<'_, [u8]>>, Error> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Bytes(bytes) => Ok(Cow::Borrowed(&**bytes)),
                // The path is the host's: the guest learns only what went wrong.
                Part::Path(path) => fs::read(path)
                    .map(Cow::Owned)
                    .map_err(|error| Error::runtime_error(format!("load_by_name: the model's file: {}", error.kind()))),
            })
            .collect()
    }
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => list.entry(&format_args!("{} bytes", bytes.len())),
                Part::Path(path) => list.entry(path),
            };
        }
        list.finish()
    }
}

/// The named models of an engine. Looking one up reads a snapshot and takes no lock.
#[derive(Default)]
pub(super) struct Registry {
    models: ArcSwap<HashMap<String, StdArc<NamedModel>>>,
}

/// A registered name.
pub(super) struct NamedModel {
    /// `None` once the model is built.
    source: Mutex<Option<StdArc<ModelSource>>>,
    encoding: Encoding,
    target: Target,
    graph: OnceLock<StdArc<Graph>>,
    flight: Flight<StdArc<Graph>>,
}

impl Registry {
    /// Adds a name, unless it is taken.
    pub(super) fn register(
        &self,
        name: &str,
        source: ModelSource,
        encoding: Encoding,
        target: Target,
    ) -> Result<(), Error> {
        let source = Mutex::new(Some(StdArc::new(source)));
        let model = StdArc::new(NamedModel { source, encoding, target, graph: OnceLock::new(), flight: Flight::new() });
        let mut taken = false;
        self.models.rcu(|models| {
            taken = models.contains_key(name);
            if taken {
                return StdArc::clone(models);
            }
            let mut models = HashMap::clone(models);
            models.insert(name.to_owned(), StdArc::clone(&model));
            StdArc::new(models)
        });
        if taken {
            return Err(Error::invalid_argument(format!("register_model: the name {} is taken", Quoted(name))));
        }
        Ok(())
    }

    /// Removes a name, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        let mut there = false;
        self.models.rcu(|models| {
            there = models.contains_key(name);
            if !there {
                return StdArc::clone(models);
            }
            let mut models = HashMap::clone(models);
            models.remove(name);
            StdArc::new(models)
        });
        if there { Ok(()) } else { Err(no_model("remove_model", name)) }
    }

    pub(super) fn clear(&self) {
        self.models.store(StdArc::default());
    }

    pub(super) fn len(&self) -> usize {
        self.models.load().len()
    }

    /// Every name, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.models.load().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    pub(super) fn get(&self, name: &str) -> Result<StdArc<NamedModel>, Error> {
        // The snapshot is let go of at once: a build may take minutes.
        let model = self.models.load().get(name).map(StdArc::clone);
        model.ok_or_else(|| no_model("load_by_name", name))
    }
}

impl NamedModel {
    /// The graph, which `build` makes where it is not there yet; see [`Flight`].
    pub(super) fn graph(
        &self,
        build: impl FnOnce(&LoadRequest<'_>) -> Result<StdArc<Graph>, Error>,
    ) -> Result<StdArc<Graph>, Error> {
        let make = || {
            let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(source) = source else {
                return Err(Error::runtime_error("load_by_name: the model was built before"));
            };
            let parts = source.read()?;
            let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
            let request = LoadRequest {
                config: source.config.as_deref(),
                ..LoadRequest::new(&parts, self.encoding, self.target)
            };
            let graph = build(&request)?;
            self.source.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(self.graph.get_or_init(|| graph).clone())
        };
        self.flight.join(|| self.graph.get().cloned(), make).result()
    }
}

fn no_model(call: &str, name: &str) -> Error {
    Error::not_found(format!("{call}: no model is named {}", Quoted(name)))
}
