//! A context that `init_backend` has made, with one loaded model.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::Arc;

use graphpool::backend::wire::Dialect;
use graphpool::backend::{Error, LoadRequest};

use crate::abi::{self, Bytes, Parts};
use crate::library::Library;
use crate::settings::{DylibSettings, Serialized};
use crate::turn::{Held, Patience, Turn};

/// A model as the library gets it.
pub(crate) struct Model {
    source: Source,
    config: Option<String>,
    encoding: u32,
    target: u32,
}

enum Source {
    Parts(Vec<Box<[u8]>>),
    Name(String),
}

impl Model {
    /// A copy of the model, since it is loaded again for later contexts.
    pub(crate) fn of(request: &LoadRequest<'_>, library: &str) -> Result<Self, Error> {
        let number = Dialect::Wamr.encoding_number(request.encoding).zip(Dialect::Wamr.target_number(request.target));
        let (encoding, target) =
            number.ok_or_else(|| Error::unsupported(format!("WAMR has no number for {}", request.encoding)))?;
        let source = match request.name {
            Some(name) => Source::Name(name.to_owned()),
            None if request.config.is_some() => {
                return Err(Error::unsupported(format!(
                    "{library} takes a configuration only with a model that it knows by name"
                )));
            }
            None => Source::Parts(request.parts.iter().map(|&part| part.into()).collect()),
        };
        Ok(Self { source, config: request.config.map(str::to_owned), encoding, target })
    }

    /// The bytes that the model of a request will have.
    pub(crate) fn bytes_of(request: &LoadRequest<'_>) -> usize {
        let bytes = request.parts.iter().fold(0_usize, |bytes, part| bytes.saturating_add(part.len()));
        if request.name.is_some() { 0 } else { bytes }
    }

    /// The bytes of its parts.
    pub(crate) fn bytes(&self) -> usize {
        match &self.source {
            Source::Parts(parts) => parts.iter().map(|part| part.len()).sum(),
            Source::Name(_) => 0,
        }
    }
}

/// A context that `init_backend` has made, with one loaded model.
///
/// Its execution contexts share it. `deinit_backend` ends it with the last reference.
pub(crate) struct Instance {
    library: Arc<Library>,
    /// Opaque; only the library follows it.
    context: *mut c_void,
    graph: u32,
    model: Arc<Model>,
    serialized: Serialized,
    /// Held by each call where only this context is serialized.
    turn: Turn,
}

