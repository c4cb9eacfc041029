//! What the store of one instance holds.

use graphpool::nn::Engine;
use graphpool_wasmtime::WasiNnCtx;
use graphpool_wasmtime::wit::WasiNnView;
use wasmtime::error::Context as _;
use wasmtime::{Result, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::options::Options;

/// The state of one instance: WASI and wasi-nn of both forms, and the limits of its memory.
pub struct Instance {
    /// WASI: of modules as it is, of components by [`WasiView`].
    pub wasi: WasiP1Ctx,
    /// wasi-nn.
    pub nn: WasiNnCtx,
    /// Bounds the linear memories.
    pub limits: StoreLimits,
}

impl Instance {
    /// A fresh instance. Its standard output goes to `output`, if there is one, instead of the terminal.
    pub fn new(options: &Options, engine: &Engine, output: Option<MemoryOutputPipe>) -> Result<Self> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_blocking_current_thread(true).inherit_stderr().envs(&options.env);
        wasi.arg(options.file.to_string_lossy()).args(&options.args);
        match output {
            Some(output) => wasi.stdout(output),
            None => wasi.inherit_stdin().inherit_stdout(),
        };
        for (host, guest) in &options.dirs {
            wasi.preopened_dir(host, guest, FsPerms::ReadWrite)
                .with_context(|| format!("the directory {} cannot be opened", host.display()))?;
        }
        let mut limits = StoreLimitsBuilder::new();
        if let Some(bytes) = options.max_memory {
            limits = limits.memory_size(bytes);
        }
        let nn = WasiNnCtx::new(engine.guest()).with_dialect(options.dialect);
        Ok(Self { wasi: wasi.build_p1(), nn, limits: limits.build() })
    }

    /// What the component form's functions work on.
    pub fn view(&mut self) -> WasiNnView<'_> {
        WasiNnView::new(self.wasi.ctx().table, &mut self.nn)
    }
}

impl WasiView for Instance {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}
