//! Models that the host offers by name from its command line or configuration.

use std::path::Path;

use graphpool::nn::{Encoding, Engine, ModelSource, Target};
use wasmtime::error::Context as _;
use wasmtime::{Result, bail, format_err};

/// Loads the model of each directory, and offers it to guests under the directory's last name: `("onnx",
/// "/models/mnist")` is `load_by_name("mnist")`. The encoding is a word, such as `onnx` or `openvino`. Returns the
/// names.
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
/// The first pair that fails, with the path and the cause: an unknown encoding, no directory, no model in it, a name
/// that is taken, or a model that its backend or a limit refuses. The cause is a
/// [`ModelError`](graphpool::nn::ModelError) for all but the first two.
pub fn preload(engine: &Engine, graphs: &[(impl AsRef<str>, impl AsRef<Path>)]) -> Result<Vec<String>> {
    graphs.iter().map(|(encoding, directory)| preload_one(engine, encoding.as_ref(), directory.as_ref())).collect()
}

/// Splits the form `ENCODING::DIR` of a command line, such as `onnx::models/mnist`, into a pair for [`preload`].
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
        Some((encoding, directory)) if !encoding.is_empty() && !directory.is_empty() => Ok((encoding, directory)),
        _ => Err(format_err!("a graph is given as ENCODING::DIR, such as onnx::models/mnist, not as {text:?}")),
    }
}

fn preload_one(engine: &Engine, encoding: &str, directory: &Path) -> Result<String> {
    let what = || format!("the graph {encoding}::{} cannot be preloaded", directory.display());
    let encoding =
        encoding.parse::<Encoding>().map_err(|error| format_err!("{}", error.message())).with_context(what)?;
    let name = name_of(directory).with_context(what)?;
    let source = ModelSource::directory(directory);
    engine.register_model_now(&name, source, encoding, Target::Cpu).with_context(what)?;
    Ok(name)
}

/// The last name of a directory; that of `.` or `a/..` by where it leads to.
fn name_of(directory: &Path) -> Result<String> {
    if !directory.is_dir() {
        bail!("it is not a directory");
    }
    let full = directory.canonicalize().context("its path cannot be resolved")?;
    let name = directory.file_name().or(full.file_name()).ok_or_else(|| format_err!("the directory has no name"))?;
    name.to_str().map(str::to_owned).ok_or_else(|| format_err!("the directory's name is not UTF-8"))
}
