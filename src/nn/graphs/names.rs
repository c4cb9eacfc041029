//! The host's calls on named models: register, reload, remove and list.

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
/// A name has versions: the first guest that loads the name builds the first version (or the host does, with
/// [`register_model_now`](Self::register_model_now)), and each reload builds the next. A guest's handle of a named
/// model refers to the name: a context runs on the version that was current when the context was opened, and later
/// contexts of the same handle run on the version that is current then. A version that was replaced is released with
/// its last context.
impl Engine {
    /// Registers a model under `name`. Nothing is read or built before a guest first loads the name; then the model is
    /// built once for all concurrent loads, and stays until the name is removed. A failed build is returned to every
    /// guest that waited for it; the next load tries again.
    ///
    /// # Errors
    ///
    /// [`NameTaken`](ModelError::NameTaken), and [`NameTooLong`](ModelError::NameTooLong) past
    /// [`Limits::max_name_bytes`](crate::nn::Limits::max_name_bytes).
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

    /// As [`register_model`](Self::register_model), but builds the model first, on this thread. Guests see the name
    /// only when the build has succeeded.
    ///
    /// # Errors
    ///
    /// Those of [`register_model`](Self::register_model), those for a file of the source, and
    /// [`Build`](ModelError::Build) if a backend or a limit refuses the model.
    pub fn register_model_now(
        &self,
        name: &str,
        source: ModelSource,
        encoding: Encoding,
        target: Target,
    ) -> Result<(), ModelError> {
        self.check_name(name)?;
        let Self { inner } = self;
        // Checked before the work, and again after it, because another call may have registered the name.
        if inner.registry.has(name) {
            return Err(name_taken(name));
        }
        let model = Arc::new(NamedModel::new(name, source, encoding, target));
        model.build_first(&**inner)?;
        inner.registry.register(&model)
    }

    /// Registers every model file in `directory` by its name without the extension: `.onnx`, `.xml` (with the `.bin` of
    /// the same name), `.pb`, `.pt`, `.tflite` and `.gguf`. Of several files of one name the first in this order is the
    /// model, and the others are ignored. Returns the names. Reads none of the files, like
    /// [`register_model`](Self::register_model).
    ///
    /// # Errors
    ///
    /// [`ReadDirectory`](ModelError::ReadDirectory), and those of [`register_model`](Self::register_model). After an
    /// error, the models before the one that failed stay registered.
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

    /// Builds the model again from its files and makes the result the current version: contexts opened from now on run
    /// on it, and open contexts keep the version before. Returns the number of the current version, which is unchanged
    /// if the files have not changed. A name that no guest has loaded yet is built.
    ///
    /// Both versions are in memory during the reload. Calls for one name wait for each other.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ModelError::NotFound), [`Removed`](ModelError::Removed) if the name is removed during the reload,
    /// [`BytesNotKept`](ModelError::BytesNotKept) for a model of bytes, and those of a build, as
    /// [`register_model_now`](Self::register_model_now). After an error the version before stays current.
    pub fn reload_model(&self, name: &str) -> Result<u64, ModelError> {
        self.reload(name, None)
    }

    /// As [`reload_model`](Self::reload_model), from another source. The encoding and the target stay those of the
    /// registration.
    ///
    /// # Errors
    ///
    /// Those of [`reload_model`](Self::reload_model).
    pub fn replace_model(&self, name: &str, source: ModelSource) -> Result<u64, ModelError> {
        self.reload(name, Some(source))
    }

    /// Removes the name. Guests that have loaded it keep it, in the version that was current. A concurrent reload
    /// fails, and a concurrent first build still reaches the guests that wait for it. Of several calls with one name,
    /// exactly one succeeds.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ModelError::NotFound) if no model has the name.
    pub fn remove_model(&self, name: &str) -> Result<(), ModelError> {
        self.inner.remove_model(name)
    }

    /// The names that guests can load, sorted.
    #[must_use]
    pub fn model_names(&self) -> Vec<String> {
        self.inner.registry.all().iter().map(|model| model.name().to_owned()).collect()
    }

    /// The named models, in the order of their names. Does not wait for builds.
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
