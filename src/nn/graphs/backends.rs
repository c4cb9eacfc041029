//! The backends of an engine, and which of them gets a model.

use std::path::PathBuf;

use crate::backend::{Backend, BackendGraph, LoadRequest};
use crate::nn::panics::shield;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, ErrorKind};

/// Backends in the order in which they are asked.
#[derive(Default)]
pub(crate) struct Backends(Vec<Box<dyn Backend>>);

impl Backends {
    pub(crate) fn push(&mut self, backend: Box<dyn Backend>) {
        self.0.push(backend);
    }

    /// The files beside the parts that the first backend that takes the encoding for the target will read.
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

    /// Has the first backend that takes the encoding for the target build the graph. With
    /// [`Encoding::Autodetect`], one that does not recognise the bytes passes them on to the next. With the name of the
    /// backend that has built it.
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
