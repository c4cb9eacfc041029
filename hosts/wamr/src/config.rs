//! The configuration, which WAMR has no way to pass: environment variables.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use graphpool::nn::{EngineLimits, Error, Limits};

/// What the variables say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// `GRAPHPOOL_MODELS`.
    pub(crate) models: Option<PathBuf>,
    /// `GRAPHPOOL_CONFIGS`.
    pub(crate) configs: usize,
    /// `GRAPHPOOL_WATCH`.
    pub(crate) watch: bool,
    /// `GRAPHPOOL_THREADS`.
    pub(crate) threads: usize,
    /// `GRAPHPOOL_LOG`.
    pub(crate) log: bool,
    /// `GRAPHPOOL_GUEST_MAX_…`.
    pub(crate) guest: Limits,
    /// `GRAPHPOOL_MAX_…`.
    pub(crate) engine: EngineLimits,
}

type Setting<T> = (&'static str, fn(T, usize) -> T);

const GUEST: [Setting<Limits>; 11] = [
    ("GRAPHPOOL_GUEST_MAX_GRAPHS", Limits::with_max_graphs),
    ("GRAPHPOOL_GUEST_MAX_CONTEXTS", Limits::with_max_contexts),
    ("GRAPHPOOL_GUEST_MAX_GRAPH_BYTES", Limits::with_max_graph_bytes),
    ("GRAPHPOOL_GUEST_MAX_TENSOR_BYTES", Limits::with_max_tensor_bytes),
    ("GRAPHPOOL_GUEST_MAX_TENSOR_RANK", Limits::with_max_tensor_rank),
    ("GRAPHPOOL_GUEST_MAX_COMPUTE_BYTES", Limits::with_max_compute_bytes),
    ("GRAPHPOOL_GUEST_MAX_COMPUTES", Limits::with_max_computes),
    ("GRAPHPOOL_GUEST_MAX_CONTEXT_BYTES", Limits::with_max_context_bytes),
    ("GRAPHPOOL_GUEST_MAX_NAME_BYTES", Limits::with_max_name_bytes),
    ("GRAPHPOOL_GUEST_MAX_CONFIG_BYTES", Limits::with_max_config_bytes),
    ("GRAPHPOOL_GUEST_MAX_COMPUTE_MS", |limits, milliseconds| {
        limits.with_max_compute_time(match milliseconds {
            usize::MAX => Duration::MAX,
            milliseconds => Duration::from_millis(milliseconds as u64),
        })
    }),
];

const ENGINE: [Setting<EngineLimits>; 7] = [
    ("GRAPHPOOL_MAX_GRAPHS", EngineLimits::with_max_graphs),
    ("GRAPHPOOL_MAX_CONTEXTS", EngineLimits::with_max_contexts),
    ("GRAPHPOOL_MAX_GRAPH_BYTES", EngineLimits::with_max_graph_bytes),
    ("GRAPHPOOL_MAX_CONTEXT_BYTES", EngineLimits::with_max_context_bytes),
    ("GRAPHPOOL_MAX_COMPUTING", EngineLimits::with_max_computing),
    ("GRAPHPOOL_MAX_SUSPENDED", EngineLimits::with_max_suspended),
    ("GRAPHPOOL_MAX_QUEUED", EngineLimits::with_max_queued),
];

impl Config {
    /// Reads the variables. One that is empty is the same as one that is not set.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the name of a variable that has no valid value.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let number = |name: &str| variable(name).map(|value| self::number(name, &value)).transpose();
        let (mut guest, mut engine) = (Limits::default(), EngineLimits::default());
        for (name, set) in GUEST {
            guest = number(name)?.map_or(guest, |bound| set(guest, bound));
        }
        for (name, set) in ENGINE {
            engine = number(name)?.map_or(engine, |bound| set(engine, bound));
        }
        Ok(Self {
            models: variable("GRAPHPOOL_MODELS").map(PathBuf::from),
            configs: number("GRAPHPOOL_CONFIGS")?.unwrap_or(0),
            watch: number("GRAPHPOOL_WATCH")?.is_some_and(|watch| watch > 0),
            threads: number("GRAPHPOOL_THREADS")?.unwrap_or(1),
            log: number("GRAPHPOOL_LOG")?.is_some_and(|log| log > 0),
            guest,
            engine,
        })
    }
}