// SAFETY: the pointer is only passed to the library's functions, which may be called from any thread where calls
// exclude each other as the host declares. `Instance` calls them in a turn of the library or of its own.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// Calls `init_backend`, and loads the model.
    pub(crate) fn start(
        library: &Arc<Library>,
        model: &Arc<Model>,
        settings: &DylibSettings,
        patience: &Patience<'_>,
    ) -> Result<Self, Error> {
        let of_library = || match settings.serialized {
            Serialized::Library => library.turn.wait(patience).map(Some),
            // No other thread knows the context yet.
            Serialized::Context => patience.check().map(|()| None),
        };
        let mut context = ptr::null_mut();
        {
            let _turn = of_library()?;
            // SAFETY: L1, as `library` lives; the pointer is valid for a write.
            let errno = unsafe { (library.functions.init_backend)(&raw mut context) };
            abi::check(&library.name, "init_backend", errno)?;
        }
        let (library, serialized) = (Arc::clone(library), settings.serialized);
        // L2: from here on the drop ends the context, also if the load fails.
        let turn = Turn::new("uses this context of the library, which takes one at a time");
        let mut instance = Self { library, context, graph: 0, model: Arc::clone(model), serialized, turn };
        instance.graph = {
            let _turn = of_library()?;
            instance.load()?
        };
        Ok(instance)
    }

    /// The caller has the turn.
    fn load(&self) -> Result<u32, Error> {
        let (functions, name, model, mut graph) = (&self.library.functions, &self.library.name, &self.model, 0);
        let missing = |function: &str| Error::unsupported(format!("the library {name} has no function {function}"));
        let length = |bytes: usize| {
            u32::try_from(bytes)
                .map_err(|_| Error::too_large(format!("{name} takes at most {} bytes at once", u32::MAX)))
        };
        match (&model.source, &model.config) {
            (Source::Parts(parts), _) => {
                let part = |part: &[u8]| Ok(Bytes { pointer: part.as_ptr().cast_mut(), length: length(part.len())? });
                let mut parts = parts.iter().map(|bytes| part(bytes)).collect::<Result<Vec<_>, Error>>()?;
                let mut array = Parts { pointer: parts.as_mut_ptr(), length: length(parts.len())? };
                // SAFETY: L1; `context` is of a successful `init_backend`; the parts outlive the call, which does not
                // write to them by the interface's rules.
                let errno = unsafe {
                    (functions.load)(self.context, &raw mut array, model.encoding, model.target, &raw mut graph)
                };
                abi::check(name, "load", errno)?;
            }
            (Source::Name(model), None) => {
                let load = functions.load_by_name.ok_or_else(|| missing("load_by_name"))?;
                let (text, length) = (terminated(model), length(model.len())?);
                // SAFETY: L1; `context` is of a successful `init_backend`; the text outlives the call, and ends with 0
                // for a library that takes it for a string.
                let errno = unsafe { load(self.context, text.as_ptr().cast::<c_char>(), length, &raw mut graph) };
                abi::check(name, "load_by_name", errno)?;
            }
            (Source::Name(model), Some(config)) => {
                let load = functions.load_by_name_with_config.ok_or_else(|| missing("load_by_name_with_config"))?;
                let (text, length_of_name) = (terminated(model), length(model.len())?);
                let (config, length_of_config) = (terminated(config), length(config.len())?);
                // SAFETY: as above.
                let errno = unsafe {
                    load(
                        self.context,
                        text.as_ptr().cast::<c_char>(),
                        length_of_name,
                        config.as_ptr().cast::<c_char>(),
                        length_of_config,
                        &raw mut graph,
                    )
                };
                abi::check(name, "load_by_name_with_config", errno)?;
            }
        }
        Ok(graph)
    }

    /// The turn for calls on this context.
    pub(crate) fn turn(&self, patience: &Patience<'_>) -> Result<Held<'_>, Error> {
        let turn = match self.serialized {
            Serialized::Context => &self.turn,
            Serialized::Library => &self.library.turn,
        };
        turn.wait(patience)
    }

    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    pub(crate) fn open_context(&self, _turn: &Held<'_>) -> Result<u32, Error> {
        let mut context = 0;
        // SAFETY: L1, as the field lives; the pointer is valid for a write.
        let errno =
            unsafe { (self.library.functions.init_execution_context)(self.context, self.graph, &raw mut context) };
        abi::check(&self.library.name, "init_execution_context", errno)?;
        Ok(context)
    }

    /// # Safety
    ///
    /// What `tensor` points to must live and stay in place in each later [`compute`](Self::compute) of the execution
    /// context, until another tensor is set at `index`: there are libraries that keep the pointers, and read them
    /// there.
    pub(crate) unsafe fn set_input(
        &self,
        context: u32,
        index: u32,
        tensor: &mut abi::Tensor,
        _turn: &Held<'_>,
    ) -> Result<(), Error> {
        // SAFETY: L1; the caller's contract.
        let errno = unsafe { (self.library.functions.set_input)(self.context, context, index, tensor) };
        abi::check(&self.library.name, "set_input", errno)
    }

    pub(crate) fn compute(&self, context: u32, _turn: &Held<'_>) -> Result<(), Error> {
        // SAFETY: L1; the inputs that the library may read live, by the contract of `set_input`.
        let errno = unsafe { (self.library.functions.compute)(self.context, context) };
        // The end of the text is how a language model ends.
        if errno == abi::END_OF_SEQUENCE { Ok(()) } else { abi::check(&self.library.name, "compute", errno) }
    }

    /// Has the library write an output into `buffer`; returns its error number, and the size that it has written.
    pub(crate) fn get_output(&self, context: u32, index: u32, buffer: &mut [u8], _turn: &Held<'_>) -> (u32, u32) {
        let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let (mut data, mut size) = (Bytes { pointer: buffer.as_mut_ptr(), length }, 0);
        // SAFETY: L1; `data` has at most the length of `buffer`, which may be written.
        let errno =
            unsafe { (self.library.functions.get_output)(self.context, context, index, &raw mut data, &raw mut size) };
        (errno, size)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let (library, model) = (Arc::clone(&self.library), Arc::clone(&self.model));
        let end = End { library, context: self.context, _model: model };
        match self.serialized {
            // The last reference: no call is in the context.
            Serialized::Context => end.deinit(),
            Serialized::Library => self.library.turn.run_soon(move || end.deinit()),
        }
    }
}

/// L2: the end of a context.
struct End {
    library: Arc<Library>,
    context: *mut c_void,
    /// The library may read the bytes of its model until the context has ended.
    _model: Arc<Model>,
}

// SAFETY: as for `Instance`.
unsafe impl Send for End {}

impl End {
    fn deinit(self) {
        if let Some(deinit) = self.library.functions.deinit_backend {
            // SAFETY: L1; `context` is of a successful `init_backend`, and this is the only call that ends it. A
            // library that refuses to end a context keeps its memory: nothing else can be done about it.
            unsafe { deinit(self.context) };
        }
    }
}

/// The bytes of a text, followed by a 0.
fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}
