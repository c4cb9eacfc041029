//! Models that the host offers by name from its command line or configuration.

use std::path::Path;

use graphpool::nn::{Encoding, Engine, ModelSource, Target};
use wasmtime::error::Context as _;
use wasmtime::{Result, format_err};

/// Loads the model of each path, and offers it to guests under the last name of a directory, or the name of a file
/// without its extension: `("onnx", "/models/mnist")` is `load_by_name("mnist")`, and so is `("onnx",
/// "/models/mnist.onnx")`. The encoding is a word, such as `onnx` or `ggml`. Returns the names.
///
/// In a directory the model is the file that [`ModelSource::directory`] finds: `model.onnx`, or else the only `.onnx`.
/// Each model is built for the CPU before this returns, once for all stores; models of earlier pairs stay if a later
/// pair fails. Names are the engine's: preload once for the process, not for each store.
///
/// ```
/// # fn main() -> wasmtime::Result<()> {
/// use graphpool::nn::Engine;
/// use graphpool_candle::CandleBackend;
///
/// let engine = Engine::new(CandleBackend::new());
/// let names = graphpool_wasmtime::preload(&engine, &[("onnx", "../../examples/models/digits")])?;
/// assert_eq!(names, ["digits"]);
/// assert!(engine.guest().load_by_name("digits").is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The first pair that fails, with the path and the cause: an unknown encoding, nothing at the path, no model in a
/// directory, a name that is taken, or a model that its backend or a limit refuses. The cause is a
/// [`ModelError`](graphpool::nn::ModelError) for all but the first two.
pub fn preload(engine: &Engine, graphs: &[(impl AsRef<str>, impl AsRef<Path>)]) -> Result<Vec<String>> {
    preload_with(engine, graphs, |source| source)
}

/// [`preload`] with what `change` makes of each source: language models are often loaded with a [configuration of the
/// guest's](ModelSource::with_guest_configs), which the host has to allow.
///
/// # Errors
///
/// Those of [`preload`].
pub fn preload_with(
    engine: &Engine,
    graphs: &[(impl AsRef<str>, impl AsRef<Path>)],
    change: impl Fn(ModelSource) -> ModelSource,
) -> Result<Vec<String>> {
    let load = |(encoding, path): &(_, _)| preload_one(engine, AsRef::as_ref(encoding), AsRef::as_ref(path), &change);
    graphs.iter().map(load).collect()
}

/// Splits the form `ENCODING::PATH` of a command line, such as `onnx::models/mnist`, into a pair for [`preload`].
///
/// ```
/// assert_eq!(graphpool_wasmtime::split_graph("onnx::models/mnist").unwrap(), ("onnx", "models/mnist"));
/// assert!(graphpool_wasmtime::split_graph("models/mnist").is_err());
/// ```
///
/// # Errors
///
/// If there is no `::`, or nothing before or after it.
pub fn split_graph(text: &str) -> Result<(&str, &str)> {
    match text.split_once("::") {
        Some((encoding, path)) if !encoding.is_empty() && !path.is_empty() => Ok((encoding, path)),
        _ => Err(format_err!("a graph is given as ENCODING::PATH, such as onnx::models/mnist, not as {text:?}")),
    }
}

fn preload_one(
    engine: &Engine,
    encoding: &str,
    path: &Path,
    change: &impl Fn(ModelSource) -> ModelSource,
) -> Result<String> {
    let what = || format!("the graph {encoding}::{} cannot be preloaded", path.display());
    let encoding =
        encoding.parse::<Encoding>().map_err(|error| format_err!("{}", error.message())).with_context(what)?;
    let name = name_of(path).with_context(what)?;
    let source = if path.is_dir() { ModelSource::directory(path) } else { ModelSource::path(path) };
    engine.register_model_now(&name, change(source), encoding, Target::Cpu).with_context(what)?;
    Ok(name)
}

/// The last name of a directory, that of `.` or `a/..` by where it leads to; a file's without its extension.
fn name_of(path: &Path) -> Result<String> {
    let full = path.canonicalize().context("there is no file or directory at the path")?;
    let name = if path.is_dir() { path.file_name().or(full.file_name()) } else { path.file_stem() };
    let name = name.ok_or_else(|| format_err!("the directory has no name"))?;
    name.to_str().map(str::to_owned).ok_or_else(|| format_err!("the name is not UTF-8"))
}