/// A number, as `64`, `64K`, `64M`, `64G` (of 1,024) or `unlimited`.
fn number(name: &str, value: &OsStr) -> Result<usize, Error> {
    let parse = |text: &str| {
        let (digits, unit) = match text.as_bytes().last()? {
            b'K' => (text.strip_suffix('K')?, 1 << 10),
            b'M' => (text.strip_suffix('M')?, 1 << 20),
            b'G' => (text.strip_suffix('G')?, 1 << 30),
            _ => (text, 1),
        };
        digits.parse::<usize>().ok()?.checked_mul(unit)
    };
    match value.to_str() {
        Some("unlimited") => Some(usize::MAX),
        Some(text) => parse(text),
        None => None,
    }
    .ok_or_else(|| {
        Error::invalid_argument(format!(
            "{name} is {}; it must be a number, as 64, 64K, 64M or 64G, or unlimited",
            value.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, Error> {
        Config::read(|name| variables.iter().find(|(its, _)| *its == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn without_variables_all_is_as_the_engine_has_it() {
        let defaults = Config {
            models: None,
            configs: 0,
            watch: false,
            threads: 1,
            log: false,
            guest: Limits::default(),
            engine: EngineLimits::default(),
        };
        assert_eq!(read(&[]), Ok(defaults));
        assert_eq!(read(&[("GRAPHPOOL_MODELS", ""), ("GRAPHPOOL_MAX_GRAPHS", "")]), read(&[]));
    }

    #[test]
    fn each_variable_sets_its_own_bound() {
        let mut seen = std::collections::HashSet::new();
        for (name, _) in GUEST {
            let config = read(&[(name, "7")]).unwrap();
            assert!(config.guest != Limits::default() && config.engine == EngineLimits::default(), "{name}");
            assert!(seen.insert(format!("{:?}", config.guest)), "{name}");
        }
        for (name, _) in ENGINE {
            let config = read(&[(name, "7")]).unwrap();
            assert!(config.guest == Limits::default() && config.engine != EngineLimits::default(), "{name}");
            assert!(seen.insert(format!("{:?}", config.engine)), "{name}");
        }
        let config = read(&[("GRAPHPOOL_MODELS", "/m"), ("GRAPHPOOL_THREADS", "2")]).unwrap();
        assert_eq!((config.models, config.watch, config.threads, config.log), (Some("/m".into()), false, 2, false));
        let config = read(&[("GRAPHPOOL_WATCH", "1"), ("GRAPHPOOL_LOG", "1")]).unwrap();
        assert_eq!((config.models, config.watch, config.threads, config.log), (None, true, 1, true));
        assert_eq!(read(&[("GRAPHPOOL_CONFIGS", "3")]).map(|config| config.configs), Ok(3));
    }

    #[test]
    fn numbers_have_units_and_what_is_none_is_refused_by_name() {
        let bytes =
            |text| read(&[("GRAPHPOOL_GUEST_MAX_GRAPH_BYTES", text)]).map(|config| config.guest.max_graph_bytes());
        for (text, number) in
            [("0", 0), ("64", 64), ("2K", 2048), ("3M", 3 << 20), ("1G", 1 << 30), ("unlimited", usize::MAX)]
        {
            assert_eq!(bytes(text), Ok(number), "{text}");
        }
        for text in ["-1", "1.5", "K", "1T", "1KK", "many", " 1", "99999999999999999999", "99999999999999999G"] {
            let error = bytes(text).unwrap_err();
            assert!(error.message().starts_with("GRAPHPOOL_GUEST_MAX_GRAPH_BYTES is "), "{error}");
        }
        let unbounded = read(&[("GRAPHPOOL_GUEST_MAX_COMPUTE_MS", "unlimited")]).unwrap();
        assert_eq!(unbounded.guest.max_compute_time(), Duration::MAX);
    }
}
