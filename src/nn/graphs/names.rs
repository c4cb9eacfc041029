//! What the host does with names: registers, reloads, removes and lists them.

use std::path::Path;

use crate::nn::engine::Engine;
use crate::nn::graphs::model::{Built, NamedModel};
use crate::nn::graphs::registry::name_taken;
use crate::nn::graphs::source::{models_in, source_of};
use crate::nn::telemetry::observe;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, ModelError, ModelInfo, ModelSource, Target};
use crate::sync::Arc;

/// Named models.
///
/// A name has versions: the first is built when a guest first asks for the name, or at once, and each reload makes
/// the next. A guest's handle of a named model means the name: a context runs on the version that was current when the
/// context was opened, and on no other, while one that is opened from the same handle later runs on the version that
/// is current then. An old version goes when its last context does.
impl Engine {
    /// Gives guests a model to load by `name`. Nothing is read or built before a guest first asks for it; then it is
    /// built once, however many ask, and stays until the name is removed. A build that fails is reported to every
    /// guest that waited for it, and the next one to ask tries again.
    ///
    /// # Errors
    ///
    /// [`NameTaken`](ModelError::NameTaken), and [`NameTooLong`](ModelError::NameTooLong) past
    /// [`Limits::max_name_bytes`](super::Limits::max_name_bytes).
    pub fn register_model(
        &self,
        name: &str,
        source: ModelSource,
        encoding: Encoding,
        target: Target,
    ) -> Result<(), ModelError> {
        self.check_name(name)?;
        self.inner.registry.register(&Arc::new(NamedModel::new(name, source, encoding, target)))
    }

    /// As [`register_model`](Self::register_model), but builds the model first, on this thread: guests see the name
    /// once it is ready, and not at all where the build fails.
    ///
    /// # Errors
    ///
    /// Those of [`register_model`](Self::register_model); those that name a file of the source's, and
    /// [`Build`](ModelError::Build) where a backend or a limit refuses the model.
    pub fn register_model_now(
        &self,
        name: &str,
        source: ModelSource,
        encoding: Encoding,
        target: Target,
    ) -> Result<(), ModelError> {
        self.check_name(name)?;
        let Self { inner } = self;
        // Before the work; and once more when it is done, as others may have been quicker.
        if inner.registry.has(name) {
            return Err(name_taken(name));
        }
        let model = Arc::new(NamedModel::new(name, source, encoding, target));
        model.build_first(&**inner)?;
        inner.registry.register(&model)
    }

    /// Registers every model file in `directory` by its name without the extension: `.onnx`, `.xml` (with the `.bin`
    /// of the same name), `.pb`, `.pt`, `.tflite` and `.gguf`. Of several files of one name the first in this order is
    /// the model, and the others are none. Returns the names. Like [`register_model`](Self::register_model), reads none
    /// of them now.
    ///
    /// # Errors
    ///
    /// [`ReadDirectory`](ModelError::ReadDirectory), and those of
    /// [`register_model`](Self::register_model); the models before the one that gave the error are registered then.
    pub fn register_directory(&self, directory: impl AsRef<Path>, target: Target) -> Result<Vec<String>, ModelError> {
        let models = models_in(directory.as_ref())?;
        let mut names = Vec::new();
        for (name, files) in models {
            if let Some((file, encoding)) = files.first() {
                self.check_name(&name)?;
                let model = Arc::new(NamedModel::new(&name, source_of(file, *encoding), *encoding, target));
                self.inner.registry.register(&model)?;
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Builds the model again, from its files, beside the version that guests use, and makes the result the current
    /// version: contexts opened from now on run on it, others go on where they are. Returns the number of the version,
    /// which is the one before where the files have not changed. A name that no guest has asked for yet is built.
    ///
    /// Both versions are in memory meanwhile. Calls of one name wait for each other.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ModelError::NotFound), [`Removed`](ModelError::Removed) where the name is removed meanwhile,
    /// [`BytesNotKept`](ModelError::BytesNotKept) for a model of bytes, and those of a build, as
    /// [`register_model_now`](Self::register_model_now). The version before stays the current one.
    pub fn reload_model(&self, name: &str) -> Result<u64, ModelError> {
        self.reload(name, None)
    }

    /// As [`reload_model`](Self::reload_model), from another source. The encoding and the target are those with which
    /// the name was registered.
    ///
    /// # Errors
    ///
    /// Those of [`reload_model`](Self::reload_model).
    pub fn replace_model(&self, name: &str, source: ModelSource) -> Result<u64, ModelError> {
        self.reload(name, Some(source))
    }

    /// Takes the name away. Guests that have loaded it keep it, in the version that was current: a reload that is under
    /// way ends with an error. A first build that is under way still reaches those who wait for it. Of several calls
    /// with one name, one succeeds.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ModelError::NotFound) where no model has the name.
    pub fn remove_model(&self, name: &str) -> Result<(), ModelError> {
        self.inner.registry.remove(name)
    }

    /// The names that guests can load, sorted.
    #[must_use]
    pub fn model_names(&self) -> Vec<String> {
        self.inner.registry.all().iter().map(|model| model.name().to_owned()).collect()
    }

    /// The named models, in the order of their names. Waits for no build.
    #[must_use]
    pub fn list_models(&self) -> Vec<ModelInfo> {
        self.inner.registry.all().iter().map(|model| ModelInfo::of(model)).collect()
    }

    fn reload(&self, name: &str, source: Option<ModelSource>) -> Result<u64, ModelError> {
        let model = self.inner.registry.get(name)?;
        let built = model.reload(source, &*self.inner).inspect_err(|error| observe::reload_failed(name, error))?;
        self.count_reload(name, &built);
        Ok(built.version.number)
    }

    fn check_name(&self, name: &str) -> Result<(), ModelError> {
        let (bytes, limit) = (name.len(), self.limits().max_name_bytes());
        if bytes <= limit { Ok(()) } else { Err(ModelError::NameTooLong { bytes, limit }) }
    }

    pub(crate) fn count_reload(&self, name: &str, Built { version, is_new }: &Built) {
        if *is_new {
            Counters::count(&self.inner.counters.reloads);
            observe::reloaded(name, version.number, version.graph.origin().id);
        }
    }
}
