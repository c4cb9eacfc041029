//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use graphpool::backend::wire::Dialect;
use lexopt::prelude::*;

use crate::output::Output;

/// What `--help` prints.
pub const HELP: &str = "\
Runs a command with WASI and wasi-nn: a core module or a component.

Usage: cargo run --release -p graphpool-wasmtime --example run -- [OPTIONS] FILE.wasm [ARGS]...

Models and files:
  --graph ENCODING::PATH loads the model of a file or directory, and offers it
                         under its last name: onnx::models/mnist is \"mnist\", and
                         ggml::models/tiny.gguf is \"tiny\"
  --configs N            how many graphs guests may have of each model with
                         configurations of their own  [0]
  --dialect NAME         whose numbers guests use: witx (the specification's),
                         wasmedge or wamr; language models need one of these two
                         [witx]
  --dir HOST[::GUEST]    opens a directory for the guest, under the same path or GUEST
  --env NAME[=VALUE]     sets a variable for the guest, or passes on the host's

Limits of an instance:
  --max-memory MIB       its linear memories together
  --max-contexts N       open contexts  [256]
  --compute-time S       one compute  [60]
  --timeout S            the whole run

Many instances:
  --instances N          how many run in all  [1]
  --threads M            how many run at one time  [all cores]
  --json                 one JSON object on standard output instead of the table

Profile:
  --profile              at the end, a table on the standard error output: how long
                         each step of each ONNX model took, and what it wrote
  --profile=FORMAT:FILE  the same to a file, as table, json or svg (a picture)

One instance has the terminal to itself. Of several, the first one's output is
printed, the others' is compared with it, and a summary follows.

Exit status: that of the guest, or of the first instance that failed; 134 for a
trap; 1 where nothing could be run; 2 for a wrong option.
";

/// What the command line asks for.
pub struct Options {
    /// Models to preload: `ENCODING::PATH`.
    pub graphs: Vec<String>,
    /// Graphs of each model with configurations of guests.
    pub configs: usize,
    /// The numbers that guests use.
    pub dialect: Dialect,
    /// Directories of the host, and the guest's paths for them.
    pub dirs: Vec<(PathBuf, String)>,
    /// Names and values of environment variables.
    pub env: Vec<(String, String)>,
    /// Bytes of the linear memories of an instance.
    pub max_memory: Option<usize>,
    /// Contexts that an instance may have open.
    pub max_contexts: Option<usize>,
    /// The longest compute.
    pub compute_time: Option<Duration>,
    /// The longest run of an instance.
    pub timeout: Option<Duration>,
    /// Instances in all.
    pub instances: usize,
    /// Instances at one time, no more than there are.
    pub threads: usize,
    /// JSON instead of the table.
    pub json: bool,
    /// How the steps of models are profiled, if they are.
    pub profile: Option<Output>,
    /// The module or component.
    pub file: PathBuf,
    /// The guest's arguments, after the file's name.
    pub args: Vec<String>,
}

impl Options {
    /// Whether one instance runs, as a command that has the terminal.
    pub fn alone(&self) -> bool {
        self.instances == 1 && !self.json
    }
}

/// The options of this process, or `None` where help is wanted.
pub fn parse() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        graphs: Vec::new(),
        configs: 0,
        dialect: Dialect::Witx,
        dirs: Vec::new(),
        env: Vec::new(),
        max_memory: None,
        max_contexts: None,
        compute_time: None,
        timeout: None,
        instances: 1,
        threads: thread::available_parallelism().map_or(1, NonZeroUsize::get),
        json: false,
        profile: None,
        file: PathBuf::new(),
        args: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("graph") => options.graphs.push(parser.value()?.string()?),
            Long("configs") => options.configs = parser.value()?.parse()?,
            Long("dialect") => options.dialect = parser.value()?.parse_with(dialect)?,
            Long("dir") => options.dirs.push(parser.value()?.parse_with(directory)?),
            Long("env") => options.env.push(parser.value()?.parse_with(variable)?),
            Long("max-memory") => options.max_memory = Some(parser.value()?.parse_with(mebibytes)?),
            Long("max-contexts") => options.max_contexts = Some(parser.value()?.parse()?),
            Long("compute-time") => options.compute_time = Some(parser.value()?.parse_with(seconds)?),
            Long("timeout") => options.timeout = Some(parser.value()?.parse_with(seconds)?),
            Long("instances") => options.instances = parser.value()?.parse::<NonZeroUsize>()?.get(),
            Long("threads") => options.threads = parser.value()?.parse::<NonZeroUsize>()?.get(),
            Long("json") => options.json = true,
            Long("profile") => {
                let value = parser.optional_value().map(OsString::into_string).transpose();
                let value = value.map_err(|value| format!("the value {} is not UTF-8", value.display()))?;
                options.profile = Some(Output::parse(value.as_deref())?);
            }
            Long("help") | Short('h') => return Ok(None),
            Value(file) => {
                options.file = file.into();
                let args = parser.raw_args()?.map(OsString::into_string).collect::<Result<_, _>>();
                options.args = args.map_err(|arg| format!("the argument {} is not UTF-8", arg.display()))?;
                break;
            }
            _ => return Err(argument.unexpected()),
        }
    }
    if options.file.as_os_str().is_empty() {
        return Err("no module or component is given".into());
    }
    options.threads = options.threads.min(options.instances);
    Ok(Some(options))
}

fn dialect(text: &str) -> Result<Dialect, &'static str> {
    match text {
        "witx" => Ok(Dialect::Witx),
        "wasmedge" => Ok(Dialect::WasmEdge),
        "wamr" => Ok(Dialect::Wamr),
        _ => Err("there are witx, wasmedge and wamr"),
    }
}

fn directory(text: &str) -> Result<(PathBuf, String), String> {
    let (host, guest) = text.split_once("::").unwrap_or((text, text));
    if host.is_empty() || guest.is_empty() {
        Err("a path is empty".to_owned())
    } else {
        Ok((host.into(), guest.to_owned()))
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(error) => Err(error.to_string()),
        },
    }
}

fn mebibytes(text: &str) -> Result<usize, String> {
    let mebibytes = text.parse::<usize>().map_err(|error| error.to_string())?;
    mebibytes.checked_mul(1 << 20).ok_or_else(|| "more bytes than an address can name".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("no time at all".to_owned()) } else { Ok(time) }
}
