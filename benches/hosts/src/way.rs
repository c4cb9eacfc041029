//! The ways to give stores wasi-nn that are compared.

use std::collections::HashMap;

use graphpool::nn;
use graphpool_candle::CandleBackend;
use wasmtime::component::ResourceTable;
use wasmtime::{Linker, Result, component, format_err};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_nn::wit::types::ExecutionTarget;
use wasmtime_wasi_nn::{Backend, Graph, GraphRegistry, Registry, backend};

use crate::model::Model;

/// A way to give stores wasi-nn: what the process has, from which each store gets its state.
pub trait Way: Send + Sync + Sized + 'static {
    /// What the process runs itself with, to measure this way.
    const NAME: &'static str;
    /// The state of a store with a core module.
    type Core: Send + 'static;
    /// The state of a store with a component.
    type Component: Send + 'static;

    /// Loads the models.
    fn new(models: &[&Model]) -> Result<Self>;
    /// The state of a new store with a core module.
    fn core(&self) -> Result<Self::Core>;
    /// The state of a new store with a component.
    fn component(&self) -> Result<Self::Component>;
    /// Adds the core-module form.
    fn link(linker: &mut Linker<State<Self>>) -> Result<()>;
    /// Adds the component form.
    fn link_component(linker: &mut component::Linker<State<Self>>) -> Result<()>;
}

/// What a store holds.
pub struct State<W: Way> {
    /// wasi-nn for a core module.
    pub core: Option<W::Core>,
    /// wasi-nn for a component.
    pub component: Option<W::Component>,
    /// WASI, if the guest needs it.
    pub wasi: Option<WasiP1Ctx>,
}

/// What each function says that finds no state of its form.
const OTHER_FORM: &str = "the store is for a guest of the other form";

impl<W: Way> State<W> {
    fn core(&mut self) -> &mut W::Core {
        self.core.as_mut().expect(OTHER_FORM)
    }

    fn component(&mut self) -> (&mut ResourceTable, &mut W::Component) {
        (self.wasi.as_mut().expect(OTHER_FORM).ctx().table, self.component.as_mut().expect(OTHER_FORM))
    }

    /// WASI of a core module.
    pub fn wasi(&mut self) -> &mut WasiP1Ctx {
        self.wasi.as_mut().expect(OTHER_FORM)
    }
}

impl<W: Way> WasiView for State<W> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi().ctx()
    }
}

/// This repository's host: one engine for all stores.
pub struct Ours(nn::Engine);

impl Way for Ours {
    const NAME: &'static str = "ours";
    type Core = graphpool_wasmtime::WasiNnCtx;
    type Component = graphpool_wasmtime::WasiNnCtx;

    fn new(models: &[&Model]) -> Result<Self> {
        let nn = nn::Engine::new(CandleBackend::new());
        let graphs = models.iter().map(|model| ("onnx", &model.directory)).collect::<Vec<_>>();
        graphpool_wasmtime::preload(&nn, &graphs)?;
        Ok(Self(nn))
    }

    fn core(&self) -> Result<Self::Core> {
        Ok(graphpool_wasmtime::WasiNnCtx::new(self.0.guest()))
    }

    fn component(&self) -> Result<Self::Component> {
        self.core()
    }

    fn link(linker: &mut Linker<State<Self>>) -> Result<()> {
        graphpool_wasmtime::witx::add_to_linker(linker, |state: &mut State<Self>| state.core())
    }

    fn link_component(linker: &mut component::Linker<State<Self>>) -> Result<()> {
        graphpool_wasmtime::wit::add_to_linker(linker, |state| {
            let (table, ctx) = state.component();
            graphpool_wasmtime::wit::WasiNnView::new(table, ctx)
        })
    }
}

/// `wasmtime-wasi-nn` with `preload` for each store.
pub struct Preload(Vec<(String, String)>);

/// `wasmtime-wasi-nn` with a registry of the embedder's, whose stores share graphs.
pub struct Shared(HashMap<String, Graph>);

/// One store's clone of the graphs.
struct Clones(HashMap<String, Graph>);

impl GraphRegistry for Clones {
    fn get(&self, name: &str) -> Option<&Graph> {
        self.0.get(name)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Graph> {
        self.0.get_mut(name)
    }
}

impl Preload {
    fn load(models: &[&Model]) -> Result<Self> {
        let pair = |model: &&Model| ("onnx".to_owned(), model.directory.display().to_string());
        Ok(Self(models.iter().map(pair).collect()))
    }

    fn backends(&self) -> Result<(Vec<Backend>, Registry)> {
        wasmtime_wasi_nn::preload(&self.0)
    }
}

impl Shared {
    fn load(models: &[&Model]) -> Result<Self> {
        let mut backends = backend::list();
        let onnx = backends.iter_mut().find_map(|backend| backend.as_dir_loadable());
        let onnx = onnx.ok_or_else(|| format_err!("no backend loads directories"))?;
        let mut graphs = HashMap::new();
        for model in models {
            let graph = onnx.load_from_dir(&model.directory, ExecutionTarget::Cpu)?;
            graphs.insert(model.name().to_owned(), graph);
        }
        Ok(Self(graphs))
    }

    fn backends(&self) -> Result<(Vec<Backend>, Registry)> {
        Ok((backend::list(), Registry::from(Clones(self.0.clone()))))
    }
}

macro_rules! theirs {
    ($way:ident, $name:literal) => {
        impl Way for $way {
            const NAME: &'static str = $name;
            type Core = wasmtime_wasi_nn::witx::WasiNnCtx;
            type Component = wasmtime_wasi_nn::wit::WasiNnCtx;

            fn new(models: &[&Model]) -> Result<Self> {
                Self::load(models)
            }

            fn core(&self) -> Result<Self::Core> {
                let (backends, registry) = self.backends()?;
                Ok(wasmtime_wasi_nn::witx::WasiNnCtx::new(backends, registry))
            }

            fn component(&self) -> Result<Self::Component> {
                let (backends, registry) = self.backends()?;
                Ok(wasmtime_wasi_nn::wit::WasiNnCtx::new(backends, registry))
            }

            fn link(linker: &mut Linker<State<Self>>) -> Result<()> {
                wasmtime_wasi_nn::witx::add_to_linker(linker, |state: &mut State<Self>| state.core())
            }

            fn link_component(linker: &mut component::Linker<State<Self>>) -> Result<()> {
                wasmtime_wasi_nn::wit::add_to_linker(linker, |state: &mut State<Self>| {
                    let (table, ctx) = state.component();
                    wasmtime_wasi_nn::wit::WasiNnView::new(table, ctx)
                })
            }
        }
    };
}

theirs!(Preload, "preload");
theirs!(Shared, "shared");
