//! The backends of an engine, and the choice of one for a model.

use std::path::PathBuf;

use crate::backend::{Backend, BackendGraph, LoadRequest};
use crate::nn::panics::shield;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, ErrorKind, Target};

/// Backends, in the order in which they are tried.
#[derive(Default)]
pub(crate) struct Backends(Vec<Box<dyn Backend>>);

impl Backends {
    pub(crate) fn push(&mut self, backend: Box<dyn Backend>) {
        self.0.push(backend);
    }

    /// Whether a backend supports the encoding and target. True if one panics, so that the load reports it.
    pub(crate) fn support(&self, counters: &Counters, encoding: Encoding, target: Target) -> bool {
        self.0.iter().any(|backend| shield(counters, || backend.supports(encoding, target)).unwrap_or(true))
    }

    /// The files beside the parts that the first backend that supports the encoding and target will read.
    pub(crate) fn files(&self, counters: &Counters, request: &LoadRequest<'_>) -> Result<Vec<PathBuf>, Error> {
        let LoadRequest { encoding, target, .. } = *request;
        for backend in &self.0 {
            if !shield(counters, || backend.supports(encoding, target))? {
                continue;
            }
            match shield(counters, || backend.files(request))? {
                Err(error) if encoding == Encoding::Autodetect && error.kind() == ErrorKind::InvalidEncoding => {}
                result => return result,
            }
        }
        Ok(Vec::new())
    }

    /// Builds the graph with the first backend that supports the encoding and target, and returns it with the name of
    /// that backend. With [`Encoding::Autodetect`], a backend that does not recognise the bytes is followed by the next
    /// one.
    pub(crate) fn load(
        &self,
        counters: &Counters,
        request: &LoadRequest<'_>,
    ) -> Result<(String, Box<dyn BackendGraph>), Error> {
        let LoadRequest { encoding, target, .. } = *request;
        let mut refusal = None;
        for backend in &self.0 {
            if !shield(counters, || backend.supports(encoding, target))? {
                continue;
            }
            // First, so that no graph is left in hands that a panic might empty.
            let name = shield(counters, || backend.name().to_owned())?;
            match shield(counters, || backend.load(request))? {
                Err(error) if encoding == Encoding::Autodetect && error.kind() == ErrorKind::InvalidEncoding => {
                    refusal = Some(error);
                }
                result => return Ok((name, result?)),
            }
        }
        Err(refusal.unwrap_or_else(|| {
            Error::unsupported(format!("no backend supports the encoding {encoding} on the target {target}"))
        }))
    }
}
